"""Sampling and beams: equal to greedy decoding at their limits, to exact oracles elsewhere."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from conkd_jax.config.parts import SearchConfig
from conkd_jax.data.rows.dialogue import TokenPrompts
from conkd_jax.distill.head import Head
from conkd_jax.eval.decoding import Decoding, decode_responses
from conkd_jax.eval.search import most_probable, row_axes
from conkd_jax.models.gpt2 import GPT2, GPT2Spec

NUM_WORDS, NUM_ITEMS, END = 30, 20, 29
NUM_TARGETS = NUM_WORDS + NUM_ITEMS
MODEL = GPT2(GPT2Spec(num_layers=1, embed_dim=16, num_heads=2, num_positions=64), 64)
FORWARD = jax.jit(MODEL.features)
SETTINGS = {"max_tokens": 6, "batch_size": 8, "buckets": (20,), "top_k": 5}

sample = functools.partial(SearchConfig, strategy="sample")
beam = functools.partial(SearchConfig, strategy="beam")


@pytest.fixture(scope="module")
def params():
    """Weights so large that every context is answered in its own way."""
    return jax.tree.map(
        lambda leaf: 15 * leaf if leaf.ndim == 2 else leaf, MODEL.init(jax.random.key(0))
    )


@pytest.fixture(scope="module")
def head(params):
    head = MODEL.head(params, NUM_TARGETS)
    return Head(kernel=head.kernel, bias=head.bias.at[END].set(2.0).at[NUM_WORDS:].add(1.0))


@pytest.fixture(scope="module")
def contexts():
    rng = np.random.default_rng(0)
    return [rng.integers(0, NUM_TARGETS, n).tolist() for n in rng.integers(1, 20, 16)]


def decode(params, head, contexts, search, *, forbidden_items=None, response_ids=None, **changes):
    how = {"end_id": END, "num_words": NUM_WORDS, **SETTINGS, **changes}
    return decode_responses(
        MODEL,
        params,
        head,
        TokenPrompts(contexts),
        Decoding(search=search, **how),
        forbidden_items=forbidden_items,
        response_ids=response_ids,
    )


def plain(decoded):
    return [
        (row.tokens, [(step.step, step.item, step.top.tolist()) for step in row.item_steps])
        for row in decoded
    ]


# --- the limits --------------------------------------------------------------------------------

CONSTRAINED = {
    "forbidden_items": [range(NUM_WORDS, NUM_WORDS + 5)] * 16,
    "allow_repeats": False,
    "item_rule": "class",
}


@pytest.mark.parametrize("rules", [{}, CONSTRAINED], ids=["free", "constrained"])
def test_limits_equal_greedy_decoding(params, head, contexts, rules):
    greedy = plain(decode(params, head, contexts, SearchConfig(), **rules))
    assert len({tuple(tokens) for tokens, _ in greedy}) > 8
    assert sum(bool(steps) for _, steps in greedy) > 4
    for search in (sample(temperature=1e-4), sample(top_p=0.0), beam(beam_width=1)):
        assert plain(decode(params, head, contexts, search, **rules)) == greedy, search
    flat = Head(head.kernel / 20, head.bias / 20)
    assert plain(decode(params, flat, contexts, sample(), **rules)) != greedy


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_the_most_probable_token_is_that_of_argmax(dtype):
    rng = np.random.default_rng(0)
    logits = np.round(2 * rng.normal(size=(500, 40))) / 2  # many rows have equal maxima
    logits[0], logits[1, :39], logits[2, 7] = 0.0, -np.inf, np.inf
    ties = (logits == logits.max(axis=1, keepdims=True)).sum(axis=1) > 1
    assert ties.mean() > 0.2
    logits = jnp.asarray(logits, dtype)
    np.testing.assert_array_equal(most_probable(logits), jnp.argmax(logits, axis=-1))


# --- sampling ----------------------------------------------------------------------------------


def chi_square(observed, expected):
    """Pearson's statistic of the cells that can occur; no others did."""
    expected = np.asarray(expected, float).ravel()
    observed = np.asarray(observed, float).ravel()
    can = expected > 0
    assert not observed[~can].any()
    return float(((observed - expected)[can] ** 2 / expected[can]).sum())


@pytest.mark.parametrize(
    ("search", "expected"),
    [
        (sample(), [0.4, 0.3, 0.2, 0.1]),
        (sample(seed=7), [0.4, 0.3, 0.2, 0.1]),
        (sample(temperature=0.5), np.square([0.4, 0.3, 0.2, 0.1]) / 0.3),
        (sample(top_p=0.85), [4 / 9, 3 / 9, 2 / 9, 0]),
        (sample(top_p=0.69, temperature=1.0), [4 / 7, 3 / 7, 0, 0]),
        # at this temperature, the first two have more than .8: the nucleus is found after it
        (sample(top_p=0.8, temperature=0.5), [16 / 25, 9 / 25, 0, 0]),
    ],
    ids=str,
)
def test_frequencies_are_the_probabilities(params, search, expected):
    """Pairs of tokens, alike in distribution and independent: χ² below its .999 quantile."""
    bias = jnp.log(jnp.array([0.4, 0.3, 0.2, 0.1, 1e-30]))  # the last one ends a response
    head = Head(kernel=jnp.zeros((16, 5)), bias=bias)
    count, quantile = 4000, {15: 37.70, 8: 26.12, 3: 16.27}
    decoded = decode(
        params, head, [[1]] * count, search, end_id=4, num_words=2, max_tokens=2, batch_size=1000
    )
    pairs = np.zeros((4, 4))
    np.add.at(pairs, tuple(np.array([row.tokens for row in decoded]).T), 1)
    joint = np.outer(expected, expected)
    assert chi_square(pairs, count * joint) < quantile[(joint > 0).sum() - 1]


