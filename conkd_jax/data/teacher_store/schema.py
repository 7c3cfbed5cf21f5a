"""What a record of the teacher store holds, and the shape of a whole store.

Writer and reader share this schema; `teacher_store.files` explains what is stored and why.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import ml_dtypes
import numpy as np
import tensorflow_datasets as tfds
from jaxtyping import Float, Float32, Int32, Shaped, UInt

from conkd_jax.data.shards.layout import Features
from conkd_jax.errors import UserError

# What a store keeps of the dialogue teacher, and the name of that array in a batch.
FORMATS = {"features": "teacher_features", "dense": "teacher_logits", "topk": "teacher_log_probs"}
TOKEN_IDS = "teacher_token_ids"  # in a batch of a "topk" store, beside the log-probabilities
_FLOATS = {"teacher_log_normalizer": "log_normalizer", "item_mass": "item_mass"}
DTYPES = {"bfloat16": np.dtype(ml_dtypes.bfloat16), "float32": np.dtype(np.float32)}


class TeacherStoreError(UserError, ValueError):
    """A teacher store is missing, unfinished, damaged, or made from other teachers or data."""


@dataclasses.dataclass(frozen=True)
class TeacherStoreSpec:
    """The shape of a teacher store.

    Attributes:
      format: "features", "dense" or "topk".
      dtype: "bfloat16" or "float32", the type that the outputs are rounded to.
      width: numbers per target: F for features, |Y| for dense, K for topk.
      user_dim: length d of the recommender's user vector.
      num_targets: |Y|, which the type of the ids in a topk store depends on; None in other stores.
    """

    format: str
    dtype: str
    width: int
    user_dim: int
    num_targets: int | None = None

    def __post_init__(self):
        if self.format not in FORMATS or self.dtype not in DTYPES:
            raise TeacherStoreError(
                f"Expected a format from {sorted(FORMATS)} and a dtype from {sorted(DTYPES)}, got "
                f"{self.format!r} and {self.dtype!r}."
            )
        is_topk, size = self.format == "topk", self.num_targets
        if is_topk != (size is not None) or (size is not None and not 1 <= self.width <= size):
            raise TeacherStoreError(
                "Expected num_targets, and a width from 1 to num_targets, for the format topk, and "
                f"no num_targets for others; got {size} and a width of {self.width} for "
                f"{self.format}."
            )

    @property
    def array_dtype(self) -> np.dtype:
        """The NumPy dtype of the stored outputs."""
        return DTYPES[self.dtype]

    @property
    def id_dtype(self) -> np.dtype | None:
        """The NumPy dtype of a topk store's token ids, two bytes if |Y| allows; None for others."""
        if self.num_targets is None:
            return None
        return np.dtype(np.uint16 if self.num_targets <= 1 << 16 else np.uint32)

    @property
    def token_arrays(self) -> dict[str, tuple[str, tuple[int, ...], np.dtype]]:
        """What is stored for each target.

        Returns:
          By the name of the array in a batch: the field of `TeacherRecord`, and the shape and the
          dtype at one target.
        """
        arrays: dict[str, tuple[str, tuple[int, ...], np.dtype]] = {
            FORMATS[self.format]: ("outputs", (self.width,), self.array_dtype)
        }
        if self.id_dtype is not None:
            arrays[TOKEN_IDS] = ("token_ids", (self.width,), self.id_dtype)
        for name, field in _FLOATS.items():
            arrays[name] = (field, (), np.dtype(np.float32))
        return arrays

    def entries(self) -> dict[str, Any]:
        """The shape as plain JSON, for the provenance of a store."""
        # Left out if None: the ids of stores on disk are hashes that cover these entries.
        return {k: v for k, v in dataclasses.asdict(self).items() if v is not None}

    def round(self, outputs: Float[np.ndarray, "*n W"]) -> Shaped[np.ndarray, "*n W"]:
        """Returns outputs as they will be stored; λ of features and logits is that of these."""
        return np.asarray(outputs).astype(self.array_dtype)

    def schema(self) -> Features:
        """Returns the TFDS features of a record."""
        tensor = tfds.features.Tensor
        ids = {"token_ids": tfds.features.Scalar(np.object_)}  # [T, K], little-endian bytes
        return tfds.features.FeaturesDict(
            {
                **({} if self.id_dtype is None else ids),
                "store_id": tfds.features.Scalar(np.int64),
                "conversation_id": tfds.features.Text(),
                "turn": tfds.features.Scalar(np.int32),
                "targets": tensor(shape=(None,), dtype=np.int32),
                "outputs": tfds.features.Scalar(np.object_),  # [T, W], little-endian bytes
                "item_mass": tensor(shape=(None,), dtype=np.float32),
                "log_normalizer": tensor(shape=(None,), dtype=np.float32),
                "user_vector": tensor(shape=(self.user_dim,), dtype=np.float32),
                "rec_head_index": tfds.features.Scalar(np.int32),
            }
        )


@dataclasses.dataclass(frozen=True)
class TeacherRecord:
    """The teachers' outputs for one response with T targets.

    Attributes:
      conversation_id: the dialogue; with `turn`, the key of the response.
      turn: the merged-turn index of the response.
      targets: the targets that the outputs were computed for.
      outputs: the dialogue teacher's features, logits or K largest log-probabilities, in the
        store's dtype.
      item_mass: λ of eq. 7, Σ_{y∈I} P_φ(y), from the rounded outputs; of topk, from all logits.
      log_normalizer: logsumexp of the logits, from the rounded outputs; of topk, from all logits.
      user_vector: the recommender's p_u of eq. 3.
      rec_head_index: the recommender that made it: 0, or the fold when cross-fitted.
      token_ids: of topk, the targets of `outputs`, most probable first; None for other formats.
    """

    conversation_id: str
    turn: int
    targets: Int32[np.ndarray, " T"]
    outputs: Shaped[np.ndarray, "T W"]
    item_mass: Float32[np.ndarray, " T"]
    log_normalizer: Float32[np.ndarray, " T"]
    user_vector: Float32[np.ndarray, " d"]
    rec_head_index: int = 0
    token_ids: UInt[np.ndarray, "T W"] | None = None


@dataclasses.dataclass(frozen=True)
class TeacherHeads:
    """The output layers of both teachers.

    Attributes:
      rec_kernels: [K, d, I] kernels of the K recommenders, for the items that have tokens.
      rec_biases: [K, I] their biases.
      dialogue_kernel: [F, Y] kernel of the dialogue teacher; None in a store that does not hold
        features, and so needs no head.
      dialogue_bias: [Y] its bias, or None.
      switch_kernel: [F] of its switch between words and items; None for a teacher without one.
      switch_bias: the bias of that switch, or None.
    """

    rec_kernels: Float32[np.ndarray, "K d I"]
    rec_biases: Float32[np.ndarray, "K I"]
    dialogue_kernel: Float32[np.ndarray, "F Y"] | None = None
    dialogue_bias: Float32[np.ndarray, " Y"] | None = None
    switch_kernel: Float32[np.ndarray, " F"] | None = None
    switch_bias: Float32[np.ndarray, ""] | None = None
