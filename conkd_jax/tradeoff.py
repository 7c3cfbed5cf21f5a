"""Decodes a run in several ways, and shows what fluency costs in diversity.

    python -m conkd_jax.tradeoff RUN --json=FILE.json --figure=FILE.png
    python -m conkd_jax.tradeoff RUN --temperature=0.5 --temperature=1 --responses=200

The responses are generated greedily, by sampling at each --temperature and with each --top_p, and
with beams of each --beam_width. Fluency is the perplexity of the generated text under the run's own
dialogue teacher, which stays the same; the perplexity in a run's metrics.json is of the references
and the same for all ways to decode. Diversity is DIST-n, and F1@10 shows what becomes of the
recommendations. The references are judged too: text that is far less perplexing than theirs repeats
itself. By default, 500 responses of dev are decoded: options of decoding are chosen there, never on
the split that is reported. docs/metrics.md tells how to score a run with them.
"""

from __future__ import annotations

import dataclasses
import sys

from absl import flags

from conkd_jax.cli import command_line
from conkd_jax.cli.command_line import UsageError
from conkd_jax.config import ConfigError
from conkd_jax.config.rules import validate_config
from conkd_jax.eval.tables.documents import portable_command, write_document
from conkd_jax.eval.tables.tradeoff import (
    GREEDY,
    Way,
    draw_tradeoff,
    tradeoff_document,
    tradeoff_table,
    ways,
)
from conkd_jax.runs.document import machine
from conkd_jax.runs.finished import SPLITS, Run
from conkd_jax.runtime import parallel
from conkd_jax.stages.systems.judging import decoded_and_judged, references_judged
from conkd_jax.stages.systems.system import spread_evenly
from conkd_jax.stages.systems.system_on_split import open_system

OPTIONS = flags.FlagValues()
_SPLIT = flags.DEFINE_enum("split", "dev", SPLITS, "The split.", flag_values=OPTIONS)
_RESPONSES = flags.DEFINE_integer(
    "responses", 500, "The most responses, spread over the split; 0 = all.", 0, flag_values=OPTIONS
)
_TEMPERATURE = flags.DEFINE_multi_float(
    "temperature", [0.5, 0.7, 0.85, 1.0], "Sample at it; can be repeated.", flag_values=OPTIONS
)
_TOP_P = flags.DEFINE_multi_float(
    "top_p", [0.3, 0.5, 0.7, 0.9], "Sample with it; can be repeated.", flag_values=OPTIONS
)
_BEAM_WIDTH = flags.DEFINE_multi_integer(
    "beam_width", [2, 4, 8], "Search with so many beams; can be repeated.", flag_values=OPTIONS
)
_SEED = flags.DEFINE_integer("seed", 0, "Of the random numbers.", 0, flag_values=OPTIONS)
_JSON = flags.DEFINE_string(
    "json", "", "Also write all numbers into this JSON file, to be committed.", flag_values=OPTIONS
)
_FIGURE = flags.DEFINE_string(
    "figure", "", "Also draw the trade-off into this PNG file.", flag_values=OPTIONS
)


def main(argv: list[str]) -> None:
    """Decodes, judges, prints a table, and writes the files that are asked for."""
    if len(argv) != 2:
        raise UsageError("expected one run: a folder written by conkd_jax.train.")
    run = Run.open(argv[1], _SPLIT.value)
    chosen = ways(_TEMPERATURE.value, _TOP_P.value, _BEAM_WIDTH.value, _SEED.value)
    for way in chosen:
        _check(run, way)
    run.expect_trained()
    settings = dataclasses.replace(
        run.stages["evaluation"].settings, max_responses=_RESPONSES.value
    )
    opened = open_system(run.system, run.split)
    points = {}
    for way in chosen:
        points[way] = decoded_and_judged(settings, opened, way.search)
        shown = ", ".join(f"{name} {points[way][name]:.3f}" for name in ("judge_ppl", "dist-2"))
        command_line.show(f"{way.label}: {shown}")
    document = tradeoff_document(
        points,
        references_judged(settings, opened),
        facts={
            "run": run.label,
            "preset": run.config.preset,
            "split": run.split,
            "n_responses": len(spread_evenly(opened.rows.num_responses, _RESPONSES.value or None)),
            "judge": run.inputs["dialogue_teacher"].fingerprint,
        },
        command=portable_command(" ".join(sys.argv)),
        machine=machine(),
    )
    if not parallel.is_first_process():
        return
    if _JSON.value:
        write_document(_JSON.value, document)
    if _FIGURE.value:
        draw_tradeoff(document, _FIGURE.value)
    command_line.show(tradeoff_table(document))


def _check(run: Run, way: Way) -> None:
    """Checks a value as if it stood in the config.

    Raises:
      UsageError: it is outside its limits.
    """
    fields = dataclasses.asdict(way.search)
    try:
        validate_config(
            run.config.replace({f"decode.{name}": value for name, value in fields.items()})
        )
    except ConfigError as error:
        option = "" if way.field == GREEDY else f"--{way.field}={way.value:g}: "
        raise UsageError(f"{option}{error}") from error


def run() -> None:
    """Runs the command line."""
    command_line.run(main, OPTIONS, positional="RUN")


if __name__ == "__main__":
    run()
