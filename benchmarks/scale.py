"""What grows with a catalogue, a graph or a corpus, how fast, and how far one machine goes.

    python -m benchmarks.scale --json=docs/results/benchmarks/scale.json
    python -m benchmarks.scale --size=tiny     # within seconds

Each part of a training or an evaluation that has an axis of items, nodes or dialogues is measured
at a few sizes, the smallest first, on random data, in a process of its own:

    ranking     the best 50 of all items for a few users, as an evaluation lists them (items)
    sorting     the same by a stable sort of all items, for comparison (items)
    head        the fused gated-KD loss and its gradients, the teacher's head included (items)
    rgcn        an R-GCN layer and its gradients on a whole graph (nodes)
    rows        the rows of a language model from dialogues (dialogues)
    batches     all batches of these rows, one after the other (dialogues)

Time is that of a second call. Memory is the peak of the resident memory above what was resident
before the part's inputs existed, so that inputs and results count. The exponent is that of the
power law n^e through the two largest sizes: 1 is linear. The size that fits a memory follows from
the same law; it counts this part alone.
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from tokenizers import Tokenizer, models, pre_tokenizers

from benchmarks.report import machine
from benchmarks.side_by_side import CHECKOUT, reset_peak, resident_bytes
from conkd_jax.data.batches.language_model import LanguageModelBatches
from conkd_jax.data.batches.plan import BatchPlan, quantile_buckets
from conkd_jax.data.corpus import Dialogue, Turn
from conkd_jax.data.rows.dialogue import build_dialogue_rows
from conkd_jax.data.tokenizers.bpe import END_TOKEN
from conkd_jax.data.vocabulary import Vocabulary
from conkd_jax.distill.fused import fused_gated_kd_loss
from conkd_jax.distill.head import Head
from conkd_jax.distill.teachers import TeacherFeatures
from conkd_jax.eval.metrics.ranking import best_indices
from conkd_jax.eval.tables.documents import portable_command, write_document
from conkd_jax.models.recommenders.rgcn import RGCN, build_relational_graph
from conkd_jax.runtime.allocator import return_freed_memory

GIB = 2**30
MEMORIES = {"24 GiB": 24 * GIB, "one TPU v5e, 16 GiB": 16 * GIB}
TOP, NUM_USERS, NUM_WORDS, RESPONSES = 50, 32, 1_000, 8
RELATIONS, EDGES_PER_NODE, BASES = 20, 3, 8
TURNS, WORDS_PER_TURN, ROWS_PER_BATCH = 12, 15, 16
SIZES = {  # size -> items or nodes, dialogues
    "full": ([10_000, 100_000, 1_000_000], [1_000, 4_000, 16_000]),
    "tiny": ([100, 200, 400], [2, 4, 8]),
}

Work = Callable[[], Any]


# --- the parts ---------------------------------------------------------------------------------


def ranking(num_items: int, options: argparse.Namespace) -> Work:
    """The best items of every user."""
    scores = _normal(NUM_USERS, num_items)
    return lambda: best_indices(scores, TOP)


def sorting(num_items: int, options: argparse.Namespace) -> Work:
    """The same by a full sort."""
    scores = _normal(NUM_USERS, num_items)
    return lambda: np.argsort(-scores, axis=1, kind="stable")[:, :TOP]


def head(num_items: int, options: argparse.Namespace) -> Work:
    """The loss of a student's step and its gradients, without the network."""
    tokens, width, targets = options.tokens, options.width, NUM_WORDS + num_items
    rng = np.random.default_rng(1)
    table, teacher_table = _normal(targets, width), _normal(targets, width)
    inputs = {
        "labels": rng.integers(0, targets, tokens, dtype=np.int32),
        "teacher_features": _normal(tokens, width),
        "rec_logits": _normal(RESPONSES, num_items),
        "response_index": rng.integers(0, RESPONSES, tokens, dtype=np.int32),
        "gate": rng.random(tokens, dtype=np.float32),
    }

    def loss(features, table, teacher_table, inputs):
        teacher = TeacherFeatures(
            inputs["teacher_features"], Head(teacher_table.T, jnp.zeros(targets))
        )
        return fused_gated_kd_loss(
            features,
            Head(table.T, jnp.zeros(targets)),
            inputs["labels"],
            jnp.full(tokens, 1 / tokens),
            num_tokens=tokens,
            teacher=teacher,
            rec_logits=inputs["rec_logits"],
            response_index=inputs["response_index"],
            gate=inputs["gate"],
            gamma=0.4,
            num_words=NUM_WORDS,
            chunk_size=options.tokens,
        )[0]

    return _compiled(loss, (0, 1), _normal(tokens, width), table, teacher_table, inputs)


