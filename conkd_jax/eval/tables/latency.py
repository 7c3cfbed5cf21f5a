"""What a timing of several systems is reported as: a document for each, and a table of ratios.

Only ratios within one call can be compared, so the paper's times stand beside them as ratios too.
Nothing is measured here: `conkd_jax.eval.latency` does that.
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
    """One of the systems that a call timed.

    Attributes:
      label: what tables call it.
      values: its measures.
      ratios: of its measures to those of the first system, where both have them.
      paper: the paper's row of it, if there is one.
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
    """Summarises what was measured of one system.

    Args:
      label: what tables call it.
      measured: its `measures`.
      first: those of the first system.
      paper: the paper's row of it, if there is one.
    """

    def spreads(values: Mapping[str, np.ndarray]) -> dict[str, Spread]:
        return {name: spread(value) for name, value in values.items()}

    return TimedRun(label, spreads(measured), spreads(answer_ratios(measured, first)), paper)


def with_timings(document: Mapping[str, Any], run: TimedRun, first: TimedRun) -> dict[str, Any]:
    """The document with the smallest and largest values over repeats, and the ratios.

    Args:
      document: whose metrics are the medians.
      run: what was timed.
      first: the run that ratios are to.
    """
    return {
        **document,
        "spread": {name: [value.low, value.high] for name, value in run.values.items()},
        "ratios": {"to": first.label} | {name: list(value) for name, value in run.ratios.items()},
    }


def ratio_table(runs: Sequence[TimedRun]) -> rich.table.Table:
    """Ratios to the first run, beside the paper's, for a terminal."""
    first = runs[0]
    table = rich.table.Table(
        title=f"Ratio to {first.label}: median (smallest to largest of the repeats)",
        box=rich.box.SIMPLE_HEAD,
    )
    table.add_column("", no_wrap=True)
    for column in LAYOUT.columns:
        table.add_column(column.title, justify="right")
    table.add_column("paper: ms per token", justify="right")
    for run in runs:
        cells = [ratio_text(run.ratios.get(column.metric)) for column in LAYOUT.columns]
        theirs = paper_ratio(run.paper, first.paper)
        table.add_row(run.label, *cells, ABSENT if theirs is None else f"{theirs:.3f}")
    return table


def ratio_text(ratio: Spread | None) -> str:
    """A ratio as it is printed.

    >>> ratio_text(Spread(1.0, 0.987, 1.016))
    '1.00 (0.99 to 1.02)'
    """
    if ratio is None:
        return ABSENT
    return f"{ratio.median:.2f} ({ratio.low:.2f} to {ratio.high:.2f})"


def paper_ratio(row: PaperRow | None, first: PaperRow | None) -> float | None:
    """The ratio of milliseconds per token in the paper; None where it did not time both systems."""
    if row is None or first is None or not {PER_TOKEN} <= row.metrics.keys() & first.metrics.keys():
        return None
    return row.metrics[PER_TOKEN] / first.metrics[PER_TOKEN]


def beside_the_paper() -> Text:
    """The paper's times, and why ours can't be compared with them."""
    times = ", ".join(
        f"{name} {row.metrics[PER_TOKEN]:.3f}"
        for name, row in SYSTEMS.items()
        if PER_TOKEN in row.metrics
    )
    return Text(
        f"The paper's §4.6, ms per token: {times}. Those times are of another machine, another "
        "program and DialoGPT-small; ours are of this machine and of the model size that was "
        "trained, so only ratios can be compared. A student has the architecture of its dialogue "
        "teacher: its ratio per token is 1 up to noise, and what it adds is the turn classifier, "
        "once per response."
    )
