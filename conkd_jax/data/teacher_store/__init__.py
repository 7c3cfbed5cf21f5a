"""The teacher store: both teachers' outputs for every training response."""
