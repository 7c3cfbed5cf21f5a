"""RecInDial against plain NumPy, and its guarantees on padding, caches and graphs."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from conkd_jax.distill.losses import nll
from conkd_jax.eval.decode_loop import choose_token, decode_steps
from conkd_jax.eval.search import sayable
from tests.fixtures.gradients import (
    check_all_are_reached,
    check_graph_is_constant,
    gradients_and_features,
)
from tests.models import small_recindial
from tests.models.backbone_model import states
from tests.models.small_recindial import (
    MODEL,
    NODE_DIM,
    NUM_ROWS,
    NUM_TARGETS,
    NUM_WORDS,
    RESPONSES,
    SPEC,
    batch,
)

SMALL = small_recindial


def places():
    """(row, slot, start, number of targets) of every response."""
    for row, (_, responses) in enumerate(RESPONSES):
        for slot, (start, targets, _) in enumerate(responses):
            yield row, slot, start, targets


# --- against NumPy ------------------------------------------------------------------------------


def softmax(scores):
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True)


def user_vector(graph, mentioned):
    """Pools the mentioned nodes, one after the other."""
    rows = [graph["entity_rows"][entity] for entity in mentioned]
    rows = [int(row) for row in rows if row >= 0]
    if not rows:
        return np.zeros(NODE_DIM)
    return softmax(graph["entity_energies"][rows]) @ graph["entities"][rows]


def oracle(params, hidden, mentioned):
    """P(y) over Y for the states [T, D] of a response, and P_vp [T], term by term."""
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    user = user_vector(params["graph"], mentioned)
    table = params["wte"]["embedding"]
    words = hidden @ table[:NUM_WORDS].T
    items = hidden @ table[NUM_WORDS:NUM_TARGETS].T + params["graph"]["items"] @ user
    pointer = 1 / (1 + np.exp(-(hidden @ params["pointer"]["kernel"] + params["pointer"]["bias"])))
    p = pointer[:, None]
    return np.concatenate([(1 - p) * softmax(words), p * softmax(items)], axis=1), pointer


def test_probabilities_follow_the_formulas(params, samples, inputs, features):
    """Each response of each row has its own user vector; GPT-2 has a parity test of its own."""
    hidden = np.asarray(MODEL.gpt2.states(params, inputs))
    log_probs = MODEL.head(params, NUM_TARGETS).logits(jnp.asarray(features))
    assert features.shape == (3, 14, SPEC.embed_dim + NODE_DIM)
    biased = 0.0
    for row, slot, start, targets in places():
        span = slice(start, start + targets)
        mentioned = RESPONSES[row][1][slot][2]
        expected, _ = oracle(params, hidden[row, span].astype(np.float64), mentioned)
        np.testing.assert_allclose(expected.sum(axis=1), 1, atol=1e-9)
        np.testing.assert_allclose(np.exp(log_probs[row, span]), expected, atol=1e-5)
        without, _ = oracle(params, hidden[row, span].astype(np.float64), ())
        biased = max(biased, np.abs(expected - without).max())
    assert biased > 1e-2, "the knowledge-aware bias changes nothing, so the test proves nothing"


def test_the_nll_is_cross_entropy_under_the_gold_mask_and_the_pointers_own(params, features, rng):
    """No loss of its own: -log P(y) is what RecInDial's two losses add up to."""
    features = jnp.asarray(features.reshape(-1, features.shape[-1]))
    gold = jnp.asarray(rng.integers(0, NUM_TARGETS, len(features)))
    is_item = gold >= NUM_WORDS
    head = MODEL.head(params, NUM_TARGETS)
    logits = features @ head.kernel
    same_class = (jnp.arange(NUM_TARGETS) >= NUM_WORDS)[None] == is_item[:, None]
    masked = jnp.where(same_class, logits, -jnp.inf)
    cross_entropy = optax.losses.softmax_cross_entropy_with_integer_labels(masked, gold)
    hidden = features[:, : SPEC.embed_dim]
    pointer = hidden @ params["pointer"]["kernel"] + params["pointer"]["bias"]
    binary = optax.losses.sigmoid_binary_cross_entropy(pointer, is_item.astype(jnp.float32))
    assert binary.min() > 1e-4 and is_item.any() and not is_item.all()
    np.testing.assert_allclose(nll(head.logits(features), gold), cross_entropy + binary, atol=2e-5)


