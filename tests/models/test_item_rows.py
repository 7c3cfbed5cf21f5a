"""Item rows of a language model that start from a recommender's item vectors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from conkd_jax.config import from_argument, frozen
from conkd_jax.models.item_rows import SCALE, add_item_vectors
from conkd_jax.stages import pipeline

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
EMBEDDING = RNG.normal(size=(40, 16)).astype(np.float32) * 0.02


def added(dim):
    """Returns the item vectors and what was added to the rows 10 to 29."""
    vectors = RNG.normal(size=(20, dim)).astype(np.float32) * 7 + 3
    rows = np.asarray(add_item_vectors(jnp.asarray(EMBEDDING), jnp.asarray(vectors), 10, KEY))
    np.testing.assert_array_equal(rows[:10], EMBEDDING[:10])
    np.testing.assert_array_equal(rows[30:], EMBEDDING[30:])
    return vectors, rows[10:30] - EMBEDDING[10:30]


@pytest.mark.parametrize("dim", [4, 16])
def test_items_are_as_alike_as_they_are_for_the_recommender(dim):
    vectors, difference = added(dim)
    centred = vectors - vectors.mean(0)
    expected, actual = centred @ centred.T, difference @ difference.T
    np.testing.assert_allclose(actual / np.trace(actual), expected / np.trace(expected), atol=1e-5)


@pytest.mark.parametrize("dim", [4, 16, 64])
def test_the_scale_follows_the_embedding(dim):
    _, difference = added(dim)
    wanted = SCALE * EMBEDDING.std()
    tolerance = 1e-3 if dim <= 16 else 0.2  # a projection to fewer dimensions keeps it on average
    assert np.sqrt((difference**2).mean()) == pytest.approx(wanted, rel=tolerance)


@pytest.mark.parametrize("backbone", ["dialogpt", "kgsf"])
def test_only_a_student_with_this_start_reads_the_recommender_for_it(backbone):
    config = frozen(from_argument("demo", backbone)).replace({"student.item_init": "title"})
    plain = pipeline.build(config)["student"]
    other = pipeline.build(config.replace({"student.item_init": "recommender"}))["student"]
    assert plain.fingerprint != other.fingerprint and "rec_teacher" in other.inputs
    assert "item_init" not in plain.config_part
