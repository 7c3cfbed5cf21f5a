"""A corpus of your own: dialogues about any kind of item, from a folder of plain text files."""
