"""Greedy decoding: equal to a plain loop over full forwards, whatever the batch and the padding."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from conkd_jax.data.rows.dialogue import TokenPrompts
from conkd_jax.distill.head import Head
from conkd_jax.eval import decode_loop, decoding
from conkd_jax.eval.decode_loop import choose_token, decode_steps
from conkd_jax.eval.decoding import Decoding, decode_responses
from conkd_jax.models.gpt2 import GPT2, GPT2Spec

NUM_WORDS, NUM_ITEMS, END, REC = 30, 20, 29, 51
NUM_TARGETS = NUM_WORDS + NUM_ITEMS
MODEL = GPT2(GPT2Spec(num_layers=2, embed_dim=32, num_heads=2, num_positions=64), 64)
SETTINGS = {"end_id": END, "num_words": NUM_WORDS, "max_tokens": 8, "top_k": 5}


@pytest.fixture(scope="module")
def params():
    """Weights so large that every context is answered in its own way."""
    return jax.tree.map(
        lambda leaf: 15 * leaf if leaf.ndim == 2 else leaf, MODEL.init(jax.random.key(0))
    )


@pytest.fixture(scope="module")
def head(params):
    """The tied head, leaning to the end token enough for some rows to end early."""
    head = MODEL.head(params, NUM_TARGETS)
    return Head(kernel=head.kernel, bias=head.bias.at[END].set(2.5))


@pytest.fixture(scope="module")
def contexts():
    rng = np.random.default_rng(0)
    return [rng.integers(0, NUM_TARGETS, n).tolist() for n in rng.integers(0, 40, 24)]


@pytest.fixture(scope="module")
def openings(contexts):
    return [REC if index % 2 else END for index in range(len(contexts))]


@pytest.fixture(scope="module")
def expected(params, head, contexts, openings):
    """Token by token, one context at a time, without a cache: (tokens, [(step, item, top 5)])."""
    forward = jax.jit(MODEL.features)
    results = []
    for context, opening in zip(contexts, openings, strict=True):
        row, tokens, steps = [*context, opening], [], []
        while len(tokens) < 8 and END not in tokens:
            ids = np.zeros((1, 64), np.int32)
            ids[0, : len(row)] = row
            logits = np.asarray(head.logits(forward(params, ids)[0, len(row) - 1]))
            token = int(logits.argmax())
            if token >= NUM_WORDS:
                top = NUM_WORDS + np.argsort(-logits[NUM_WORDS:])[:5]
                steps.append((len(tokens), token, top.tolist()))
            tokens.append(token)
            row.append(token)
        results.append((tokens, steps))
    return results


def plain(decoded):
    return [
        (row.tokens, [(step, item, np.asarray(top).tolist()) for step, item, top in row.item_steps])
        for row in decoded
    ]


@pytest.mark.parametrize(
    ("batch_size", "buckets"), [(1, (40,)), (8, (16, 40)), (64, None)], ids=str
)
def test_equals_a_loop_without_cache(
    params, head, contexts, openings, expected, batch_size, buckets
):
    decoded = decode_responses(
        MODEL,
        params,
        head,
        prompts(contexts, openings),
        Decoding(batch_size=batch_size, buckets=buckets, **SETTINGS),
    )
    assert plain(decoded) == expected


def test_the_cases_hold_what_they_should(expected):
    """Early ends, full lengths, words and items: or the test above says little."""
    lengths = {len(tokens) for tokens, _ in expected}
    assert {8} < lengths
    assert sum(END in tokens for tokens, _ in expected) >= 4
    assert sum(len(steps) for _, steps in expected) >= 10
    assert sum(len(tokens) - len(steps) for tokens, steps in expected) >= 10
    assert len({tuple(tokens) for tokens, _ in expected}) >= 12


def prompts(contexts, openings):
    return TokenPrompts([[*c, first] for c, first in zip(contexts, openings, strict=True)])


def decode(params, head, contexts, forbidden_items=None, **changes):
    # One batch size and one bucket wherever they don't matter: one compilation serves them all.
    settings = {**SETTINGS, "batch_size": 8, "buckets": (40,), **changes}
    given = prompts(contexts, [REC] * len(contexts))
    return decode_responses(
        MODEL, params, head, given, Decoding(**settings), forbidden_items=forbidden_items
    )


def test_long_context_keeps_its_tail(params, head, contexts):
    context = [token for context in contexts for token in context][:80]
    long, tail = decode(params, head, [context, context[-39:]])
    assert plain([long]) == plain([tail])


def test_one_compilation_for_each_bucket_in_use(params, head, contexts):
    before = decode_loop.decode_batch._cache_size()
    for several in (contexts, contexts[::-1], contexts[:13]):  # the last batch is a short one
        decode(params, head, several, buckets=(17, 41, 57))
        assert decode_loop.decode_batch._cache_size() == before + 2  # none is longer than 41


def test_nothing_to_decode(params, head):
    assert decode(params, head, []) == []


def test_input_only_tokens_are_never_emitted(params, contexts):
    """Rows past Y are not in the head: [REC] can't come out even if it would win."""
    loud = {**params, "wte": {"embedding": params["wte"]["embedding"].at[NUM_TARGETS:].mul(50)}}
    decoded = decode(loud, MODEL.head(loud, NUM_TARGETS), contexts)
    assert max(max(row.tokens) for row in decoded) < NUM_TARGETS


