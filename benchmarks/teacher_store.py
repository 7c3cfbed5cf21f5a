"""The teacher store: bytes a token, what rounding costs, and how fast it is written.

    python -m benchmarks.teacher_store --json=docs/results/benchmarks/teacher_store.json

**Bytes against error.** A dialogue teacher can be kept in several forms: its features, of which its
head makes the logits again; the logits; or the most probable targets. Each is compared with the
teacher itself at random states whose distributions are as sharp as a language model's. The error
is the total variation distance ½ Σ|P - P̂| a token, by which the target of the loss is wrong, and
the largest error of λ, which the gate reads. The files of our store are measured; other forms are
counted from the types of their numbers.

**Writing.** A store is written once, in one pass of the teacher over the corpus. The peer is the
teacher's own forward pass with the logits of response tokens, in JAX and in PyTorch. Between the
two stands the pass that computes what is written, λ and log Z of the rounded features, and writes
nothing.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import side_by_side
from benchmarks.random_gpt2 import SIZES, GPT2Size, make_model, write_checkpoint
from benchmarks.report import Bound, Case, Report, read_options
from benchmarks.side_by_side import Contender, Run, use_torch
from benchmarks.stored_forms import (
    ETA,
    EXACT,
    FEATURES,
    LOGITS,
    TOP_64,
    TOP_128,
    RandomTeacher,
    errors_of,
)
from benchmarks.train_step import RESPONSE, USER_DIM, Batch, make_batch, make_heads
from conkd_jax.data.teacher_store.files import TeacherStore, TeacherStoreWriter
from conkd_jax.data.teacher_store.schema import TeacherRecord, TeacherStoreSpec
from conkd_jax.distill.gates import item_mass
from conkd_jax.distill.head import Head
from conkd_jax.eval.scoring import response_features
from conkd_jax.models.gpt2 import GPT2, load_pretrained
from conkd_jax.stages.teacher_outputs import outputs_of_batch

COMPARED = 1024  # tokens, at most, at which distributions are compared
FORWARD, WRITING = "conkd_jax, forward", "conkd_jax, forward and writing"
STATISTICS = "conkd_jax, forward, λ and log Z"
TORCH_FORWARD = "Hugging Face + PyTorch, forward"


@dataclasses.dataclass(frozen=True)
class Teacher:
    """A dialogue teacher and what is asked of its store.

    Attributes:
      model: the size of the model.
      num_responses: in the store whose bytes are counted, of `RESPONSE` tokens each.
      batch: what one forward pass reads.
      num_batches: written one after the other into one shard.
      smaller: the target of the size of logits over that of features.
      writing: the target of the forward pass's time over that of writing.
    """

    model: str
    num_responses: int
    batch: Batch
    num_batches: int
    smaller: Bound | None = None
    writing: Bound | None = None


CASES = {
    "full": (
        Teacher("mini", 256, Batch("mini", 16, 160), 8, writing=Bound(0.8, is_least=True)),
        Teacher(
            *("small", 256, Batch("small", 4, 256), 2),
            smaller=Bound(70, is_least=True),
            writing=Bound(0.8, is_least=True),
        ),
    ),
    "tiny": (Teacher("tiny", 3, Batch("tiny", 2, 64), 2),),
}
REBUILT, ROUNDED = Bound(1e-6), Bound(5e-3)


# --- stores ----------------------------------------------------------------------------------


def write_store(folder: Path, size: GPT2Size, num_responses: int) -> TeacherStore:
    """Writes a store of random responses."""
    teacher = RandomTeacher.of(size, num_responses * RESPONSE)
    head = Head(jnp.asarray(teacher.kernel), jnp.asarray(teacher.bias))
    spec = stored_spec(size)
    statistics = jax.jit(lambda rows: _mass_and_normalizer(head.logits(rows), size.num_words))

    def record(number: int) -> TeacherRecord:
        outputs = spec.round(teacher.features[number * RESPONSE :][:RESPONSE])
        mass, normalizer = statistics(outputs.astype(np.float32))
        return TeacherRecord(
            conversation_id=str(number),
            turn=1,
            targets=np.arange(RESPONSE, dtype=np.int32),
            outputs=outputs,
            item_mass=np.asarray(mass),
            log_normalizer=np.asarray(normalizer),
            user_vector=np.random.default_rng(number).random(USER_DIM, dtype=np.float32),
        )

    offsets = np.arange(num_responses + 1)
    writer = TeacherStoreWriter(folder, spec, {"teacher": "random"}, offsets, num_shards=1)
    writer.write_shard(0, map(record, range(num_responses)))
    heads = make_heads(size)
    heads = dataclasses.replace(heads, dialogue_kernel=teacher.kernel, dialogue_bias=teacher.bias)
    writer.finish(heads)
    return TeacherStore.open(folder)


def _mass_and_normalizer(logits: jax.Array, num_words: int) -> tuple[jax.Array, jax.Array]:
    return item_mass(logits, num_words), jax.nn.logsumexp(logits, axis=-1)


def bytes_of_records(store: TeacherStore, num_tokens: int) -> float:
    """The bytes a token of the shards, without the heads, which are stored once."""
    shards = [path for path in Path(store.directory).iterdir() if "array_record" in path.name]
    return sum(path.stat().st_size for path in shards) / num_tokens


def rebuilt_difference(store: TeacherStore, num_words: int) -> float:
    """The largest difference between a stored λ and the one of the rebuilt teacher."""
    head = Head(jnp.asarray(store.heads.dialogue_kernel), jnp.asarray(store.heads.dialogue_bias))
    largest = 0.0
    for record in store.read(range(len(store))):
        logits = head.logits(jnp.asarray(record.outputs))
        mass = np.asarray(item_mass(logits, num_words))
        largest = max(largest, float(np.abs(mass - record.item_mass).max()))
    return largest


def add_forms(case: Case, size: GPT2Size, teacher: Teacher) -> None:
    """Adds bytes and errors of all forms."""
    count = min(teacher.num_responses * RESPONSE, COMPARED)
    with tempfile.TemporaryDirectory() as folder:
        store = write_store(Path(folder), size, teacher.num_responses)
        sizes = {
            EXACT: 4 * size.width,
            FEATURES: bytes_of_records(store, teacher.num_responses * RESPONSE),
            LOGITS: 2 * size.num_targets,
            TOP_64: 64 * (2 + 2) + 2 * 4,  # ids below 65,536
            TOP_128: 128 * (4 + 2),
        }
        difference = rebuilt_difference(store, size.num_words)
    errors = errors_of(size, count)
    case.document["forms"] = {
        name: {"bytes_per_token": sizes[name], **errors[name]} for name in sizes
    }
    case.number(f"size of {LOGITS} / {FEATURES}", sizes[LOGITS] / sizes[FEATURES], teacher.smaller)
    case.number("largest difference of the rebuilt λ from the stored one", difference, REBUILT)
    error = errors[FEATURES]["largest_error_of_item_mass"]
    case.number("largest difference of λ from the unrounded teacher's", error, ROUNDED)
    error = abs(errors[FEATURES]["error_of_cross_entropy"])
    case.number("difference of the teacher's cross-entropy on its own text", error)
    flips = errors[FEATURES]["flips_of_the_gate"] / count
    case.number(f"share of tokens at which a gate with η = {ETA} flips", flips)
    for name in sizes:
        case.number(f"bytes a token, {name}", sizes[name])
        case.number(f"total variation distance, {name}", errors[name]["total_variation"])


# --- writing ---------------------------------------------------------------------------------


def batches_of(size: GPT2Size, teacher: Teacher) -> list[dict[str, np.ndarray]]:
    """The batches that are written."""
    names = ("input_ids", "feature_index", "labels", "num_tokens")
    every = [make_batch(size, teacher.batch, seed) for seed in range(teacher.num_batches)]
    return [{name: batch[name] for name in names} for batch in every]


def forward(folder: str, size: GPT2Size, teacher: Teacher) -> Run:
    """The logits of all response tokens, batch by batch."""
    spec, params = load_pretrained(folder)
    model = GPT2(spec, size.num_targets)
    batches = batches_of(size, teacher)

    def logits_of(params: Any, batch: Mapping[str, jax.Array]) -> jax.Array:
        features = response_features(model, params, batch)
        return model.head(params, size.num_targets).logits(features)

    compiled = jax.jit(logits_of)

    def run():
        last = None
        for batch in batches:
            last = jax.block_until_ready(compiled(params, batch))
        return last

    return run


def stored_outputs(folder: str, size: GPT2Size) -> Callable[[Mapping[str, np.ndarray]], Any]:
    """What the stage that writes a store computes of a batch."""
    spec, params = load_pretrained(folder)
    compute = functools.partial(
        outputs_of_batch,
        model=GPT2(spec, size.num_targets),
        num_words=size.num_words,
        num_targets=size.num_targets,
        spec=stored_spec(size),
        measures_rounding=False,
    )
    return lambda batch: compute(params, batch)


def stored_spec(size: GPT2Size) -> TeacherStoreSpec:
    """A store of rounded features."""
    return TeacherStoreSpec("features", "bfloat16", size.width, USER_DIM)


def forward_and_statistics(folder: str, size: GPT2Size, teacher: Teacher) -> Run:
    """The pass of that stage, of which nothing is written."""
    outputs_of, batches = stored_outputs(folder, size), batches_of(size, teacher)

    def run():
        last = None
        for batch in batches:
            last = jax.block_until_ready(outputs_of(batch))
        return last

    return run


def forward_and_writing(folder: str, size: GPT2Size, teacher: Teacher) -> Run:
    """The pass of that stage, and one shard on the disk."""
    outputs_of, batches = stored_outputs(folder, size), batches_of(size, teacher)
    num_responses = sum(len(batch["labels"]) for batch in batches) // RESPONSE

    def records() -> Iterator[TeacherRecord]:
        number = 0
        for batch in batches:
            outputs, found, _ = jax.device_get(outputs_of(batch))
            for begin in range(0, len(batch["labels"]), RESPONSE):
                span = slice(begin, begin + RESPONSE)
                yield TeacherRecord(
                    conversation_id=str(number),
                    turn=1,
                    targets=batch["labels"][span],
                    outputs=outputs[span],
                    item_mass=found["item_mass"][span],
                    log_normalizer=found["log_normalizer"][span],
                    user_vector=np.zeros(USER_DIM, np.float32),
                )
                number += 1

    def run():
        with tempfile.TemporaryDirectory() as store:
            offsets = np.arange(num_responses + 1)
            writer = TeacherStoreWriter(store, stored_spec(size), {"teacher": "random"}, offsets, 1)
            writer.write_shard(0, records())
        return num_responses

    return run


def torch_forward(size: GPT2Size, teacher: Teacher) -> Run:
    """The same logits by Hugging Face's model."""
    torch = use_torch()
    model, batches = make_model(size), batches_of(size, teacher)

    @torch.inference_mode()
    def run():
        last = None
        for batch in batches:
            ids = torch.from_numpy(batch["input_ids"]).long()
            states = model.transformer(ids).last_hidden_state
            index = torch.from_numpy(batch["feature_index"]).long()
            last = model.lm_head(states.reshape(-1, size.width)[index])
        return last

    return run


