"""A small RevCore: KGSF's parameters and samples, with reviews in the contexts."""

import jax
import numpy as np

from conkd_jax.models.revcore import RevCore
from tests.models import small_kgsf
from tests.models.small_kgsf import NUM_ROWS, NUM_TARGETS, SPEC, draw, padded

MODEL = RevCore(SPEC, NUM_ROWS, NUM_TARGETS)
REVIEWS = ([2, 3, 4, 7], [], [0, 5])  # places of each context; the second has no review


def initial_params():
    """The trained part as it is drawn."""
    return MODEL.init(jax.random.key(0))


def perturbed_params(start):
    """KGSF's parameters of the other tests, and those of the reviews away from their start."""
    rng = np.random.default_rng(3)
    own = jax.tree.map(lambda leaf: leaf + 0.3 * draw(rng, *leaf.shape), start["reviews"])
    return {**small_kgsf.perturbed_params(small_kgsf.initial_params()), "reviews": own}


def make_samples():
    """KGSF's, with the places of reviews and the words retrieved from them."""
    found = small_kgsf.make_samples()
    for sample, places in zip(found, REVIEWS, strict=True):
        sample["context"][places] %= NUM_TARGETS - 10  # words
        retrieved = list(dict.fromkeys(sample["context"][places].tolist()))
        sample |= {"places": places, "retrieved": retrieved}
    return found


def batch(samples, *, context=9, retrieved=4, **lengths):
    """Inputs of `states`, padded to the given lengths."""
    inputs = small_kgsf.batch(samples, context=context, **lengths)
    mask = np.zeros((len(samples), context), bool)
    for row, sample in enumerate(samples):
        mask[row, sample["places"]] = True
    ids = padded([sample["retrieved"] for sample in samples], retrieved, -1)
    return {**inputs, "review_mask": mask, "retrieved_ids": ids}
