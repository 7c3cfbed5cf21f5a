"""AutoRec against plain NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from conkd_jax.models.recommenders import autorec
from tests.models.recurrent_oracle import sigmoid
from tests.models.small_redial import perturbed

ITEMS = np.array([[3, 0, -1], [-1, -1, -1], [6, 2, 5]], np.int32)
RATINGS = np.array([[1.0, 0.25, 0.9], [0.5, 0.5, 0.5], [0.0, 1.0, 0.5]], np.float32)


@pytest.fixture(scope="module")
def params():
    return perturbed(autorec.init_autorec(jax.random.key(0), 7, 4))


def test_users_and_scores_follow_the_formulas(params):
    users = autorec.user_vectors(params, ITEMS, RATINGS)
    x = np.zeros((3, 7))
    x[0, [3, 0]], x[2, [6, 2, 5]] = [1.0, 0.25], [0.0, 1.0, 0.5]
    hidden = sigmoid(x @ params["encoder"]["kernel"] + params["encoder"]["bias"])
    np.testing.assert_allclose(users, hidden, atol=1e-6)
    expected = hidden @ params["decoder"]["kernel"] + params["decoder"]["bias"]
    np.testing.assert_allclose(autorec.scores(params, users), expected, atol=1e-5)


def test_the_error_is_over_rated_items(params):
    predicted = jnp.asarray(np.random.default_rng(0).normal(size=(3, 7)), jnp.float32)
    given = sigmoid(np.asarray(predicted))
    expected = [
        (given[0, 3] - 1.0) ** 2 + (given[0, 0] - 0.25) ** 2,
        0.0,
        given[2, 6] ** 2 + (given[2, 2] - 1) ** 2 + (given[2, 5] - 0.5) ** 2,
    ]
    np.testing.assert_allclose(
        autorec.squared_error(predicted, ITEMS, RATINGS), expected, atol=1e-6
    )
    only = jnp.array([[True, False, True], [True] * 3, [False, True, False]])
    expected = [(given[0, 3] - 1.0) ** 2, 0.0, (given[2, 2] - 1) ** 2]
    found = autorec.squared_error(predicted, ITEMS, RATINGS, only)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_padding_has_no_gradient(params):
    def total(ratings):
        return autorec.user_vectors(params, ITEMS, ratings).sum()

    gradient = jax.grad(total)(jnp.asarray(RATINGS))
    assert (np.asarray(gradient)[ITEMS < 0] == 0).all()
    assert (np.abs(np.asarray(gradient)[ITEMS >= 0]) > 1e-4).all()
