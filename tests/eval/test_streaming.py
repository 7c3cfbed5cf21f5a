"""Streaming: the tokens of the evaluation's decoder, one at a time, and what each step says."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from conkd_jax.data.rows.dialogue import TokenPrompts
from conkd_jax.eval.decode_loop import Chooser, Memory
from conkd_jax.eval.decoding import Decoding, decode_responses
from conkd_jax.eval.item_rankings import item_mask
from conkd_jax.eval.search import Draws
from conkd_jax.eval.streaming import read_response, stream_batch
from conkd_jax.models.gpt2 import GPT2, GPT2Spec

NUM_WORDS, NUM_ITEMS, END = 30, 20, 29
NUM_TARGETS, MAX_TOKENS, LENGTH, SIZE = NUM_WORDS + NUM_ITEMS, 8, 40, 8
MODEL = GPT2(GPT2Spec(num_layers=1, embed_dim=32, num_heads=2, num_positions=64), 64)


@pytest.fixture(scope="module")
def params():
    """Weights so large that every context is answered in its own way."""
    return jax.tree.map(
        lambda leaf: 15 * leaf if leaf.ndim == 2 else leaf, MODEL.init(jax.random.key(0))
    )


@pytest.fixture(scope="module")
def head(params):
    head = MODEL.head(params, NUM_TARGETS)
    return head._replace(bias=head.bias.at[END].set(2.5).at[NUM_WORDS:].add(1.0))


@pytest.fixture(scope="module")
def prompts():
    rng = np.random.default_rng(0)
    return TokenPrompts([rng.integers(0, NUM_TARGETS, n).tolist() for n in rng.integers(1, 40, 6)])


def stream(params, head, prompts, allow_repeats=True, forbidden=(), draws=None, members=None):
    """The steps of the first answers, stacked: fields [B, T, …]."""
    members = list(range(6)) if members is None else members
    mask = item_mask([forbidden] * len(members), SIZE, NUM_ITEMS, NUM_WORDS)
    steps = stream_batch(
        MODEL,
        params,
        head,
        prompts.inputs(members, LENGTH, SIZE),
        Memory(mask if forbidden or not allow_repeats else None, None, draws),
        np.arange(SIZE) >= len(members),
        chooser=Chooser(NUM_WORDS, END, "argmax", allow_repeats),
        max_tokens=MAX_TOKENS,
        top_k=5,
    )
    return jax.tree.map(lambda *fields: np.stack(fields, axis=1), *steps)


@pytest.mark.parametrize("rules", [{}, {"allow_repeats": False}], ids=str)
def test_streams_the_tokens_and_rankings_of_the_decoder(params, head, prompts, rules):
    decoded = decode_responses(
        MODEL,
        params,
        head,
        prompts,
        Decoding(
            end_id=END,
            num_words=NUM_WORDS,
            max_tokens=MAX_TOKENS,
            batch_size=SIZE,
            buckets=(LENGTH,),
            top_k=5,
            **rules,
        ),
    )
    steps = stream(params, head, prompts, **rules)
    assert sum(len(row.item_steps) for row in decoded) > 4
    for row, expected in enumerate(decoded):
        assert steps.token[row, : len(expected.tokens)].tolist() == expected.tokens
        for place, _, top in expected.item_steps:
            assert steps.top[row, place].tolist() == top.tolist()


def test_probabilities_are_those_of_the_softmax_without_forbidden_items(params, head, prompts):
    forbidden = range(NUM_WORDS, NUM_WORDS + 15)
    steps = stream(params, head, prompts, forbidden=forbidden)
    is_item = steps.token[:6] >= NUM_WORDS
    assert is_item.any() and not np.isin(steps.token[:6], forbidden).any()
    # 5 items are left, so that the ranking holds all of their probability
    np.testing.assert_allclose(steps.item_mass[:6], steps.top_probability[:6].sum(-1), rtol=1e-5)
    np.testing.assert_allclose(
        steps.probability[:6][is_item], steps.top_probability[:6, :, 0][is_item], rtol=1e-6
    )


def test_reading_a_response_gives_the_mass_that_decoding_had(params, head, prompts):
    steps = stream(params, head, prompts)
    tokens = steps.token
    read = read_response(
        params,
        head,
        prompts.inputs(range(6), LENGTH, SIZE),
        np.pad(tokens, ((0, 0), (0, MAX_TOKENS - tokens.shape[1])), constant_values=END),
        model=MODEL,
        num_words=NUM_WORDS,
    )
    for row in range(6):
        own = int(steps.has_ended[row].argmax()) + 1 if steps.has_ended[row].any() else MAX_TOKENS
        np.testing.assert_allclose(read.item_mass[row, :own], steps.item_mass[row, :own], rtol=1e-4)


def test_a_random_answer_depends_on_its_own_number_alone(params, head, prompts):
    def drawn(numbers, members):
        numbers = jnp.asarray(np.resize(np.array(numbers, np.int32), SIZE))
        draws = Draws.of(0, numbers, 2.0, 1.0)
        return stream(params, head, prompts, draws=draws, members=members).token

    both, alone, other = drawn([3, 4], [0, 1]), drawn([4], [1]), drawn([5], [1])
    length = min(both.shape[1], alone.shape[1], other.shape[1])
    assert both[1, :length].tolist() == alone[0, :length].tolist()
    assert alone[0, :length].tolist() != other[0, :length].tolist()