def rgcn(num_nodes: int, options: argparse.Namespace) -> Work:
    """A layer's vectors of all nodes and the gradients of its parameters."""
    rng = np.random.default_rng(0)
    edges = rng.integers(0, num_nodes, (EDGES_PER_NODE * num_nodes, 3))
    edges[:, 1] %= RELATIONS
    graph = build_relational_graph(edges, num_nodes=num_nodes, num_relations=RELATIONS)
    layer = RGCN(options.node_width, BASES)
    variables = nn.unbox(layer.init(jax.random.key(0), graph))
    return _compiled(
        lambda variables, graph: jnp.square(jnp.asarray(layer.apply(variables, graph))).mean(),
        0,
        variables,
        graph,
    )


def rows(num_dialogues: int, options: argparse.Namespace) -> Work:
    """The rows of a split, tokenizing included."""
    vocabulary, dialogues = _vocabulary(), _dialogues(num_dialogues)
    return lambda: build_dialogue_rows(dialogues, vocabulary)


def batches(num_dialogues: int, options: argparse.Namespace) -> Work:
    """One epoch of batches, without a model."""
    vocabulary = _vocabulary()
    built = build_dialogue_rows(_dialogues(num_dialogues), vocabulary)
    plan = BatchPlan(built.lengths, ROWS_PER_BATCH, quantile_buckets(built.lengths, 4), seed=0)
    assemble = LanguageModelBatches(built, vocabulary, plan, "student")

    def epoch() -> int:
        tokens = 0
        for step in range(plan.steps_per_epoch):
            ids, length = plan.step(step)
            tokens += int(assemble(ids, length, ids)["num_tokens"])
        return tokens

    return epoch


PARTS = {  # name -> (its work, what it grows with)
    "ranking": (ranking, "items"),
    "sorting": (sorting, "items"),
    "head": (head, "items"),
    "rgcn": (rgcn, "nodes"),
    "rows": (rows, "dialogues"),
    "batches": (batches, "dialogues"),
}


def _normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape, dtype=np.float32)


def _compiled(loss: Callable, argnums: Any, *arguments: Any) -> Work:
    arguments = jax.tree.map(jnp.asarray, arguments)
    step = jax.jit(jax.value_and_grad(loss, argnums))
    return lambda: jax.block_until_ready(step(*arguments))


def _vocabulary() -> Vocabulary:
    words = {END_TOKEN: 0, **{f"w{number}": number for number in range(1, NUM_WORDS)}}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token=END_TOKEN))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return Vocabulary(tokenizer, range(100), [""] * 100)


def _dialogues(number: int) -> list[Dialogue]:
    rng = np.random.default_rng(0)

    def turn(index: int) -> Turn:
        words = rng.integers(1, NUM_WORDS, WORDS_PER_TURN)
        role = "recommender" if index % 2 else "seeker"
        return Turn(role, " ".join(f"w{word}" for word in words))

    return [Dialogue(str(key), tuple(map(turn, range(TURNS)))) for key in range(number)]


# --- measuring ---------------------------------------------------------------------------------


def measure(part: str, size: int, options: argparse.Namespace) -> dict[str, float]:
    """Seconds of the second call, and the peak in bytes; in this process, on Linux."""
    _free()
    before = resident_bytes("VmRSS")
    work = PARTS[part][0](size, options)
    work()
    _free()
    reset_peak()
    began = time.perf_counter()
    found = work()
    seconds = time.perf_counter() - began
    peak = resident_bytes("VmHWM") - before
    del found
    return {"size": size, "seconds": seconds, "peak_bytes": max(peak, 1)}


def _free() -> None:
    """Returns what nothing refers to any more to the system."""
    gc.collect()
    return_freed_memory()


def measure_alone(part: str, arguments: Sequence[str]) -> list[dict[str, float]]:
    """`measure` of a part at all of its sizes, in a new process.

    Raises:
      SystemExit: it failed.
    """
    command = [sys.executable, "-m", "benchmarks.scale", *arguments, f"--alone={part}"]
    ended = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True)
    if ended.returncode:
        raise SystemExit(f"{part} ended with {ended.returncode}:\n{ended.stderr[-2000:]}")
    return json.loads(ended.stdout.splitlines()[-1])


def sizes_of(part: str, options: argparse.Namespace) -> list[int]:
    """The sizes at which a part is measured, ascending."""
    return options.dialogues if PARTS[part][1] == "dialogues" else options.sizes


def exponent(measured: Sequence[dict[str, float]], of: str) -> float:
    """The exponent e of the power law n^e through the two largest sizes.

    >>> exponent([{"size": 10, "seconds": 3.0}, {"size": 100, "seconds": 30.0}], "seconds")
    1.0
    """
    one, other = sorted(measured, key=lambda each: each["size"])[-2:]
    return math.log(other[of] / one[of]) / math.log(other["size"] / one["size"])


