"""This project and its peers side by side: the same work, in the same minutes, on one machine.

Each module measures one part of a training or of an answer and runs as
`python -m benchmarks.MODULE --json=FILE`; `python -m benchmarks` runs all that need no trained run.
`side_by_side` says how time and memory are measured, `report` how they are judged.
"""

import os

# Before anything imports jax: both sides of a comparison run on the processors of this machine.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Before anything imports transformers: its PyTorch models are peers.
os.environ.setdefault("USE_TORCH", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # its threads do not survive a fork
