"""Greedy decoding against other programs that run the same GPT-2.

    python -m benchmarks.decode --json=docs/results/benchmarks/decode.json

Every contender reads the checkpoint of one random GPT-2: this project's loop
(`conkd_jax.eval.latency`, which `python -m conkd_jax.latency` times too), Hugging Face's `generate`
in PyTorch with its defaults (eager, key-value cache), and CTranslate2. All generate the same number
of tokens, the end token is ignored, and all but int8 have to generate the same tokens.

A response is timed twice: its first token alone, which is the prefill, and as a whole. The time of
a token is what is left, divided by the tokens after the first. A ConKD student runs the graph of a
plain GPT-2: it is timed beside it with other numbers in the same arrays, and should differ by noise
only. What it needs beside the graph is the turn classifier, once a response.

What a batch gains is bounded by the matrix products of a step, which read every weight once for the
whole batch. They are timed alone, at the smallest and at the largest batch.

An evaluation decodes all responses of many dialogues. Here its loop is timed twice: with each
prompt read from its first token, and with what the prompts of a dialogue share read once.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from benchmarks import products, side_by_side
from benchmarks.random_gpt2 import SIZES, GPT2Size, make_model, random_tokens, write_checkpoint
from benchmarks.report import TOKEN, Bound, Case, Report, read_options
from benchmarks.side_by_side import Contender, processors, use_torch
from conkd_jax.data.rows.dialogue import TokenPrompts
from conkd_jax.eval.decoding import Decoding, decode_responses
from conkd_jax.eval.item_rankings import FORBIDDEN_LOGIT
from conkd_jax.eval.latency import TimedDecoder
from conkd_jax.models.gpt2 import GPT2, GPT2Spec, load_pretrained
from conkd_jax.models.turn_classifier import TurnClassifier

OURS, STUDENT, HUGGING_FACE = "conkd_jax", "conkd_jax, a ConKD student", "Hugging Face generate"
CTRANSLATE2, INT8 = "CTranslate2 fp32", "CTranslate2 int8"
CLASSIFIER = "conkd_jax, turn classifier"
PRODUCTS = "JAX, the matrix products of a response alone"
WHOLE, SHARED = "each prompt read whole", "history read once"
FIRST = ", first token"  # after the name of a contender
CONTEXT = 96  # tokens that the turn classifier reads

Generate = Callable[[int], Any]  # number of tokens → tokens [B, T]


@dataclasses.dataclass(frozen=True)
class Prompts:
    """What is generated, and the targets.

    Attributes:
      model: the size of the model.
      length: tokens of each prompt.
      num_tokens: tokens of each response.
      batch_sizes: responses at once; one after the other in the same window.
      bounds: targets by name, see `add_ratios`.
    """

    model: str
    length: int = 64
    num_tokens: int = 64
    batch_sizes: tuple[int, ...] = (1,)
    bounds: dict[str, Bound] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Split:
    """Dialogues of which every response is decoded, and the target.

    Attributes:
      model: the size of the model.
      num_dialogues: of 3 to 7 responses each.
      batch_size: of an evaluation.
      num_tokens: tokens of each response.
      rounds: how often each contender is timed, at most.
      bound: of the time with histories read once over that of prompts read whole.
    """

    model: str
    num_dialogues: int
    batch_size: int
    num_tokens: int = 16
    rounds: int | None = None
    bound: Bound | None = None


TARGETS = {HUGGING_FACE: Bound(0.55, stretch=0.40), CTRANSLATE2: Bound(0.85)}
CASES = {
    "full": (
        Prompts(
            "mini",
            batch_sizes=(1, 8, 64),
            bounds={
                **TARGETS,
                "responses": Bound(2.5, is_least=True),
                "steps": Bound(8, is_least=True),
            },
        ),
        Prompts("mini", length=256),
        Prompts("mini", length=448),
        Prompts("small", bounds={**TARGETS, STUDENT: Bound(0.02)}),  # long enough for 2 %
        Prompts("small", length=512),
    ),
    "tiny": (Prompts("tiny", length=6, num_tokens=4, batch_sizes=(1, 3)),),
}
SPLITS = {
    "full": (
        Split("mini", num_dialogues=64, batch_size=64, rounds=3, bound=Bound(0.75)),
        Split("small", num_dialogues=4, batch_size=4, num_tokens=8, rounds=2, bound=Bound(0.75)),
    ),
    "tiny": (Split("tiny", num_dialogues=3, batch_size=3, num_tokens=4),),
}


# --- the contenders --------------------------------------------------------------------------


def ours(model: GPT2, params: Any, size: GPT2Size, prompts: np.ndarray, count: int) -> Generate:
    """This project's loop, compiled in two parts."""
    head = model.head(params, size.num_targets)
    decoder = TimedDecoder(model, params, head, size.num_words, count)
    inputs = {"input_ids": prompts, "attention_mask": np.ones(prompts.shape, bool)}

    def generate(wanted: int) -> np.ndarray:
        token, cache = jax.block_until_ready(decoder.read(inputs))
        first = np.asarray(token)[:, None]
        if wanted == 1:
            return first
        rest, _ = jax.block_until_ready(decoder.write(token, cache))
        return np.concatenate([first, np.asarray(rest)], axis=1)

    return generate