def fitting_size(measured: Sequence[dict[str, float]], memory: int) -> int:
    """The size whose peak would be `memory`, by the power law; it grows linearly at least."""
    largest = max(measured, key=lambda each: each["size"])
    power = max(1.0, exponent(measured, "peak_bytes"))
    return int(largest["size"] * (memory / largest["peak_bytes"]) ** (1 / power))


def document(options: argparse.Namespace, arguments: Sequence[str]) -> dict[str, Any]:
    """Measures all parts at all sizes."""
    on, found = machine(), {}
    for part in options.parts:
        axis = PARTS[part][1]
        measured = measure_alone(part, arguments)
        for each in measured:
            print(line(part, axis, each))
        found[part] = {
            "grows_with": axis,
            "measured": measured,
            "exponents": {of: exponent(measured, of) for of in ("seconds", "peak_bytes")},
            "fits": {name: fitting_size(measured, size) for name, size in MEMORIES.items()},
        }
        fits = (f"{size:,} {axis} in {name}" for name, size in found[part]["fits"].items())
        time_power, memory_power = found[part]["exponents"].values()
        powers = f"time n^{time_power:.2f}, memory n^{memory_power:.2f}"
        print(f"  {powers}: {', '.join(fits)}", flush=True)
    shapes = {"tokens": options.tokens, "width": options.width, "node_width": options.node_width}
    return {
        "command": portable_command(" ".join(["python -m benchmarks.scale", *arguments])),
        "machine": on,
        "shapes": shapes | {"users": NUM_USERS, "edges_per_node": EDGES_PER_NODE, "turns": TURNS},
        "parts": found,
    }


def line(part: str, axis: str, measured: dict[str, float]) -> str:
    """One measurement, as it is printed.

    >>> line("head", "items", {"size": 1000, "seconds": 0.25, "peak_bytes": 2**20})
    'head              1,000 items          0.250 s         1 MiB'
    """
    seconds, mebibytes = measured["seconds"], measured["peak_bytes"] / 2**20
    return f"{part:10s}{measured['size']:13,} {axis:10s}{seconds:8.3f} s{mebibytes:10.0f} MiB"


def markdown(document: dict[str, Any]) -> str:
    """The table of docs/benchmarks.md."""
    limits = " | ".join(f"fits in {name}" for name in MEMORIES)
    lines = [
        f"| part | grows with | size | time | memory | time n^e | memory n^e | {limits} |",
        f"|---|---|{'---:|' * (5 + len(MEMORIES))}",
    ]
    for name, part in document["parts"].items():
        for each in part["measured"]:
            is_last = each is part["measured"][-1]
            cells = [f"{each['size']:,}", f"{each['seconds']:.3f} s"]
            cells.append(f"{each['peak_bytes'] / 2**20:,.0f} MiB")
            powers = [f"{power:.2f}" for power in part["exponents"].values()]
            fits = [f"{float(f'{size:.2g}'):,.0f}" for size in part["fits"].values()]
            cells += [*powers, *fits] if is_last else [""] * (len(powers) + len(fits))
            lines.append(f"| {name} | {part['grows_with']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _sizes(text: str) -> list[int]:
    sizes = sorted({int(float(size)) for size in text.split(",")})
    if len(sizes) < 2 or sizes[0] < 1:
        raise argparse.ArgumentTypeError(f"expected two sizes above 0 or more, got {text!r}")
    return sizes


def _parts(text: str) -> list[str]:
    names = text.split(",")
    if unknown := {*names} - {*PARTS}:
        raise argparse.ArgumentTypeError(
            f"expected some of {', '.join(PARTS)}, got {', '.join(sorted(unknown))}"
        )
    return names


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the program; returns its exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.scale",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--parts", type=_parts, default=[*PARTS], help="which of them")
    parser.add_argument("--size", choices=SIZES, default="full", help="of everything")
    parser.add_argument("--sizes", type=_sizes, help="other numbers of items and nodes: 1e4,1e5")
    parser.add_argument("--dialogues", type=_sizes, help="other numbers of dialogues")
    parser.add_argument("--tokens", type=int, default=64, help="response tokens of the head")
    parser.add_argument("--width", type=int, default=128, help="features of the head")
    parser.add_argument("--node_width", type=int, default=16, help="width of a node vector")
    parser.add_argument("--json", type=Path, help="write the results into this file")
    parser.add_argument("--alone", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    sizes, dialogues = SIZES[options.size]
    options.sizes, options.dialogues = options.sizes or sizes, options.dialogues or dialogues
    if options.alone:
        sizes = sizes_of(options.alone, options)
        print(json.dumps([measure(options.alone, size, options) for size in sizes]))
        return 0
    found = document(options, arguments)
    if options.json:
        write_document(options.json, found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
