"""What the two teachers said about every response, stored once for all students.

This file exists because a student needs the teachers' distributions at each of its targets, in any
epoch and under any gate, without running the teachers again. It is the one place that
knows the format; `teacher_records` is its schema. It must not know models, losses or batches.

A record is one response. Format "features" keeps, per target, the dialogue teacher's features
rounded to ``dtype``; item mass (λ) and log-normaliser are computed from the rounded features, so
the stored teacher is exactly head(round(features)). Format "dense" keeps its rounded logits and is
the oracle of the other. Heads are stored once: P_φ = softmax(features·kernel + bias) over Y, and
P_ψ = softmax(user_vector·rec_kernel + rec_bias) over the items that have tokens.

Records follow the split's response ids. Shard s holds the responses of a fixed range of rows, so
the number of shards is independent of who writes them. ``store.json``, written last, makes the
store whole; every record carries the first 8 bytes of the provenance's SHA-256.
"""

import contextlib
import dataclasses
import hashlib
import json
import os
import threading
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from etils import epath
from jaxtyping import Int

from conkd_jax.data import shards as records
from conkd_jax.data.teacher_store.schema import Heads, StoreError, StoreSpec, TeacherRecord

VERSION = 1
_PROVENANCE, _STORE, _HEADS = "provenance.json", "store.json", "heads.npz"


