"""Corpus, vocabularies, rows, batches and the teacher store: everything read or written as data."""
