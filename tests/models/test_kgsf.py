"""KGSF's dialogue model against plain NumPy, and its guarantees on padding, caches and graphs."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from conkd_jax.eval.decode_loop import decode_steps
from conkd_jax.models.kgsf import KGSF, KGSFSpec
from tests.fixtures.gradients import (
    check_all_are_reached,
    check_graph_is_constant,
    gradients_and_features,
)
from tests.models import small_kgsf
from tests.models.backbone_model import (
    check_no_token_looks_ahead,
    check_steps_equal_teacher_forcing,
    states,
)
from tests.models.numpy_kgsf import oracle
from tests.models.small_kgsf import (
    MODEL,
    NUM_ROWS,
    NUM_TARGETS,
    SPEC,
    batch,
)

SMALL = small_kgsf


# --- against NumPy ------------------------------------------------------------------------------


def test_features_and_logits_follow_the_formulas(params, samples, features):
    """Samples are padded in the batch and unpadded in the oracle."""
    logits = MODEL.head(params, NUM_TARGETS).logits(jnp.asarray(features))
    for row, sample in enumerate(samples):
        decoded, copied, expected = oracle(params, sample)
        np.testing.assert_allclose(features[row, :, : SPEC.embed_dim], decoded, atol=1e-5)
        np.testing.assert_allclose(features[row, :, SPEC.embed_dim :], copied, atol=2e-5)
        np.testing.assert_allclose(logits[row], expected, atol=1e-4)


def test_words_outside_the_copy_mask_have_the_decoders_logit(params, features):
    head = MODEL.head(params, NUM_TARGETS)
    masked = np.asarray(params["graph"]["copy_mask"]) == 0
    assert 0 < masked.sum() < NUM_TARGETS
    np.testing.assert_array_equal(head.kernel[SPEC.embed_dim :, masked], 0)
    np.testing.assert_array_equal(head.bias[masked], 0)
    words = features[..., : SPEC.embed_dim] @ params["tokens"]["embedding"][:NUM_TARGETS].T
    logits = np.asarray(head.logits(jnp.asarray(features)))
    np.testing.assert_allclose(logits[..., masked], words[..., masked], atol=1e-5)
    assert np.abs(logits - words)[..., ~masked].max() > 0.1


# --- decoding -----------------------------------------------------------------------------------


def test_steps_equal_teacher_forcing(params, inputs, features):
    check_steps_equal_teacher_forcing(MODEL, params, inputs, features)


def test_the_decoders_loop_takes_the_cache(params, inputs):
    """Greedy tokens of the loop equal those of teacher forcing on the same tokens."""
    head = MODEL.head(params, NUM_TARGETS)
    prompt = {**inputs, "first_token": np.full(3, 35, np.int32)}

    @jax.jit
    def greedy(params):
        start, cache = MODEL.open_cache(params, prompt, 5)
        return decode_steps(
            start,
            cache,
            functools.partial(MODEL.step, params),
            lambda features, memory: (head.logits(features).argmax(axis=-1), memory),
            end_id=-1,
            max_tokens=5,
            has_ended=jnp.zeros(3, bool),
        )[0]

    tokens = np.asarray(greedy(params))
    forced = {**inputs, "response_ids": np.concatenate([np.full((3, 1), 35), tokens[:, :4]], 1)}
    expected = head.logits(states(MODEL, params, forced)).argmax(axis=-1)
    np.testing.assert_array_equal(tokens, expected)


# --- what changes nothing, and what may ---------------------------------------------------------


@pytest.mark.parametrize("unknown", [[], [1, 5]], ids=["padding", "unknown entities"])
def test_padding_and_what_the_graph_lacks_change_nothing(params, samples, features, unknown):
    wider = [{**sample, "entities": [*sample["entities"], *unknown]} for sample in samples]
    wider = batch(wider, context=13, response=8, entities=6, concepts=5, fill=17)
    got = states(MODEL, params, wider)
    np.testing.assert_allclose(got[:, :5], features, atol=1e-5)


def test_empty_lists_are_as_no_lists(params, samples):
    bare = [{**sample, "entities": [], "concepts": []} for sample in samples]
    got = states(MODEL, params, batch(bare))
    assert np.isfinite(got).all()
    none = states(MODEL, params, batch(bare, entities=0, concepts=0))
    np.testing.assert_allclose(got, none, atol=1e-6)


def test_order_of_entities_changes_nothing(params, inputs, features):
    turned = {**inputs, "entities": inputs["entities"][:, ::-1]}
    np.testing.assert_allclose(states(MODEL, params, turned), features, atol=1e-5)


@pytest.mark.parametrize("name", ["entities", "concepts", "context_ids", "response_ids"])
def test_every_input_matters(params, inputs, features, name):
    other = {**inputs, name: np.roll(inputs[name], 1, axis=0)}
    changed = np.abs(states(MODEL, params, other) - features)
    for half in np.split(changed, 2, axis=-1):  # decoder states, copy states
        assert (half.max(axis=(1, 2)) > 1e-3).all()


def test_no_token_looks_ahead(params, inputs, features):
    check_no_token_looks_ahead(MODEL, params, inputs, features)


# --- gradients, dropout, types ------------------------------------------------------------------


@pytest.fixture(scope="module")
def gradients(params, samples):
    """(gradients of everything, features) where the batch has a row of padding alone."""
    filled = batch([*samples, {name: [] for name in samples[0]}])
    return gradients_and_features(MODEL, params, filled, NUM_TARGETS)


def test_no_gradient_reaches_the_graph(params, gradients):
    check_graph_is_constant(gradients[0], params)


def test_gradients_reach_every_parameter(gradients):
    check_all_are_reached(gradients[0], without=("graph",))


def test_a_row_of_padding_alone_is_finite_with_its_gradient(gradients):
    floats = [leaf for leaf in jax.tree.leaves(gradients) if leaf.dtype == np.float32]
    assert len(floats) > 50
    assert all(np.isfinite(leaf).all() for leaf in floats)


def test_dropout_is_a_function_of_its_key(params, inputs, features):
    first = states(MODEL, params, inputs, jax.random.key(0))
    np.testing.assert_array_equal(first, states(MODEL, params, inputs, jax.random.key(0)))
    assert np.abs(first - states(MODEL, params, inputs, jax.random.key(1))).max() > 1e-2
    assert np.abs(first - features).max() > 1e-2


def test_everything_is_float32(start, features):
    assert {leaf.dtype for leaf in (features, *jax.tree.leaves(start))} == {np.dtype(np.float32)}


# --- parameters ---------------------------------------------------------------------------------


def test_default_sizes_are_kgsfs():
    model = KGSF(KGSFSpec(), 23_932, 23_929)
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    assert set(shapes) == {
        *("tokens", "encoder_0", "encoder_1", "decoder_0", "decoder_1"),
        *("entity_memory", "concept_memory", "entity_pooled", "concept_pooled"),
        *("copy_state", "copy_kernel", "copy_bias"),
    }
    assert shapes["tokens"]["embedding"].shape == (23_932, 300)
    assert shapes["entity_memory"]["kernel"].shape == (128, 300)
    assert shapes["copy_state"]["kernel"].shape == (900, 300)
    assert shapes["copy_kernel"].shape == (300, 23_929)
    assert shapes["encoder_1"]["attention"]["query"]["kernel"].shape == (300, 2, 150)


def test_embedding_starts_at_word_vectors_or_at_noise(start):
    vectors = np.random.default_rng(0).normal(size=(NUM_ROWS, SPEC.embed_dim))
    given = MODEL.init(jax.random.key(0), vectors)
    np.testing.assert_allclose(given["tokens"]["embedding"], vectors, atol=1e-6)
    assert np.std(start["tokens"]["embedding"]) == pytest.approx(12**-0.5, rel=0.1)
    np.testing.assert_array_equal(given["copy_kernel"], start["copy_kernel"])


def test_what_does_not_fit_is_refused(params):
    with pytest.raises(ValueError, match=r"\(40, 3\); KGSF\(num_rows = 40\) .* needs \(40, 12\)"):
        MODEL.init(jax.random.key(0), np.zeros((NUM_ROWS, 3)))
    with pytest.raises(ValueError, match="head onto 30 targets, .* got 31"):
        MODEL.head(params, 31)
    with pytest.raises(ValueError, match="num_targets = 50 exceeds num_rows = 40"):
        KGSF(SPEC, 40, 50).init(jax.random.key(0))
