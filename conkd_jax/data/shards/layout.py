"""Where the shards of a dataset lie, and the one error for everything that is wrong with them.

Reader and writer share this module. The format is TFDS's own (array_record files beside two JSON
files), so any TFDS program can read the folders. TensorFlow is never imported; array_record does
not need it.
"""

from __future__ import annotations

import tensorflow_datasets as tfds
from etils import epath

from conkd_jax.errors import UserError

Features = tfds.features.FeaturesDict

SUFFIX = "array_record"
FILENAME_TEMPLATE = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
DATASET_INFO, FEATURES = "dataset_info.json", "features.json"


class RecordError(UserError, ValueError):
    """A record folder or shard is missing, truncated, or not what its reader expects."""


def shard_path(
    directory: epath.PathLike, split: str, shard: int, num_shards: int, *, name: str = "records"
) -> epath.Path:
    """Returns the path of shard `shard` of `num_shards` of a split, as TFDS names it."""
    filename = f"{name}-{split}.{SUFFIX}-{shard:05d}-of-{num_shards:05d}"
    return epath.Path(directory) / filename


def shard_size(path: epath.Path) -> int:
    """Returns the size of a shard in bytes.

    Raises:
      RecordError: there is no such file.
    """
    if not path.exists():
        raise RecordError(f"Expected a shard at {path}, found no file. Write the shard again.")
    return path.stat().length
