"""A schema, its records and a small dataset, for the tests of this room and their processes."""

from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds

from conkd_jax.data.shards.writer import write_dataset

FEATURES = tfds.features.FeaturesDict(
    {
        "name": tfds.features.Text(),
        "texts": tfds.features.Sequence(tfds.features.Text()),
        "ids": tfds.features.Tensor(shape=(None,), dtype=np.int32),
        "rows": tfds.features.Tensor(shape=(None, 3), dtype=np.float32),
        "number": tfds.features.Scalar(np.int64),
    }
)


def example(number: int) -> dict:
    return {
        "name": f"é😀 {number}",
        "texts": ["", "a"] * number,
        "ids": np.arange(number, dtype=np.int32),
        "rows": np.full((number, 3), number, np.float32),
        "number": -number,
    }


def write_example(folder: Path) -> None:
    """Writes forty records as "train" and none as "dev"."""
    write_dataset(folder, FEATURES, {"train": map(example, range(40)), "dev": []})
