"""Teacher outputs in the form of a batch, each checked against its response.

A distillation run with wrong pairs of teacher output and response would fail silently, so every
record is compared with the key and the targets of its response when it is read. This module is
independent of the storage format and of the model that reads the batch.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Int32, Int64

from conkd_jax.data.teacher_store.files import TeacherStore
from conkd_jax.data.teacher_store.schema import TeacherRecord, TeacherStoreError

_RECORDS_AT_A_TIME = 512  # held in memory while the arrays are filled


class TeacherStoreReader:
    """Reads a teacher store batch by batch, for the responses of a split.

    Args:
      store: the store.
      response_keys: [N] (conversation_id, turn) of every response of the split.
      targets: the targets of all responses, concatenated.
      target_offsets: [N + 1] where the targets of each response begin.
      cache_in_memory: a store of at most this many bytes is read at once and kept in memory.

    Raises:
      TeacherStoreError: the store has another number of responses. A response with another key or
        other targets is found when it is read: here, or in `gather`.
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
            raise TeacherStoreError(
                f"{store.directory} holds {len(store)} responses, the split has "
                f"{len(response_keys)}: the store was written for other rows. Write it again."
            )
        of_target = [(shape, dtype) for _, shape, dtype in store.spec.token_arrays.values()]
        size = len(targets) * sum(math.prod(shape) * dtype.itemsize for shape, dtype in of_target)
        size += len(response_keys) * (store.spec.user_dim + 1) * 4  # user vector and head index
        self._cache = self._read(np.arange(len(store))) if size <= cache_in_memory else None

    @property
    def token_fields(self) -> tuple[str, ...]:
        """The arrays with one entry per target; the others have one per response."""
        return tuple(self.store.spec.token_arrays)

    def gather(self, response_ids: Int64[np.ndarray, " G"]) -> dict[str, np.ndarray]:
        """Returns the outputs of G responses with n targets in total, concatenated.

        Args:
          response_ids: the responses, in any order and with repeats.

        Returns:
          `teacher_features` [n, F], `teacher_logits` [n, Y], or `teacher_log_probs` [n, K] and
          `teacher_token_ids` [n, K]; `teacher_log_normalizer` [n], `item_mass` [n], `user_vectors`
          [G, d], `rec_head_index` [G].

        Raises:
          TeacherStoreError: a record belongs to another response.
        """
        if self._cache is None:
            return self._read(response_ids)
        # The cached arrays hold the targets of all responses one after another: take each one's.
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
        of_targets = spec.token_arrays
        flat = {
            **{name: np.empty((total, *shape), of) for name, (_, shape, of) in of_targets.items()},
            "user_vectors": np.empty((count, spec.user_dim), np.float32),
            "rec_head_index": np.empty(count, np.int32),
        }
        end = 0
        for i, record in enumerate(self._checked(response_ids)):
            begin, end = end, end + len(record.targets)
            for name, (field, _, _) in of_targets.items():
                flat[name][begin:end] = getattr(record, field)
            flat["user_vectors"][i] = record.user_vector
            flat["rec_head_index"][i] = record.rec_head_index
        return flat

    def _checked(self, response_ids: np.ndarray) -> Iterator[TeacherRecord]:
        for begin in range(0, len(response_ids), _RECORDS_AT_A_TIME):
            chunk = response_ids[begin : begin + _RECORDS_AT_A_TIME]
            for response, record in zip(chunk.tolist(), self.store.read(chunk), strict=True):
                key, targets = tuple(self._keys[response]), self._response_targets(response)
                found = (record.conversation_id, record.turn)
                if found != key or not np.array_equal(record.targets, targets):
                    raise TeacherStoreError(
                        f"{self.store.directory}, response {response}: expected {key} with targets "
                        f"{targets.tolist()}, the store has {found} with "
                        f"{record.targets.tolist()}. The store was written for other rows (another "
                        "corpus, vocabulary or row limit): write it again."
                    )
                yield record

    def _response_targets(self, response: int) -> np.ndarray:
        return self._targets[self._offsets[response] : self._offsets[response + 1]]
