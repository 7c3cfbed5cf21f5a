"""Batches: which rows make which batch, on which host, and the arrays of each."""
