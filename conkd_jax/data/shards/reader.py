"""Reads shards: random access to whole records, and one clear error for damaged files.

In a finished artifact, whose manifest lists every file, a shard is compared with its SHA-256 when
its first record is read. The meaning of a record is left to the caller.
"""

from __future__ import annotations

import contextlib
import functools
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, SupportsIndex, cast

import numpy as np
import tensorflow_datasets as tfds
from array_record.python.array_record_module import ArrayRecordReader
from etils import epath

from conkd_jax.data.shards.layout import (
    DATASET_INFO,
    FEATURES,
    Features,
    RecordError,
    shard_path,
    shard_size,
)
from conkd_jax.io import integrity
from conkd_jax.io.files import is_remote, read_json

Record = dict[str, Any]

_RECORDS_AT_A_TIME = 1024  # decoded at once while a split is read from end to end
_REMEDY = "delete the folder and run the command that wrote it again"


def shard_length(path: epath.PathLike) -> int:
    """Counts the records of a finished shard.

    Raises:
      RecordError: the file is missing, truncated, or not an array_record file.
    """
    path = epath.Path(path)
    shard_size(path)  # a missing file is named before array_record fails on it
    with _local_copy(path) as local, _explained(path):
        reader = ArrayRecordReader(local)
        length = reader.num_records()
        reader.close()
    return length


class RecordReader:
    """Random access to the records of one split; text comes back as `str`.

    `reader[i]` is one record, `reader[[i, j, k]]` the records of a batch in that order
    (array_record's batched read, which is the fastest).

    Args:
      directory: a folder that `write_metadata` finished.
      split: the split's name.
      expect: the schema that the caller can read; a folder with another one is refused.

    Raises:
      RecordError: the folder, the split or a shard is missing; a shard is truncated; or the schema
        is another one.
      DamagedError: on reading, a shard is not what was written.
    """

    def __init__(
        self, directory: epath.PathLike, split: str, *, expect: Features | None = None
    ) -> None:
        self.directory = epath.Path(directory)
        self.split = split
        info = _read_dataset_info(self.directory)
        split_info = _checked_split(self.directory, info, split)
        promised = sum(int(n) for n in split_info["shardLengths"])
        self._local = _local_folder(self.directory)
        with _explained(self.directory):
            builder = cast(Any, tfds.builder_from_directory(self._local))
            # TFDS can't open a data source over zero records.
            source: Any = builder.as_data_source(split=split) if promised else ()
            length = len(source)
        self._source = source
        self._ends = np.cumsum([int(n) for n in split_info["shardLengths"]])  # of each shard
        self._artifact, self._unchecked = self._listed_shards(info["name"], len(self._ends))
        self.features = builder.info.features
        if expect is not None:
            _check_schema(self.directory, expect, self.features)
        if length != promised:
            raise RecordError(
                f"{self.directory}, split {split!r}: expected {promised} records, the shards hold "
                f"{length}. A shard is truncated or foreign: {_REMEDY}."
            )
        self._text_fields = {
            key
            for key, feature in self.features.items()
            if type(getattr(feature, "feature", feature)) is tfds.features.Text
        }

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return self.__getitems__(range(*index.indices(len(self))))
        if hasattr(index, "__len__"):
            return self.__getitems__(index)
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Iterable[SupportsIndex]) -> list[Record]:
        wanted = [int(i) for i in indices]
        for i in wanted:
            if not 0 <= i < len(self):
                raise IndexError(
                    f"record {i} of {self.directory}: expected an index below {len(self)}, the "
                    "number of records"
                )
        if not wanted:
            return []
        if self._unchecked:
            self._check_shards(wanted)
        with _explained(self.directory):
            records = self._source.__getitems__(wanted)
        return [self._decode_text(record) for record in records]

    def _listed_shards(
        self, name: str, num_shards: int
    ) -> tuple[epath.Path, dict[int, tuple[epath.Path, integrity.Entry]]]:
        """The artifact of the records; by number, each shard that its manifest lists."""
        artifact, entries = integrity.entries_above(self.directory)
        found = {}
        for shard in range(num_shards):
            path = shard_path(self.directory, self.split, shard, num_shards, name=name)
            if entry := entries.get(path.relative_to(artifact).as_posix()):
                found[shard] = (epath.Path(self._local) / path.name, entry)
        return artifact, found

    def _check_shards(self, indices: Sequence[int]) -> None:
        """Compares the shards of some records with their hashes, each once."""
        for shard in np.unique(np.searchsorted(self._ends, indices, side="right")).tolist():
            if listed := self._unchecked.get(shard):
                integrity.check(*listed, self._artifact)
                self._unchecked.pop(shard, None)  # another thread may have been as fast

    def __iter__(self) -> Iterator[Record]:
        for start in range(0, len(self), _RECORDS_AT_A_TIME):
            stop = min(start + _RECORDS_AT_A_TIME, len(self))
            yield from self.__getitems__(range(start, stop))

    def _decode_text(self, record: Record) -> Record:
        for key in self._text_fields:
            value = record[key]
            if isinstance(value, bytes):
                record[key] = value.decode("utf-8")
            else:
                record[key] = [part.decode("utf-8") for part in value]
        return record


