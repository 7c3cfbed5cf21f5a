"""A dialogue teacher in the forms in which it could be stored, and what each loses.

Each form is compared with the teacher itself at random states whose distributions are as sharp as a
language model's. The errors are those of a token's target in the loss, and of λ.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import ml_dtypes
import numpy as np
import numpy.typing as npt

from benchmarks.random_gpt2 import GPT2Size

SHARPNESS = 4.0  # standard deviation of logits; at Y = 57 k an entropy of about 3 nats
ITEM_SHARE = 0.15  # of the probability, on average
ETA = 0.6  # at which a hard gate flips
EXACT = "features, float32"
FEATURES, LOGITS = "features, bfloat16 (conkd_jax)", "logits, bfloat16"
TOP_64 = "top 64, bfloat16, with λ and log Z (conkd_jax)"
TOP_128 = "top 128 of half precision, renormalised"


class RandomTeacher(NamedTuple):
    """Features of some tokens, and the head."""

    features: np.ndarray
    kernel: np.ndarray
    bias: np.ndarray

    @classmethod
    def of(cls, size: GPT2Size, count: int, seed: int = 0) -> RandomTeacher:
        """Draws features of `count` tokens; logits have a deviation of `SHARPNESS`."""
        rng = np.random.default_rng(seed)
        kernel = rng.standard_normal((size.width, size.num_targets), dtype=np.float32)
        features = rng.standard_normal((count, size.width), dtype=np.float32)
        bias = np.zeros(size.num_targets, np.float32)
        odds = ITEM_SHARE / (1 - ITEM_SHARE)
        bias[size.num_words :] = np.log(odds * size.num_words / size.num_items)
        return cls(features, kernel * np.float32(SHARPNESS / size.width**0.5), bias)

    def logits(self, features: np.ndarray | None = None) -> np.ndarray:
        """The head on these features, or on its own."""
        return (self.features if features is None else features) @ self.kernel + self.bias


def softmax(logits: np.ndarray) -> np.ndarray:
    """P of each token."""
    probs = np.exp(logits - logits.max(1, keepdims=True))
    return probs / probs.sum(1, keepdims=True)


def most_probable(
    probs: np.ndarray, count: int, dtype: npt.DTypeLike, is_renormalised: bool
) -> np.ndarray:
    """P̂ of the `count` most probable targets, from log-probabilities of another type."""
    kept = np.argpartition(probs, -count, axis=1)[:, -count:]
    values = np.take_along_axis(probs, kept, axis=1)
    values = np.exp(np.log(values).astype(dtype).astype(np.float32))
    if is_renormalised:
        values /= values.sum(1, keepdims=True)
    found = np.zeros_like(probs)
    np.put_along_axis(found, kept, values, axis=1)
    return found


def rounded(values: np.ndarray) -> np.ndarray:
    """The nearest bfloat16 numbers."""
    return values.astype(ml_dtypes.bfloat16).astype(np.float32)


def forms_of(teacher: RandomTeacher) -> Iterator[tuple[str, np.ndarray]]:
    """P̂ of each form, by its name; the first is the teacher itself."""
    logits = teacher.logits()
    exact = softmax(logits)
    yield EXACT, exact
    yield FEATURES, softmax(teacher.logits(rounded(teacher.features)))
    yield LOGITS, softmax(rounded(logits))
    count = exact.shape[1]
    yield TOP_64, most_probable(exact, min(64, count), ml_dtypes.bfloat16, is_renormalised=False)
    yield TOP_128, most_probable(exact, min(128, count), np.float16, is_renormalised=True)


def errors_of(size: GPT2Size, count: int) -> dict[str, dict[str, float]]:
    """The errors of each form over `count` tokens, whose labels are drawn from the teacher."""
    teacher = RandomTeacher.of(size, count)
    noise = np.random.default_rng(1).gumbel(size=(count, size.num_targets))
    labels = (teacher.logits() + noise).argmax(1)
    exact, found = np.zeros(0), {}
    for name, probs in forms_of(teacher):
        exact = exact if exact.size else probs
        mass, true_mass = (p[:, size.num_words :].sum(1) for p in (probs, exact))
        if name == TOP_64:
            mass = true_mass  # it is stored
        found[name] = {
            "total_variation": float(np.abs(probs - exact).sum(1).mean() / 2),
            "largest_error_of_item_mass": float(np.abs(mass - true_mass).max()),
            "flips_of_the_gate": int(((mass >= ETA) != (true_mass >= ETA)).sum()),
        }
        if name in (EXACT, FEATURES, LOGITS):  # others give some labels no probability
            nll, true_nll = (-np.log(p[np.arange(count), labels]).mean() for p in (probs, exact))
            found[name]["error_of_cross_entropy"] = float(nll - true_nll)
    return found
