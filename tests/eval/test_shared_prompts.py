"""Prompts that branch from what their dialogue shares are answered like prompts read whole."""

import dataclasses
from typing import Any

import jax
import numpy as np
import pytest

from conkd_jax.config.parts import SearchConfig
from conkd_jax.data.rows.dialogue import TokenPrompts
from conkd_jax.distill.head import Head
from conkd_jax.eval import decoding, shared_prompts
from conkd_jax.eval.decoding import Decoding, decode_responses
from conkd_jax.eval.pick_grammar import PickRules
from conkd_jax.eval.shared_prompts import prompt_batches
from conkd_jax.models.compute import Compute
from conkd_jax.models.gpt2 import GPT2, GPT2Spec
from conkd_jax.models.llama import Llama
from conkd_jax.models.llama_network import LlamaSpec
from conkd_jax.models.recindial import RecInDial

NUM_WORDS, NUM_ITEMS, END, REC, GEN = 30, 20, 29, 51, 52
NUM_TARGETS = NUM_WORDS + NUM_ITEMS
LONGEST = 40  # tokens of a prompt
MODELS = {
    "gpt2": GPT2(GPT2Spec(num_layers=2, embed_dim=32, num_heads=2, num_positions=64), 64),
    "llama": Llama(
        LlamaSpec(
            num_layers=2,
            embed_dim=32,
            num_heads=4,
            num_kv_heads=2,
            head_dim=8,
            mlp_dim=48,
            num_positions=64,
            tied=False,
        ),
        64,
    ),
}
HOW = Decoding(
    end_id=END, num_words=NUM_WORDS, max_tokens=6, batch_size=4, top_k=5, buckets=(16, LONGEST)
)


class WholePrompts(TokenPrompts):
    """Prompts that are read from their first token."""


def dialogue(rng: np.random.Generator, lengths: tuple[int, ...]) -> list[list[int]]:
    """Prompts whose histories have these lengths; past turns keep their gold tags."""
    tokens = rng.integers(0, NUM_TARGETS, max(lengths)).tolist()
    for length in lengths[:-1]:
        tokens[length] = GEN
    return [[*tokens[:length], REC if length % 2 else GEN] for length in lengths]


@pytest.fixture(scope="module")
def tokens() -> list[list[int]]:
    """20 prompts of 7 dialogues: some begin without a history, one outgrows the longest prompt."""
    rng = np.random.default_rng(0)
    dialogues = [(3, 9, 17), (0, 5, 12, 20), (7,), (2, 21, 39), (4, 30, 45, 60), (1, 6), (0, 9, 10)]
    return [prompt for lengths in dialogues for prompt in dialogue(rng, lengths)]


@pytest.fixture(scope="module")
def loud() -> dict[str, Any]:
    """Parameters so large that every context is answered in its own way."""
    return {
        name: jax.tree.map(
            lambda leaf: (15 if leaf.ndim == 2 else 3) * leaf, model.init(jax.random.key(0))
        )
        for name, model in MODELS.items()
    }


def answered(model, params, prompts, how=HOW, **options):
    """The responses, and the features [T, F] that chose each one's tokens."""
    head = model.head(params, NUM_TARGETS)
    features = {}

    def keep(members, decode):
        tokens, kept = map(np.asarray, decode())
        features.update(zip(members, kept, strict=False))
        return tokens, kept

    head = Head(head.kernel, head.bias.at[END].set(2.5).at[NUM_WORDS:].add(1.0))
    decoded = decode_responses(model, params, head, prompts, how, keep=keep, **options)
    return decoded, [features[member] for member in range(len(decoded))]


def plain(decoded):
    return [
        (row.picks, row.tokens, [(s.step, s.item, s.top.tolist()) for s in row.item_steps])
        for row in decoded
    ]


SAMPLING = SearchConfig(strategy="sample", temperature=0.7, top_p=0.9, seed=3)
FORBIDDEN = [range(NUM_WORDS + row % 3, NUM_TARGETS, 3) for row in range(20)]
ONE_BUCKET = dataclasses.replace(HOW, buckets=(LONGEST,))
CASES = {
    "gpt2": ("gpt2", HOW, {}),
    "llama": ("llama", ONE_BUCKET, {}),
    "sampling, forbidden items": (
        "gpt2",
        dataclasses.replace(ONE_BUCKET, search=SAMPLING, allow_repeats=False),
        {"forbidden_items": FORBIDDEN, "response_ids": list(range(50, 70))},
    ),
    "picks": ("gpt2", ONE_BUCKET, {"pick_rules": PickRules(2, [True, False, None, True] * 5)}),
}


@pytest.mark.parametrize("case", CASES)
def test_answers_are_those_of_prompts_read_whole(case, loud, tokens):
    """Trunks of three batches; in two buckets, with histories that were cut."""
    name, how, options = CASES[case]
    model, params = MODELS[name], loud[name]
    decoded, features = answered(model, params, WholePrompts(tokens), how, **options)
    assert len({tuple(row.tokens) for row in decoded}) >= 12
    found, again = answered(model, params, TokenPrompts(tokens), how, **options)
    assert plain(found) == plain(decoded)
    for row, one, other in zip(decoded, again, features, strict=True):
        said = slice(len(row.tokens))
        np.testing.assert_allclose(
            one[said], other[said], rtol=1e-4, atol=1e-4 * np.abs(other).max()
        )


