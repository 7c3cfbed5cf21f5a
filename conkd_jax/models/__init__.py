"""Networks: pure functions of arrays, independent of files, corpora and the training loop.

The one exception is `gpt2_weights`, which reads published checkpoints.
"""
