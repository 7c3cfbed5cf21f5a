"""Trained systems and what is asked of them; nothing is trained or written here."""
