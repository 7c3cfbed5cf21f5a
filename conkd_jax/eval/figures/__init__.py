"""The look of every figure, and the figures that several programs draw."""
