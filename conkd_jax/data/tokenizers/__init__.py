"""Tokenizers: a byte-level BPE for GPT-2, whole words for KGSF."""
