"""The hard gate as a detector of item steps: precision and recall of "λ ≥ η" at every threshold.

The curve that describes a run's threshold is also what fits one (`distill.eta` = 0).
"""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
from jaxtyping import Bool, Float, Int64, Shaped

from conkd_jax.eval.gate.token_classes import clipped_mass


@dataclasses.dataclass(frozen=True)
class Detection:
    """How well the hard gate finds item steps at one η.

    Attributes:
      eta: the threshold.
      precision: share of item steps among the steps that fire; None where none fires.
      recall: share of the item steps that fire.
      f1: 2 hits / (fired + item steps).
      fired: share of all steps that fire.
    """

    eta: float
    precision: float | None
    recall: float
    f1: float
    fired: float


@dataclasses.dataclass(frozen=True)
class DetectorCurve:
    """The hard gate, "λ ≥ η", as a detector of item steps at every η.

    The set of steps that fire changes only where η crosses a value of λ, so K distinct values give
    the exact curve: entry k holds for every η in (thresholds[k-1], thresholds[k]], and above the
    last threshold nothing fires.

    Attributes:
      thresholds: the distinct values of λ, ascending.
      hits: item steps with λ ≥ thresholds[k].
      fired: steps with λ ≥ thresholds[k], at least one.
      num_items: item steps, at least one.
      num_steps: all steps.
    """

    thresholds: Float[np.ndarray, " K"]
    hits: Int64[np.ndarray, " K"]
    fired: Int64[np.ndarray, " K"]
    num_items: int
    num_steps: int

    @property
    def precision(self) -> Float[np.ndarray, " K"]:
        """P_k = hits_k / fired_k."""
        return self.hits / self.fired

    @property
    def recall(self) -> Float[np.ndarray, " K"]:
        """R_k = hits_k / #items."""
        return self.hits / self.num_items

    @functools.cached_property
    def f1(self) -> Float[np.ndarray, " K"]:
        """F_k = 2 hits_k / (fired_k + #items), the harmonic mean of both."""
        return 2 * self.hits / (self.fired + self.num_items)

    @property
    def fired_share(self) -> Float[np.ndarray, " K"]:
        """fired_k / #steps."""
        return self.fired / self.num_steps

    @property
    def base_rate(self) -> float:
        """#items / #steps: the precision and average precision of a λ without information."""
        return self.num_items / self.num_steps

    @property
    def average_precision(self) -> float:
        """AP = Σ_k (R_k − R_{k+1}) P_k, with R = 0 above the last threshold.

        One number for all thresholds. It depends on the order of steps by λ alone, not on how large
        λ is.

        >>> curve = detector_curve(np.array([0.9, 0.8, 0.1]), np.array([True, False, True]))
        >>> round(curve.average_precision, 4)  # (1/2)(1) + (1/2)(2/3)
        0.8333
        """
        steps = -np.diff(self.recall, append=0.0)
        return float(np.sum(steps * self.precision))

    def at(self, eta: float) -> Detection:
        """Precision, recall and F1 at one η.

        >>> detector_curve(np.array([0.9, 0.2]), np.array([True, False])).at(0.6)
        Detection(eta=0.6, precision=1.0, recall=1.0, f1=1.0, fired=0.5)
        """
        k = int(np.searchsorted(self.thresholds, eta))  # the first value ≥ η
        if k == len(self.thresholds):
            return Detection(float(eta), None, 0.0, 0.0, 0.0)
        found = (self.precision[k], self.recall[k], self.f1[k], self.fired_share[k])
        return Detection(float(eta), *map(float, found))

    def best_eta(self) -> float:
        """The η in [0, 1] of the highest F1.

        F1 is constant between two neighbouring values of λ. Of the stretches of η that reach the
        maximum, this is the middle of the widest one: as far as possible from values of λ at which
        a step would change sides.

        >>> detector_curve(np.array([0.75, 0.25]), np.array([True, False])).best_eta()
        0.5
        """
        values, f1 = self.thresholds, self.f1
        lower = np.concatenate([[0.0], values[:-1]])
        best = np.flatnonzero(f1 >= f1.max() - 1e-12)
        runs = np.split(best, np.flatnonzero(np.diff(best) > 1) + 1)
        stretches = [(values[run[-1]] - lower[run[0]], run) for run in runs]
        _, run = max(stretches, key=lambda stretch: stretch[0])
        return float((lower[run[0]] + values[run[-1]]) / 2)


def detector_curve(
    item_mass: Float[np.ndarray, " n"], is_item: Bool[np.ndarray, " n"]
) -> DetectorCurve:
    """Counts, for every distinct value of λ, the steps at which a hard gate of that η fires.

    Args:
      item_mass: λ of all targets.
      is_item: whether the target is an item.

    Raises:
      ValueError: no target is an item, so recall is undefined.

    >>> curve = detector_curve(np.array([0.1, 0.5, 0.5]), np.array([False, True, False]))
    >>> curve.thresholds.tolist(), curve.precision.round(3).tolist(), curve.recall.tolist()
    ([0.1, 0.5], [0.333, 0.5], [1.0, 1.0])

    Source: eq. 6 as a detector; the paper gives η = .6 without its precision or recall.
    """
    if not is_item.any():
        raise ValueError(
            "the gate as a detector needs at least one item step, and no target here is an item."
        )
    values, where = np.unique(clipped_mass(item_mass), return_inverse=True)  # ascending
    return DetectorCurve(
        thresholds=values,
        hits=_from_above(where[is_item], len(values)),
        fired=_from_above(where, len(values)),
        num_items=int(is_item.sum()),
        num_steps=len(is_item),
    )


def fit_eta(item_mass: Float[np.ndarray, " n"], is_item: Bool[np.ndarray, " n"]) -> float:
    """The η of the hard gate (eq. 6) that finds the item steps best: `DetectorCurve.best_eta`.

    Args:
      item_mass: λ of all targets of held-out (or training) responses.
      is_item: whether the target is an item.

    Raises:
      ValueError: no target is an item.

    >>> fit_eta(np.array([0.9, 0.5, 0.1, 0.3]), np.array([True, True, False, False]))
    0.4

    Source: ours; the paper gives η = .6 for DialoGPT and does not say how it was chosen.
    """
    return detector_curve(item_mass, is_item).best_eta()


def _from_above(where: Shaped[np.ndarray, " m"], size: int) -> Int64[np.ndarray, " K"]:
    """How many entries of `where` are k or more, for each k."""
    return np.bincount(where, minlength=size)[::-1].cumsum()[::-1]