def add_case(report: Report, options: argparse.Namespace, teacher: Teacher) -> None:
    """Adds forms and writing of one teacher."""
    size = SIZES[teacher.model]
    with tempfile.TemporaryDirectory() as folder:
        write_checkpoint(make_model(size), folder, size)
        contenders = [
            Contender(FORWARD, lambda: forward(folder, size, teacher)),
            Contender(
                STATISTICS, lambda: forward_and_statistics(folder, size, teacher), work="statistics"
            ),
            Contender(WRITING, lambda: forward_and_writing(folder, size, teacher), work="writing"),
            Contender(TORCH_FORWARD, lambda: torch_forward(size, teacher), "torch"),
        ]
        found = side_by_side.measure_time(contenders, options.rounds, options.pause)
    facts = {
        "Y": size.num_targets,
        "F": size.width,
        "tokens written": teacher.num_batches * len(make_batch(size, teacher.batch)["labels"]),
    }
    case = report.case(teacher.model, facts, found)
    case.ratio("seconds", FORWARD, WRITING, teacher.writing)
    case.ratio("seconds", FORWARD, STATISTICS)
    case.ratio("seconds", FORWARD, TORCH_FORWARD)
    add_forms(case, size, teacher)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns its exit status."""
    options = read_options(__doc__, CASES, argv)
    report = Report("teacher_store", options)
    for teacher in CASES[options.size]:
        add_case(report, options, teacher)
    return report.finish()


if __name__ == "__main__":
    raise SystemExit(main())
