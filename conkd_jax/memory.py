"""Reports the memory and the work of a student's train step, before there is a device or data.

    python -m conkd_jax.memory --config=configs/dialogpt_hard.py:paper --topology=v5e:1x1x1

Compiles the train step from the shapes of its arrays, at the largest batch that the config allows,
in float32 and bfloat16, with and without `parallel.remat`, and prints what each needs on one
device: arguments (parameters, optimizer state, batch, teachers), temporaries, and the total. With
`parallel.kind=mesh` several devices share parameters, optimizer state and teachers; "donated" is
what one of them holds of parameters and optimizer state. On a CPU, JAX_NUM_CPU_DEVICES=8 gives
eight devices to compile for.
DialoGPT's published weights are taken to have the shape of
`dialogue_teacher.num_layers` and so on, whose defaults are DialoGPT-small's.
For a Llama, give the shape with `dialogue_teacher.weights=random`. With `student.lora_rank`, the
arguments are the fixed weights, the trained ones and the optimizer state of these alone; for a
Llama, add `student.init=dialogue_teacher`, since random weights are nothing to adapt.

With --topology the compiler is the TPU's, which needs no TPU (install the extra [tpu]): its plan is
what that chip allocates, and a step that does not fit is refused. Without it the step is compiled
for this machine's devices. A CPU's plan says how large the arguments are on any device, but its
temporaries are only a rough estimate, and neither `parallel.remat` nor bfloat16 shows in them: the
CPU compiler merges a layer that is computed twice into one, multiplies bfloat16 numbers by way of
float32 copies, and fuses less. No plan includes what a GPU's libraries take for themselves, or what
its allocator loses.

The last column counts the matrix products of one device in the program that is compiled, with the
teachers' heads and whatever is computed again. The JSON file has also what the model alone asks
for, which MFU counts, and the bytes that the compiled program reads and writes; the plan for larger
machines in docs/costs.md is made from these.
"""

from __future__ import annotations

import dataclasses
import sys
from typing import Any

import jax
import rich.table
from absl import flags
from jax.experimental import topologies

from conkd_jax.cli import command_line
from conkd_jax.cli.command_line import UsageError
from conkd_jax.config import Config
from conkd_jax.eval.tables.documents import portable_command, write_document
from conkd_jax.models.compute import DTYPES, Compute
from conkd_jax.runtime import parallel
from conkd_jax.stages.train_step_memory import (
    PlannedStep,
    StepMemory,
    planned_step,
    step_memory,
    step_work,
)
from conkd_jax.stages.train_step_work import StepWork
from conkd_jax.train import define_config, read_config

GIGABYTE = 10**9
BPE_WORDS, REDIAL_ITEMS = 50_257, 6_924  # of GPT-2's BPE; of ReDial
VARIANTS = {
    f"{dtype}{'+remat' * remat}": Compute(dtype, remat)
    for dtype in DTYPES
    for remat in (False, True)
}

OPTIONS = flags.FlagValues()
define_config(OPTIONS)
_WORDS = flags.DEFINE_integer(
    "words",
    None,
    f"The number of words. If not given: {BPE_WORDS:,}, or vocabulary.bpe_size of the config if "
    "the BPE is trained.",
    1,
    flag_values=OPTIONS,
)
_ITEMS = flags.DEFINE_integer(
    "items", REDIAL_ITEMS, "The number of items that have a token.", 1, flag_values=OPTIONS
)
_VARIANTS = flags.DEFINE_list(
    "variants", ",".join(VARIANTS), "What to compile.", flag_values=OPTIONS
)
_TOPOLOGY = flags.DEFINE_string(
    "topology",
    "",
    "The TPU to compile for, for example v5e:1x1x1 (one chip with 16 GB). If not given: this "
    "machine's devices.",
    flag_values=OPTIONS,
)
_JSON = flags.DEFINE_string(
    "json", "", "Also write all numbers into this JSON file, to be committed.", flag_values=OPTIONS
)


