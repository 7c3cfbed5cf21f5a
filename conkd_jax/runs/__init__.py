"""A run and its folder: planned, finished and released."""
