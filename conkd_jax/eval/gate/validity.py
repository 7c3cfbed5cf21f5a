"""Whether the gate is right: λ by kind of token, and the hard gate as a detector of item steps.

The gate rests on one claim (the paper, §3.4 and Appendix C): the dialogue teacher gives mass to
items where a recommendation is due, and hardly any elsewhere. All that is asked here is asked of λ
and of the gold tokens; the curve that describes a threshold is the one that fits it
(`distill.eta` = 0). Knows no model, no file, and not how λ came about.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float, Int, Int8, Int64, Shaped

CLASSES = ("item", "before item", "word", "punctuation", "end")
ITEM, BEFORE_ITEM, WORD, PUNCTUATION, END = range(len(CLASSES))
PERCENTILES = (5, 25, 50, 75, 95)


# --- λ by kind of token ------------------------------------------------------------------------


def token_classes(
    targets: Int[np.ndarray, " N"],
    response_index: Int[np.ndarray, " N"],
    word_texts: Sequence[str],
    *,
    end_id: int,
) -> Int8[np.ndarray, " N"]:
    """What each gold token is: the first of `CLASSES` that fits.

    An item; the end token; punctuation, a token without letter and digit (spaces and signs too);
    a word right before an item, y_t with y_{t+1} ∈ I in the same response; any other word. A word
    is a token of the vocabulary: of a word that a BPE writes in pieces, the last one stands before
    the item.

    Args:
      targets: the gold tokens, response after response.
      response_index: which response each belongs to.
      word_texts: [V] the text of every word; what comes behind them is an item.
      end_id: the end token.

    Returns:
      Indices into `CLASSES`.

    >>> texts = ["", " try", "!", " or"]
    >>> tokens = np.array([1, 4, 3, 5, 2, 0])  # "try @a or @b!", end
    >>> [CLASSES[c] for c in token_classes(tokens, np.zeros(6, int), texts, end_id=0)]
    ['before item', 'item', 'before item', 'item', 'punctuation', 'end']

    Source: the paper tells items from words; the finer classes are ours.
    """
    num_words = len(word_texts)
    has_letter = np.array([any(map(str.isalnum, text)) for text in word_texts], bool)
    is_item = targets >= num_words
    classes = np.where(has_letter[np.where(is_item, 0, targets)], WORD, PUNCTUATION)
    comes_before = np.zeros(len(targets), bool)
    comes_before[:-1] = is_item[1:] & (response_index[1:] == response_index[:-1])
    classes[comes_before & (classes == WORD)] = BEFORE_ITEM
    classes[targets == end_id] = END
    classes[is_item] = ITEM
    return classes.astype(np.int8)


@dataclasses.dataclass(frozen=True)
class MassSummary:
    """λ on the tokens of one class.

    Attributes:
      count: tokens.
      mean: of λ.
      percentiles: of λ, at `PERCENTILES`; the second and the fourth are the quartiles.
    """

    count: int
    mean: float
    percentiles: tuple[float, ...]


def mass_by_class(
    mass: Float[np.ndarray, " N"], classes: Int[np.ndarray, " N"]
) -> dict[str, MassSummary]:
    """Mean and percentiles of λ for each class; a class without tokens is left out.

    For a class c with tokens N_c: mean_c = Σ_{t∈N_c} λ_t / |N_c|.

    Args:
      mass: λ_t = Σ_{y∈I} P_φ(y | y_<t, x) of eq. 7.
      classes: what `token_classes` gives.

    >>> found = mass_by_class(np.array([0.5, 0.75, 0.25]), np.array([ITEM, ITEM, WORD]))
    >>> {name: (summary.count, summary.mean) for name, summary in found.items()}
    {'item': (2, 0.625), 'word': (1, 0.25)}

    Source: §3.4 of the paper, which gives the mean on items and on all else.
    """
    found = {}
    for index, name in enumerate(CLASSES):
        values = _clipped(mass[classes == index])
        if values.size:
            percentiles = np.percentile(values, PERCENTILES).tolist()
            found[name] = MassSummary(values.size, float(values.mean()), tuple(percentiles))
    return found


def lambda_means(by_class: Mapping[str, MassSummary]) -> dict[str, float]:
    """The paper's two numbers, from the finer classes.

    λ_r is the mean on items; λ_v = Σ_c |N_c| mean_c / Σ_c |N_c| over every other class, the end
    token's too.

    >>> by_class = mass_by_class(np.array([0.5, 0.25, 0.0]), np.array([ITEM, WORD, END]))
    >>> lambda_means(by_class)
    {'lambda_r': 0.5, 'lambda_v': 0.125}

    Source: §3.4 of the paper: .653 and .023.
    """
    words = [summary for name, summary in by_class.items() if name != CLASSES[ITEM]]
    means = {}
    if CLASSES[ITEM] in by_class:
        means["lambda_r"] = by_class[CLASSES[ITEM]].mean
    if words:
        total = sum(summary.count * summary.mean for summary in words)
        means["lambda_v"] = total / sum(summary.count for summary in words)
    return means


def gate_statistics(
    item_mass: Float[np.ndarray, " n"], is_item: Bool[np.ndarray, " n"], bins: int = 50
) -> dict[str, float | int | list]:
    """Where λ lies: its mean on item steps and on word steps, and its histogram on both.

    λ_r and λ_v are the health check of the gate (the paper, §3.4: .653 and .023).

    Args:
      item_mass: λ_t = Σ_{y∈I} P_φ(y) of eq. 7, for all targets.
      is_item: whether the target is an item.
      bins: bins of the histogram over [0, 1].

    Returns:
      `lambda_r`, `lambda_v` (nan without such steps), `num_item_steps`, `num_word_steps`,
      `bin_edges` [bins + 1], `item_steps` [bins], `word_steps` [bins].

    >>> found = gate_statistics(np.array([0.9, 0.5, 0.1]), np.array([True, True, False]), bins=2)
    >>> found["lambda_r"], found["lambda_v"], found["item_steps"]
    (0.7, 0.1, [0, 2])

    Source: the paper, §3.4.
    """
    mass = _clipped(item_mass)
    on_items, on_words = mass[is_item], mass[~is_item]
    item_steps, edges = np.histogram(on_items, bins, (0, 1))
    word_steps, _ = np.histogram(on_words, bins, (0, 1))
    return {
        "lambda_r": float(on_items.mean()) if len(on_items) else float("nan"),
        "lambda_v": float(on_words.mean()) if len(on_words) else float("nan"),
        "num_item_steps": len(on_items),
        "num_word_steps": len(on_words),
        "bin_edges": edges.tolist(),
        "item_steps": item_steps.tolist(),
        "word_steps": word_steps.tolist(),
    }


# --- the gate as a detector --------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Detection:
    """What the hard gate finds at one η.

    Attributes:
      eta: the threshold.
      precision: item steps among the steps that fire; None where none fires.
      recall: steps that fire among the item steps.
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
    """The hard gate, "λ ≥ η", as a detector of item steps at every η there is.

    What fires changes only where η passes a value of λ, so K distinct values give the exact curve:
    entry k holds for every η in (thresholds[k-1], thresholds[k]], and above the last nothing fires.

    Attributes:
      thresholds: the distinct values of λ, ascending.
      hits: item steps with λ ≥ thresholds[k].
      fired: steps with λ ≥ thresholds[k], at least one.
      num_items, num_steps: item steps, at least one, and all steps.
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
        """#items / #steps: the precision, and the average precision, of a λ that knows nothing."""
        return self.num_items / self.num_steps

    @property
    def average_precision(self) -> float:
        """AP = Σ_k (R_k − R_{k+1}) P_k, with R = 0 above the last threshold.

        One number for all thresholds: whether λ orders steps rightly, however small it is.

        >>> curve = detector_curve(np.array([0.9, 0.8, 0.1]), np.array([True, False, True]))
        >>> round(curve.average_precision, 4)  # (1/2)(1) + (1/2)(2/3)
        0.8333
        """
        steps = -np.diff(self.recall, append=0.0)
        return float(np.sum(steps * self.precision))

    def at(self, eta: float) -> Detection:
        """What fires at η.

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

        F1 is constant between two neighbouring values of λ; of the widest stretch that reaches the
        maximum, the middle is taken, so that η is as far as can be from steps that would change
        sides.

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
    """Counts, for every distinct value of λ, what a hard gate of that η fires at.

    Args:
      item_mass: λ of all targets.
      is_item: whether the target is an item.

    Raises:
      ValueError: no target is an item, so that recall has no meaning.

    >>> curve = detector_curve(np.array([0.1, 0.5, 0.5]), np.array([False, True, False]))
    >>> curve.thresholds.tolist(), curve.precision.round(3).tolist(), curve.recall.tolist()
    ([0.1, 0.5], [0.333, 0.5], [1.0, 1.0])

    Source: eq. 6 read as a detector; the paper gives η = .6 without its precision or recall.
    """
    if not is_item.any():
        raise ValueError(
            "the gate as a detector needs at least one item step; these targets hold none."
        )
    values, where = np.unique(_clipped(item_mass), return_inverse=True)  # ascending
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
      item_mass: λ for all targets of training (or held-out) responses.
      is_item: whether the target is an item.

    Raises:
      ValueError: if no target is an item.

    >>> fit_eta(np.array([0.9, 0.5, 0.1, 0.3]), np.array([True, True, False, False]))
    0.4

    Source: ours; the paper gives η = .6 for DialoGPT and does not say how it was found.
    """
    return detector_curve(item_mass, is_item).best_eta()


def _from_above(where: Shaped[np.ndarray, " m"], size: int) -> Int64[np.ndarray, " K"]:
    """How many entries of `where` are k or more, for each k."""
    return np.bincount(where, minlength=size)[::-1].cumsum()[::-1]


def _clipped(mass: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """λ in [0, 1], in double precision: a rounded sum may pass 1 by an ulp."""
    return np.clip(mass.astype(np.float64), 0, 1)