class TeacherStoreWriter:
    """Writes a store shard by shard, from any number of processes, resumably.

    Args:
        directory: the store's folder; what an earlier, interrupted run left there is kept.
        spec: its shape.
        provenance: what it is made from, names to fingerprints (plain JSON): teachers' checkpoints,
            vocabulary, item map, corpus, split.
        row_offsets: [R + 1] row r has the responses ``row_offsets[r]`` to ``row_offsets[r + 1]``.
        num_shards: number of shards; the last ones are empty where there are fewer rows.

    Raises:
        StoreError: if the folder holds a store of another provenance or shape.
    """

    def __init__(
        self,
        directory: epath.PathLike,
        spec: StoreSpec,
        provenance: Mapping[str, Any],
        row_offsets: Int[np.ndarray, " R1"],
        num_shards: int,
    ):
        if num_shards < 1:
            raise StoreError(f"num_shards must be at least 1, got {num_shards}.")
        self.directory = epath.Path(directory)
        self.spec = spec
        self.num_shards = num_shards
        self.row_offsets = np.asarray(row_offsets, np.int64)
        self._provenance = {
            **provenance,
            **dataclasses.asdict(spec),
            "version": VERSION,
            "num_responses": int(self.row_offsets[-1]),
            "num_shards": num_shards,
        }
        self._store_id = _store_id(self._provenance)
        self._schema = spec.schema()
        path = self.directory / _PROVENANCE
        if path.exists():
            found = _read_json(path)
            _check_provenance(self.directory, self._provenance, found, "delete it to write anew")
        else:
            self.directory.mkdir(parents=True, exist_ok=True)
            _write_json(path, self._provenance)

    def shard_rows(self, shard: int) -> range:
        """The rows whose responses make a shard."""
        rows = len(self.row_offsets) - 1
        return range(rows * shard // self.num_shards, rows * (shard + 1) // self.num_shards)

    def shard_responses(self, shard: int) -> range:
        """The response ids of a shard, in the order in which it must be written."""
        rows = self.shard_rows(shard)
        return range(int(self.row_offsets[rows.start]), int(self.row_offsets[rows.stop]))

    def missing_shards(self, process_index: int = 0, process_count: int = 1) -> list[int]:
        """The shards s ≡ process_index (mod process_count) that are not written yet.

        A shard is written when both its records and what was measured of them are there.

        Raises:
            StoreError: if a shard that is there has another number of records than it must.
        """
        missing = []
        for shard in range(process_index, self.num_shards, process_count):
            if self._path(shard).exists():
                self._check_length(shard)
            if not (self._path(shard).exists() and self._measured(shard).exists()):
                missing.append(shard)
        return missing

    def write_shard(
        self,
        shard: int,
        outputs: Iterable[TeacherRecord],
        measured: Mapping[str, int | float] | None = None,
    ) -> None:
        """Write one shard; it exists once all its records are on disk.

        Args:
            shard: its number.
            outputs: one record for each of ``shard_responses(shard)``, in that order.
            measured: what was measured of them, for `measured` to give back.

        Raises:
            StoreError: for a record of the wrong shape, or too few or too many.
        """
        with records.ShardWriter(self._path(shard), self._schema) as writer:
            for record in outputs:
                writer.write(self._encoded(record))
            expected = len(self.shard_responses(shard))
            if writer.num_records != expected:
                raise StoreError(
                    f"Shard {shard} of {self.directory} must hold {expected} responses, got "
                    f"{writer.num_records}: yield one record per id of shard_responses({shard})."
                )
            _write_json(self._measured(shard), measured or {})

    def measured(self) -> list[dict[str, int | float]]:
        """What was measured of each shard, whoever wrote it and when."""
        return [_read_json(self._measured(shard)) for shard in range(self.num_shards)]

    def finish(self, heads: Heads, stats: Mapping[str, Any] | None = None) -> None:
        """Make the store whole; one process calls it after all shards are written.

        Args:
            heads: both teachers' output layers.
            stats: what was measured while writing (rounding error, λ statistics), plain JSON.

        Raises:
            StoreError: if a shard is missing or the heads do not fit the spec.
        """
        missing = self.missing_shards()
        if missing:
            raise StoreError(f"{self.directory}: shards {missing} are missing: write them first.")
        _check_heads(heads, self.spec)
        for leftover in self.directory.glob("*.incomplete-*"):
            leftover.unlink()
        with (self.directory / _HEADS).open("wb") as file:
            np.savez(file, **{k: v for k, v in vars(heads).items() if v is not None})
        lengths = [len(self.shard_responses(shard)) for shard in range(self.num_shards)]
        records.write_metadata(self.directory, self._schema, {"responses": lengths})
        summary = {"provenance": self._provenance, "stats": dict(stats or {})}
        _write_json(self.directory / _STORE, summary)

    def _path(self, shard: int) -> epath.Path:
        return records.shard_path(self.directory, "responses", shard, self.num_shards)

    def _measured(self, shard: int) -> epath.Path:
        return self.directory / f"measured-{shard:05d}.json"

    def _check_length(self, shard: int) -> None:
        expected = len(self.shard_responses(shard))
        try:
            found = records.shard_length(self._path(shard))
        except records.RecordError as error:
            raise StoreError(f"{self._path(shard)} is damaged: delete it. {error}") from error
        if found != expected:
            raise StoreError(
                f"{self._path(shard)} must hold {expected} responses, it has {found}: it belongs "
                "to another store. Delete it."
            )

    def _encoded(self, record: TeacherRecord) -> dict[str, Any]:
        length = len(record.targets)
        spec = self.spec
        expected = {
            "outputs": ((length, spec.width), spec.array_dtype),
            "item_mass": ((length,), np.dtype(np.float32)),
            "log_normalizer": ((length,), np.dtype(np.float32)),
            "user_vector": ((spec.user_dim,), np.dtype(np.float32)),
        }
        for name, (shape, dtype) in expected.items():
            value = getattr(record, name)
            if value.shape != shape or value.dtype != dtype:
                raise StoreError(
                    f"Response ({record.conversation_id!r}, {record.turn}): {name} must be {dtype} "
                    f"{shape}, got {value.dtype} {value.shape}."
                )
        outputs = np.ascontiguousarray(record.outputs).tobytes()
        return {**vars(record), "outputs": outputs, "store_id": self._store_id}


class TeacherStore:
    """A finished store.

    Attributes:
        spec: its shape.
        provenance: what it was made from.
        stats: what was measured while writing.
        heads: both teachers' output layers.
    """

    def __init__(self, directory: epath.Path, content: Mapping[str, Any]):
        self.directory = directory
        self.provenance = content["provenance"]
        self.stats = content["stats"]
        fields = [field.name for field in dataclasses.fields(StoreSpec)]
        self.spec = StoreSpec(**{name: self.provenance[name] for name in fields})
        self._store_id = _store_id(self.provenance)
        self._lock = threading.Lock()  # prefetching threads share one reader
        with _explained(directory):
            self._reader = records.RecordReader(directory, "responses", expect=self.spec.schema())
            with (directory / _HEADS).open("rb") as file, np.load(file) as arrays:
                self.heads = Heads(**{name: arrays[name] for name in arrays.files})
        _check_heads(self.heads, self.spec)

    @classmethod
    def open(
        cls, directory: epath.PathLike, expect: Mapping[str, Any] | None = None
    ) -> "TeacherStore":
        """Open a store and check where it comes from.

        Args:
            directory: the store's folder.
            expect: the entries of the provenance that the caller relies on.

        Raises:
            StoreError: if it is unfinished or damaged, or was made from something else.
        """
        directory = epath.Path(directory)
        if not (directory / _STORE).exists():
            raise StoreError(
                f"{directory} is no finished teacher store ({_STORE} is missing): run the stage "
                "that writes teacher outputs; it resumes where it stopped."
            )
        content = _read_json(directory / _STORE)
        try:
            provenance = content["provenance"]
            expected = {"version": VERSION, **(expect or {})}
            remedy = "write the teacher outputs again, or point at the store that belongs here"
            _check_provenance(directory, expected, provenance, remedy)
            return cls(directory, content)
        except (KeyError, TypeError) as error:
            raise StoreError(
                f"{directory / _STORE} lacks {error}: it is damaged. Delete the store and write it "
                "again."
            ) from error

    def __len__(self) -> int:
        return len(self._reader)

    def read(self, response_ids: Sequence[int] | Int[np.ndarray, " G"]) -> list[TeacherRecord]:
        """The records of responses, in the order asked for.

        Raises:
            StoreError: for a shard that is damaged or was written for another store.
        """
        with self._lock, _explained(self.directory):
            found = self._reader[np.asarray(response_ids, np.int64)]
        return [self._decoded(record) for record in found]

    def _decoded(self, record: dict[str, Any]) -> TeacherRecord:
        store_id = int(record.pop("store_id"))
        key = (record["conversation_id"], int(record["turn"]))
        if store_id != self._store_id:
            raise StoreError(
                f"{self.directory}: the record of response {key} was written for another store "
                f"(id {store_id:x}, expected {self._store_id:x}): a foreign shard was copied here. "
                "Delete the store and write it again."
            )
        outputs = np.frombuffer(record["outputs"], self.spec.array_dtype)
        record["outputs"] = outputs.reshape(len(record["targets"]), self.spec.width)
        record["turn"], record["rec_head_index"] = key[1], int(record["rec_head_index"])
        return TeacherRecord(**record)


def _store_id(provenance: Mapping[str, Any]) -> int:
    digest = hashlib.sha256(json.dumps(provenance, sort_keys=True).encode()).digest()
    return int.from_bytes(digest[:8], "little", signed=True)


def _check_provenance(
    directory: epath.Path, expected: Mapping[str, Any], found: Mapping[str, Any], remedy: str
) -> None:
    differences = [
        f"another {name} (expected {value!r}, it has {found.get(name, 'none')!r})"
        for name, value in expected.items()
        if found.get(name) != value
    ]
    if differences:
        raise StoreError(
            f"The teacher store at {directory} was written with {', '.join(differences)}: {remedy}."
        )


def _check_heads(heads: Heads, spec: StoreSpec) -> None:
    folds, user_dim, items = heads.rec_kernels.shape
    if user_dim != spec.user_dim or heads.rec_biases.shape != (folds, items):
        raise StoreError(
            f"Recommender heads must be [K, {spec.user_dim}, I] and [K, I], got "
            f"{heads.rec_kernels.shape} and {heads.rec_biases.shape}."
        )
    if spec.format == "dense":
        return
    kernel, bias = heads.dialogue_kernel, heads.dialogue_bias
    if kernel is None or bias is None or kernel.shape != (spec.width, len(bias)):
        raise StoreError(
            f"A store of features needs the dialogue teacher's head, [{spec.width}, Y] and [Y], "
            f"got {getattr(kernel, 'shape', None)} and {getattr(bias, 'shape', None)}."
        )


def _read_json(path: epath.Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
    except ValueError as error:
        raise StoreError(
            f"{path} is not JSON ({error}): the store is damaged. Delete it and write it again."
        ) from error
    if not isinstance(content, dict):
        raise StoreError(f"{path}: expected a JSON object. Delete the store and write it again.")
    return content


def _write_json(path: epath.Path, content: Mapping[str, Any]) -> None:
    temporary = path.with_name(f"{path.name}.incomplete-{os.getpid()}")
    temporary.write_text(json.dumps(content, indent=1) + "\n")
    temporary.replace(path)


@contextlib.contextmanager
def _explained(directory: epath.Path) -> Iterator[None]:
    """One error for whatever a damaged file makes its library raise."""
    try:
        yield
    except (records.RecordError, zipfile.BadZipFile, ValueError, OSError, EOFError) as error:
        raise StoreError(
            f"The teacher store at {directory} is damaged ({error}). Delete it and write the "
            "teacher outputs again."
        ) from error
