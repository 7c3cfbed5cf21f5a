"""Times how long trained runs take to answer: the paper's §4.6, and what it leaves out.

    python -m conkd_jax.latency runs/dialogpt-mini-seed0 runs/dialogpt_hard-mini-seed0

A run is the folder that conkd_jax.train or conkd_jax.evaluate left. Histories of its split, spread
evenly, are answered one at a time on the first device, by all runs in turns, and every response has
config.decode.max_tokens tokens, whatever is said. Measured are the tokens, the reading of the
history, the turn classifier where the system has one, and whole answers a second, one at a time and
in batches of config.decode.batch_size. Each run gets latency/metrics.json, of which
`python -m conkd_jax.tables --table=latency RUN/latency` makes the table that is printed.

Runs that are to be compared must be timed by one call: only that call's ratios mean something.
config.decode's constraints on items are left out.
"""

from __future__ import annotations

import dataclasses
import functools
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import rich.box
import rich.console
import rich.table
from absl import app, flags, logging
from etils import epath

from conkd_jax import config as conkd
from conkd_jax import run_folder
from conkd_jax.artifacts.manifest import git_hash
from conkd_jax.data.corpus import Corpus
from conkd_jax.data.rows.contract import Rows
from conkd_jax.data.vocabulary import Vocabulary
from conkd_jax.errors import UserError
from conkd_jax.eval import report
from conkd_jax.eval.latency import (
    Spread,
    TimedDecoder,
    TimedSystem,
    answer_ratios,
    build_questions,
    latency_measures,
    spread,
    time_interleaved,
)
from conkd_jax.eval.tables import build as tables
from conkd_jax.eval.tables import formats as table_formats
from conkd_jax.eval.tables import paper
from conkd_jax.eval.tables.layouts import LAYOUTS
from conkd_jax.run_folder import Record
from conkd_jax.stages import backbones, evaluation, language_model, pipeline, turn_classifier

FOLDER = "latency"
LAYOUT = LAYOUTS["latency"]

_RESPONSES = flags.DEFINE_integer(
    "responses", 50, "How many histories of the split are answered.", lower_bound=1
)
_REPEATS = flags.DEFINE_integer(
    "repeats", 5, "How often; medians and spreads are told.", lower_bound=1
)


def main(argv: list[str]) -> None:
    """Opens the runs, times them in turns, writes and prints."""
    runs = list(dict.fromkeys(argv[1:]))
    if not runs:
        raise app.UsageError("expected one run or more: folders that conkd_jax.train left.")
    try:
        time_runs([epath.Path(run) for run in runs], _RESPONSES.value, _REPEATS.value)
    except UserError as error:
        sys.exit(f"conkd_jax.latency: {error}")


@dataclasses.dataclass(frozen=True)
class Run:
    """A run that is ready to be timed."""

    folder: epath.Path
    record: Record
    system: TimedSystem

    @property
    def label(self) -> str:
        return _label(self.record)


def _label(record: Record) -> str:
    """What tables call a run, and its seed."""
    config = record.config
    label = report.run_label(record.name, config.backbone, _decoding(config))
    return f"{label} seed {config.seed}"


def _decoding(config) -> str:
    """How a run is timed to decode: by its own rule, without constraints."""
    free = {"allow_mentioned_items": True, "allow_repeated_items": True}
    return report.decoding_label(config.decode.to_dict() | free)


def time_runs(folders: Sequence[epath.Path], num_responses: int, repeats: int) -> list[dict]:
    """Times runs against each other, writes a document for each and prints them.

    Args:
      folders: of the runs; ratios are to the first.
      num_responses: histories that are answered, at most as many as the split has.
      repeats: how often.

    Returns:
      The documents.

    Raises:
      ConfigError: a folder is no run, its artifacts are gone, or runs can't stand in one table.
    """
    records = [run_folder.read_record(folder) for folder in folders]
    _check_setting(records)
    runs = [Run(*each, _open(*each, num_responses)) for each in zip(folders, records, strict=True)]
    count = len(runs[0].system.singles)
    if any(len(run.system.singles) != count for run in runs):
        raise conkd.ConfigError("corpus: expected runs on the same responses, got several corpora.")
    print(f"{len(runs)} x {count} responses, {repeats} repeats and one to compile", flush=True)
    measured = time_interleaved([run.system for run in runs], repeats)
    values = [latency_measures(run.system, one) for run, one in zip(runs, measured, strict=True)]
    ratios = [_spreads(answer_ratios(of_run, values[0])) for of_run in values]
    documents = []
    for run, of_run, to_first in zip(runs, values, ratios, strict=True):
        document = _document(run, _spreads(of_run), repeats)
        document["ratios"] = {"to": runs[0].label} | {n: list(s) for n, s in to_first.items()}
        (run.folder / FOLDER).mkdir(exist_ok=True)
        report.write_json(run.folder / FOLDER / "metrics.json", document)
        documents.append(document)
    shown = [table_formats.terminal(tables.build("latency", documents))]
    shown += [_ratio_table(runs, ratios)] if len(runs) > 1 else []
    for each in shown:
        table_formats.wide_console(each).print(each)
    rich.console.Console().print(beside_the_paper())
    return documents


