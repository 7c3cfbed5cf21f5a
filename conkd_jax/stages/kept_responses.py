"""Keeps decoded responses in files, so that an evaluation that was stopped repeats little.

The responses of a chunk are one file. Until it is there, the batches that were decoded for it have
files of their own, which are written every ten seconds: what a batch has decoded is larger than its
responses, as the items in them are ranked only at the end of the chunk.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from etils import epath

from conkd_jax.eval.decoding import DecodedResponse, EmittedItem, KeepBatch
from conkd_jax.io import integrity
from conkd_jax.io.files import sha256, write_whole

SECONDS_BETWEEN_WRITES = 10.0
DIGEST_SIZE = 64  # characters of a SHA-256


def kept(
    directory: epath.PathLike,
    response_ids: Sequence[int],
    decode: Callable[[KeepBatch], list[DecodedResponse]],
    progress: Callable[[int], object] = lambda number: None,
) -> list[DecodedResponse]:
    """The responses that an earlier attempt decoded; if there are none, decodes and keeps them.

    Args:
      directory: the folder of the files; created if it is missing.
      response_ids: the ids of the responses, the first of which names their file.
      decode: decodes them, and keeps their batches.
      progress: called with the number of responses of every batch that is there.
    """
    path = epath.Path(directory) / f"responses-{response_ids[0]:08d}.json"
    if path.exists():
        try:
            document = integrity.unsealed(path.read_text())
            if document["ids"] == list(response_ids):
                found = [_response(record) for record in document["responses"]]
                progress(len(found))
                return found
        except (ValueError, KeyError, TypeError):
            pass  # damaged: decoded again
    batches = KeptBatches(path.parent / path.stem, response_ids, progress)
    decoded = decode(batches.keep)
    document = {"ids": list(response_ids), "responses": [_record(each) for each in decoded]}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, integrity.sealed({**document, integrity.FILES: {}}))
    batches.folder.rmtree(missing_ok=True)
    return decoded


class KeptBatches:
    """The batches of a chunk that are decoded so far.

    Args:
      folder: where their files are; created with the first one.
      response_ids: the ids of all responses of the chunk.
      progress: called with the number of responses of every batch.
    """

    def __init__(
        self, folder: epath.Path, response_ids: Sequence[int], progress: Callable[[int], object]
    ):
        self.folder, self._ids, self._progress = folder, response_ids, progress
        self._unwritten: dict[epath.Path, tuple[np.ndarray, ...]] = {}
        self._written_at = time.monotonic()

    def keep(
        self, members: list[int], decode: Callable[[], tuple[Any, Any]]
    ) -> tuple[np.ndarray, np.ndarray]:
        """The tokens and features of a batch; see `KeepBatch`."""
        path = self.folder / f"batch-{members[0]:08d}.npy"
        ids = np.asarray([self._ids[member] for member in members])
        if (found := _read_arrays(path)) is not None and np.array_equal(found[0], ids):
            self._progress(len(members))
            return found[1], found[2]
        tokens, features = map(np.asarray, decode())
        self._progress(len(members))
        self._unwritten[path] = ids, tokens, features
        if time.monotonic() - self._written_at >= SECONDS_BETWEEN_WRITES:
            self._write()
        return tokens, features

    def _write(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        for path, arrays in self._unwritten.items():
            content = io.BytesIO()
            for array in arrays:
                np.save(content, array, allow_pickle=False)
            write_whole(path, sha256(content.getvalue()).encode() + content.getvalue())
        self._unwritten.clear()
        self._written_at = time.monotonic()


def _read_arrays(path: epath.Path) -> list[np.ndarray] | None:
    """The three arrays of a batch; None if they are not there or are damaged."""
    content = path.read_bytes() if path.exists() else b""
    digest, content = content[:DIGEST_SIZE], content[DIGEST_SIZE:]
    if digest != sha256(content).encode():
        return None
    file = io.BytesIO(content)
    return [np.load(file, allow_pickle=False) for _ in range(3)]


def _record(response: DecodedResponse) -> list[Any]:
    steps = [[int(one.step), int(one.item), one.top.tolist()] for one in response.item_steps]
    return [list(map(int, response.tokens)), steps, list(map(int, response.picks))]


def _response(record: Sequence[Any]) -> DecodedResponse:
    tokens, steps, picks = record
    items = [EmittedItem(step, item, np.asarray(top, np.int32)) for step, item, top in steps]
    return DecodedResponse(tokens, items, picks)
