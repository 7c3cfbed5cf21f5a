"""ReDial's dialogue model against plain NumPy, and its guarantees on padding, caches, gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from conkd_jax.distill.losses import nll
from conkd_jax.models.redial import ReDial, ReDialSpec
from conkd_jax.models.sentiment import liked_probability
from tests.fixtures.gradients import check_all_are_reached
from tests.models import small_redial
from tests.models.backbone_model import (
    check_no_token_looks_ahead,
    check_steps_equal_teacher_forcing,
    states,
)
from tests.models.recurrent_oracle import (
    conversation_states,
    gru,
    linear,
    sigmoid,
    utterance_vector,
)
from tests.models.small_redial import (
    MODEL,
    NUM_ROWS,
    NUM_TARGETS,
    NUM_WORDS,
    SENDERS,
    SENTIMENT,
    SPEC,
    UTTERANCES,
    batch,
)

SMALL = small_redial


@pytest.fixture(scope="module")
def inputs():
    return batch()


def log_softmax(scores):
    return scores - np.log(np.exp(scores).sum(axis=-1, keepdims=True))


def oracle(params, row, liked):
    """[T, Y] the log-probabilities of one response, term by term."""
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    utterances = np.array(
        [
            utterance_vector(params["utterances"], params["words"]["embedding"][tokens])
            for tokens in UTTERANCES[row]
        ]
    )
    signs = [1 if sender else -1 for sender in SENDERS[row]]
    context = conversation_states(params["conversation"], utterances, signs)[-1]
    tokens = params["tokens"]["embedding"][batch()["response_ids"][row]]
    hidden = gru(params["decoder"], tokens, context)
    x = np.zeros(NUM_TARGETS - NUM_WORDS)
    movies = dict.fromkeys(t for said in UTTERANCES[row] for t in said if t >= NUM_WORDS)
    for movie, probability in zip(movies, liked, strict=False):
        x[movie - NUM_WORDS] = probability
    encoder, decoder = params["autorec"]["encoder"], params["autorec"]["decoder"]
    user = sigmoid(linear(encoder, x))
    items = np.broadcast_to(log_softmax(linear(decoder, user)), (len(tokens), len(x)))
    words = log_softmax(linear(params["word_scores"], hidden))
    both = np.concatenate([np.broadcast_to(context, hidden.shape), hidden], axis=1)
    switch = linear(params["switch"], both)
    return np.concatenate(
        [words + np.log(sigmoid(-switch)), items + np.log(sigmoid(switch))], axis=1
    )


def test_logits_follow_the_formulas(params, features):
    """The class-factored softmax; histories are padded in the batch and unpadded in the oracle."""
    head = MODEL.head(params, NUM_TARGETS)
    logits = np.asarray(head.logits(jnp.asarray(features)))
    liked = np.asarray(liked_probability(SENTIMENT, params["sentiment"], batch()))
    assert 0.05 < liked[0, 0] < 0.95
    for row in range(3):
        np.testing.assert_allclose(logits[row], oracle(params, row, liked[row]), atol=1e-4)
    np.testing.assert_allclose(np.exp(logits).sum(axis=-1), 1, atol=1e-5)


def test_without_sentiment_a_mentioned_movie_counts_as_liked(params):
    spec = ReDialSpec(**{**vars(SPEC), "sentiment": None})
    model = ReDial(spec, NUM_ROWS, NUM_WORDS, NUM_TARGETS)
    trained = {name: leaf for name, leaf in params.items() if name != "sentiment"}
    logits = model.head(trained, NUM_TARGETS).logits(states(model, trained, batch()))
    np.testing.assert_allclose(logits[0], oracle(trained, 0, [1.0, 1.0]), atol=1e-4)


# --- decoding -----------------------------------------------------------------------------------


def test_steps_equal_teacher_forcing(params, inputs, features):
    check_steps_equal_teacher_forcing(MODEL, params, inputs, features)


# --- what changes nothing, and what may ---------------------------------------------------------


def test_padding_changes_nothing(params, features):
    wider = states(MODEL, params, batch(length=17, response=8, fill=6))
    np.testing.assert_allclose(wider[:, :5], features, atol=1e-5)
    filled = batch(row_ids=(0, 1, 2, -1))
    filled["response_ids"][:3] = batch()["response_ids"]
    np.testing.assert_allclose(states(MODEL, params, filled)[:3], features, atol=1e-5)


def test_no_token_looks_ahead(params, inputs, features):
    check_no_token_looks_ahead(MODEL, params, inputs, features)


def test_every_part_of_the_features_is_read(params, features):
    """The words of a history change the states, its movies the user vector."""
    other = batch()
    other["context_ids"] = np.roll(other["context_ids"], 1, axis=0)
    moved = np.abs(states(MODEL, params, other) - features)
    assert moved[..., : SPEC.hidden_dim].max() > 1e-3 and moved[..., -1].max() > 1e-3
    other = batch()
    other["movies"] = np.where(other["movies"] >= 0, (other["movies"] + 1) % 10, -1)
    moved = np.abs(states(MODEL, params, other) - features)
    users = moved[..., SPEC.hidden_dim : -1]
    assert users[[0, 2]].max() > 1e-3 and users[1].max() == 0
    assert moved[..., : SPEC.hidden_dim].max() == 0


# --- gradients ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def gradients(params):
    """Gradients of the mean NLL of labels of both classes, with a row that only fills the batch."""
    inputs = batch(row_ids=(0, 1, 2, -1))
    labels = jnp.asarray(np.random.default_rng(3).integers(0, NUM_TARGETS, (4, 5)))
    assert 0 < (np.asarray(labels) >= NUM_WORDS).sum() < labels.size

    @jax.jit
    @jax.grad
    def of_nll(params):
        logits = MODEL.head(params, NUM_TARGETS).logits(MODEL.states(params, inputs))
        return nll(logits[:3].reshape(-1, NUM_TARGETS), labels[:3].reshape(-1)).mean()

    return of_nll(params)


def test_no_gradient_reaches_the_sentiment_model(gradients):
    for leaf in jax.tree.leaves(gradients["sentiment"]):
        np.testing.assert_array_equal(leaf, 0)


def test_gradients_reach_every_trained_parameter(gradients):
    """AutoRec's among them: it is trained further in the joint model."""
    assert "autorec" in gradients
    check_all_are_reached(gradients, without=("sentiment",), at_least=1e-6)


