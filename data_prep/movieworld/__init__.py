"""MovieWorld: a synthetic corpus with a knowledge graph that explains its recommendations."""
