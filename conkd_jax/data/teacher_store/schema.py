"""What a record of the teacher store holds, and the shape of a whole store.

Writer and reader share this schema; `teacher_store.files` explains what is stored and why.
"""

from __future__ import annotations

import dataclasses

import ml_dtypes
import numpy as np
import tensorflow_datasets as tfds
from jaxtyping import Float, Float32, Int32, Shaped

from conkd_jax.data.shards.layout import Features
from conkd_jax.errors import UserError

FORMATS = {"features": "teacher_features", "dense": "teacher_logits"}
DTYPES = {"bfloat16": np.dtype(ml_dtypes.bfloat16), "float32": np.dtype(np.float32)}


class TeacherStoreError(UserError, ValueError):
    """A teacher store is missing, unfinished, damaged, or made from other teachers or data."""


@dataclasses.dataclass(frozen=True)
class TeacherStoreSpec:
    """The shape of a teacher store.

    Attributes:
      format: "features" or "dense".
      dtype: "bfloat16" or "float32", the type that features or logits are rounded to.
      width: numbers per target: F for features, |Y| for dense.
      user_dim: length d of the recommender's user vector.
    """

    format: str
    dtype: str
    width: int
    user_dim: int

    def __post_init__(self):
        if self.format not in FORMATS or self.dtype not in DTYPES:
            raise TeacherStoreError(
                f"Expected a format from {sorted(FORMATS)} and a dtype from {sorted(DTYPES)}, got "
                f"{self.format!r} and {self.dtype!r}."
            )

    @property
    def array_dtype(self) -> np.dtype:
        """The NumPy dtype of the stored outputs."""
        return DTYPES[self.dtype]

    def round(self, outputs: Float[np.ndarray, "*n W"]) -> Shaped[np.ndarray, "*n W"]:
        """Returns features or logits as they will be stored; λ has to be computed from these."""
        return np.asarray(outputs).astype(self.array_dtype)

    def schema(self) -> Features:
        """Returns the TFDS features of a record."""
        tensor = tfds.features.Tensor
        return tfds.features.FeaturesDict(
            {
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
      outputs: the dialogue teacher's features or logits, in the store's dtype.
      item_mass: λ of eq. 7, Σ_{y∈I} P_φ(y), from the rounded outputs.
      log_normalizer: logsumexp of the logits, from the rounded outputs.
      user_vector: the recommender's p_u of eq. 3.
      rec_head_index: the recommender that made it: 0, or the fold when cross-fitted.
    """

    conversation_id: str
    turn: int
    targets: Int32[np.ndarray, " T"]
    outputs: Shaped[np.ndarray, "T W"]
    item_mass: Float32[np.ndarray, " T"]
    log_normalizer: Float32[np.ndarray, " T"]
    user_vector: Float32[np.ndarray, " d"]
    rec_head_index: int = 0


@dataclasses.dataclass(frozen=True)
class TeacherHeads:
    """The output layers of both teachers.

    Attributes:
      rec_kernels: [K, d, I] kernels of the K recommenders, for the items that have tokens.
      rec_biases: [K, I] their biases.
      dialogue_kernel: [F, Y] kernel of the dialogue teacher; None in a dense store, which holds the
        logits themselves.
      dialogue_bias: [Y] its bias, or None in a dense store.
      switch_kernel: [F] of its switch between words and items; None for a teacher without one.
      switch_bias: the bias of that switch, or None.
    """

    rec_kernels: Float32[np.ndarray, "K d I"]
    rec_biases: Float32[np.ndarray, "K I"]
    dialogue_kernel: Float32[np.ndarray, "F Y"] | None = None
    dialogue_bias: Float32[np.ndarray, " Y"] | None = None
    switch_kernel: Float32[np.ndarray, " F"] | None = None
    switch_bias: Float32[np.ndarray, ""] | None = None
