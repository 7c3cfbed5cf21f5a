"""What one record of the teacher store holds, and the shape of a whole store.

The schema that writer, verifier and reader share, and nothing else; `teacher_store` explains what
is stored and why. It must not know where records lie.
"""

import dataclasses

import ml_dtypes
import numpy as np
import tensorflow_datasets as tfds
from jaxtyping import Float, Float32, Int32, Shaped

from conkd_jax.data import shards as records
from conkd_jax.errors import UserError

FORMATS = {"features": "teacher_features", "dense": "teacher_logits"}
DTYPES = {"bfloat16": np.dtype(ml_dtypes.bfloat16), "float32": np.dtype(np.float32)}


class StoreError(UserError, ValueError):
    """A teacher store that is missing, unfinished, damaged, or of other teachers or data."""


@dataclasses.dataclass(frozen=True)
class StoreSpec:
    """The shape of a store.

    Attributes:
        format: "features" or "dense".
        dtype: "bfloat16" or "float32", what features or logits are rounded to.
        width: numbers per target: F for features, |Y| for dense.
        user_dim: length d of the recommender's user vector.
    """

    format: str
    dtype: str
    width: int
    user_dim: int

    def __post_init__(self):
        if self.format not in FORMATS or self.dtype not in DTYPES:
            raise StoreError(
                f"Expected a format of {sorted(FORMATS)} and a dtype of {sorted(DTYPES)}, got "
                f"{self.format!r} and {self.dtype!r}."
            )

    @property
    def array_dtype(self) -> np.dtype:
        """The NumPy dtype of the stored outputs."""
        return DTYPES[self.dtype]

    def round(self, outputs: Float[np.ndarray, "*n W"]) -> Shaped[np.ndarray, "*n W"]:
        """Features or logits rounded as they will be stored; λ is to be computed from these."""
        return np.asarray(outputs).astype(self.array_dtype)

    def schema(self) -> records.Features:
        """The TFDS features of a record."""
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
    """What the teachers said about one response with T targets.

    Attributes:
        conversation_id: with ``turn``, the response's key.
        turn: its merged-turn index.
        targets: the targets it was computed for.
        outputs: the dialogue teacher's features or logits, in the store's dtype.
        item_mass: λ of eq. 7, Σ_{y∈I} P_φ(y), from the rounded outputs.
        log_normalizer: logsumexp of the logits of the rounded outputs.
        user_vector: the recommender's p_u of eq. 3.
        rec_head_index: which recommender head made it (0, or its fold when cross-fitted).
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
class Heads:
    """Both teachers' output layers.

    Attributes:
        rec_kernels: [K, d, I], the recommender's, cut to the items that have tokens.
        rec_biases: [K, I].
        dialogue_kernel: [F, Y]; None in a dense store, which holds the logits themselves.
        dialogue_bias: [Y], likewise.
    """

    rec_kernels: Float32[np.ndarray, "K d I"]
    rec_biases: Float32[np.ndarray, "K I"]
    dialogue_kernel: Float32[np.ndarray, "F Y"] | None = None
    dialogue_bias: Float32[np.ndarray, " Y"] | None = None