# --- remote folders ----------------------------------------------------------------------------


@contextlib.contextmanager
def _local_copy(path: epath.Path) -> Iterator[str]:
    """Lends a local path: array_record can't open remote files, so a remote shard is copied."""
    if not is_remote(path):
        yield os.fspath(path)
        return
    with tempfile.TemporaryDirectory() as folder:
        target = epath.Path(folder) / path.name
        path.copy(target)
        yield os.fspath(target)


@functools.cache
def _copies() -> tempfile.TemporaryDirectory:
    return tempfile.TemporaryDirectory(prefix="conkd-records-")


def _local_folder(directory: epath.Path) -> str:
    """Returns the folder itself if it is local, else a copy that lasts as long as the process."""
    if not is_remote(directory):
        return os.fspath(directory)
    target = Path(tempfile.mkdtemp(dir=_copies().name))
    for path in directory.iterdir():
        if path.is_file():
            path.copy(epath.Path(target) / path.name)
    return os.fspath(target)


# --- what can be wrong -------------------------------------------------------------------------


@contextlib.contextmanager
def _explained(where: epath.Path) -> Iterator[None]:
    """Turns what array_record and TFDS raise on damaged files into one readable error."""
    try:
        yield
    except RecordError:
        raise
    except (RuntimeError, ValueError, OSError, IndexError) as error:
        raise RecordError(
            f"Cannot read the records at {where}: expected whole array_record shards, got "
            f"{type(error).__name__}: {error}. A shard is truncated or was not written by this "
            f"program: {_REMEDY}."
        ) from error


def _read_dataset_info(directory: epath.Path) -> dict[str, Any]:
    for filename in (DATASET_INFO, FEATURES):
        if not (directory / filename).exists():
            raise RecordError(
                f"Expected a finished dataset at {directory}, found no {filename}. Writing it was "
                "interrupted, or the path is wrong: run the command that writes it again."
            )
    return read_json(directory / DATASET_INFO, RecordError, _REMEDY)


def _checked_split(directory: epath.Path, info: Mapping[str, Any], split: str) -> dict[str, Any]:
    """Returns the split's entry after comparing its shards with the sizes they had."""
    entries = {entry["name"]: entry for entry in info.get("splits", ())}
    if split not in entries:
        raise RecordError(f"{directory} has no split {split!r}; it has {', '.join(entries)}.")
    entry = entries[split]
    num_shards = len(entry["shardLengths"])
    expected, found = int(entry.get("numBytes", 0)), 0
    for shard in range(num_shards):
        found += shard_size(shard_path(directory, split, shard, num_shards, name=info["name"]))
    if found != expected:
        raise RecordError(
            f"{directory}, split {split!r}: expected shards of {expected} bytes in total, found "
            f"{found}. A shard is truncated or was replaced: {_REMEDY}."
        )
    return entry


def _check_schema(directory: epath.Path, expect: Features, found: Features) -> None:
    want = {key: repr(feature) for key, feature in expect.items()}
    have = {key: repr(feature) for key, feature in found.items()}
    if want == have:
        return
    keys = sorted(key for key in want.keys() | have.keys() if want.get(key) != have.get(key))
    detail = "; ".join(
        f"{key}: expected {want.get(key, 'nothing')}, found {have.get(key, 'nothing')}"
        for key in keys
    )
    raise RecordError(
        f"The records at {directory} have another schema ({detail}). They were written by another "
        "version or for another purpose: choose the right folder, or write this one again."
    )