def test_decoding_masks_the_class_that_the_pointer_rejects(params, inputs, features):
    """Words are masked where P_vp ≥ .5 and items elsewhere, whatever the most probable token is."""
    hidden = np.asarray(MODEL.gpt2.states(params, inputs), np.float64)
    log_probs = MODEL.head(params, NUM_TARGETS).logits(jnp.asarray(features))
    differs = 0
    for row, slot, start, targets in places():
        span = slice(start, start + targets)
        probs, pointer = oracle(params, hidden[row, span], RESPONSES[row][1][slot][2])
        is_item = np.arange(NUM_TARGETS) >= NUM_WORDS
        expected = np.where(is_item == (pointer >= 0.5)[:, None], probs, -1).argmax(axis=1)
        got = choose_token(log_probs[row, span], num_words=NUM_WORDS, item_rule="class")
        np.testing.assert_array_equal(got, expected)
        differs += int((probs.argmax(axis=1) != expected).sum())
    assert differs, "argmax chooses the same everywhere, so the test proves nothing"


def test_without_forbidden_items_the_others_share_what_is_left(params, inputs, features):
    """The items have σ(s) (1 - f) / (1 - σ(s) f), and a class is chosen by that."""
    hidden = np.asarray(MODEL.gpt2.states(params, inputs), np.float64)
    log_probs = MODEL.head(params, NUM_TARGETS).logits(jnp.asarray(features))
    turned = 0
    for row, slot, start, targets in places():
        span = slice(start, start + targets)
        probs, pointer = oracle(params, hidden[row, span], RESPONSES[row][1][slot][2])
        items = probs[:, NUM_WORDS:]
        is_forbidden = items >= np.sort(items, axis=1)[:, [-2]]  # the two best of each step
        share = (items * is_forbidden).sum(axis=1) / items.sum(axis=1)
        left = pointer * (1 - share) / (1 - pointer * share)
        best_item = NUM_WORDS + np.where(is_forbidden, -1, items).argmax(axis=1)
        expected = np.where(left > 0.5, best_item, probs[:, :NUM_WORDS].argmax(axis=1))
        may = sayable(
            log_probs[row, span],
            num_words=NUM_WORDS,
            item_rule="class",
            is_forbidden=jnp.asarray(is_forbidden),
        )
        np.testing.assert_array_equal(jnp.argmax(may, axis=1), expected)
        turned += int(((pointer > 0.5) & (left <= 0.5)).sum())
    assert turned, "no step turns from an item to a word, so the test proves nothing"


# --- rows ---------------------------------------------------------------------------------------


def test_a_response_in_its_row_is_the_response_alone(params, samples, features):
    """The features of each response equal those of a row that holds its history and itself."""
    for row, slot, start, targets in places():
        mentioned = RESPONSES[row][1][slot][2]
        alone = {
            "input_ids": samples[row][None, : start + targets],
            "entities": np.array([[[*mentioned, -1]]], np.int32),
            "response_slot": np.where(np.arange(start + targets) < start, -1, 0)[None],
        }
        got = MODEL.states(params, alone)
        span = slice(start, start + targets)
        np.testing.assert_allclose(got[0, span], features[row, span], atol=1e-5)


def test_positions_of_no_response_have_no_user_vector(inputs, features):
    none = inputs["response_slot"] < 0
    np.testing.assert_array_equal(features[none][:, SPEC.embed_dim :], 0)
    for row, slot, start, _ in places():
        is_empty = not {0, 2, 3, 4, 6, 7} & set(RESPONSES[row][1][slot][2])  # those with a node
        assert (np.abs(features[row, start, SPEC.embed_dim :]).max() == 0) == is_empty


def test_padding_and_what_the_graph_lacks_change_nothing(params, samples, features):
    wider = batch(samples, length=20, slots=5, mentioned=9, fill=17)
    known = wider["entities"] >= 0
    wider["entities"][..., -2:] = np.where(known.any(-1, keepdims=True), [1, 5], -1)  # no node
    got = states(MODEL, params, wider)
    for row, (length, _) in enumerate(RESPONSES):
        np.testing.assert_allclose(got[row, :length], features[row, :length], atol=1e-5)


def test_order_of_mentions_changes_nothing(params, inputs, features):
    turned = {**inputs, "entities": inputs["entities"][..., ::-1]}
    np.testing.assert_allclose(states(MODEL, params, turned), features, atol=1e-5)


# --- decoding -----------------------------------------------------------------------------------