def main(argv: list[str]) -> None:
    """Compiles the variants, prints the table and writes the file that is asked for."""
    if unknown := sorted({*_VARIANTS.value} - {*VARIANTS}):
        raise UsageError(
            f"--variants: expected some of {', '.join(VARIANTS)}, got {', '.join(unknown)}"
        )
    config, name, _ = read_config(OPTIONS)
    devices = devices_of(_TOPOLOGY.value, config.parallel.num_devices)
    is_trained = config.vocabulary.tokenizer == "train"
    words = _WORDS.value or (config.vocabulary.bpe_size if is_trained else BPE_WORDS)
    planned = planned_step(config, words, _ITEMS.value, len(devices))
    variants = {label: VARIANTS[label] for label in _VARIANTS.value}
    work = {
        label: step_work(config, planned, compute, devices) for label, compute in variants.items()
    }
    found = {
        label: measured(config, planned, compute, devices) for label, compute in variants.items()
    }
    document = document_of(config, name, planned, found, work, devices)
    if _JSON.value:
        write_document(_JSON.value, document)
    command_line.show(memory_table(document))


def devices_of(topology: str, count: int) -> list[Any]:
    """The first `count` devices of a topology, or of this machine; 0 for all.

    Raises:
      UsageError: the topology is unknown, or its compiler is not installed.
    """
    if not topology:
        return parallel.select_devices(count)
    settings = {}
    if topology.endswith(":1x1x1"):  # one chip of a host that has several
        settings = {"chips_per_host_bounds": (1, 1, 1)}
    try:
        found = topologies.get_topology_desc(topology, "tpu", **settings)
    except (RuntimeError, ValueError, NotImplementedError) as error:
        raise UsageError(
            f"--topology={topology}: expected a TPU that libtpu knows, for example v5e:1x1x1, and "
            f"the extra [tpu]; got {str(error).splitlines()[0]}"
        ) from error
    return list(found.devices)[: count or None]


def measured(
    config: Config, planned: PlannedStep, compute: Compute, devices: list[Any]
) -> StepMemory | str:
    """The memory of a variant, or the compiler's words if it does not fit."""
    try:
        return step_memory(config, planned, compute, devices)
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        return str(error).splitlines()[0]


def document_of(
    config: Config,
    name: str,
    planned: PlannedStep,
    found: dict[str, StepMemory | str],
    work: dict[str, StepWork],
    devices: list[Any],
) -> dict[str, Any]:
    """All numbers, with what they were compiled from, as plain JSON."""
    vocabulary, batch = planned.start.vocabulary, planned.batch
    rows, length = batch["input_ids"].shape
    return {
        "command": portable_command(" ".join(sys.argv)),
        "config": name,
        "backbone": config.backbone,
        "model": dataclasses.asdict(planned.start.model.spec),
        "parameters": planned.num_parameters,
        "trained": planned.num_trained,
        "words": vocabulary.num_words,
        "items": vocabulary.num_items,
        "compiled_for": devices[0].device_kind,
        "topology": _TOPOLOGY.value,
        "devices": len(devices),
        "kind": config.parallel.kind,
        "micro_batch": {
            "rows": rows,
            "row_tokens": length,
            "targets": batch["labels"].shape[0],
            "responses": batch["response_id"].shape[0],
        },
        "bytes_per_device": {
            label: {"does_not_fit": each}
            if isinstance(each, str)
            else {**dataclasses.asdict(each), "total": each.total}
            for label, each in found.items()
        },
        "accumulate_steps": config.student.optimizer.accumulate_steps,
        "flops_per_device": {label: dataclasses.asdict(each) for label, each in work.items()},
    }


def memory_table(document: dict[str, Any]) -> rich.table.Table:
    """The table that the program prints."""
    batch = document["micro_batch"]
    table = rich.table.Table(
        title=f"{document['config']}: {document['parameters']:,} parameters, "
        f"{batch['rows']} rows of {batch['row_tokens']} tokens, "
        f"GB on one {document['compiled_for']}"
    )
    table.add_column("variant")
    columns = ("arguments", "temporaries", "outputs", "donated", "total")
    for column in columns:
        table.add_column(column, justify="right")
    table.add_column("TFLOP", justify="right")
    for label, each in document["bytes_per_device"].items():
        values = ["-"] * 4 + ["does not fit"]
        if "total" in each:
            values = [f"{each[column] / GIGABYTE:.2f}" for column in columns]
        work = document["flops_per_device"][label]
        table.add_row(label, *values, f"{work['products'] / 1e12:.3g}")
    return table


def run() -> None:
    """Runs the command line."""
    command_line.run(main, OPTIONS)


if __name__ == "__main__":
    run()
