"""The teacher store: what both teachers said about every training response."""
