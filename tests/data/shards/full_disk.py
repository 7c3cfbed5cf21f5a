"""Writes a shard to a disk that is too small: `python -m tests.data.shards.full_disk FOLDER`.

The file size limit of this process stands in for the disk. It prints the error that a user sees.
"""

import resource
import signal
import sys

import numpy as np

from conkd_jax.data.shards.layout import RecordError, shard_path
from conkd_jax.data.shards.writer import open_shard
from tests.data.shards.examples import FEATURES, example

if __name__ == "__main__":
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
    noise = np.random.default_rng(0).normal(size=(3000, 3)).astype(np.float32)
    try:
        with open_shard(shard_path(sys.argv[1], "train", 0, 1), FEATURES) as shard:
            for _ in range(5):
                shard.write(example(1) | {"rows": noise})
    except RecordError as error:
        print(error)
