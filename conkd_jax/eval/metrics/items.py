"""Items of a decoded response against the items of the reference: ReR, PrR, F1 and their variants.

ReR@k (recall), PrR@k (precision) and F1@k are measured inside generated responses. For a response r
let G_r be its gold item tokens, S_r the steps at which the system emitted an item and T_k(s) the k
most probable items at step s. N_g = Σ|G_r|, N_p = Σ|S_r|, R_g = #{r: |G_r| > 0}, Q = #{r: |S_r| >
0}, N = #r. Each function gives one response's (sum, count); `ratio` adds them up and divides, once.

The worked example of the doctests: r1 has gold {A, B} and one item step with the top-2 [C, A];
r2 has gold {A} and no item step; r3 has no gold and one item step with the top-2 [D, E].

This module knows items only as things that can be compared, and knows neither files nor models.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from typing import Any

Number = int | float
Pair = tuple[Number, Number]  # (sum, count)
MATCHES = ("one_to_one", "pairs")

Item = Hashable


def ratio(pairs: Iterable[Pair], empty: float = math.nan) -> float:
    """Σ sums / Σ counts over responses; `empty` where the counts sum to 0.

    >>> ratio([(1, 2), (0, 1), (0, 0)])
    0.3333333333333333
    """
    total, count = 0.0, 0.0
    for one_sum, one_count in pairs:
        total += one_sum
        count += one_count
    return total / count if count else empty


@dataclasses.dataclass(frozen=True)
class ItemResponse:
    """Where the gold items of one response rank at its item steps.

    Attributes:
      ranks: [steps][gold] rank, from 1, of each gold item among the top items of each item step;
        inf where it is not among them.
      num_gold: gold items, those that no system could have said (out of its vocabulary) included
        where they are to count.
    """

    ranks: tuple[tuple[float, ...], ...]
    num_gold: int

    @classmethod
    def of(
        cls, gold: Sequence[Item], tops: Sequence[Sequence[Item]], num_unsayable: int = 0
    ) -> ItemResponse:
        """From gold items, the top items of every item step, and a number of gold items to miss."""
        ranks = tuple(
            tuple(float(top.index(g) + 1) if g in top else math.inf for g in gold) for top in tops
        )
        return cls(ranks, len(gold) + num_unsayable)

    @property
    def num_steps(self) -> int:
        """|S_r|, the number of item steps."""
        return len(self.ranks)

    def hits(self, k: int, match: str = "one_to_one") -> int:
        """How many gold items the item steps hold in their top k.

        `one_to_one`: each gold item is matched at most once and each step at most once, greedily in
        the order of the steps; a step takes the best-ranked gold item that is still free. It grows
        with k.
        `pairs`: Σ_s Σ_{g∈G_r} 1[g ∈ T_k(s)], every pair counts (NTRD's public code,
        `run_novel.py`).

        >>> twice = ItemResponse.of("A", ["A", "A"])  # one gold item, named twice
        >>> twice.hits(1), twice.hits(1, "pairs")
        (1, 2)

        Raises:
          ValueError: if `match` is neither, or k < 1.
        """
        if k < 1:
            raise ValueError(f"k: expected 1 or more, got {k}")
        if match == "pairs":
            return sum(rank <= k for step in self.ranks for rank in step)
        if match != "one_to_one":
            raise ValueError(f"match: expected one of {', '.join(MATCHES)}, got {match!r}")
        taken: set[int] = set()
        for step in self.ranks:
            free = [(rank, g) for g, rank in enumerate(step) if rank <= k and g not in taken]
            if free:
                taken.add(min(free)[1])
        return len(taken)


WORKED_EXAMPLE = (
    ItemResponse.of("AB", ["CA"]),
    ItemResponse.of("A", []),
    ItemResponse.of("", ["DE"]),
)


def rer(response: ItemResponse, k: int, match: str = "one_to_one") -> Pair:
    """ReR@k = hits_k / N_g: the share of gold items that the generated responses recommend.

    >>> ratio(rer(r, 2) for r in WORKED_EXAMPLE), ratio(rer(r, 1) for r in WORKED_EXAMPLE)
    (0.3333333333333333, 0.0)

    Source: the paper's Table 2; the denominator N_g is the one its Tables 2 and 8 agree on.
    """
    return response.hits(k, match), response.num_gold


def prr(response: ItemResponse, k: int, match: str = "one_to_one") -> Pair:
    """PrR@k = hits_k / N_p: the share of generated items that are gold.

    >>> ratio(prr(r, 2) for r in WORKED_EXAMPLE)
    0.5

    Source: the paper's Table 2 ("the total number of item predictions").
    """
    return response.hits(k, match), response.num_steps


def f1(response: ItemResponse, k: int, match: str = "one_to_one") -> Pair:
    """F1@k = 2 ReR PrR / (ReR + PrR) = 2 hits_k / (N_g + N_p), which is a ratio of sums itself.

    >>> ratio(f1(r, 2) for r in WORKED_EXAMPLE)
    0.4

    Source: the paper's Table 2.
    """
    return 2 * response.hits(k, match), response.num_gold + response.num_steps


def rer_original(response: ItemResponse, k: int) -> Pair:
    """Original ReR@k = hits_k / R_g with every pair counted; it may exceed 1.

    >>> ratio(rer_original(r, 2) for r in WORKED_EXAMPLE)
    0.5

    Source: NTRD's public code (`run_novel.py`), whose denominator is the number of gold responses
      with an item; the paper's Table 8.
    """
    return response.hits(k, "pairs"), float(response.num_gold > 0)


def rec_ratio(response: ItemResponse) -> Pair:
    """Rec Ratio = Q / N: the share of generated responses with an item.

    >>> ratio(rec_ratio(r) for r in WORKED_EXAMPLE)
    0.6666666666666666

    Source: the paper's Table 2. Two other quantities go under the name "item ratio":
      `items_per_response` and `item_slots_per_response`.
    """
    return float(response.num_steps > 0), 1.0


def items_per_response(response: ItemResponse) -> Pair:
    """NTRD's "item ratio" = N_p / N: generated items a response; it may exceed 1.

    >>> responses = ItemResponse.of("A", ["AB", "BC"]), ItemResponse.of("", [])
    >>> ratio(items_per_response(r) for r in responses)
    1.0

    Source: NTRD's public code (`run_novel.py`, "hypo item ratio").
    """
    return response.num_steps, 1


def item_slots_per_response(response: ItemResponse, is_empty: bool) -> Pair:
    """UniCRS' "item ratio" = N_p / #{generated responses that are not empty}.

    >>> responses = ItemResponse.of("A", ["AB", "BC"]), ItemResponse.of("", [])
    >>> ratio(item_slots_per_response(r, is_empty=not r.num_steps) for r in responses)
    2.0

    Source: UniCRS' public code (`evaluate_conv.py`), which counts `<movie>` slots.
    """
    return response.num_steps, int(not is_empty)


def novel(
    gold: Sequence[Item],
    items: Sequence[Item],
    tops: Sequence[Sequence[Item]],
    mentioned: Collection[Item],
) -> ItemResponse:
    """The same response with what the dialogue had already named left out.

    Gold items that were mentioned earlier are dropped, and so are the item steps that emitted a
    mentioned item; about a tenth of ReDial's gold items repeat the dialogue. The rankings of the
    steps that stay are as they were.

    >>> ratio([rer(novel("AB", "AC", ["AB", "CB"], mentioned="A"), k=2)])
    1.0

    Source: He et al., CIKM 2023 ("Large Language Models as Zero-Shot Conversational Recommenders"),
      who show how much repeated items inflate; the treatment of item steps is ours.
    """
    kept = [top for item, top in zip(items, tops, strict=True) if item not in mentioned]
    return ItemResponse.of([g for g in gold if g not in mentioned], kept)


def two_hop(
    gold: Sequence[Item],
    tops: Sequence[Sequence[Item]],
    mentioned: Collection[Item],
    neighbours: Mapping[Any, Collection[Item]],
) -> ItemResponse:
    """The same response with G_r ∪ N_2(mentioned items) in the place of the gold items (Table 4).

    An item step counts as one hit if its top k meets the set; hits are capped at |G_r|, and N_g and
    N_p stay as they are. So each step's best rank is stood against |G_r| interchangeable gold
    items, which `hits(k, "one_to_one")` then counts. Without mentioned items the gold items are
    left alone.

    >>> response = two_hop("A", ["CX"], mentioned="M", neighbours={"M": {"X"}})
    >>> rer(response, 1), rer(response, 2)
    ((0, 1), (1, 1))

    Source: the paper's Table 4, which doesn't define the denominators; these are our reading.
      `relevance.TwoHopItems` makes the neighbours.
    """
    relevant = set(gold).union(*(neighbours.get(item, ()) for item in mentioned))
    best = (
        next((float(rank) for rank, item in enumerate(top, 1) if item in relevant), math.inf)
        for top in tops
    )
    return ItemResponse(tuple((rank,) * len(gold) for rank in best), len(gold))


def mismatch(items: Sequence[Item], recommender_top: Sequence[Item]) -> Pair:
    """Share of generated item slots whose item is not the recommender's first for the turn.

    (0, 0) where there is no recommender.

    >>> ratio([mismatch("AB", "AC")])
    0.5

    Source: the paper's Table 1, "Mismatch", which it does not define; this reading is ours.
    """
    if not recommender_top:
        return 0.0, 0.0
    return float(sum(item != recommender_top[0] for item in items)), float(len(items))
