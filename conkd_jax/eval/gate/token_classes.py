"""λ by kind of token: how much mass the dialogue teacher gives to items, and where.

The gate rests on one claim (the paper, §3.4 and Appendix C): the dialogue teacher gives mass to
items where a recommendation is due, and hardly any elsewhere. Only λ and the gold tokens are
needed here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float, Int, Int8

CLASSES = ("item", "before item", "word", "punctuation", "end")
ITEM, BEFORE_ITEM, WORD, PUNCTUATION, END = range(len(CLASSES))
PERCENTILES = (5, 25, 50, 75, 95)


def token_classes(
    targets: Int[np.ndarray, " N"],
    response_index: Int[np.ndarray, " N"],
    word_texts: Sequence[str],
    *,
    end_id: int,
) -> Int8[np.ndarray, " N"]:
    """The class of each gold token.

    An item; the end token; punctuation, which is a token without letters and digits (spaces and
    signs too); a word right before an item, y_t with y_{t+1} ∈ I in the same response; any other
    word. A word is a token of the vocabulary: where a BPE splits a word into pieces, only the last
    piece is right before the item.

    Args:
      targets: the gold tokens, response after response.
      response_index: which response each belongs to.
      word_texts: [V] the text of every word; token ids from V on are items.
      end_id: the end token.

    Returns:
      Indices into `CLASSES`.

    >>> texts = ["", " try", "!", " or"]
    >>> tokens = np.array([1, 4, 3, 5, 2, 0])  # "try @a or @b!", end
    >>> [CLASSES[c] for c in token_classes(tokens, np.zeros(6, int), texts, end_id=0)]
    ['before item', 'item', 'before item', 'item', 'punctuation', 'end']

    Source: the paper separates items from words; the finer classes are ours.
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
      classes: the result of `token_classes`.

    >>> found = mass_by_class(np.array([0.5, 0.75, 0.25]), np.array([ITEM, ITEM, WORD]))
    >>> {name: (summary.count, summary.mean) for name, summary in found.items()}
    {'item': (2, 0.625), 'word': (1, 0.25)}

    Source: §3.4 of the paper, which gives the mean on items and on all else.
    """
    found = {}
    for index, name in enumerate(CLASSES):
        values = clipped_mass(mass[classes == index])
        if values.size:
            percentiles = np.percentile(values, PERCENTILES).tolist()
            found[name] = MassSummary(values.size, float(values.mean()), tuple(percentiles))
    return found


def lambda_means(by_class: Mapping[str, MassSummary]) -> dict[str, float]:
    """The paper's λ_r and λ_v, from the finer classes.

    λ_r is the mean on items; λ_v = Σ_c |N_c| mean_c / Σ_c |N_c| over all other classes, the end
    token included. A class without tokens adds nothing; a mean without tokens is left out.

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
    """Mean and histogram of λ on item steps and on word steps.

    λ_r and λ_v show at a glance whether the gate works (the paper, §3.4: .653 and .023).

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
    mass = clipped_mass(item_mass)
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


def clipped_mass(mass: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """λ clipped to [0, 1], in double precision: a rounded sum may exceed 1 by an ulp."""
    return np.clip(mass.astype(np.float64), 0, 1)