def test_the_same_response_in_every_batch_and_on_every_number_of_devices(params, head, contexts):
    flat, search = Head(head.kernel / 20, head.bias / 20), sample(temperature=0.9, top_p=0.95)
    expected = plain(decode(params, flat, contexts, search))
    assert plain(decode(params, flat, contexts, search, batch_size=1)) == expected
    assert plain(decode(params, flat, contexts, search, buckets=(40,), batch_size=3)) == expected
    some = [11, 2, 7]
    chosen = [contexts[index] for index in some]
    found = plain(decode(params, flat, chosen, search, response_ids=some))
    assert found == [expected[index] for index in some]
    devices = jax.devices()
    assert len(devices) == 8
    everywhere = NamedSharding(Mesh(np.array(devices), ("batch",)), PartitionSpec())
    spread = jax.device_put((params, flat), everywhere)
    assert plain(decode(*spread, contexts, search)) == expected
    other = plain(decode(params, flat, contexts, sample(temperature=0.9, top_p=0.95, seed=1)))
    assert sum(one != two for one, two in zip(expected, other, strict=True)) > 12
    alike = decode(params, flat, contexts[:1] * 16, search)
    assert len({tuple(row.tokens) for row in alike}) > 12, "each response has its own numbers"


def test_ranking_of_a_drawn_item_begins_with_it(params, head, contexts):
    flat = Head(head.kernel / 20, (head.bias / 20).at[NUM_WORDS:].add(5.0))
    decoded = decode(params, flat, contexts, sample())
    steps = [step for row in decoded for step in row.item_steps]
    best = [step.top[1:].tolist() == sorted(step.top[1:].tolist()) for step in steps]
    assert len(steps) > 60 and not all(best)
    assert all(step.top[0] == step.item and len(set(step.top.tolist())) == 5 for step in steps)


# --- beams -------------------------------------------------------------------------------------


def next_log_probs(params, head, row, forbidden=()):
    ids = np.zeros((1, 64), np.int32)
    ids[0, : len(row)] = row
    logits = np.array(head.logits(FORWARD(params, ids)[0, len(row) - 1]), np.float64)
    logits[list(forbidden)] = -np.inf
    return logits - np.logaddexp.reduce(logits)


def log_prob(params, head, context, tokens):
    row, total = list(context), 0.0
    for token in tokens:
        total += next_log_probs(params, head, row)[token]
        row.append(token)
    return total


@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_beams_score_at_least_what_greedy_scores(params, head, contexts, alpha):
    """Not a theorem, but true of these responses, and of some by far."""
    flat = Head(head.kernel / 5, head.bias / 5)
    decoded = [
        decode(params, flat, contexts, search)
        for search in (SearchConfig(), beam(beam_width=6, length_penalty=alpha))
    ]
    greedy, beams = (
        [
            log_prob(params, flat, context, row.tokens) / len(row.tokens) ** alpha
            for context, row in zip(contexts, rows, strict=True)
        ]
        for rows in decoded
    )
    gains = np.subtract(beams, greedy)
    assert gains.min() > -1e-4 and (gains > 1e-2).sum() > 4


@pytest.mark.parametrize("allow_repeats", [True, False])
@pytest.mark.parametrize("alpha", [0.0, 0.7, 1.0])
def test_wide_beams_find_the_best_of_all_responses(params, contexts, alpha, allow_repeats):
    """Words 0 and 1, an end token 2, items 3 and 4; up to four tokens: 341 responses."""
    head = Head(MODEL.head(params, 5).kernel / 4, jnp.array([0.0, 0.3, -1.5, 0.5, 0.4]))
    search = beam(beam_width=128, length_penalty=alpha)
    rules = {"end_id": 2, "num_words": 3, "max_tokens": 4, "allow_repeats": allow_repeats}
    found = decode(params, head, contexts[:5], search, **rules)

    def every(context, tokens=(), total=0.0):
        if len(tokens) == 4 or tokens[-1:] == (2,):
            yield total / len(tokens) ** alpha, list(tokens)
            return
        said = () if allow_repeats else {token for token in tokens if token > 2}
        for token, value in enumerate(next_log_probs(params, head, [*context, *tokens], said)):
            if value > -math.inf:
                yield from every(context, (*tokens, token), total + value)

    best = [max(every(context))[1] for context in contexts[:5]]
    assert [row.tokens for row in found] == best
    assert len({tuple(tokens) for tokens in best}) > 1


def test_beams_are_the_same_in_every_batch(params, head, contexts):
    flat = Head(head.kernel / 5, head.bias / 5)
    expected = plain(decode(params, flat, contexts, beam()))
    assert plain(decode(params, flat, contexts, beam(), batch_size=1)) == expected
    assert plain(decode(params, flat, contexts, beam(), batch_size=5, buckets=(40,))) == expected


def test_rows_of_a_cache_are_found_by_its_shapes():
    inputs = {"ids": np.zeros((4, 7), np.int32)}

    def cache_of(inputs):
        rows, length = inputs["ids"].shape
        return {
            "keys": jnp.zeros((2, rows, length, 4)),
            "mask": jnp.zeros((rows, 4)),
            "position": jnp.int32(0),
        }

    assert row_axes(cache_of, inputs) == [1, 0, -1]  # by name
    with pytest.raises(ValueError, match=r"with 4 rows got shape \(28,\)"):
        row_axes(lambda inputs: jnp.zeros(inputs["ids"].size), inputs)
