"""Builds corpora from raw files: ReDial with its knowledge graphs, and the synthetic MovieWorld."""