def test_the_openings_matter(loud, tokens):
    """Predicted tags that differ from the gold ones: the last token of a prompt is its own."""
    other = [[*prompt[:-1], REC if prompt[-1] == GEN else GEN] for prompt in tokens]
    found = [
        plain(answered(MODELS["gpt2"], loud["gpt2"], kind(some))[0])
        for kind in (TokenPrompts, WholePrompts)
        for some in (tokens, other)
    ]
    assert found[:2] == found[2:]
    assert found[0] != found[1]


@pytest.mark.parametrize("name", MODELS)
def test_features_in_bfloat16(name, loud, tokens):
    model = MODELS[name].computing(Compute("bfloat16"))
    params = jax.tree.map(lambda leaf: leaf / 5, loud[name])
    how = dataclasses.replace(HOW, max_tokens=1, buckets=(LONGEST,), batch_size=8)
    (_, whole), (_, shared) = (
        answered(model, params, kind(tokens), how) for kind in (WholePrompts, TokenPrompts)
    )
    first = np.stack([whole, shared])[:, :, 0].astype(np.float32)
    scale = np.abs(first).max()
    np.testing.assert_allclose(first[1], first[0], atol=0.03 * scale)


# --- what is read --------------------------------------------------------------------------------


@pytest.fixture
def read(monkeypatch):
    """The tokens that models have read of prompts: of trunks, of whole prompts, and alone."""
    counts = {"trunks": 0, "whole": 0, "openings": 0}
    real_layers, real_decode = shared_prompts._layers, decoding.decode_batch

    def layers(model, params, input_ids, attention_mask):
        counts["trunks"] += int(attention_mask.sum())
        return real_layers(model, params, input_ids, attention_mask)

    def decode(params, head, inputs, is_filled, *arguments, **options):
        if "branched" in inputs:
            counts["openings"] += int((~is_filled).sum())
        else:
            counts["whole"] += int(inputs["attention_mask"].sum())
        return real_decode(params, head, inputs, is_filled, *arguments, **options)

    monkeypatch.setattr(shared_prompts, "_layers", layers)
    monkeypatch.setattr(decoding, "decode_batch", decode)
    return counts


def test_a_dialogue_is_read_once(read, loud, tokens):
    model, params = MODELS["gpt2"], loud["gpt2"]
    answered(model, params, TokenPrompts(tokens))
    # The histories of the fifth dialogue that exceed 39 tokens keep their last 39, each its own.
    longest = 17 + 20 + 7 + 39 + (30 + 39 + 39) + 6 + 10
    assert read == {"trunks": longest, "whole": 0, "openings": len(tokens)}
    answered(model, params, WholePrompts(tokens))
    assert read["whole"] == sum(min(len(prompt), LONGEST) for prompt in tokens) > 1.4 * longest


def test_beams_read_prompts_whole(read, loud, tokens):
    how = dataclasses.replace(HOW, search=SearchConfig(strategy="beam", beam_width=2))
    answered(MODELS["gpt2"], loud["gpt2"], TokenPrompts(tokens[:4]), how)
    assert read["trunks"] == read["openings"] == 0 < read["whole"]


def test_trunks_of_kept_batches_are_not_read(read, loud, tokens):
    model, params, kept = MODELS["gpt2"], loud["gpt2"], {}
    head = model.head(params, NUM_TARGETS)

    def keep(members, decode):
        key = tuple(members)
        if key not in kept:
            kept[key] = tuple(map(np.asarray, decode()))
        return kept[key]

    first = decode_responses(model, params, head, TokenPrompts(tokens), HOW, keep=keep)
    number = read["trunks"]
    kept.pop(next(reversed(kept)))  # the last batch is lost, of the longest prompts
    again = decode_responses(model, params, head, TokenPrompts(tokens), HOW, keep=keep)
    assert plain(first) == plain(again)
    assert number < read["trunks"] < 2 * number and read["whole"] == 0


def test_prompts_without_a_common_beginning_are_trunks_each(read, loud):
    prompts = TokenPrompts([[1, 2, REC], [2, 1, REC], [3, GEN]])
    answered(MODELS["gpt2"], loud["gpt2"], prompts)
    assert read == {"trunks": 5, "whole": 0, "openings": 3}


# --- batches -------------------------------------------------------------------------------------


def test_a_batch_branches_from_one_batch_of_trunks(tokens):
    model, prompts = MODELS["gpt2"], TokenPrompts(tokens)
    params = model.init(jax.random.key(0))
    found = [members for members, _ in prompt_batches(model, params, prompts, 4, (16, LONGEST), 6)]
    assert sorted(sum(found, [])) == list(range(len(tokens)))
    assert max(map(len, found)) == 4
    _, trunk_of = prompts.cut(LONGEST).trunks()
    assert max(len(set(trunk_of[members])) for members in found) <= 4


def test_a_model_of_another_kind_reads_prompts_whole(tokens):
    model = RecInDial(MODELS["gpt2"])
    (_, make), *_ = prompt_batches(model, {}, TokenPrompts(tokens), 4, (16, LONGEST), 6)
    assert set(make()) == {"input_ids", "attention_mask"}
