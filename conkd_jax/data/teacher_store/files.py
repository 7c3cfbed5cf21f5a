"""The files of the teacher store: both teachers' outputs, written once for all students.

A student needs the teachers' distributions at each of its targets, in every epoch and under any
gate, without running the teachers again. This is the one module that handles the files of a store;
`teacher_store.schema` describes a record. It is independent of models, losses and batches.

A record is one response. Format "features" keeps, per target, the dialogue teacher's features
rounded to `dtype`. Item mass (λ) and log-normaliser are computed from the rounded features, so the
stored teacher is exactly head(round(features)). Format "dense" keeps the rounded logits themselves;
tests compare the other formats with it. Format "topk" keeps the K largest log-probabilities and
their token ids, with the λ of all targets; the probability of the others is lost
(`distill.teachers.TeacherTopK`). The heads are stored once: P_φ = softmax(features·kernel + bias)
over Y, class-factored where the teacher has a switch (`distill.head`), and P_ψ =
softmax(user_vector·rec_kernel + rec_bias) over the items that have tokens.

Records are in the order of the split's response ids. A shard holds the responses of a fixed range
of rows, so the number of shards doesn't depend on the number of writers. `store.json` is written
last and marks the store as finished. Every record carries the first 8 bytes of the SHA-256 of the
store's provenance.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import threading
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from etils import epath
from jaxtyping import Int

from conkd_jax.data.shards.layout import RecordError, shard_path
from conkd_jax.data.shards.reader import RecordReader, shard_length
from conkd_jax.data.shards.writer import open_shard, write_metadata
from conkd_jax.data.teacher_store.schema import (
    TeacherHeads,
    TeacherRecord,
    TeacherStoreError,
    TeacherStoreSpec,
)
from conkd_jax.io import integrity
from conkd_jax.io.files import PARTIAL, read_json, sha256, whole_file, write_whole

VERSION = 1
_PROVENANCE, _STORE, _HEADS = "provenance.json", "store.json", "heads.npz"
_AS_BYTES = frozenset({"outputs", "token_ids"})  # fields of a record, in little-endian order
_REMEDY = "the store is damaged, delete it and write the teacher outputs again"


class TeacherStoreWriter:
    """Writes a store shard by shard, from any number of processes; an interrupted run is resumed.

    Args:
      directory: the store's folder; shards that an interrupted run left there are kept.
      spec: its shape.
      provenance: what it is made from, name to fingerprint (plain JSON): the teachers' checkpoints,
        the vocabulary, the corpus, the split.
      row_offsets: [R + 1] row r holds the responses `row_offsets[r]` to `row_offsets[r + 1] - 1`.
      num_shards: number of shards; with fewer rows than shards some are empty.

    Raises:
      TeacherStoreError: the folder holds a store of another provenance or shape.
    """

    def __init__(
        self,
        directory: epath.PathLike,
        spec: TeacherStoreSpec,
        provenance: Mapping[str, Any],
        row_offsets: Int[np.ndarray, " R1"],
        num_shards: int,
    ):
        if num_shards < 1:
            raise TeacherStoreError(f"num_shards must be at least 1, got {num_shards}.")
        self.directory = epath.Path(directory)
        self.spec = spec
        self.num_shards = num_shards
        self.row_offsets = np.asarray(row_offsets, np.int64)
        self._provenance = {
            **provenance,
            **spec.entries(),
            "version": VERSION,
            "num_responses": int(self.row_offsets[-1]),
            "num_shards": num_shards,
        }
        self._store_id = _store_id(self._provenance)
        self._schema = spec.schema()
        path = self.directory / _PROVENANCE
        if path.exists():
            found = read_json(path, TeacherStoreError, _REMEDY)
            remedy = "delete the folder to write it again"
            _check_provenance(self.directory, self._provenance, found, remedy)
        else:
            self.directory.mkdir(parents=True, exist_ok=True)
            _write_json(path, self._provenance)

    def shard_rows(self, shard: int) -> range:
        """Returns the rows of a shard."""
        rows = len(self.row_offsets) - 1
        return range(rows * shard // self.num_shards, rows * (shard + 1) // self.num_shards)

    def shard_responses(self, shard: int) -> range:
        """Returns the response ids of a shard, in the order in which they have to be written."""
        rows = self.shard_rows(shard)
        return range(int(self.row_offsets[rows.start]), int(self.row_offsets[rows.stop]))

    def missing_shards(self, process_index: int = 0, process_count: int = 1) -> list[int]:
        """Returns the shards s ≡ process_index (mod process_count) that are not written yet.

        A shard counts as written when its records and its measurements are both there and hold
        what was written. One that was damaged since is written again.

        Raises:
          TeacherStoreError: a shard of an earlier version, which wrote no hashes, is damaged or
            has a wrong number of records.
        """
        shards = range(process_index, self.num_shards, process_count)
        return [shard for shard in shards if not self._is_written(shard)]

    def _is_written(self, shard: int) -> bool:
        path = self._path(shard)
        if path.exists() and self._measured(shard).exists():
            try:
                measured = integrity.unsealed(self._measured(shard).read_text())
            except ValueError:
                return False
            if integrity.FILES in measured:
                return not integrity.problem(path, measured[integrity.FILES][path.name])
        if path.exists():
            self._check_length(shard)
        return path.exists() and self._measured(shard).exists()

    def write_shard(
        self,
        shard: int,
        outputs: Iterable[TeacherRecord],
        measured: Mapping[str, int | float] | None = None,
    ) -> None:
        """Writes one shard; it exists once all its records are on the disk.

        Args:
          shard: its number.
          outputs: one record for each of `shard_responses(shard)`, in that order.
          measured: measurements of this shard, which `measured` returns later.

        Raises:
          TeacherStoreError: a record has a wrong shape, or their number is wrong.
        """
        with open_shard(self._path(shard), self._schema) as writer:
            for record in outputs:
                writer.write(self._encoded(record))
            expected = len(self.shard_responses(shard))
            if writer.num_records != expected:
                raise TeacherStoreError(
                    f"Shard {shard} of {self.directory} must hold {expected} responses, got "
                    f"{writer.num_records}: pass one record per id of shard_responses({shard})."
                )
        files = {self._path(shard).name: integrity.entry_of(self._path(shard))}
        sealed = integrity.sealed({**(measured or {}), integrity.FILES: files})
        write_whole(self._measured(shard), sealed)

    def measured(self) -> list[dict[str, int | float]]:
        """Returns the measurements of all shards, including those of other processes and runs."""
        found = []
        for shard in range(self.num_shards):
            found.append(read_json(self._measured(shard), TeacherStoreError, _REMEDY))
            for name in (integrity.FILES, integrity.SEAL):
                found[-1].pop(name, None)
        return found

    def finish(self, heads: TeacherHeads, stats: Mapping[str, Any] | None = None) -> None:
        """Finishes the store; one process calls it after all shards are written.

        Args:
          heads: the output layers of both teachers.
          stats: statistics of the whole store (rounding error, λ), plain JSON.

        Raises:
          TeacherStoreError: a shard is missing, or the heads don't fit the spec.
        """
        missing = self.missing_shards()
        if missing:
            raise TeacherStoreError(
                f"{self.directory}: shards {missing} are missing: write them first."
            )
        _check_heads(heads, self.spec)
        for leftover in self.directory.glob(f"*{PARTIAL}*"):  # of a process that was killed
            leftover.unlink()
        with whole_file(self.directory / _HEADS, "wb") as file:
            np.savez(file, **{k: v for k, v in vars(heads).items() if v is not None})
        lengths = [len(self.shard_responses(shard)) for shard in range(self.num_shards)]
        write_metadata(self.directory, self._schema, {"responses": lengths})
        summary = {"provenance": self._provenance, "stats": dict(stats or {})}
        _write_json(self.directory / _STORE, summary)

    def _path(self, shard: int) -> epath.Path:
        return shard_path(self.directory, "responses", shard, self.num_shards)

    def _measured(self, shard: int) -> epath.Path:
        return self.directory / f"measured-{shard:05d}.json"

    def _check_length(self, shard: int) -> None:
        expected = len(self.shard_responses(shard))
        try:
            found = shard_length(self._path(shard))
        except RecordError as error:
            raise TeacherStoreError(
                f"{self._path(shard)} is damaged: delete it. {error}"
            ) from error
        if found != expected:
            raise TeacherStoreError(
                f"{self._path(shard)} must hold {expected} responses, it has {found}: it belongs "
                "to another store. Delete this file."
            )

    def _encoded(self, record: TeacherRecord) -> dict[str, Any]:
        length = len(record.targets)
        expected = {
            field: ((length, *shape), dtype)
            for field, shape, dtype in self.spec.token_arrays.values()
        }
        expected["user_vector"] = ((self.spec.user_dim,), np.dtype(np.float32))
        for name, (shape, dtype) in expected.items():
            value = getattr(record, name)
            found = getattr(value, "shape", None), getattr(value, "dtype", None)
            if found != (shape, dtype):
                raise TeacherStoreError(
                    f"Response ({record.conversation_id!r}, {record.turn}): {name} must be {dtype} "
                    f"{shape}, got {found[1]} {found[0]}."
                )
        encoded = {name: value for name, value in vars(record).items() if value is not None}
        for name in _AS_BYTES & encoded.keys():
            encoded[name] = np.ascontiguousarray(encoded[name]).tobytes()
        return {**encoded, "store_id": self._store_id}


class TeacherStore:
    """A finished store.

    Attributes:
      directory: its folder.
      spec: its shape.
      provenance: what it was made from.
      stats: statistics that were measured while it was written.
      heads: the output layers of both teachers.
    """

    def __init__(self, directory: epath.Path, content: Mapping[str, Any]):
        self.directory = directory
        self.provenance = content["provenance"]
        self.stats = content["stats"]
        self.spec = TeacherStoreSpec(
            **{
                field.name: self.provenance[field.name]
                for field in dataclasses.fields(TeacherStoreSpec)
                if field.default is dataclasses.MISSING or field.name in self.provenance
            }
        )
        self._store_id = _store_id(self.provenance)
        self._lock = threading.Lock()  # prefetching threads share one reader
        with _explained(directory):
            self._reader = RecordReader(directory, "responses", expect=self.spec.schema())
            with (directory / _HEADS).open("rb") as file, np.load(file) as arrays:
                self.heads = TeacherHeads(**{name: arrays[name] for name in arrays.files})
        _check_heads(self.heads, self.spec)

    @classmethod
    def open(
        cls, directory: epath.PathLike, expect: Mapping[str, Any] | None = None
    ) -> TeacherStore:
        """Opens a store and checks its provenance.

        Args:
          directory: the store's folder.
          expect: the entries of the provenance that the caller relies on.

        Raises:
          TeacherStoreError: the store is unfinished or damaged, or was made from something else.
        """
        directory = epath.Path(directory)
        if not (directory / _STORE).exists():
            raise TeacherStoreError(
                f"Expected a finished teacher store at {directory}, found no {_STORE}: run the "
                "stage teacher_outputs again; it resumes where it stopped."
            )
        content = read_json(directory / _STORE, TeacherStoreError, _REMEDY)
        try:
            provenance = content["provenance"]
            expected = {"version": VERSION, **(expect or {})}
            remedy = "write the teacher outputs again, or choose the store that belongs here"
            _check_provenance(directory, expected, provenance, remedy)
            return cls(directory, content)
        except (KeyError, TypeError) as error:
            raise TeacherStoreError(f"{directory / _STORE} lacks {error}: {_REMEDY}.") from error

    def __len__(self) -> int:
        return len(self._reader)

    def read(self, response_ids: Sequence[int] | Int[np.ndarray, " G"]) -> list[TeacherRecord]:
        """Returns the records of the given responses, in the given order.

        Raises:
          TeacherStoreError: a shard is damaged or was written for another store.
        """
        with self._lock, _explained(self.directory):
            found = self._reader[np.asarray(response_ids, np.int64)]
        return [self._decoded(record) for record in found]

    def _decoded(self, record: dict[str, Any]) -> TeacherRecord:
        store_id = int(record.pop("store_id"))
        key = (record["conversation_id"], int(record["turn"]))
        if store_id != self._store_id:
            raise TeacherStoreError(
                f"{self.directory}: the record of response {key} was written for another store "
                f"(id {store_id:x}, expected {self._store_id:x}): its shard was copied from there. "
                "Delete the store and write it again."
            )
        for name, shape, dtype in self.spec.token_arrays.values():
            if name in _AS_BYTES:
                values = np.frombuffer(record[name], dtype)
                record[name] = values.reshape(len(record["targets"]), *shape)
        record["turn"], record["rec_head_index"] = key[1], int(record["rec_head_index"])
        return TeacherRecord(**record)


def _store_id(provenance: Mapping[str, Any]) -> int:
    """The id that every record carries; stores on disk depend on this exact JSON text."""
    digest = bytes.fromhex(sha256(json.dumps(provenance, sort_keys=True)))
    return int.from_bytes(digest[:8], "little", signed=True)


def _check_provenance(
    directory: epath.Path, expected: Mapping[str, Any], found: Mapping[str, Any], remedy: str
) -> None:
    differences = [
        f"another {name} (expected {value!r}, found {found.get(name, 'none')!r})"
        for name, value in expected.items()
        if found.get(name) != value
    ]
    if differences:
        raise TeacherStoreError(
            f"The teacher store at {directory} was written with {', '.join(differences)}: {remedy}."
        )


def _check_heads(heads: TeacherHeads, spec: TeacherStoreSpec) -> None:
    folds, user_dim, items = heads.rec_kernels.shape
    if user_dim != spec.user_dim or heads.rec_biases.shape != (folds, items):
        raise TeacherStoreError(
            f"Recommender heads must have shapes [K, {spec.user_dim}, I] and [K, I], got "
            f"{heads.rec_kernels.shape} and {heads.rec_biases.shape}."
        )
    if spec.format != "features":
        return
    kernel, bias = heads.dialogue_kernel, heads.dialogue_bias
    if kernel is None or bias is None or kernel.shape != (spec.width, len(bias)):
        raise TeacherStoreError(
            f"A store of features needs the dialogue teacher's head, [{spec.width}, Y] and [Y], "
            f"got {getattr(kernel, 'shape', None)} and {getattr(bias, 'shape', None)}."
        )
    switch = [getattr(part, "shape", None) for part in (heads.switch_kernel, heads.switch_bias)]
    if switch not in ([None, None], [(spec.width,), ()]):
        raise TeacherStoreError(
            f"A dialogue teacher that switches between words and items has a switch of shapes "
            f"[{spec.width}] and [], one without a switch neither; got {switch[0]} and {switch[1]}."
        )


def _write_json(path: epath.Path, content: Mapping[str, Any]) -> None:
    # Not `files.write_json`: a mean λ over no steps is nan, and stores have always kept it as such.
    write_whole(path, json.dumps(content, indent=1) + "\n")


@contextlib.contextmanager
def _explained(directory: epath.Path) -> Iterator[None]:
    """Turns whatever a library raises on a damaged file into one error."""
    try:
        yield
    except (RecordError, zipfile.BadZipFile, ValueError, OSError, EOFError) as error:
        raise TeacherStoreError(
            f"The teacher store at {directory} can't be read ({error}): {_REMEDY}."
        ) from error