def test_fewer_items_than_top_k(params, head, contexts):
    decoded = decode(params, head, contexts, top_k=50)
    tops = [step.top for row in decoded for step in row.item_steps]
    assert tops and all(sorted(top) == list(range(NUM_WORDS, NUM_TARGETS)) for top in tops)


def test_tie_is_listed_with_the_emitted_item_first(params, contexts):
    """Every item alike: whatever was emitted is `top[0]`, and no item is listed twice."""
    kernel = jnp.zeros((32, NUM_TARGETS))
    bias = jnp.zeros(NUM_TARGETS).at[NUM_WORDS:].set(1.0)
    decoded = decode(params, Head(kernel=kernel, bias=bias), contexts[:2])
    for row in decoded:
        assert len(row.item_steps) == 8
        for step in row.item_steps:
            assert step.top[0] == step.item and len(set(step.top.tolist())) == 5


# --- the rules ----------------------------------------------------------------------------------


def test_choose_token_by_each_rule():
    # Words 0-1, items 2-4. A word leads and items hold 60 %, then 40 %; then an item leads.
    probabilities = jnp.array(
        [[0.35, 0.05, 0.2, 0.3, 0.1], [0.5, 0.1, 0.1, 0.2, 0.1], [0.3, 0.3, 0.4, 0.0, 0.0]]
    )
    tokens = {"argmax": [0, 0, 2], "mass": [3, 0, 2], "class": [3, 0, 0]}
    assert set(tokens) == set(decoding.ITEM_RULES)
    logits = jnp.log(probabilities + 1e-9)
    for rule, expected in tokens.items():
        got = choose_token(logits, num_words=2, item_rule=rule)
        np.testing.assert_array_equal(got, expected, err_msg=rule)


def test_mass_rule_emits_the_best_item_where_a_word_leads(params, head, contexts):
    """One word is above every item at every step, and all items together have 53 %."""
    bias = jnp.zeros(NUM_TARGETS).at[NUM_WORDS:].set(0.6).at[0].set(1.0)
    unsure = Head(kernel=head.kernel / 50, bias=bias)
    by_argmax, by_mass = (
        decode(params, unsure, contexts[:8], item_rule=rule) for rule in ("argmax", "mass")
    )
    assert all(row == decoding.DecodedResponse([0] * 8, []) for row in by_argmax)
    assert all(len(row.item_steps) == 8 for row in by_mass)
    assert all(step.top[0] == step.item for row in by_mass for step in row.item_steps)


# --- what may not be said -----------------------------------------------------------------------


def constrained_loop(params, head, context, forbidden, allow_repeats):
    """One context, token by token and without a cache, over the items that may be said."""
    row, said, steps = [*context, REC], list(forbidden), []
    for step in range(8):
        ids = np.zeros((1, 64), np.int32)
        ids[0, : len(row)] = row
        logits = np.array(head.logits(FORWARD(params, ids)[0, len(row) - 1]))
        logits[said] = -np.inf
        row.append(int(logits.argmax()))
        if row[-1] >= NUM_WORDS:
            order = NUM_WORDS + np.argsort(-logits[NUM_WORDS:])
            steps.append((step, row[-1], [i for i in order.tolist() if i not in said][:5]))
            said += [] if allow_repeats else [row[-1]]
        if row[-1] == END:
            break
    return row[len(context) + 1 :], steps


