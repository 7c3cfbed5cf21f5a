"""Rows of a language model: what a batch row is, for dialogues and for single responses."""