# --- runs ------------------------------------------------------------------------------------


def _check_setting(records: Sequence[Record]) -> None:
    """One table holds runs of one preset and one split only."""
    for field, found in (
        ("preset", [record.config.preset for record in records]),
        ("split", [record.split for record in records]),
    ):
        if len(set(found)) > 1:
            raise conkd.ConfigError(
                f"{field}: expected the same of every run, got {', '.join(found)}. Time each kind "
                "by itself."
            )
    names = [_label(record) for record in records]
    if len(set(names)) < len(names):
        raise conkd.ConfigError(
            f"runs: expected every config, backbone and seed once, got {', '.join(names)}: a table "
            "could not tell them apart."
        )
    short = [record.name for record in records if record.config.decode.max_tokens < 2]
    if short:
        raise conkd.ConfigError(
            f"config.decode.max_tokens: expected 2 or more, got 1 in {', '.join(short)}: the first "
            "token is part of reading the history, so there is no other to time."
        )


def _open(folder: epath.Path, record: Record, num_responses: int) -> TimedSystem:
    """A run's models and what they are asked; nothing is trained, nothing is scored."""
    config, backbone = record.config, backbones.of(record.config)
    directories = _directories(folder, record)
    corpus = Corpus.open(directories.get("scored_corpus", directories["corpus"]))
    vocabulary = Vocabulary.load(directories["vocabulary"])
    rows = backbone.rows_of(config, corpus, vocabulary, corpus.dialogues(record.split))
    wanted = np.arange(rows.num_responses)
    if num_responses < len(wanted):  # spread evenly over the split
        wanted = np.unique(np.linspace(0, len(wanted) - 1, num_responses).astype(int))
    name = "student" if config.system == "student" else "dialogue_teacher"
    model = language_model.load(config, directories[name], vocabulary)
    form, opening = "teacher", np.full(len(wanted), vocabulary.end_id)
    classify = context = None
    if "turn_classifier" in directories:
        is_rec = rows.response_is_rec[wanted]  # which tag it is costs nothing
        form, opening = "student", np.where(is_rec, vocabulary.rec_id, vocabulary.gen_id)
        classify, context = _classifier(config, directories["turn_classifier"], rows, wanted)
    longest, batch_size = backbone.longest_prompt(config), config.decode.batch_size
    singles, batches, shares = build_questions(
        rows.prompts(wanted.tolist(), opening.tolist(), longest, form),
        [length for length in evaluation.PROMPT_BUCKETS if length < longest] + [longest],
        batch_size,
        context,
    )
    decoder = TimedDecoder(
        model.model,
        model.variables,
        model.head(),
        num_words=vocabulary.num_words,
        num_tokens=config.decode.max_tokens,
        item_rule=config.decode.item_rule,
    )
    return TimedSystem(decoder, classify, singles, batches, shares, batch_size)


def _directories(folder: epath.Path, record: Record) -> dict[str, epath.Path]:
    """Folders of the artifacts that answering reads, by stage.

    Raises:
      ConfigError: one of them can't be found.
    """
    root = record.config.artifacts_dir
    inputs = pipeline.build(record.config, record.split)["evaluation"].inputs
    missing = [name for name, stage in inputs.items() if not stage.is_whole(root)]
    if missing:
        raise conkd.ConfigError(
            f"{folder} is of a run whose {', '.join(missing)} can't be found in {root}: expected "
            "finished artifacts. Run conkd_jax.train with its config first, from the same folder."
        )
    return {name: stage.directory(root) for name, stage in inputs.items()}