FORWARD = jax.jit(MODEL.features)


@pytest.mark.parametrize("allow_repeats", [True, False])
@pytest.mark.parametrize("forbids", [True, False])
def test_what_may_not_be_said_is_not_said(params, head, contexts, forbids, allow_repeats):
    """Equal to a plain loop; the free responses hold what is forbidden, so it changes something."""
    keen = Head(head.kernel, head.bias.at[NUM_WORDS:].add(2.0))
    free = decode(params, keen, contexts)
    forbidden = [
        {token for token in row.tokens[:2] if token >= NUM_WORDS} if forbids else () for row in free
    ]
    found = decode(
        params,
        keen,
        contexts,
        forbidden_items=forbidden if forbids else None,
        allow_repeats=allow_repeats,
    )
    assert plain(found) == [
        constrained_loop(params, keen, context, of, allow_repeats)
        for context, of in zip(contexts, forbidden, strict=True)
    ]
    assert (plain(found) == plain(free)) == (allow_repeats and not forbids)


def test_rankings_end_where_no_item_is_left_to_say(params, head, contexts):
    """18 of 20 items are forbidden: each list holds the other two, and then the one unsaid."""
    keen = Head(head.kernel / 50, head.bias.at[NUM_WORDS:].add(20.0).at[END].set(-5.0))
    forbidden = [list(range(NUM_WORDS, NUM_WORDS + 18))] * 2
    for row in decode(
        params, keen, contexts[:2], forbidden_items=forbidden, allow_repeats=False, top_k=50
    ):
        last = NUM_TARGETS - 1
        first, second = row.item_steps
        assert sorted(first.top.tolist()) == [last - 1, last]
        assert second.top.tolist() == [second.item]
        assert {first.item, second.item} == {last - 1, last}
        assert len(row.tokens) == 8  # words, once nothing is left


# --- the loop -----------------------------------------------------------------------------------


def test_loop_stops_when_all_rows_have_ended():
    """A model that counts: row b says 10, 11, … and ends after `ends[b]` tokens."""
    ends = jnp.array([2, 4, 1])

    def step(token, count):
        return (token + 1).astype(jnp.float32)[:, None], count + 1

    def choose(features, memory):
        token = features[:, 0].astype(jnp.int32)
        return jnp.where(token >= 10 + ends, END, token), memory

    start = jnp.full((3, 1), 10.0)
    ended = jnp.array([False, False, False])
    tokens, kept = decode_steps(
        start, jnp.int32(0), step, choose, end_id=END, max_tokens=9, has_ended=ended
    )
    np.testing.assert_array_equal(
        tokens[:, :5],
        [[10, 11, END, END, END], [10, 11, 12, 13, END], [10, END, END, END, END]],
    )
    np.testing.assert_array_equal(tokens[:, 5:], END)
    np.testing.assert_array_equal(kept[1, :5, 0], [10, 11, 12, 13, 14])
    np.testing.assert_array_equal(kept[:, 5:], 0)  # no step was taken any more
    tokens, kept = decode_steps(
        start, jnp.int32(0), step, choose, end_id=END, max_tokens=9, has_ended=~ended
    )
    np.testing.assert_array_equal(tokens, END)
    np.testing.assert_array_equal(kept[:, 1:], 0)


# --- refusals -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"item_rule": "best"}, "item_rule: expected one of argmax, mass, class, got 'best'"),
        ({"buckets": (16, 58)}, "prompt lengths from 1 to 57"),
        ({"buckets": ()}, "prompt lengths from 1 to 57"),
        ({"max_tokens": 65}, "leave no room for a prompt"),
    ],
)
def test_wrong_settings_are_refused(params, head, contexts, changes, message):
    with pytest.raises(ValueError, match=message):
        decode(params, head, contexts, **changes)
