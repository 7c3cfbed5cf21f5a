"""Teacher outputs as a batch wants them, each checked against the response it is for.

This file exists because pairing is where a distillation run goes wrong in silence: every record
that is read is held against the key and the targets of its response. It must not know how a record
is stored, or which model reads the batch.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Int32, Int64

from conkd_jax.data.teacher_store.files import TeacherStore
from conkd_jax.data.teacher_store.schema import FORMATS, StoreError, TeacherRecord

_CHUNK = 512  # records held at once while arrays are filled


class TeacherOutputs:
    """A store's outputs for the responses of a split.

    Args:
        store: the store.
        response_keys: [N] (conversation_id, turn) of every response of the split.
        targets: all their targets, response after response.
        target_offsets: [N + 1] where each response's targets begin.
        cache_in_memory: a store of at most so many bytes is read here and kept; 0 keeps none.

    Raises:
        StoreError: if the store has another number of responses, or, here or when one is read, a
            response has another key or other targets.
    """

    def __init__(
        self,
        store: TeacherStore,
        response_keys: Sequence[tuple[str, int]],
        targets: Int32[np.ndarray, " n"],
        target_offsets: Int64[np.ndarray, " N1"],
        cache_in_memory: int = 0,
    ):
        self.store = store
        self._keys = response_keys
        self._targets = targets
        self._offsets = target_offsets
        if len(store) != len(response_keys):
            raise StoreError(
                f"{store.directory} holds {len(store)} responses, the split has "
                f"{len(response_keys)}: it was written for other rows. Write it again."
            )
        spec = store.spec
        size = len(targets) * (spec.width * spec.array_dtype.itemsize + 8)
        size += len(response_keys) * (spec.user_dim + 1) * 4
        self._cache = self._read(np.arange(len(store))) if size <= cache_in_memory else None

    @property
    def is_cached(self) -> bool:
        """Whether the whole store is in memory."""
        return self._cache is not None

    @property
    def token_fields(self) -> tuple[str, str, str]:
        """The arrays that run over targets; the others run over responses."""
        return (FORMATS[self.store.spec.format], "teacher_log_normalizer", "item_mass")

    def gather(self, response_ids: Int64[np.ndarray, " G"]) -> dict[str, np.ndarray]:
        """The outputs of some responses (n targets together), target after target.

        Returns:
            ``teacher_features`` or ``teacher_logits`` [n, W], ``teacher_log_normalizer`` [n],
            ``item_mass`` [n], ``user_vectors`` [G, d], ``rec_head_index`` [G].

        Raises:
            StoreError: if a record is not the one of its response.
        """
        if self._cache is None:
            return self._read(response_ids)
        spans = [np.arange(*self._offsets[i : i + 2]) for i in response_ids]
        tokens = np.concatenate([np.zeros(0, np.int64), *spans])
        return {
            name: values[tokens if name in self.token_fields else response_ids]
            for name, values in self._cache.items()
        }

    def _read(self, response_ids: np.ndarray) -> dict[str, np.ndarray]:
        spec = self.store.spec
        count = len(response_ids)
        total = int((self._offsets[response_ids + 1] - self._offsets[response_ids]).sum())
        outputs, normalizer, mass = self.token_fields
        flat = {
            outputs: np.empty((total, spec.width), spec.array_dtype),
            normalizer: np.empty(total, np.float32),
            mass: np.empty(total, np.float32),
            "user_vectors": np.empty((count, spec.user_dim), np.float32),
            "rec_head_index": np.empty(count, np.int32),
        }
        end = 0
        for i, record in enumerate(self._checked(response_ids)):
            begin, end = end, end + len(record.targets)
            flat[outputs][begin:end] = record.outputs
            flat[normalizer][begin:end] = record.log_normalizer
            flat[mass][begin:end] = record.item_mass
            flat["user_vectors"][i] = record.user_vector
            flat["rec_head_index"][i] = record.rec_head_index
        return flat

    def _checked(self, response_ids: np.ndarray) -> Iterator[TeacherRecord]:
        for begin in range(0, len(response_ids), _CHUNK):
            chunk = response_ids[begin : begin + _CHUNK]
            for response, record in zip(chunk.tolist(), self.store.read(chunk), strict=True):
                key, targets = tuple(self._keys[response]), self._response_targets(response)
                found = (record.conversation_id, record.turn)
                if found != key or not np.array_equal(record.targets, targets):
                    raise StoreError(
                        f"{self.store.directory}, response {response}: expected {key} with targets "
                        f"{targets.tolist()}, the store has {found} with "
                        f"{record.targets.tolist()}. It was written for other rows (corpus, "
                        "vocabulary or row limits): write it again."
                    )
                yield record

    def _response_targets(self, response: int) -> np.ndarray:
        return self._targets[self._offsets[response] : self._offsets[response + 1]]
