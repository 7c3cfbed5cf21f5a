"""How models are trained: loop, optimizers, layouts, checkpoints, progress and trackers."""
