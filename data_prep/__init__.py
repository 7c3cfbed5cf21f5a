"""Raw files to a corpus: ReDial, its knowledge graphs, and the synthetic MovieWorld."""
