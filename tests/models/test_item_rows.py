"""Item rows of a language model that start from a recommender's item vectors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from conkd_jax.models.item_rows import MAPS, add_item_vectors, title_rows

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
EMBEDDING = RNG.normal(size=(40, 16)).astype(np.float32) * 0.02
TITLES = [[item % 10, (item * 7) % 9] for item in range(20)]


def added(vectors, map_name, scale=3.0, embedding=EMBEDDING, key=KEY):
    """Returns what was added to the rows 10 to 29; the others stay as they are."""
    rows = add_item_vectors(
        jnp.asarray(embedding),
        jnp.asarray(vectors),
        10,
        key,
        TITLES,
        map_name=map_name,
        scale=scale,
    )
    np.testing.assert_array_equal(rows[:10], embedding[:10])
    np.testing.assert_array_equal(rows[30:], embedding[30:])
    return np.asarray(rows)[10:30] - embedding[10:30]


def item_vectors(dim):
    """Item vectors with a mean, and axes of different variance."""
    spread = np.geomspace(1, 0.1, dim)
    return (RNG.normal(size=(20, dim)) * spread * 7 + 3).astype(np.float32)


@pytest.mark.parametrize("map_name", ["random", "pca"])
@pytest.mark.parametrize("dim", [4, 16])
def test_items_are_as_alike_as_they_are_for_the_recommender(dim, map_name):
    vectors = item_vectors(dim)
    centred, difference = vectors - vectors.mean(0), added(vectors, map_name)
    expected, actual = centred @ centred.T, difference @ difference.T
    np.testing.assert_allclose(actual / np.trace(actual), expected / np.trace(expected), atol=1e-5)


def test_principal_axes_lie_on_the_first_axes_in_the_order_of_their_variance():
    variance = added(item_vectors(8), "pca").var(0)
    assert (np.diff(variance[:8]) < 0).all() and (variance[8:] == 0).all()


def test_principal_axes_keep_what_a_narrow_embedding_can():
    """With 64 dimensions in 16, the best inner products there are; a random map loses more."""
    vectors = item_vectors(64)
    centred = vectors - vectors.mean(0)
    wanted = centred @ centred.T

    def lost(gram):
        return np.linalg.norm(gram - wanted) / np.linalg.norm(wanted)

    values, axes = np.linalg.eigh(wanted)
    best = (axes[:, -16:] * values[-16:]) @ axes[:, -16:].T
    found = {name: added(vectors, name) for name in ("pca", "random")}
    grams = {name: rows @ rows.T for name, rows in found.items()}
    scaled = {name: gram * np.trace(wanted) / np.trace(gram) for name, gram in grams.items()}
    kept = np.trace(best) / np.trace(wanted)
    np.testing.assert_allclose(scaled["pca"] * kept, best, atol=1e-3 * np.abs(best).max())
    assert lost(scaled["pca"]) < lost(scaled["random"])


def test_principal_axes_depend_on_no_key_and_a_random_map_on_its_key():
    vectors = item_vectors(8)
    for name, same in (("random", False), ("pca", True), ("least_squares", True)):
        other = added(vectors, name, key=jax.random.key(1))
        assert np.array_equal(added(vectors, name), other) == same


def test_least_squares_predicts_the_words_of_titles_best():
    """Vectors that know something of the titles, in a basis of their own, find the way back."""
    titles = np.asarray(title_rows(jnp.asarray(EMBEDDING[:10]), TITLES))
    vectors = titles @ RNG.normal(size=(16, 6)) * 100
    vectors = (vectors + RNG.normal(size=vectors.shape) * vectors.std() / 2).astype(np.float32)

    def explained(rows):
        """The share of the titles' variance that the best multiple of the rows explains."""
        wanted = (titles - titles.mean(0)).ravel()
        rows = rows.ravel()
        return (rows @ wanted) ** 2 / (rows @ rows) / (wanted @ wanted)

    shares = {name: explained(added(vectors, name)) for name in MAPS}
    assert shares["least_squares"] > 0.3 > 3 * max(shares["random"], shares["pca"])
    centred = vectors - vectors.mean(0)
    wanted = centred @ np.linalg.lstsq(centred, titles - titles.mean(0), rcond=None)[0]
    actual = added(vectors, "least_squares")
    np.testing.assert_allclose(actual / actual.std(), wanted / wanted.std(), atol=1e-3)


def test_a_title_without_words_counts_as_the_mean_of_all():
    words = jnp.asarray(EMBEDDING[:10])
    rows = np.asarray(title_rows(words, [[2, 5], [], [7]]))
    np.testing.assert_allclose(rows[0], EMBEDDING[[2, 5]].mean(0), rtol=1e-5)
    np.testing.assert_allclose(rows[1], EMBEDDING[:10].mean(0), rtol=1e-5)
    np.testing.assert_array_equal(rows[2], EMBEDDING[7])


@pytest.mark.parametrize("map_name", MAPS)
@pytest.mark.parametrize("dim", [4, 16, 64])
@pytest.mark.parametrize("scale", [0.5, 3.0])
def test_the_scale_is_in_units_of_the_embedding(dim, map_name, scale):
    """Of any embedding: with rows a hundred times as long, what is added is as well."""
    for factor in (1, 100):
        embedding = EMBEDDING * np.float32(factor)
        difference = added(item_vectors(dim), map_name, scale, embedding)
        wanted = scale * embedding.std()
        tolerance = 0.2 if map_name == "random" and dim > 16 else 1e-3  # on average there
        assert np.sqrt((difference**2).mean()) == pytest.approx(wanted, rel=tolerance)


def test_a_scale_of_zero_adds_nothing():
    assert not added(item_vectors(8), "random", scale=0.0).any()


def test_a_map_that_does_not_exist():
    with pytest.raises(ValueError, match="expected one of random, pca, least_squares, got 'ica'"):
        added(item_vectors(8), "ica")