def test_steps_equal_teacher_forcing(params, samples, features):
    """The last response of every row, whose prompts are padded on the left."""
    last = [(row, responses[-1]) for row, (_, responses) in enumerate(RESPONSES)]
    prompt = {
        "input_ids": np.full((3, 10), 23, np.int32),
        "attention_mask": np.zeros((3, 10), bool),
        "entities": np.full((3, 6), -1, np.int32),
    }
    for row, (begin, _, mentioned) in last:
        read = samples[row][: begin + 1]  # with the opening token
        prompt["input_ids"][row, -len(read) :] = read
        prompt["attention_mask"][row, -len(read) :] = True
        prompt["entities"][row, : len(mentioned)] = mentioned
    got, cache = jax.jit(MODEL.open_cache, static_argnums=2)(params, prompt, 5)
    step = jax.jit(MODEL.step)
    for t in range(4):
        if t:
            token = np.array([samples[row][begin + t] for row, (begin, *_) in last])
            got, cache = step(params, token, cache)
        for row, (begin, *_) in last:
            np.testing.assert_allclose(got[row], features[row, begin + t], atol=1e-5)


def test_the_decoders_loop_takes_the_cache(params):
    """Greedy tokens of the loop equal those of teacher forcing on the same tokens."""
    head = MODEL.head(params, NUM_TARGETS)
    ids = np.array([[3, 4, 5], [6, 7, 8]], np.int32)
    entities = np.array([[0, 4], [2, -1]], np.int32)
    prompt = {"input_ids": ids, "attention_mask": ids > 0, "entities": entities}

    @jax.jit
    def decode(params):
        begin, cache = MODEL.open_cache(params, prompt, 5)
        return decode_steps(
            begin,
            cache,
            functools.partial(MODEL.step, params),
            lambda features, memory: (head.logits(features).argmax(axis=-1), memory),
            end_id=-1,
            max_tokens=5,
            has_ended=jnp.zeros(2, bool),
        )[0]

    tokens = np.asarray(decode(params))
    forced = {
        "input_ids": np.concatenate([ids, tokens[:, :4]], axis=1),
        "entities": entities[:, None],
        "response_slot": np.tile(np.array([-1, -1, 0, 0, 0, 0, 0], np.int32), (2, 1)),
    }
    expected = head.logits(states(MODEL, params, forced)[:, 2:]).argmax(axis=-1)
    np.testing.assert_array_equal(tokens, expected)


def test_the_longest_prompt_is_that_of_gpt2():
    assert MODEL.longest_prompt(5) == MODEL.gpt2.longest_prompt(5) == 28


# --- gradients, dropout, types ------------------------------------------------------------------


@pytest.fixture(scope="module")
def gradients(params, inputs):
    """(gradients of everything, features) where the batch has a row of padding alone."""
    filled = {
        name: np.concatenate([array, np.full_like(array[:1], 0 if name == "input_ids" else -1)])
        for name, array in inputs.items()
    }
    return gradients_and_features(MODEL, params, filled, NUM_TARGETS)


def test_no_gradient_reaches_the_graph(params, gradients):
    check_graph_is_constant(gradients[0], params)


def test_gradients_reach_every_parameter(gradients):
    assert gradients[0].keys() >= {"pointer", "wpe"}
    check_all_are_reached(gradients[0], without=("graph",))


def test_a_row_of_padding_alone_is_finite_with_its_gradient(gradients):
    floats = [leaf for leaf in jax.tree.leaves(gradients) if leaf.dtype == np.float32]
    assert len(floats) > 20
    assert all(np.isfinite(leaf).all() for leaf in floats)


def test_dropout_touches_gpt2_alone(params, inputs, features):
    first = states(MODEL, params, inputs, jax.random.key(0))
    np.testing.assert_array_equal(first, states(MODEL, params, inputs, jax.random.key(0)))
    assert np.abs(first - features)[..., : SPEC.embed_dim].max() > 1e-2
    np.testing.assert_array_equal(first[..., SPEC.embed_dim :], features[..., SPEC.embed_dim :])


def test_everything_is_float32(start, features):
    assert {leaf.dtype for leaf in (features, *jax.tree.leaves(start))} == {np.dtype(np.float32)}
    assert start["pointer"]["kernel"].shape == (SPEC.embed_dim,)
    assert np.std(start["pointer"]["kernel"]) == pytest.approx(0.02, rel=0.5)
    assert NUM_ROWS > NUM_TARGETS  # input-only rows are read and never scored


@pytest.fixture
def rng():
    return np.random.default_rng(2)
