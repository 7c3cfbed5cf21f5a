"""Writes shards: each appears under its name only when all its records are on the disk.

The corpus and the teacher store write their records here; the meaning of a record is left to them.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import tensorflow_datasets as tfds
from array_record.python.array_record_module import ArrayRecordWriter
from etils import epath

from conkd_jax.data.shards.layout import (
    FILENAME_TEMPLATE,
    SUFFIX,
    Features,
    RecordError,
    shard_path,
    shard_size,
)
from conkd_jax.io.files import naming, whole_path

# One record per group, so that a random read decodes no neighbours.
_WRITER_OPTIONS = "group_size:1"


class ShardWriter:
    """An open shard, as `open_shard` gives it.

    Attributes:
      num_records: how many records were written so far.
    """

    def __init__(self, writer: ArrayRecordWriter, features: Features) -> None:
        self.num_records = 0
        self._writer = writer
        self._features = features
        info: Any = features.get_serialized_info()
        self._serializer = tfds.core.ExampleSerializer(info)

    def write(self, record: Mapping[str, Any]) -> None:
        """Appends a record, encoded by the schema. A full disk shows only at the end.

        Equal records are equal bytes. The features of a record are a map, whose order protocol
        buffers leave to the process unless they are asked for a deterministic one.
        """
        example = self._serializer.get_tf_example(self._features.encode_example(dict(record)))
        self._writer.write(example.SerializeToString(deterministic=True))
        self.num_records += 1


@contextlib.contextmanager
def open_shard(path: epath.PathLike, features: Features) -> Iterator[ShardWriter]:
    """Opens a shard for writing; it gets its name when the block ends without an exception.

    Args:
      path: the final path, from `shard_path`; its folder is created.
      features: the schema that every record is encoded with.

    Yields:
      The writer.

    Raises:
      RecordError: the disk took less than was written; nothing of the shard is left.
    """
    path = epath.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_path(path) as partial:
        writer = ArrayRecordWriter(partial, _WRITER_OPTIONS)
        try:
            yield ShardWriter(writer, features)
        except BaseException:
            # On a full disk closing fails too; the error that led here is the one to show.
            with contextlib.suppress(RuntimeError, OSError):
                writer.close()
            raise
        try:
            writer.close()
        except RuntimeError as error:
            raise RecordError(
                f"Could not write the shard {path}: {error}. Nothing of it was kept: free some "
                "disk space and run the same command again."
            ) from error


def write_metadata(
    directory: epath.PathLike,
    features: Features,
    shard_lengths: Mapping[str, Sequence[int]],
    *,
    name: str = "records",
) -> None:
    """Writes the files that make a folder of finished shards a TFDS dataset.

    They hold the sizes of the shard files, so that a shard that is truncated later is noticed.

    Args:
      directory: the folder of the shards.
      features: the schema they were written with.
      shard_lengths: records per shard, in shard order, for every split.
      name: the dataset's name, as in `shard_path`.

    Raises:
      RecordError: a shard is missing.
    """
    directory = epath.Path(directory)
    infos = []
    for split, lengths in shard_lengths.items():
        paths = [
            shard_path(directory, split, shard, len(lengths), name=name)
            for shard in range(len(lengths))
        ]
        infos.append(
            tfds.core.SplitInfo(
                name=split,
                shard_lengths=list(lengths),
                num_bytes=sum(shard_size(path) for path in paths),
                filename_template=tfds.core.ShardedFileTemplate(
                    dataset_name=name,
                    data_dir=directory,
                    split=split,
                    filetype_suffix=SUFFIX,
                    template=FILENAME_TEMPLATE,
                ),
            )
        )
    with naming(directory):  # its files are not written by `files`, whose errors have a path
        tfds.folder_dataset.write_metadata(
            data_dir=os.fspath(directory), features=features, split_infos=infos, check_data=False
        )


def write_dataset(
    directory: epath.PathLike,
    features: Features,
    splits: Mapping[str, Iterable[Mapping[str, Any]]],
    *,
    name: str = "records",
) -> None:
    """Writes a small dataset in one go: one shard per split, records in their given order.

    Args:
      directory: the folder of the dataset; it is created.
      features: the schema.
      splits: the records of each split.
      name: the dataset's name.
    """
    lengths = {}
    for split, records in splits.items():
        with open_shard(shard_path(directory, split, 0, 1, name=name), features) as writer:
            for record in records:
                writer.write(record)
        lengths[split] = [writer.num_records]
    write_metadata(directory, features, lengths, name=name)
