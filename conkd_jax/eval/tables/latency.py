"""Reports the times of several systems: a document for each, and a table of ratios.

Only times within one call are comparable, so the paper's times are shown as ratios too. The
measurements are made in `conkd_jax.eval.latency`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import rich.box
import rich.table
from rich.text import Text

from conkd_jax.eval.latency import Spread, answer_ratios, spread
from conkd_jax.eval.tables.layouts import LAYOUTS
from conkd_jax.eval.tables.paper import SYSTEMS, PaperRow
from conkd_jax.eval.tables.table import ABSENT

LAYOUT = LAYOUTS["latency"]
PER_TOKEN = "ms_per_token"


class TimedRun(NamedTuple):
    """The times of one system.

    Attributes:
      label: its label in tables.
      values: its measures.
      ratios: its measures divided by those of the first system, for the measures that both have.
      paper: the paper's row to compare with, if there is one.
    """

    label: str
    values: Mapping[str, Spread]
    ratios: Mapping[str, Spread]
    paper: PaperRow | None


def timed_run(
    label: str,
    measured: Mapping[str, np.ndarray],
    first: Mapping[str, np.ndarray],
    paper: PaperRow | None,
) -> TimedRun:
    """Summarises the measures of one system.

    Args:
      label: its label in tables.
      measured: its measures (`latency_measures`).
      first: the measures of the first system.
      paper: the paper's row to compare with, if there is one.
    """

    def spreads(values: Mapping[str, np.ndarray]) -> dict[str, Spread]:
        return {name: spread(value) for name, value in values.items()}

    return TimedRun(label, spreads(measured), spreads(answer_ratios(measured, first)), paper)


def with_timings(document: Mapping[str, Any], run: TimedRun, first: TimedRun) -> dict[str, Any]:
    """Adds the ratios, and the smallest and largest values over repeats, to a document.

    Args:
      document: the document; its metrics are the medians.
      run: the times of the run.
      first: the run that the ratios refer to.
    """
    return {
        **document,
        "spread": {name: [value.low, value.high] for name, value in run.values.items()},
        "ratios": {"to": first.label} | {name: list(value) for name, value in run.ratios.items()},
    }


def ratio_table(runs: Sequence[TimedRun]) -> rich.table.Table:
    """The table of ratios to the first run, beside the paper's, for a terminal."""
    first = runs[0]
    table = rich.table.Table(
        title=f"Ratio to {first.label}: median (smallest to largest of the repeats)",
        box=rich.box.SIMPLE_HEAD,
    )
    table.add_column("", no_wrap=True)
    for column in LAYOUT.columns:
        table.add_column(column.title, justify="right", no_wrap=True)
    table.add_column("paper: ms per token", justify="right", no_wrap=True)
    for run in runs:
        cells = [ratio_text(run.ratios.get(column.metric)) for column in LAYOUT.columns]
        theirs = paper_ratio(run.paper, first.paper)
        table.add_row(run.label, *cells, ABSENT if theirs is None else f"{theirs:.3f}")
    return table


def ratio_text(ratio: Spread | None) -> str:
    """Formats a ratio.

    >>> ratio_text(Spread(1.0, 0.987, 1.016))
    '1.00 (0.99 to 1.02)'
    """
    if ratio is None:
        return ABSENT
    return f"{ratio.median:.2f} ({ratio.low:.2f} to {ratio.high:.2f})"


def paper_ratio(row: PaperRow | None, first: PaperRow | None) -> float | None:
    """The paper's ratio of milliseconds per token; None unless it timed both systems."""
    if row is None or first is None or not {PER_TOKEN} <= row.metrics.keys() & first.metrics.keys():
        return None
    return row.metrics[PER_TOKEN] / first.metrics[PER_TOKEN]


def beside_the_paper() -> Text:
    """A note with the paper's times, and why they can't be compared with ours."""
    times = ", ".join(
        f"{name} {row.metrics[PER_TOKEN]:.3f}"
        for name, row in SYSTEMS.items()
        if PER_TOKEN in row.metrics
    )
    return Text(
        f"The paper's §4.6, ms per token: {times}. These times are from another machine, another "
        "program and DialoGPT-small; ours are from this machine and the trained model size, so "
        "only ratios can be compared. A student has the architecture of its dialogue teacher, so "
        "its ratio per token is 1 up to noise. It adds the turn classifier, once per response."
    )
