"""Measures how well the gate of a trained run finds items, and shows it along responses.

    python -m conkd_jax.gate --workdir=RUN
    python -m conkd_jax.gate --workdir=RUN --split=dev --eta=.1 --eta=.2
    python -m conkd_jax.gate --workdir=RUN --response=CONVERSATION_ID:TURN
    python -m conkd_jax.gate --workdir=RUN --history="Any thrillers?" --text="You could try @13."
    python -m conkd_jax.gate --workdir=RUN --example=titanic

Reads the finished evaluation of a split; nothing is trained or decoded. Prints λ by kind of token,
and the hard gate as a detector of item steps, its precision, recall and F1: at the run's η, the one
fitted on dev, the best of this split, the paper's, and those of `--eta`.
`--response` draws λ along a gold response. `--text` draws it along any response to the history of
`--response` or to the turn in `--history`, with items written as @id; it can be repeated.
`--example=titanic` draws the paper's Appendix C. docs/metrics.md explains each number.
"""

from __future__ import annotations

import re

from absl import flags

from conkd_jax.cli import command_line
from conkd_jax.cli.command_line import UsageError
from conkd_jax.eval import origin
from conkd_jax.eval.gate.analysis import analyse_gate, write_gate_analysis
from conkd_jax.eval.gate.examples import EXAMPLES, example_texts, greeting_for
from conkd_jax.eval.gate.report import Thresholds
from conkd_jax.eval.gate.responses import (
    ResponseKey,
    find_response,
    response_keys,
    response_name,
    turns_before,
)
from conkd_jax.eval.gate.traces import GateTrace, trace_of_response
from conkd_jax.runs.document import origin_of_run
from conkd_jax.runs.finished import SPLITS, Run
from conkd_jax.runtime import parallel
from conkd_jax.stages.systems.text_reader import TextReader, opening_turn

FOLDER = "gate"

OPTIONS = flags.FlagValues()
_WORKDIR = flags.DEFINE_string(
    "workdir", "", "The run: a folder written by conkd_jax.train.", flag_values=OPTIONS
)
_SPLIT = flags.DEFINE_enum(
    "split", "valid", SPLITS, "The split; it must have been evaluated.", flag_values=OPTIONS
)
_ETA = flags.DEFINE_multi_float(
    "eta",
    [0.02, 0.05, 0.1, 0.18, 0.3, 0.6],
    "Report the hard gate as a detector at this η, too; can be repeated.",
    lower_bound=0,
    upper_bound=1,
    flag_values=OPTIONS,
)
_RESPONSE = flags.DEFINE_string(
    "response",
    "",
    "Draw λ along this gold response, given as CONVERSATION_ID:TURN.",
    flag_values=OPTIONS,
)
_TEXT = flags.DEFINE_multi_string(
    "text",
    [],
    "Draw λ along this response, with items as @id; can be repeated.",
    flag_values=OPTIONS,
)
_HISTORY = flags.DEFINE_string(
    "history",
    "",
    "The seeker's turn before --text or --example. If not given, a greeting that asks for a "
    "recommendation.",
    flag_values=OPTIONS,
)
_EXAMPLE = flags.DEFINE_enum(
    "example", None, sorted(EXAMPLES), "Draw λ along an example of the paper.", flag_values=OPTIONS
)


def main(argv: list[str]) -> None:
    """Writes and prints the analysis of the split, and draws the requested traces."""
    run = open_run()
    tokens = run.tokens
    traces = wanted_traces(run)
    analysis = analyse_gate(
        tokens,
        run.vocabulary,
        title=run.title,
        thresholds=Thresholds(run.eta, run.fitted_eta, tuple(sorted(set(_ETA.value)))),
        has_student=run.system.has_student,
    )
    if not parallel.is_first_process():
        return
    identity = {
        "config": run.name,
        "preset": run.config.preset,
        "backbone": run.config.backbone,
        "split": run.split,
        "seed": run.config.seed,
        "teacher_seed": run.config.teacher_seed,
        "overrides": run.overrides,
        origin.KEY: origin_of_run(run.stages["evaluation"]),
    }
    folder = run.folder / FOLDER
    if folder.exists():
        entries = [path.name for path in folder.iterdir() if path.name != origin.EARLIER]
        if aside := origin.set_aside(folder, identity[origin.KEY], entries):
            command_line.show(f"{folder} held another analysis; moved it to {aside}")
    write_gate_analysis(folder, analysis, identity, traces)
    command_line.show(*analysis.tables(), f"Results of this analysis: {folder}")


def open_run() -> Run:
    """Opens the run of --workdir on --split.

    Raises:
      UserError: the options are incompatible, or there is no such run.
    """
    if not _WORKDIR.value:
        raise UsageError(
            "--workdir is missing: expected a folder written by conkd_jax.train. For example "
            "--workdir=runs/dialogpt_hard-demo-seed0"
        )
    if _HISTORY.value and (_RESPONSE.value or not (_TEXT.value or _EXAMPLE.value)):
        raise UsageError(
            "--history: expected --text or --example with it, and no --response, which has its "
            "own history."
        )
    return Run.open(_WORKDIR.value, _SPLIT.value)


def wanted_traces(run: Run) -> dict[str, list[GateTrace]]:
    """The traces of --response, --text and --example, by file name without extension."""
    traces = {}
    wanted = _RESPONSE.value
    key = find_response(run.corpus, run.split, wanted) if wanted else None
    texts = list(_TEXT.value)
    if _EXAMPLE.value:
        texts = [*example_texts(_EXAMPLE.value, run.corpus.items), *texts]
    if key is not None:
        name = re.sub(r"[^\w-]+", "_", wanted)
        traces[f"response_{name}"] = [scored_trace(run, key)]
    if texts:
        stem = f"example_{_EXAMPLE.value}" if _EXAMPLE.value else "texts"
        opening = opening_turn(_HISTORY.value or greeting_for(run.config.corpus.name), run.corpus)
        history = [opening] if key is None else turns_before(run.corpus, run.split, key)
        traces[stem] = TextReader(run.system).traces(history, texts)
    return traces


def scored_trace(run: Run, key: ResponseKey) -> GateTrace:
    """The trace of a gold response: λ and, if there is a student, its item mass."""
    return trace_of_response(
        run.tokens,
        run.vocabulary,
        response_keys(run.corpus, run.split).index(key),
        title=response_name(key),
        student="student" if run.system.has_student else "",
    )


def run() -> None:
    """Runs the command line."""
    command_line.run(main, OPTIONS, joins_processes=True)


if __name__ == "__main__":
    run()
