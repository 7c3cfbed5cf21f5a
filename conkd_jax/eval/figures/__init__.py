"""The style of every figure, and the figures of a run."""
