"""Word vectors: rows of one length, tokens used alike side by side, the same in every process."""

import os
import subprocess
import sys

import numpy as np
import pytest

from conkd_jax.data.word_vectors import train_word_vectors

NUM_ROWS, DIM = 40, 24


def two_topics() -> list[list[int]]:
    """Sentences whose tokens are all from 0 to 7, or all from 10 to 17."""
    rng = np.random.default_rng(0)
    return [(rng.integers(0, 8, 12) + 10 * (n % 2)).tolist() for n in range(2400)]


@pytest.fixture(scope="module")
def table() -> np.ndarray:
    return train_word_vectors(iter(two_topics()), NUM_ROWS, DIM, seed=3)


def test_tokens_said_together_lie_together(table):
    cosine = table @ table.T
    one, other = slice(0, 8), slice(10, 18)
    assert cosine[one, one].mean() > 0.9
    assert cosine[other, other].mean() > 0.9
    assert cosine[one, other].mean() < 0.5


def test_seen_rows_have_length_one_and_the_others_that_of_the_initialisation(table):
    assert table.shape == (NUM_ROWS, DIM)
    assert table.dtype == np.float32
    seen = [*range(8), *range(10, 18)]
    lengths = np.linalg.norm(table, axis=1)
    np.testing.assert_allclose(lengths[seen], 1, rtol=1e-6)
    noise = train_word_vectors([[0]], 3000, DIM, seed=3)[1:]
    assert noise.mean() == pytest.approx(0, abs=0.01)
    assert noise.std() == pytest.approx(DIM**-0.5, rel=0.01)
    assert len(np.unique(noise[:, 0])) == len(noise)


def test_the_seed_decides(table):
    again = train_word_vectors(two_topics(), NUM_ROWS, DIM, seed=3)
    np.testing.assert_array_equal(again, table)
    other = train_word_vectors(two_topics(), NUM_ROWS, DIM, seed=4)
    assert not np.isclose(other, table).all(axis=1).any()


def test_training_is_the_same_in_another_process():
    program = (
        "import sys; from conkd_jax.data.word_vectors import train_word_vectors; "
        f"table = train_word_vectors({two_topics()[:100]!r}, {NUM_ROWS}, {DIM}, 3); "
        "sys.stdout.buffer.write(table.tobytes())"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "77"}
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, check=True, env=environment
    )
    here = train_word_vectors(two_topics()[:100], NUM_ROWS, DIM, seed=3)
    assert run.stdout == here.tobytes()
    assert run.stderr == b""


@pytest.mark.parametrize("sentences", [[], [[], []]])
def test_nothing_to_learn_from_is_refused(sentences):
    with pytest.raises(ValueError, match="all empty"):
        train_word_vectors(sentences, NUM_ROWS, DIM, seed=0)


@pytest.mark.parametrize(("token", "found"), [(-1, "from -1 to 2"), (40, "from 2 to 40")])
def test_an_id_without_a_row_is_refused(token, found):
    with pytest.raises(ValueError, match=f"from 0 to 39.*{found}"):
        train_word_vectors([[2, token]], NUM_ROWS, DIM, seed=0)