# --- parameters ---------------------------------------------------------------------------------


def test_default_sizes_are_redials():
    model = ReDial(ReDialSpec(), 15_932, 15_000, 15_900)
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    assert set(shapes) == {
        *("words", "tokens", "utterances", "conversation", "decoder"),
        *("switch", "word_scores", "autorec"),
    }
    assert shapes["utterances"]["forward_0"]["cell"]["ir"]["kernel"].shape == (300, 256)
    assert shapes["conversation"]["layer_0"]["ir"]["kernel"].shape == (513, 256)
    assert shapes["decoder"]["in"]["kernel"].shape == (512, 256)
    assert shapes["switch"]["kernel"].shape == (512, 1)
    assert shapes["autorec"]["encoder"]["kernel"].shape == (900, 1000)


def test_word_vectors_start_the_encoder(start):
    vectors = np.random.default_rng(0).normal(size=(NUM_ROWS, SPEC.word_dim))
    given = MODEL.init(jax.random.key(0), vectors)
    np.testing.assert_allclose(given["words"]["embedding"], vectors, atol=1e-6)
    np.testing.assert_array_equal(given["tokens"]["embedding"], start["tokens"]["embedding"])


def test_what_does_not_fit_is_refused(params):
    with pytest.raises(ValueError, match=r"\(34, 3\); ReDial\(num_rows = 34\) .* needs \(34, 6\)"):
        MODEL.init(jax.random.key(0), np.zeros((NUM_ROWS, 3)))
    with pytest.raises(ValueError, match="head onto 30 targets, .* got 31"):
        MODEL.head(params, 31)
    with pytest.raises(ValueError, match="num_targets <= num_rows, got 20, 50 and 34"):
        ReDial(SPEC, NUM_ROWS, NUM_WORDS, 50).init(jax.random.key(0))
