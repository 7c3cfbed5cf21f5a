"""The sentiment model against plain NumPy, movie by movie, and its guarantees."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from conkd_jax.models.sentiment import (
    LIKED,
    answer_losses,
    liked_probability,
    split_answers,
)
from tests.fixtures.gradients import check_all_are_reached
from tests.models.recurrent_oracle import conversation_states, linear, utterance_vector
from tests.models.small_redial import (
    NUM_WORDS,
    SENDERS,
    SENTIMENT,
    SENTIMENT_SPEC,
    UTTERANCES,
    batch,
    sentiment_params,
)


@pytest.fixture(scope="module")
def params():
    return sentiment_params()


@functools.partial(jax.jit, static_argnums=0)
def logits_of(model, params, inputs):
    return model.apply({"params": params}, inputs)


def oracle(params, utterances, senders, movie):
    """[u, 14] the answers about one movie after every utterance, reading the dialogue anew."""
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    encoded = []
    for tokens in utterances:
        words = params["words"]["embedding"][tokens]
        marks = (np.array(tokens) == movie).astype(float)[:, None]
        vectors = np.concatenate([words, marks], axis=1)
        encoded.append(utterance_vector(params["utterances"], vectors, SENTIMENT_SPEC.num_layers))
    signs = [1 if sender else -1 for sender in senders]
    states = conversation_states(
        params["conversation"], np.array(encoded), signs, SENTIMENT_SPEC.num_layers
    )
    return linear(params["answers"], states)


def movies_of(utterances):
    return list(dict.fromkeys(t for tokens in utterances for t in tokens if t >= NUM_WORDS))


def test_answers_follow_the_formulas_movie_by_movie(params):
    """Although utterances that don't mention a movie are encoded once for all movies."""
    logits = np.asarray(logits_of(SENTIMENT, params, batch()))
    compared = 0
    for row, (utterances, senders) in enumerate(zip(UTTERANCES, SENDERS, strict=True)):
        for place, movie in enumerate(movies_of(utterances)):
            expected = oracle(params, utterances, senders, movie)
            got = logits[row, place, : len(utterances)]
            np.testing.assert_allclose(got, expected, atol=1e-5)
            compared += 1
    assert compared == 4


def test_the_liked_probability_is_that_of_the_seekers_form(params):
    liked = np.asarray(liked_probability(SENTIMENT, params, batch()))
    assert liked.shape == (3, 5)
    for row, (utterances, senders) in enumerate(zip(UTTERANCES, SENDERS, strict=True)):
        movies = movies_of(utterances)
        assert (liked[row, len(movies) :] == 0).all()
        for place, movie in enumerate(movies):
            scores = np.exp(oracle(params, utterances, senders, movie)[-1, 4:7])
            expected = scores[LIKED] / scores.sum()
            assert liked[row, place] == pytest.approx(expected, abs=1e-5)


def test_padding_changes_nothing(params):
    inputs = batch()
    expected = liked_probability(SENTIMENT, params, inputs)
    wider = batch(length=17, fill=6)
    np.testing.assert_allclose(liked_probability(SENTIMENT, params, wider), expected, atol=1e-6)
    with_filling = batch(row_ids=(0, 1, 2, -1))
    got = np.asarray(liked_probability(SENTIMENT, params, with_filling))
    np.testing.assert_allclose(got[:3], expected, atol=1e-6)
    assert (got[3] == 0).all()


def test_no_answer_looks_ahead(params):
    """What is said of a movie after an utterance depends on that one and those before it."""
    inputs = batch()
    logits = np.asarray(logits_of(SENTIMENT, params, inputs))
    other = {name: np.array(array) for name, array in inputs.items()}
    other["context_ids"][0, 8:] = 13  # the third utterance of the first dialogue
    changed = np.abs(np.asarray(logits_of(SENTIMENT, params, other)) - logits)[0, :2]
    assert changed[:, :2].max() < 1e-6 and changed[:, 2].max() > 1e-3


def test_gradients_reach_every_parameter(params):
    def total(params):
        logits = SENTIMENT.apply({"params": params}, batch())
        return jnp.square(logits[:, :2, :3]).sum()

    gradients = jax.jit(jax.grad(total))(params)
    check_all_are_reached(gradients, without=(), at_least=1e-4)


def test_dropout_is_a_function_of_its_key(params):
    def dropped(seed):
        return SENTIMENT.apply(
            {"params": params}, batch(), deterministic=False, rngs={"dropout": jax.random.key(seed)}
        )

    np.testing.assert_array_equal(dropped(0), dropped(0))
    assert np.abs(dropped(0) - dropped(1)).max() > 1e-2


def test_the_six_losses_are_those_of_the_answers():
    logits = jnp.asarray(np.random.default_rng(0).normal(size=(2, 14)), jnp.float32)
    answers = np.array([[1, 2, 0, 0, 1, 2], [0, 0, 1, 1, 2, 1]])
    losses = answer_losses(logits, answers)
    assert list(losses) == list(split_answers(logits)) and len(losses) == 6
    values = np.asarray(logits, np.float64)
    for row in range(2):
        place = 0
        for index, loss in enumerate(losses.values()):
            width = (1, 3, 3)[index % 3]
            part, label = values[row, place : place + width], answers[row, index]
            if width == 1:
                right = 1 / (1 + np.exp(-part[0] if label else part[0]))
            else:
                right = np.exp(part)[label] / np.exp(part).sum()
            assert loss[row] == pytest.approx(-np.log(right), rel=1e-5)
            place += width
