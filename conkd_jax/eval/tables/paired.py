"""Two runs on the same responses as a table: both values, the difference, its interval, p.

What differs, and how surely, is computed by `bootstrap.compare_runs`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from etils import epath

from conkd_jax.eval.any_system import CURVE_KS, count_predictions
from conkd_jax.eval.metrics.bootstrap import (
    LEVEL,
    Comparison,
    bootstrap_intervals,
)
from conkd_jax.eval.metrics.bootstrap import (
    compare_runs as compare_statistics,
)
from conkd_jax.eval.tables.figures import draw_over_k
from conkd_jax.eval.tables.sections import SECTIONS, printed_number
from conkd_jax.eval.tables.table import Cell, Column, Layout, ResultTable, Row, TableError

SIGNIFICANT = 0.05


@dataclasses.dataclass(frozen=True)
class PairedTest:
    """Two runs on the same responses, tested against each other.

    Attributes:
      names: the names of the two runs.
      comparisons: what `bootstrap.compare_runs` returned.
      num_dialogues: the number of dialogues that both answered.
      num_responses: the number of responses of each.
      num_resamples: the number of resamples, and of exchanges.
      seed: of both.
    """

    names: tuple[str, str]
    comparisons: Mapping[str, Comparison]
    num_dialogues: int
    num_responses: int
    num_resamples: int
    seed: int

    @property
    def paired_over(self) -> str:
        """What is paired and how it is tested, in words."""
        return (
            f"{self.num_dialogues:,} dialogues: intervals by bootstrap, p by exchanging the two "
            "runs' answers to a dialogue"
        )


def paired_test(
    files: Mapping[str, epath.Path], *, num_resamples: int = 1000, seed: int = 0
) -> PairedTest:
    """Tests two runs on the same responses against each other.

    Args:
      files: the predictions of two runs by their names.
      num_resamples: number of resamples, and of exchanges.
      seed: of both.

    Raises:
      TableError: there are not two runs, or they did not answer the same responses.
      PredictionError: a file is not a predictions.jsonl.
    """
    if len(files) != 2:
        raise TableError(
            f"--compare: expected two runs, got {len(files)}. Several trainings of two rows are "
            "compared with --over=trainings."
        )
    one, other = files
    first, second = (count_predictions(path) for path in files.values())
    try:
        found = compare_statistics(first, second, num_resamples=num_resamples, seed=seed)
    except ValueError as error:
        raise TableError(f"{one} and {other}: {error}.") from error
    return PairedTest(
        names=(one, other),
        comparisons=found,
        num_dialogues=len(first.turns),
        num_responses=first.totals["responses"],
        num_resamples=num_resamples,
        seed=seed,
    )


def draw_both(files: Mapping[str, epath.Path], figure: epath.PathLike) -> None:
    """Draws recall, ReR, PrR and F1 of several runs over k.

    Args:
      files: the predictions of the runs by their names.
      figure: where the PNG goes.
    """
    curves = {name: count_predictions(path, ks=CURVE_KS) for name, path in files.items()}
    draw_over_k(
        {name: curve.metrics() for name, curve in curves.items()},
        figure,
        intervals={name: bootstrap_intervals(curve) for name, curve in curves.items()},
    )


def comparison_table(
    names: tuple[str, str], comparisons: Mapping[str, Comparison], *, paired_over: str
) -> ResultTable:
    """Returns the comparison of two runs or rows, metrics by section; p < .05 is marked.

    Args:
      names: the names of the two.
      comparisons: the metrics of both.
      paired_over: what the test pairs, and how it tests, in words.
    """
    first, second = (Column(name, "", None) for name in names)
    layout = Layout(
        f"{names[1]} against {names[0]}",
        (
            first,
            second,
            Column("difference", "", None),
            Column(f"{LEVEL} % interval", "", None),
            Column("p", "", None),
        ),
    )
    groups = []
    for section in SECTIONS.values():
        rows = [_row(name, comparisons[name]) for name in section if name in comparisons]
        groups += [tuple(rows)] if rows else []
    caption = (
        f"Paired over {paired_over}, two-sided and for each metric alone. Bold: p < {SIGNIFICANT}."
    )
    if not any(name.startswith("dist-") for name in comparisons):
        caption += " DIST-n, coverage and Gini are not means over dialogues and have no test."
    return ResultTable(layout, tuple(groups), caption)


def _row(name: str, found: Comparison) -> Row:
    is_clear = found.p_value < SIGNIFICANT
    sign = "+" if found.difference >= 0 else ""
    cells = (
        Cell(printed_number(name, found.first)),
        Cell(printed_number(name, found.second)),
        Cell(f"{sign}{printed_number(name, found.difference)}", "best" if is_clear else None),
        Cell(f"{printed_number(name, found.low)} to {printed_number(name, found.high)}"),
        Cell(f"{found.p_value:.3f}"),
    )
    return Row(name, cells)
