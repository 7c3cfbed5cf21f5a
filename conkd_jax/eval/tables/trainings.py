"""Two rows over several trainings of each: a t-test paired by seed, for every metric.

The test over dialogues (`paired`) asks whether two trained systems differ; this one asks whether
another training would show the same difference. It needs at least two trainings of each row, and
with three it finds large differences only.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from conkd_jax.eval.document import Document, document_label, seeds_label
from conkd_jax.eval.metrics.bootstrap import LEVEL, Comparison
from conkd_jax.eval.tables.table import TableError

Seeds = tuple[int, int]  # of the student, and of its teachers


@dataclasses.dataclass(frozen=True)
class TrainingsTest:
    """Two rows, tested against each other over trainings with the same seeds.

    Attributes:
      names: the names of the two rows.
      comparisons: the metrics that all runs have: means, and interval and p of the difference.
      differences: second - first of each metric, by seeds.
      documents: the runs of the two rows, in the order of `seeds`.
      seeds: (seed, teacher_seed) of each pair.
    """

    names: tuple[str, str]
    comparisons: Mapping[str, Comparison]
    differences: Mapping[str, Sequence[float]]
    documents: tuple[Sequence[Document], Sequence[Document]]
    seeds: Sequence[Seeds]

    @property
    def paired_over(self) -> str:
        """What is paired and how it is tested, in words."""
        is_whole = len({teacher_seed for _, teacher_seed in self.seeds}) == len(self.seeds)
        kind = "whole trainings" if is_whole else "trainings of students that share teachers"
        names = ", ".join(seeds_label(*seeds) for seeds in self.seeds)
        return f"{len(self.seeds)} {kind} ({names}): intervals and p by a t-test"

    def document(self, *, command: str) -> dict[str, Any]:
        """The test as plain JSON, unrounded.

        Args:
          command: the command that was run.
        """
        first = self.documents[0][0]
        return {
            "first": self._row(0),
            "second": self._row(1),
            "preset": first["preset"],
            "split": first["split"],
            "n_responses": first["n_responses"],
            "test": f"two-sided t-test, paired over {len(self.seeds)} trainings",
            "seeds": [{"seed": seed, "teacher_seed": teachers} for seed, teachers in self.seeds],
            "interval_level": LEVEL / 100,
            "metrics": {
                name: {**found.to_dict(), "differences": list(self.differences[name])}
                for name, found in self.comparisons.items()
            },
            "command": command,
        }

    def _row(self, place: int) -> dict[str, Any]:
        hashes = [document.get("config_sha256", "") for document in self.documents[place]]
        return {"label": self.names[place], "config_sha256": hashes}


def compare_trainings(documents: Sequence[Document]) -> TrainingsTest:
    """Tests two rows against each other over trainings with the same seeds.

    Args:
      documents: contents of `metrics.json`, of two rows with the same seeds; the first one's row is
        the first.

    Raises:
      TableError: there are not two rows, their seeds differ or come twice, there are fewer than two
        of each, or the runs are of several presets, splits or numbers of responses.
    """
    rows: dict[str, dict[Seeds, Document]] = {}
    for document in documents:
        label = document_label(document)
        seeds = (document["seed"], document.get("teacher_seed", 0))
        if seeds in rows.setdefault(label, {}):
            raise TableError(f"{label}: expected {seeds_label(*seeds)} once, got it twice.")
        rows[label][seeds] = document
    if len(rows) != 2:
        raise TableError(
            f"--compare --over=trainings: expected runs of two rows, got {len(rows)}: "
            f"{', '.join(rows)}."
        )
    for field in ("preset", "split", "n_responses"):
        if len(found := {document[field] for document in documents}) > 1:
            raise TableError(f"{field}: expected the same in every run, got {sorted(found)}.")
    (first, one), (second, other) = rows.items()
    if unpaired := sorted(one.keys() ^ other.keys()):
        names = ", ".join(seeds_label(*seeds) for seeds in unpaired)
        raise TableError(
            f"{first} and {second}: expected the same seeds of both; unpaired: {names}"
        )
    seeds = sorted(one)
    if len(seeds) < 2:
        raise TableError(f"{first} and {second}: expected two trainings or more of each, got one.")
    pairs = [(one[each]["metrics"], other[each]["metrics"]) for each in seeds]
    names = [name for name in pairs[0][0] if all(name in run for pair in pairs for run in pair)]
    values = {name: [(a[name], b[name]) for a, b in pairs] for name in names}
    return TrainingsTest(
        names=(first, second),
        comparisons={name: compare_pairs(each) for name, each in values.items()},
        differences={name: [b - a for a, b in each] for name, each in values.items()},
        documents=([one[each] for each in seeds], [other[each] for each in seeds]),
        seeds=seeds,
    )


def compare_pairs(pairs: Sequence[tuple[float, float]]) -> Comparison:
    """A paired, two-sided t-test of n pairs, with n - 1 degrees of freedom.

    t = mean(d) / (sd(d) / sqrt(n)) for the differences d; the interval is mean(d) ± t* sd(d) /
    sqrt(n). If all differences are equal, p is 1 for none and 0 for any other.

    Args:
      pairs: (first, second) of two pairs or more.
    """
    differences = [second - first for first, second in pairs]
    mean, freedom = statistics.fmean(differences), len(pairs) - 1
    error = statistics.stdev(differences) / math.sqrt(len(pairs))
    reach = t_quantile(freedom) * error
    if error > 0:
        p_value = t_tails(mean / error, freedom)
    else:
        p_value = 0.0 if mean else 1.0
    return Comparison(
        first=statistics.fmean(first for first, _ in pairs),
        second=statistics.fmean(second for _, second in pairs),
        difference=mean,
        low=mean - reach,
        high=mean + reach,
        p_value=p_value,
    )


def t_tails(t: float, freedom: int) -> float:
    """P(|T| > |t|) for Student's t with a whole number of degrees of freedom.

    Source: Abramowitz and Stegun, 1964, 26.7.3 and 26.7.4 (finite sums).

    >>> round(t_tails(4.302653, 2), 6), round(t_tails(12.706205, 1), 6)
    (0.05, 0.05)
    """
    angle = math.atan(abs(t) / math.sqrt(freedom))
    sine, cosine = math.sin(angle), math.cos(angle)
    term, total = (cosine, 0.0) if freedom % 2 else (1.0, 0.0)
    for power in range(1 + freedom % 2, freedom, 2):  # the last power of the cosine is freedom - 2
        total += term
        term *= cosine**2 * power / (power + 1)
    inside = 2 / math.pi * (angle + sine * total) if freedom % 2 else sine * total
    return max(0.0, 1 - inside)


def t_quantile(freedom: int, level: float = LEVEL / 100) -> float:
    """The t with P(|T| <= t) = level, by bisection."""
    low, high = 0.0, 1.0
    while t_tails(high, freedom) > 1 - level:
        high *= 2
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if t_tails(middle, freedom) > 1 - level else (low, middle)
    return high
