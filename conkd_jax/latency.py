"""Times the responses of trained runs, as in the paper's §4.6 and in more detail.

    python -m conkd_jax.latency runs/dialogpt-mini-seed0 runs/dialogpt_hard-mini-seed0

A run is a folder written by conkd_jax.train or conkd_jax.evaluate. All runs respond in turns to the
same histories, spread evenly over the split, on the first device. Every response has
config.decode.max_tokens tokens. The program measures the time per token, the reading of the
history, the turn classifier if the system has one, and responses per second, one at a time and in
batches of config.decode.batch_size. It writes latency/metrics.json into the folder of each run;
`python -m conkd_jax.tables --table=latency RUN/latency` prints it as a table.

Only the ratios of one call can be compared. Constraints on items are left out of the decoding.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from absl import flags

from conkd_jax.artifacts.manifest import git_hash
from conkd_jax.cli import command_line
from conkd_jax.cli.command_line import UsageError
from conkd_jax.eval import origin
from conkd_jax.eval.document import decoding_label, run_label
from conkd_jax.eval.latency import TimedSystem, latency_measures, time_interleaved
from conkd_jax.eval.tables.build import build_table
from conkd_jax.eval.tables.latency import (
    TimedRun,
    beside_the_paper,
    ratio_table,
    timed_run,
    with_timings,
)
from conkd_jax.eval.tables.paper import paper_row
from conkd_jax.io.files import write_json
from conkd_jax.runs.document import run_document
from conkd_jax.runs.finished import METRICS, Run
from conkd_jax.stages.systems.timed_system import timed_system

FOLDER = "latency"

OPTIONS = flags.FlagValues()
_RESPONSES = flags.DEFINE_integer(
    "responses", 50, "The number of histories.", 1, flag_values=OPTIONS
)
_REPEATS = flags.DEFINE_integer(
    "repeats", 5, "The number of responses to each, after a warm-up.", 1, flag_values=OPTIONS
)


def main(argv: list[str]) -> None:
    """Times the runs in turns; writes and prints the results."""
    folders = list(dict.fromkeys(argv[1:]))
    if not folders:
        raise UsageError(
            "expected one or more runs: folders written by conkd_jax.train. For example "
            "runs/dialogpt-demo-seed0 runs/dialogpt_hard-demo-seed0"
        )
    runs = [Run.open(folder) for folder in folders]
    check_comparable(runs)
    systems = [
        timed_system(run.system, run.split, run.config.decode, _RESPONSES.value) for run in runs
    ]
    count = len(systems[0].singles)
    if any(len(system.singles) != count for system in systems):
        raise UsageError("expected runs on the same corpus, got splits of different sizes.")
    # --- time --------------------------------------------------------------------------------
    command_line.show(f"{len(runs)} x {count} responses, {_REPEATS.value} repeats and a warm-up")
    timings = time_interleaved(systems, _REPEATS.value)
    values = [latency_measures(*each) for each in zip(systems, timings, strict=True)]
    rows = [paper_row(run.config.paper_row, run.config.backbone) for run in runs]
    timed = [
        timed_run(label_of(run), of_run, values[0], row)
        for run, of_run, row in zip(runs, values, rows, strict=True)
    ]

    # --- write and print ---------------------------------------------------------------------
    documents = []
    for run, system, of_run in zip(runs, systems, timed, strict=True):
        documents.append(with_timings(document_of(run, system, of_run), of_run, timed[0]))
        (run.home / FOLDER).mkdir(exist_ok=True)
        write_json(run.home / FOLDER / METRICS, documents[-1])
    command_line.show(build_table("latency", documents))
    if len(runs) > 1:
        command_line.show(ratio_table(timed))
    command_line.show(beside_the_paper())


def check_comparable(runs: Sequence[Run]) -> None:
    """Refuses runs that one table can't compare: different presets or splits, or a run twice."""
    for field, found in (
        ("preset", [run.config.preset for run in runs]),
        ("split", [run.split for run in runs]),
    ):
        if len(set(found)) > 1:
            raise UsageError(
                f"{field}: expected the same for every run, got {', '.join(found)}. Time runs of "
                f"each {field} separately."
            )
    names = [label_of(run) for run in runs]
    if len(set(names)) < len(names):
        raise UsageError(
            f"expected every config, backbone and seed once, got {', '.join(names)}: they would "
            "have the same name in a table."
        )
    if short := [run.name for run in runs if run.config.decode.max_tokens < 2]:
        raise UsageError(
            f"config.decode.max_tokens: expected 2 or more, got 1 in {', '.join(short)}: the first "
            "token is part of reading the history, so tokens are timed from the second on."
        )


def label_of(run: Run) -> str:
    """The label of a run in tables, with its seed."""
    label = run_label(run.name, run.config.backbone, _decoding(run), run.overrides)
    return f"{label} seed {run.config.seed}"


def document_of(run: Run, system: TimedSystem, timed: TimedRun) -> dict:
    """The content of a run's latency/metrics.json, except for spreads and ratios."""
    document = run_document(
        run.config,
        run.name,
        run.split,
        counts={
            "responses": len(system.singles),
            "tokens_per_response": system.decoder.num_tokens,
            "batch_size": system.batch_size,
            "repeats": _REPEATS.value,
        },
        metrics={name: value.median for name, value in timed.values.items()},
        command=" ".join(sys.argv),
        git=git_hash(),
        decoding=_decoding(run),
        overrides=run.overrides,
    )
    return {**document, origin.KEY: run.stages["evaluation"].input_fingerprints}


def _decoding(run: Run) -> str:
    """The decoding that is timed: the run's item rule, without constraints on items."""
    return decoding_label({"item_rule": run.config.decode.item_rule})


def run() -> None:
    """Runs the command line."""
    command_line.run(main, OPTIONS, positional="RUN…")


if __name__ == "__main__":
    run()
