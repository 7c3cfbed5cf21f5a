"""Files and the terminal: what is read and written whole, checked, and printed."""