def _classifier(config, directory: epath.Path, rows: Rows, wanted: np.ndarray) -> tuple[Any, Any]:
    """The turn classifier, compiled, and what it reads for some of the wanted responses."""
    model, params = turn_classifier.load(directory)
    histories = rows.histories(config.turn_classifier.max_context_tokens, "teacher")
    lengths = turn_classifier.scoring_lengths(model, histories)

    def context(members: list[int]) -> tuple[np.ndarray, np.ndarray]:
        chosen = [histories[wanted[member]] for member in members]
        longest = max(map(len, chosen))
        return turn_classifier.padded(chosen, next(n for n in lengths if n >= longest))

    return functools.partial(turn_classifier.log_probs, params, model=model), context


# --- what is told ----------------------------------------------------------------------------


def _spreads(values: Mapping[str, np.ndarray]) -> dict[str, Spread]:
    return {name: spread(value) for name, value in values.items()}


def _document(run: Run, found: Mapping[str, Spread], repeats: int) -> dict:
    """What `report.metrics_json` gives, and the smallest and largest value over repeats."""
    config, system = run.record.config, run.system
    document = report.metrics_json(
        config_name=run.record.name,
        preset=config.preset,
        backbone=config.backbone,
        split=run.record.split,
        seed=config.seed,
        config_sha256=run_folder.config_sha256(config),
        counts={
            "responses": len(system.singles),
            "tokens_per_response": system.decoder.num_tokens,
            "batch_size": system.batch_size,
            "repeats": repeats,
        },
        metrics={name: value.median for name, value in found.items()},
        command=" ".join(sys.argv),
        machine=run_folder.machine(),
        git=git_hash(),
        decoding=_decoding(config),
        teacher_seed=config.teacher_seed,
    )
    document["spread"] = {name: [value.low, value.high] for name, value in found.items()}
    return document


def _ratio_table(runs: Sequence[Run], ratios: Sequence[Mapping[str, Spread]]) -> rich.table.Table:
    """Ratios to the first run, for a terminal, beside the paper's."""
    table = rich.table.Table(
        title=f"Ratio to {runs[0].label}: median (smallest to largest of the repeats)",
        box=rich.box.SIMPLE_HEAD,
    )
    table.add_column("", no_wrap=True)
    for column in LAYOUT.columns:
        table.add_column(column.title, justify="right")
    table.add_column("paper: ms per token", justify="right")
    for run, of_run in zip(runs, ratios, strict=True):
        cells = [ratio_text(of_run.get(column.metric)) for column in LAYOUT.columns]
        theirs = paper_ratio(run.record, runs[0].record)
        table.add_row(run.label, *cells, tables.ABSENT if theirs is None else f"{theirs:.3f}")
    return table


def ratio_text(ratio: Spread | None) -> str:
    """A ratio as it is printed.

    >>> ratio_text(Spread(1.0, 0.987, 1.016))
    '1.00 (0.99 to 1.02)'
    """
    if ratio is None:
        return tables.ABSENT
    return f"{ratio.median:.2f} ({ratio.low:.2f} to {ratio.high:.2f})"


def paper_ratio(record: Record, first: Record) -> float | None:
    """The same ratio of milliseconds a token in the paper, where it timed both systems."""
    rows = [paper.paper_row(each.name, each.config.backbone) for each in (record, first)]
    found = [row.metrics.get("ms_per_token") if row else None for row in rows]
    return found[0] / found[1] if found[0] and found[1] else None


def beside_the_paper() -> str:
    """The paper's numbers, and why ours must not be held against them."""
    timed = {n: row.metrics["ms_per_token"] for n, row in paper.SYSTEMS.items() if _is_timed(row)}
    told = ", ".join(f"{name} {value:.3f}" for name, value in timed.items())
    return (
        f"The paper's §4.6, ms per token: {told}. Those are times of another machine, another "
        "program and DialoGPT-small; ours are of this machine and of the size that was trained, so "
        "only ratios can be compared. A student has the graph of the model that taught it: its "
        "ratio per token is 1 but for noise, and what it adds is the turn classifier, once a "
        "response."
    )


def _is_timed(row: paper.PaperRow) -> bool:
    return "ms_per_token" in row.metrics


def run() -> None:
    """The command line; a user's mistake ends in one message, not in a traceback."""
    logging.set_verbosity(logging.WARNING)  # libraries' own news; ours is printed
    app.run(main)


if __name__ == "__main__":
    run()
