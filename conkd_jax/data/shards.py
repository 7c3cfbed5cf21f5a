"""The one thin layer over array_record and TFDS: fixed-schema records in shard files.

The corpus and the teacher store keep their records through this module, so that a shard is written
whole or not at all and a broken one is refused in words. It must not know what a record means:
no dialogue, no teacher, no model. TensorFlow is never imported (array_record needs none).
"""

import contextlib
import functools
import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, SupportsIndex, cast

import tensorflow_datasets as tfds
from array_record.python.array_record_module import ArrayRecordReader, ArrayRecordWriter
from etils import epath

from conkd_jax.errors import UserError

Features = tfds.features.FeaturesDict
Record = dict[str, Any]

_SUFFIX = "array_record"
_TEMPLATE = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
_INFO, _FEATURES = "dataset_info.json", "features.json"
# One record a group: records are then read at random without decoding their neighbours.
_WRITER_OPTIONS = "group_size:1"


class RecordError(UserError, ValueError):
    """A record folder or shard is missing, truncated, or not what its reader expects."""


def shard_path(
    directory: epath.PathLike, split: str, shard: int, num_shards: int, *, name: str = "records"
) -> epath.Path:
    """Returns where shard `shard` of `num_shards` of a split lies (TFDS's own file naming)."""
    filename = f"{name}-{split}.{_SUFFIX}-{shard:05d}-of-{num_shards:05d}"
    return epath.Path(directory) / filename


def shard_length(path: epath.PathLike) -> int:
    """Counts the records of one finished shard.

    Args:
      path: a file that `ShardWriter` closed.

    Returns:
      The number of records.

    Raises:
      RecordError: the file is missing, truncated, or no array_record file.
    """
    path = epath.Path(path)
    _size(path)  # names a missing file
    with _local_copy(path) as local, _explained(path):
        reader = ArrayRecordReader(local)
        length = reader.num_records()
        reader.close()
    return length


class ShardWriter:
    """Writes one shard under a temporary name; the real name appears only when it is whole.

    Use it as a context manager: a normal exit closes and renames, an exception removes what was
    written. On a store without local files (`gs://`) the shard is built locally, then uploaded.

    Args:
      path: the final path, from `shard_path`.
      features: the schema that every record is encoded with.
    """

    def __init__(self, path: epath.PathLike, features: Features) -> None:
        self.path = epath.Path(path)
        self.num_records = 0
        self._features = features
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if _is_local(self.path):
            self._temporary = Path(f"{os.fspath(self.path)}.incomplete-{os.getpid()}")
        else:
            handle, filename = tempfile.mkstemp(suffix=f".{_SUFFIX}")
            os.close(handle)
            self._temporary = Path(filename)
        self._writer = ArrayRecordWriter(os.fspath(self._temporary), _WRITER_OPTIONS)

    def write(self, record: Mapping[str, Any]) -> None:
        """Appends one record, encoded by the schema; a full disk shows at `close`."""
        encoded = self._features.encode_example(dict(record))
        self._writer.write(self._features.serialize_example(encoded))
        self.num_records += 1

    def close(self) -> None:
        """Finishes the shard and gives it its name.

        Raises:
          RecordError: the disk took less than was written; nothing is left of the shard.
        """
        try:
            self._writer.close()
        except RuntimeError as error:
            self._temporary.unlink(missing_ok=True)
            raise RecordError(
                f"Could not write the shard {self.path}: {error}. Nothing of it was kept: make "
                "room and run the same command again."
            ) from error
        if _is_local(self.path):
            os.replace(self._temporary, self.path)
        else:
            epath.Path(self._temporary).copy(self.path, overwrite=True)
            self._temporary.unlink()

    def discard(self) -> None:
        """Drops what was written so far; the final name is left as it was."""
        # The writer may be unable to close (a full disk): the file goes all the same.
        with contextlib.suppress(RuntimeError, OSError):
            self._writer.close()
        self._temporary.unlink(missing_ok=True)

    def __enter__(self) -> "ShardWriter":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.discard()


