"""Assembles the arrays of a language model's batch: inputs, targets, weights, teacher outputs.

Every backbone's rows go through here, so that one loss serves them all. This module is independent
of models, devices and losses.
"""

from __future__ import annotations

import functools

import numpy as np
from jaxtyping import Int32, Int64

from conkd_jax.data.batches.loader import Batch
from conkd_jax.data.batches.plan import BatchPlan
from conkd_jax.data.rows.contract import FILL, FORMS, Rows
from conkd_jax.data.teacher_store.files import TeacherStore
from conkd_jax.data.teacher_store.reader import TeacherStoreReader
from conkd_jax.data.vocabulary import Vocabulary

WEIGHTINGS = ("sample", "token")
_CAPACITY_MULTIPLE = 64


class LanguageModelBatches:
    """Assembles rows of a language model into one device's arrays (`assemble` of `BatchLoader`).

    A batch holds the inputs of the rows (`Rows.inputs`, [b, …]) and these arrays, where N is the
    capacity for targets and G the capacity for responses. Both depend only on the bucket and b:
    they hold the b largest rows of the bucket or, without a plan, any b rows (`Rows.capacity`). ::

        feature_index [N] int32      position in the flat states [b·S] that predicts the target
        labels [N] int32             the target
        weights [N] float32          "sample": 1/(T · responses in the global batch), the 1/T of
                                     eq. 5; "token": 1/(targets in the global batch); 0 for padding
        loss_mask [N] float32        1 for a target, 0 for padding
        response_index [N] int32     the target's response among the G
        num_tokens [] int32          number of real targets; they come first
        response_id [G] int32        the split's response ids, -1 for padding

    and with a teacher store::

        teacher_features [N, F] (or teacher_logits [N, Y], or teacher_log_probs [N, K] and
        teacher_token_ids [N, K]), teacher_log_normalizer [N], item_mass [N] (λ of eq. 7),
        user_vectors [G, d], rec_head_index [G] int32

    with `mentioned`::

        mentioned_items [G, K] int32 items mentioned before the response, as numbers from 0 to
                                     I - 1; I is padding

    if the rows have retrieved words::

        retrieved_ids [G, L] int32   words retrieved for the response, -1 for padding; in
                                     `Rows.inputs` they are [b, L], for rows of one response each

    and, if the rows have picks, `is_choice` [N] float32: 1 where an item can be chosen
    (`Rows.choices_of`), 0 in a text whose items are given, and for padding.

    Args:
      rows: the rows of a split.
      vocabulary: its token ids.
      plan: the plan of these rows, whose buckets set the capacities; None for shapes that other
        rows share.
      form: "teacher" or "student".
      weighting: "sample" or "token".
      store: the teacher outputs of the same split, or None.
      cache_in_memory: a store of at most this many bytes is read at once and kept in memory.
      mentioned: the items mentioned before each response of the split
        (`data.mentioned_items.mentioned_items`), or None.

    Raises:
      ValueError: an unknown form or weighting, or a plan or mentioned items of other rows.
      TeacherStoreError: the store was written for other responses.
    """

    def __init__(
        self,
        rows: Rows,
        vocabulary: Vocabulary,
        plan: BatchPlan | None,
        form: str,
        weighting: str = "sample",
        store: TeacherStore | None = None,
        cache_in_memory: int = 0,
        mentioned: Int32[np.ndarray, "all K"] | None = None,
    ):
        if form not in FORMS or weighting not in WEIGHTINGS:
            raise ValueError(
                f"form must be one of {FORMS} and weighting one of {WEIGHTINGS}, got {form!r} and "
                f"{weighting!r}."
            )
        if plan is not None and not np.array_equal(plan.lengths, rows.lengths):
            raise ValueError("The plan was made for other rows: build it from rows.lengths.")
        if mentioned is not None and len(mentioned) != rows.num_responses:
            raise ValueError(
                f"Mentioned items of {len(mentioned)} responses came with {rows.num_responses} "
                "other responses: build both from the same dialogues."
            )
        self.rows = rows
        self.mentioned = mentioned
        self.num_items = vocabulary.num_items
        self.pad_id = vocabulary.pad_id
        self.plan = plan
        self.form = form
        self.weighting = weighting
        self.outputs = None
        if store is not None:
            self.outputs = TeacherStoreReader(
                store, rows.response_keys, rows.targets, rows.target_offsets, cache_in_memory
            )
        self._row_targets = rows.row_targets
        self._row_responses = np.diff(rows.row_offsets)
        self.capacities = functools.lru_cache(maxsize=None)(self._capacities)

    def _capacities(self, bucket_length: int, num_rows: int) -> tuple[int, int]:
        """Returns (N, G) for a micro-batch of `num_rows` rows of a bucket."""
        # The shapes must not depend on which rows a batch holds: every shape is a compilation.
        if self.plan is None:
            targets, responses = self.rows.capacity(bucket_length)
            return _rounded_up(num_rows * targets), _rounded_up(num_rows * responses)
        members = self.plan.rows_padded_to(bucket_length)

        def largest(counts: np.ndarray) -> int:
            return _rounded_up(int(np.sort(counts[members])[-num_rows:].sum()))

        return largest(self._row_targets), largest(self._row_responses)

    def __call__(
        self,
        row_ids: Int64[np.ndarray, " b"],
        bucket_length: int,
        step_rows: Int64[np.ndarray, " B"],
    ) -> Batch:
        """Returns the arrays of one device's micro-batch.

        Args:
          row_ids: its rows, FILL where there are too few.
          bucket_length: S, the length that the rows are padded to.
          step_rows: the rows of the whole global batch, which the weights depend on.
        """
        rows = self.rows
        num_targets, num_responses = self.capacities(bucket_length, len(row_ids))
        inputs, first = rows.inputs(row_ids, bucket_length, self.form, self.pad_id)
        responses = rows.responses_of(row_ids)
        lengths = rows.response_length[responses].astype(np.int64)
        # Arrays [n] over the targets of all responses of these rows, response after response: the
        # target's response, and t - 1, the target's place in that response.
        index = np.repeat(np.arange(len(responses)), lengths)
        within = np.arange(len(index)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        flat = rows.target_offsets[responses][index] + within  # where the split keeps the target
        weights = self._weights(lengths, step_rows)[index]
        batch = {
            **inputs,
            "feature_index": _padded(first[index] + within, num_targets, np.int32),
            "labels": _padded(rows.targets[flat], num_targets, np.int32),
            "weights": _padded(weights, num_targets, np.float32),
            "loss_mask": _padded(np.ones(len(index)), num_targets, np.float32),
            "response_index": _padded(index, num_targets, np.int32),
            "num_tokens": np.array(len(index), np.int32),
            "response_id": _padded(responses, num_responses, np.int32, FILL),
        }
        if self.mentioned is not None:
            batch["mentioned_items"] = _padded(
                self.mentioned[responses], num_responses, np.int32, self.num_items
            )
        if "retrieved_ids" in inputs:  # from one row per slot of the batch to one per response
            slots = np.flatnonzero(row_ids != FILL)
            slots = np.repeat(slots, self._row_responses[row_ids[slots]])
            retrieved = inputs["retrieved_ids"][slots]
            batch["retrieved_ids"] = _padded(retrieved, num_responses, np.int32, FILL)
        if rows.pick_tokens is not None:
            is_choice = within < rows.choices_of(responses)[index]
            batch["is_choice"] = _padded(is_choice, num_targets, np.float32)
        if self.outputs is not None:
            for name, values in self.outputs.gather(responses).items():
                capacity = num_targets if name in self.outputs.token_fields else num_responses
                batch[name] = _padded(values, capacity, values.dtype)
        return batch

    def _weights(self, lengths: np.ndarray, step_rows: np.ndarray) -> np.ndarray:
        """Returns one weight per response, which each of its targets gets."""
        real = step_rows[step_rows != FILL]
        if self.weighting == "sample":
            return 1.0 / (lengths * self._row_responses[real].sum())
        return np.full(len(lengths), 1.0 / self._row_targets[real].sum())


def _rounded_up(count: int) -> int:
    return max(1, -(-count // _CAPACITY_MULTIPLE)) * _CAPACITY_MULTIPLE


def _padded(values: np.ndarray, capacity: int, dtype: np.dtype | type, fill: int = 0) -> np.ndarray:
    padded = np.full((capacity, *values.shape[1:]), fill, dtype)
    padded[: len(values)] = values
    return padded