def hugging_face(size: GPT2Size, prompts: np.ndarray) -> Generate:
    """PyTorch's model and the loop of transformers."""
    torch = use_torch()
    model = make_model(size)
    model.generation_config.update(eos_token_id=None, bos_token_id=0, pad_token_id=0)
    ids = torch.from_numpy(prompts.astype(np.int64))

    @torch.inference_mode()
    def generate(wanted: int) -> np.ndarray:
        mask = torch.ones_like(ids)
        out = model.generate(ids, attention_mask=mask, do_sample=False, max_new_tokens=wanted)
        return out[:, prompts.shape[1] :].numpy()

    return generate


def ctranslate2(folder: str, kind: str, prompts: np.ndarray) -> Generate:
    """The checkpoint, converted to CTranslate2 with weights of a type."""
    import ctranslate2 as peer

    converted = Path(folder) / f"ctranslate2-{kind}"
    if not converted.exists():
        converter = peer.converters.TransformersConverter(folder)
        converter.convert(str(converted), quantization=kind)
    threads = len(processors())
    generator = peer.Generator(str(converted), compute_type=kind, intra_threads=threads)
    words = [[str(token) for token in prompt] for prompt in prompts.tolist()]

    def generate(wanted: int) -> np.ndarray:
        results = generator.generate_batch(
            words,
            max_length=wanted,
            min_length=wanted,
            sampling_topk=1,
            include_prompt_in_result=False,
        )
        return np.array([result.sequences_ids[0] for result in results])

    return generate


def turn_classifier(size: GPT2Size) -> side_by_side.Run:
    """The classifier of the mini preset, on one full context."""
    model = TurnClassifier(size.num_targets, embed_dim=128, mlp_dim=256, num_positions=CONTEXT)
    ids, mask = random_tokens(size, (1, CONTEXT)), np.ones((1, CONTEXT), bool)
    params = jax.jit(model.init)(jax.random.key(0), ids, mask)
    return side_by_side.Compiled(model.apply, params, ids, mask)


def make_contenders(folder: str, size: GPT2Size, case: Prompts) -> list[Contender]:
    """Every contender at every batch size: the first token, and the whole response."""
    spec, params = load_pretrained(folder)
    model = GPT2(spec, size.num_targets)
    others = model.init(jax.random.key(1))
    found = []
    for batch_size in case.batch_sizes:
        prompts = random_tokens(size, (batch_size, case.length))

        def with_params(used: Any, prompts=prompts) -> Generate:
            return ours(model, used, size, prompts, case.num_tokens)

        makers: dict[str, tuple[Callable[[], Generate], str]] = {
            OURS: (lambda make=with_params: make(params), ""),
            STUDENT: (lambda make=with_params: make(others), ""),
            HUGGING_FACE: (lambda prompts=prompts: hugging_face(size, prompts), ""),
            CTRANSLATE2: (lambda p=prompts: ctranslate2(folder, "float32", p), "ctranslate2"),
            INT8: (lambda p=prompts: ctranslate2(folder, "int8", p), "ctranslate2"),
        }
        for name, (make, package) in makers.items():
            work = f"{batch_size} by {'a student' if name == STUDENT else 'the model'}"
            found += _in_two_parts(name, make, package, work, batch_size, case.num_tokens)
    compared = {min(case.batch_sizes), max(case.batch_sizes)}
    for batch_size in compared if len(compared) > 1 else ():
        name, work = label_of(PRODUCTS, batch_size), f"{batch_size} by products"
        response = functools.partial(products.of_a_response, size, batch_size, case.num_tokens)
        found.append(Contender(name, response, work=work))
    return [*found, Contender(CLASSIFIER, lambda: turn_classifier(size), work="classifier")]


def _in_two_parts(name, make, package, work, batch_size, num_tokens) -> list[Contender]:
    made: list[Generate] = []

    def prepare(wanted: int) -> side_by_side.Run:
        if not made:
            made.append(make())
        return lambda: made[0](wanted)

    is_compared = name != INT8  # with rounded weights another token may be the most probable
    return [
        Contender(
            label_of(name, batch_size) + part,
            lambda wanted=wanted: prepare(wanted),
            package,
            work=f"{work}{part}",
            is_compared=is_compared,
        )
        for part, wanted in ((FIRST, 1), ("", num_tokens))
    ]


def label_of(name: str, batch_size: int) -> str:
    """The label of a contender at a batch size."""
    return f"{name}, batch {batch_size}"


# --- the comparison --------------------------------------------------------------------------


def add_token_times(found: side_by_side.Measured, num_tokens: int) -> None:
    """Adds the time of a token after the first to every whole response."""
    for name, values in found.items():
        first = found.get(name + FIRST)
        if first is not None and "seconds" in values:
            parts = values["seconds"], first["seconds"]
            values[TOKEN] = {
                which: (parts[0][which] - parts[1][which]) / (num_tokens - 1)
                for which in ("median", "min")
            }


