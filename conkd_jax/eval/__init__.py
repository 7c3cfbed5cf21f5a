"""What a trained system says, and how good it is: decoding, metrics, tables and figures."""
