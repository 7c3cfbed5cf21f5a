"""The words of each backbone: a byte-level BPE, or whole words."""
