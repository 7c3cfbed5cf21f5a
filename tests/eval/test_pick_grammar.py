"""Item-first decoding never leaves the grammar, and equals a plain loop over full forwards."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from conkd_jax.data.rows.dialogue import TokenPrompts
from conkd_jax.distill.head import Head
from conkd_jax.eval.decoding import Decoding, decode_responses
from conkd_jax.eval.pick_grammar import DONE, PICKS, START, TEXT, PickRules, after, allowed
from conkd_jax.models.gpt2 import GPT2, GPT2Spec

NUM_WORDS, NUM_ITEMS, END, OPENING = 30, 20, 29, 51
NUM_TARGETS = NUM_WORDS + NUM_ITEMS
MODEL = GPT2(GPT2Spec(num_layers=2, embed_dim=32, num_heads=2, num_positions=64), 64)
FORWARD = jax.jit(MODEL.features)
MAX_PICKS, MAX_TOKENS, TOP = 3, 8, 5
MUST = [True, False, None] * 8


@pytest.fixture(scope="module")
def params():
    """Weights so large that every context is answered in its own way."""
    return jax.tree.map(
        lambda leaf: 15 * leaf if leaf.ndim == 2 else leaf, MODEL.init(jax.random.key(0))
    )


@pytest.fixture(scope="module")
def head(params):
    head = MODEL.head(params, NUM_TARGETS)
    return Head(kernel=head.kernel, bias=head.bias.at[END].set(2.5).at[NUM_WORDS:].add(1.0))


@pytest.fixture(scope="module")
def contexts():
    rng = np.random.default_rng(0)
    return [rng.integers(0, NUM_TARGETS, n).tolist() for n in rng.integers(0, 40, len(MUST))]


def decode(params, head, contexts, forbidden_items=None, **changes):
    options = {"batch_size": 16, "buckets": (41,), "top_k": TOP, **changes}
    return decode_responses(
        MODEL,
        params,
        head,
        TokenPrompts([[*context, OPENING] for context in contexts]),
        Decoding(end_id=END, num_words=NUM_WORDS, max_tokens=MAX_TOKENS, **options),
        forbidden_items=forbidden_items,
        pick_rules=PickRules(MAX_PICKS, MUST[: len(contexts)]),
    )


def plain_loop(params, head, context, must, forbidden=(), allow_repeats=True):
    """One response from the definition, without cache: (picks, text, [(step, item, top)])."""
    picks, text, tops = [], [], {}
    row, in_picks, is_open = [*context, OPENING], True, False
    while len(text) < MAX_TOKENS and END not in text:
        ids = np.zeros((1, 64), np.int32)
        ids[0, : len(row)] = row
        logits = np.array(head.logits(FORWARD(params, ids)[0, len(row) - 1]))
        items, words = set(range(NUM_WORDS, NUM_TARGETS)), set(range(NUM_WORDS))
        if in_picks:
            may = items - set(picks) - set(forbidden) if must is not False else set()
            may = may if len(picks) < MAX_PICKS else set()
            words = {END} if is_open else set() if must else words
        else:
            may = set(picks) - (set() if allow_repeats else set(text))
        allow = np.isin(np.arange(NUM_TARGETS), [*may, *words])
        token = int(np.where(allow, logits, -np.inf).argmax())
        row.append(token)
        if in_picks and token >= NUM_WORDS:
            order = sorted(may, key=lambda item: -logits[item])
            tops[token] = order[:TOP]
            picks.append(token)
            is_open = True
        elif in_picks and is_open:
            in_picks = False
        else:
            in_picks = False
            text.append(token)
    steps = [(t, token, tops[token]) for t, token in enumerate(text) if token >= NUM_WORDS]
    return picks, text, steps


def plain(decoded):
    return [
        (row.picks, row.tokens, [(s.step, s.item, s.top.tolist()) for s in row.item_steps])
        for row in decoded
    ]


@pytest.mark.parametrize("allow_repeats", [True, False])
@pytest.mark.parametrize("forbids", [True, False])
def test_equals_a_plain_loop(params, head, contexts, forbids, allow_repeats):
    free = decode(params, head, contexts)
    forbidden = [row.picks[:1] if forbids else () for row in free]
    found = decode(
        params,
        head,
        contexts,
        forbidden_items=forbidden if forbids else None,
        allow_repeats=allow_repeats,
    )
    assert plain(found) == [
        plain_loop(params, head, context, must, of, allow_repeats)
        for context, must, of in zip(contexts, MUST, forbidden, strict=True)
    ]


def test_the_cases_hold_what_they_should(params, head, contexts):
    decoded = decode(params, head, contexts)
    assert {len(row.picks) for row in decoded} >= {0, 2, MAX_PICKS}
    assert any(row.tokens[-1] == END for row in decoded)
    assert any(len(row.tokens) == MAX_TOKENS for row in decoded)
    assert any(len(row.item_steps) > len(set(row.tokens) & set(row.picks)) for row in decoded)
    assert any(set(row.picks) - set(row.tokens) for row in decoded), "not all picks are named"
    free = [row.picks for row, must in zip(decoded, MUST, strict=True) if must is None]
    assert any(free) and not all(free), "without tags, the model decides"


@pytest.mark.parametrize("rule", ["argmax", "mass"])
@pytest.mark.parametrize("lean", [-30.0, 0.0, 30.0])
def test_no_response_leaves_the_grammar(params, head, contexts, rule, lean):
    """Whether the model would say nothing but words, or nothing but items."""
    leaning = Head(head.kernel, head.bias.at[NUM_WORDS:].add(lean))
    for row, must in zip(decode(params, leaning, contexts, item_rule=rule), MUST, strict=True):
        assert len(set(row.picks)) == len(row.picks) <= MAX_PICKS
        assert all(NUM_WORDS <= item < NUM_TARGETS for item in row.picks)
        assert must is None or bool(row.picks) == must
        assert {token for token in row.tokens if token >= NUM_WORDS} <= set(row.picks)
        assert END not in row.tokens[:-1] and 0 < len(row.tokens) <= MAX_TOKENS
        assert [step.item for step in row.item_steps] == [t for t in row.tokens if t >= NUM_WORDS]


def test_phases_follow_the_table():
    """Token by token, for [REC], [GEN] and no tag; each token must be allowed where it comes."""
    ids = {"num_words": 3, "end_id": 0}
    items = a, b = 3, 4
    cases = [
        (True, [a, b, 0, 1, b, 0], [START, PICKS, PICKS, TEXT, TEXT, TEXT, DONE]),
        (False, [1, 2, 0], [START, TEXT, TEXT, DONE]),
        (None, [b, 0, 0], [START, PICKS, TEXT, DONE]),
        (None, [0], [START, DONE]),
    ]
    for must, tokens, phases in cases:
        state = PickRules(2, [must]).states([0], 1, num_items=2)
        assert state.phase.tolist() == phases[:1]
        for token, phase in zip(tokens, phases[1:], strict=True):
            assert allowed(state, max_picks=2, **ids)[0, token], (must, tokens, token)
            state = after(state, jnp.array([token]), **ids)
            assert state.phase.tolist() == [phase]
    full = after(PickRules(1, [True]).states([0], 1, 2), jnp.array([a]), **ids)
    assert allowed(full, max_picks=1, **ids).tolist() == [[True, False, False, False, False]]
    start = PickRules(1, [True]).states([0], 1, 2)
    assert np.flatnonzero(allowed(start, max_picks=1, **ids)[0]).tolist() == list(items)
