"""Timing: what is timed is the decoder of scoring, compiled before, in fair turns."""

import dataclasses
import functools

import jax
import numpy as np
import pytest

from conkd_jax.data.rows.dialogue import TokenPrompts
from conkd_jax.eval import latency
from conkd_jax.eval.decoding import Decoding, decode_responses
from conkd_jax.eval.latency import (
    NO_TOKEN,
    TimedDecoder,
    TimedSystem,
    Timings,
    answer_ratios,
    build_questions,
    latency_measures,
    spread,
    time_interleaved,
)
from conkd_jax.models.gpt2 import GPT2, GPT2Spec
from tests.models import small_kgsf

NUM_WORDS, NUM_TARGETS, NUM_TOKENS = 30, 50, 6
MODEL = GPT2(GPT2Spec(num_layers=1, embed_dim=16, num_heads=2, num_positions=32), 52)
LENGTHS = [3, 9, 4, 20, 2]


@pytest.fixture(scope="module")
def decoder() -> TimedDecoder:
    params = jax.tree.map(
        lambda leaf: 15 * leaf if leaf.ndim == 2 else leaf, MODEL.init(jax.random.key(0))
    )
    return TimedDecoder(MODEL, params, MODEL.head(params, NUM_TARGETS), NUM_WORDS, NUM_TOKENS)


@pytest.fixture(scope="module")
def prompts() -> TokenPrompts:
    rng = np.random.default_rng(0)
    return TokenPrompts([rng.integers(0, NUM_TARGETS, n).tolist() for n in LENGTHS])


def system(decoder, prompts, classify=None, batch_size=2) -> TimedSystem:
    context = None if classify is None else lambda members: (np.array(members),)
    asked = build_questions(prompts, [4, 12], batch_size, context)
    return TimedSystem(decoder, classify, *asked, batch_size)


# --- what is timed --------------------------------------------------------------------------


@pytest.mark.parametrize("item_rule", ["argmax", "mass"])
def test_both_parts_write_what_scoring_writes(decoder, prompts, item_rule):
    decoder = dataclasses.replace(decoder, item_rule=item_rule)
    expected = decode_responses(
        decoder.model,
        decoder.params,
        decoder.head,
        prompts,
        Decoding(
            end_id=NO_TOKEN,
            num_words=NUM_WORDS,
            max_tokens=NUM_TOKENS,
            batch_size=1,
            buckets=[4, 12],
            item_rule=item_rule,
        ),
    )
    for question, decoded in zip(system(decoder, prompts).singles, expected, strict=True):
        token, cache = decoder.read(question.inputs)
        rest, _ = decoder.write(token, cache)
        assert rest.shape == (1, decoder.num_steps) == (1, NUM_TOKENS - 1)
        assert [*token.tolist(), *rest[0].tolist()] == decoded.tokens


def test_kgsf_is_timed_by_the_same_calls():
    model, samples = small_kgsf.MODEL, small_kgsf.make_samples()
    params = small_kgsf.perturbed_params(small_kgsf.initial_params())
    head = model.head(params, small_kgsf.NUM_TARGETS)
    inputs = small_kgsf.batch(samples)
    inputs["first_token"] = inputs.pop("response_ids")[:, 0]
    decoder = TimedDecoder(model, params, head, 20, NUM_TOKENS)
    rest, _ = decoder.write(*decoder.read(inputs))
    assert rest.shape == (len(samples), NUM_TOKENS - 1)
    assert (np.asarray(rest) >= 0).all()


def test_a_response_of_one_token_has_no_time_a_token(decoder):
    with pytest.raises(ValueError, match="num_tokens: expected 2 or more, got 1"):
        dataclasses.replace(decoder, num_tokens=1)


# --- what is asked --------------------------------------------------------------------------


def test_questions_are_every_prompt_and_a_full_batch_of_each_length(decoder, prompts):
    asked = system(decoder, prompts, lambda members: members, batch_size=3)
    shapes = [question.inputs["input_ids"].shape for question in asked.singles]
    assert shapes == [(1, 4), (1, 12), (1, 4), (1, 12), (1, 4)]  # 20 tokens keep their last 12
    assert [q.inputs["input_ids"].shape for q in asked.batches] == [(3, 4), (3, 12)]
    assert [q.context[0].tolist() for q in asked.batches] == [[0, 2, 4], [1, 3, 1]]
    np.testing.assert_allclose(asked.shares, [0.6, 0.4])
    assert all(question.context is None for question in system(decoder, prompts).singles)


# --- the clock ------------------------------------------------------------------------------


def test_systems_take_turns_and_nothing_is_compiled_while_the_clock_runs(decoder, prompts):
    said = []

    def classify(name, members):
        said.append((name, members.tolist()))
        return members

    systems = [system(decoder, prompts, functools.partial(classify, name)) for name in "AB"]
    time_interleaved(systems, 1)
    compiled = latency._read._cache_size(), latency._write._cache_size()
    once = said[: len(said) // 2]
    assert said == 2 * once  # the warm-up asks what is measured
    assert "".join(name for name, members in once if len(members) == 1) == "ABBAABBAAB"
    assert "".join(name for name, members in once if len(members) == 2) == "ABBA"
    timings = time_interleaved(systems, 3)
    assert (latency._read._cache_size(), latency._write._cache_size()) == compiled
    for one in timings:
        assert one.singles.shape == (3, len(LENGTHS), 3)
        assert one.batches.shape == (3, 2)
        assert (one.singles > 0).all() and (one.batches > 0).all()


# --- what it comes to -----------------------------------------------------------------------


def test_measures_are_these_formulas(decoder, prompts):
    seconds = np.array([[[0.1, 0.2, 1.0], [0.3, 0.4, 2.0]]])  # one repeat, two answers
    asked = system(decoder, prompts, lambda members: members, batch_size=8)
    found = latency_measures(asked, Timings(seconds, np.array([[2.0, 5.0]])))
    expected = {
        "ms_per_token": [[200, 400]],  # five tokens after the first
        "prefill_ms": [[200, 400]],
        "classifier_ms": [[100, 300]],
        "responses_per_second": [[1 / 1.3, 1 / 2.7]],
        "batched_responses_per_second": [[8 / (0.6 * 2 + 0.4 * 5)]],
    }
    assert set(found) == set(expected)
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, err_msg=name)
    assert spread(found["ms_per_token"]) == pytest.approx((300, 300, 300))


def test_ratios_are_of_what_both_have_answer_by_answer():
    slow = {"ms_per_token": np.array([[2.0, 30.0, 4.0]]), "classifier_ms": np.ones((1, 3))}
    fast = {"ms_per_token": np.array([[1.0, 10.0, 4.0]])}
    (name, ratio), *others = answer_ratios(slow, fast).items()
    assert name == "ms_per_token" and not others
    np.testing.assert_allclose(ratio, [[2, 3, 1]])
    assert spread(ratio).median == 2