def write_metadata(
    directory: epath.PathLike,
    features: Features,
    shard_lengths: Mapping[str, Sequence[int]],
    *,
    name: str = "records",
) -> None:
    """Writes the files that make a folder of finished shards a TFDS dataset.

    The sizes of the shard files enter the metadata, so that a later truncation shows.

    Args:
      directory: the folder that holds the shards.
      features: the schema they were written with.
      shard_lengths: records per shard, in shard order, for every split.
      name: the dataset's name, as in `shard_path`.

    Raises:
      RecordError: a shard of the list is not there.
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
                num_bytes=sum(_size(path) for path in paths),
                filename_template=tfds.core.ShardedFileTemplate(
                    dataset_name=name,
                    data_dir=directory,
                    split=split,
                    filetype_suffix=_SUFFIX,
                    template=_TEMPLATE,
                ),
            )
        )
    tfds.folder_dataset.write_metadata(
        data_dir=os.fspath(directory), features=features, split_infos=infos, check_data=False
    )


def write_shards(
    directory: epath.PathLike,
    features: Features,
    splits: Mapping[str, Iterable[Mapping[str, Any]]],
    *,
    name: str = "records",
) -> dict[str, int]:
    """Writes a small dataset in one go, one shard a split, order kept.

    Args:
      directory: where the dataset goes; made if missing.
      features: the schema.
      splits: the records of each split.
      name: the dataset's name.

    Returns:
      The number of records of each split.
    """
    lengths = {}
    for split, records in splits.items():
        with ShardWriter(shard_path(directory, split, 0, 1, name=name), features) as writer:
            for record in records:
                writer.write(record)
        lengths[split] = writer.num_records
    write_metadata(directory, features, {k: [n] for k, n in lengths.items()}, name=name)
    return lengths


class RecordReader:
    """Random access to the records of one split; text comes back as `str`.

    `reader[i]` is one record, `reader[[i, j, k]]` the records of a batch in that order
    (array_record's batched read, the fastest way).

    Args:
      directory: a folder that `write_metadata` finished.
      split: the split's name.
      expect: the schema the caller can read; a folder of another schema is refused.

    Raises:
      RecordError: missing folder or split, a missing or truncated shard, a foreign schema.
    """

    def __init__(
        self, directory: epath.PathLike, split: str, *, expect: Features | None = None
    ) -> None:
        self.directory = epath.Path(directory)
        self.split = split
        info = _read_info(self.directory)
        _check_split(self.directory, info, split)
        promised = sum(int(n) for n in _split_info(info, split)["shardLengths"])
        self._local = _local_folder(self.directory)
        with _explained(self.directory):
            builder = cast(Any, tfds.builder_from_directory(self._local))
            # TFDS opens no source over zero records.
            source: Any = builder.as_data_source(split=split) if promised else ()
            length = len(source)
        self._source = source
        self.features = builder.info.features
        if expect is not None:
            _check_schema(self.directory, expect, self.features)
        if length != promised:
            raise RecordError(
                f"{self.directory}, split {split!r}: expected {promised} records, the shards hold "
                f"{length}. A shard is truncated or foreign: delete the folder and write it again."
            )
        self._text = {
            key for key, feature in self.features.items() if _inner(feature) is tfds.features.Text
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
                raise IndexError(f"record {i} of {self.directory}: it holds {len(self)} records")
        if not wanted:
            return []
        with _explained(self.directory):
            records = self._source.__getitems__(wanted)
        return [self._decode_text(record) for record in records]

    def __iter__(self) -> Iterator[Record]:
        step = 1024
        for start in range(0, len(self), step):
            yield from self.__getitems__(range(start, min(start + step, len(self))))

    def _decode_text(self, record: Record) -> Record:
        for key in self._text:
            value = record[key]
            if isinstance(value, bytes):
                record[key] = value.decode("utf-8")
            else:
                record[key] = [part.decode("utf-8") for part in value]
        return record


def splits(directory: epath.PathLike) -> dict[str, int]:
    """Returns the splits of a dataset folder and how many records each promises."""
    info = _read_info(epath.Path(directory))
    return {
        split["name"]: sum(int(n) for n in split["shardLengths"])
        for split in info.get("splits", ())
    }


def _is_local(path: epath.Path) -> bool:
    return "://" not in os.fspath(path)


def _size(path: epath.Path) -> int:
    if not path.exists():
        raise RecordError(f"Expected a shard at {path}, found no file. Write the shard again.")
    return path.stat().length


@contextlib.contextmanager
def _local_copy(path: epath.Path) -> Iterator[str]:
    """array_record opens local files only: a remote shard is copied for the time of a read."""
    if _is_local(path):
        yield os.fspath(path)
        return
    with tempfile.TemporaryDirectory() as folder:
        target = epath.Path(folder) / path.name
        path.copy(target)
        yield os.fspath(target)


@functools.cache
def _cache_root() -> tempfile.TemporaryDirectory:
    return tempfile.TemporaryDirectory(prefix="conkd-records-")


def _local_folder(directory: epath.Path) -> str:
    """The folder itself when local; else a copy that lasts as long as the process."""
    if _is_local(directory):
        return os.fspath(directory)
    target = Path(tempfile.mkdtemp(dir=_cache_root().name))
    for path in directory.iterdir():
        if path.is_file():
            path.copy(epath.Path(target) / path.name)
    return os.fspath(target)


@contextlib.contextmanager
def _explained(where: epath.Path) -> Iterator[None]:
    """Turns what array_record and TFDS raise on damaged files into one readable error."""
    try:
        yield
    except (RuntimeError, ValueError, OSError, IndexError) as error:
        if isinstance(error, RecordError):
            raise
        raise RecordError(
            f"Cannot read the records at {where}: expected whole array_record shards, got "
            f"{type(error).__name__}: {error}. A shard is truncated or was not written by this "
            "program: delete the folder and run the command that wrote it again."
        ) from error


def _read_info(directory: epath.Path) -> dict[str, Any]:
    for filename in (_INFO, _FEATURES):
        if not (directory / filename).exists():
            raise RecordError(
                f"Expected a finished dataset at {directory}, found no {filename}. Its writing "
                "was cut short or the path is another folder's: run the writing command again."
            )
    with _explained(directory):
        return json.loads((directory / _INFO).read_text())


def _split_info(info: dict[str, Any], split: str) -> dict[str, Any]:
    return next(entry for entry in info.get("splits", ()) if entry["name"] == split)


def _check_split(directory: epath.Path, info: dict[str, Any], split: str) -> None:
    names = [entry["name"] for entry in info.get("splits", ())]
    if split not in names:
        raise RecordError(f"{directory} has no split {split!r}; it has {', '.join(names)}.")
    entry = _split_info(info, split)
    lengths = entry["shardLengths"]
    size = 0
    for shard in range(len(lengths)):
        size += _size(shard_path(directory, split, shard, len(lengths), name=info["name"]))
    if size != int(entry.get("numBytes", 0)):
        raise RecordError(
            f"{directory}, split {split!r}: expected shards of {entry.get('numBytes', 0)} bytes "
            f"together, found {size}. A shard is truncated or was replaced: delete the folder and "
            "run the command that wrote it again."
        )


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
        "version or for another purpose: point at the right folder or write it again."
    )


def _inner(feature: Any) -> type:
    return type(getattr(feature, "feature", feature))