def add_ratios(case: Case, prompts: Prompts) -> None:
    """Adds ratios to the peers, and of our own batches to our own single responses."""
    bounds, found = prompts.bounds, case.document["contenders"]
    for batch_size in prompts.batch_sizes:
        for peer in (HUGGING_FACE, CTRANSLATE2, INT8):
            bound = bounds.get(peer) if batch_size == 1 else None
            pair = label_of(OURS, batch_size), label_of(peer, batch_size)
            case.ratio(TOKEN, *pair, bound)
            case.ratio("seconds", *pair)
    single = found[label_of(OURS, 1)]
    student = found[label_of(STUDENT, 1)][TOKEN]["min"] / single[TOKEN]["min"]
    name = "a token of a ConKD student against one of the plain model, |ratio - 1|"
    case.number(name, abs(student - 1), bounds.get(STUDENT))
    share = found[CLASSIFIER]["seconds"]["min"] / single["seconds"]["min"]
    case.number("turn classifier / a whole response", share)
    largest = max(prompts.batch_sizes)
    if largest > 1:
        batch = found[label_of(OURS, largest)]
        responses = largest * single["seconds"]["min"] / batch["seconds"]["min"]
        steps = largest * single[TOKEN]["min"] / batch[TOKEN]["min"]
        ending = f"at batch {largest} over batch 1"
        case.number(f"responses a second {ending}", responses, bounds.get("responses"))
        case.number(f"tokens a second of decoding {ending}", steps, bounds.get("steps"))
        alone, batched = (found[label_of(PRODUCTS, b)]["seconds"]["min"] for b in (1, largest))
        gain = largest * alone / batched
        case.number(f"tokens a second of the matrix products alone {ending}", gain)


def add_case(report: Report, options: argparse.Namespace, prompts: Prompts) -> None:
    """Adds the times of one model and one length of prompts."""
    size = SIZES[prompts.model]
    with tempfile.TemporaryDirectory() as folder:
        write_checkpoint(make_model(size), folder, size)
        contenders = make_contenders(folder, size, prompts)
        found = side_by_side.measure_time(contenders, options.rounds, options.pause)
    add_token_times(found, prompts.num_tokens)
    facts = {"prompt": prompts.length, "tokens": prompts.num_tokens, "Y": size.num_targets}
    add_ratios(report.case(f"{prompts.model}, prompt {prompts.length}", facts, found), prompts)


# --- a split of dialogues --------------------------------------------------------------------


class WholePrompts(TokenPrompts):
    """Prompts that are read from their first token, whatever they share."""


def random_prompts(size: GPT2Size, num_dialogues: int) -> list[list[int]]:
    """Prompts of random words, with about as many tokens a turn as ReDial's."""
    rng = np.random.default_rng(0)
    longest = min(20, size.num_positions // 20)

    def turn() -> list[int]:
        return rng.integers(1, size.num_words, rng.integers(longest // 2, longest + 1)).tolist()

    found = []
    for _ in range(num_dialogues):
        history: list[int] = []
        for _ in range(rng.integers(3, 8)):
            history = history + turn()
            found.append([*history, 0])
            history = [*history, 0, *turn()]
    return found


def add_split_case(report: Report, options: argparse.Namespace, split: Split) -> None:
    """Adds the times of decoding all responses of some dialogues."""
    size = SIZES[split.model]
    model = GPT2(
        GPT2Spec(size.num_layers, size.width, size.num_heads, size.num_positions),
        size.num_targets,
    )
    params = model.init(jax.random.key(0))
    head = model.head(params, size.num_targets)
    head = head._replace(bias=head.bias.at[0].set(FORBIDDEN_LOGIT))  # no response ends early
    prompts = random_prompts(size, split.num_dialogues)
    how = Decoding(
        end_id=0,
        num_words=size.num_words,
        max_tokens=split.num_tokens,
        batch_size=split.batch_size,
    )

    def contender(name: str, kind: type[TokenPrompts]) -> Contender:
        def run() -> np.ndarray:
            decoded = decode_responses(model, params, head, kind(prompts), how)
            return np.array([response.tokens for response in decoded])

        return Contender(name, lambda: run, work="split", rounds=split.rounds)

    contenders = [contender(WHOLE, WholePrompts), contender(SHARED, TokenPrompts)]
    found = side_by_side.measure_time(contenders, options.rounds, options.pause)
    facts = {
        "responses": len(prompts),
        "tokens of all prompts": sum(map(len, prompts)),
        "read once": int(TokenPrompts(prompts).trunks()[0].lengths.sum()) + len(prompts),
        "tokens": split.num_tokens,
        "batch": split.batch_size,
        "Y": size.num_targets,
    }
    case = report.case(f"a split of dialogues, {split.model}", facts, found)
    case.ratio("seconds", SHARED, WHOLE, split.bound)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns its exit status."""
    options = read_options(__doc__, CASES, argv)
    report = Report("decode", options)
    for prompts in CASES[options.size]:
        add_case(report, options, prompts)
    for split in SPLITS[options.size]:
        add_split_case(report, options, split)
    return report.finish()


if __name__ == "__main__":
    raise SystemExit(main())
