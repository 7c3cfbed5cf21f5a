"""Items of a decoded response against the items of the reference: ReR, PrR, F1 and their variants.

ReR@k (recall), PrR@k (precision) and F1@k are measured inside generated responses. For a response r
let G_r be its gold item tokens, S_r the steps at which the system emitted an item and T_k(s) the k
most probable items at step s. N_g = Σ|G_r|, N_p = Σ|S_r|, R_g = #{r: |G_r| > 0}, Q = #{r: |S_r| >
0}, N = #r. Each function returns the (sum, count) pair of one response; the metric is the sum of
sums over the sum of counts (`pairs`).

The worked example of the doctests has three responses: r1 has gold {A, B} and one item step with
the top-2 [C, A]; r2 has gold {A} and no item step; r3 has no gold and one item step with the top-2
[D, E].

Items are only compared here, so any hashable value can stand for one.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Hashable, Sequence

from conkd_jax.eval.metrics.pairs import Pair

MATCHES = ("one_to_one", "pairs")

Item = Hashable


@dataclasses.dataclass(frozen=True)
class ItemResponse:
    """Where the gold items of one response rank at its item steps.

    Attributes:
      ranks: `ranks[step][gold]`, from 1, of each gold item among the top items of each item step;
        inf where it is not among them.
      num_gold: number of gold items. May exceed the width of `ranks`: gold items outside the
        vocabulary, which no step can rank, are counted here where a metric includes them.
    """

    ranks: tuple[tuple[float, ...], ...]
    num_gold: int

    @classmethod
    def of(cls, gold: Sequence[Item], tops: Sequence[Sequence[Item]]) -> ItemResponse:
        """Ranks the gold items in the top items of every item step."""
        ranks = tuple(
            tuple(float(top.index(g) + 1) if g in top else math.inf for g in gold) for top in tops
        )
        return cls(ranks, len(gold))

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
          ValueError: `match` is neither, or k < 1.
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

    >>> [rer(r, 2) for r in WORKED_EXAMPLE]  # ReR@2 = 1/3
    [(1, 2), (0, 1), (0, 0)]
    >>> [rer(r, 1) for r in WORKED_EXAMPLE]  # ReR@1 = 0/3
    [(0, 2), (0, 1), (0, 0)]

    Source: the paper's Table 2; the denominator N_g is the one its Tables 2 and 8 agree on.
    """
    return response.hits(k, match), response.num_gold


def prr(response: ItemResponse, k: int, match: str = "one_to_one") -> Pair:
    """PrR@k = hits_k / N_p: the share of generated items that are gold.

    >>> [prr(r, 2) for r in WORKED_EXAMPLE]  # PrR@2 = 1/2
    [(1, 1), (0, 0), (0, 1)]

    Source: the paper's Table 2 ("the total number of item predictions").
    """
    return response.hits(k, match), response.num_steps


def f1(response: ItemResponse, k: int, match: str = "one_to_one") -> Pair:
    """F1@k = 2 ReR PrR / (ReR + PrR) = 2 hits_k / (N_g + N_p), which is a ratio of sums itself.

    >>> [f1(r, 2) for r in WORKED_EXAMPLE]  # F1@2 = 2/5
    [(2, 3), (0, 1), (0, 1)]

    Source: the paper's Table 2.
    """
    return 2 * response.hits(k, match), response.num_gold + response.num_steps


def rer_original(response: ItemResponse, k: int) -> Pair:
    """Original ReR@k = hits_k / R_g with every pair counted; it may exceed 1.

    >>> [rer_original(r, 2) for r in WORKED_EXAMPLE]  # 1/2
    [(1, 1.0), (0, 1.0), (0, 0.0)]

    Source: NTRD's public code (`run_novel.py`), whose denominator is the number of gold responses
      with an item; the paper's Table 8.
    """
    return response.hits(k, "pairs"), float(response.num_gold > 0)


def rec_ratio(response: ItemResponse) -> Pair:
    """Rec Ratio = Q / N: the share of generated responses with an item.

    >>> [rec_ratio(r) for r in WORKED_EXAMPLE]  # 2/3
    [(1.0, 1.0), (0.0, 1.0), (1.0, 1.0)]

    Source: the paper's Table 2. Two other quantities are called "item ratio":
      `items_per_response` and `item_slots_per_response`.
    """
    return float(response.num_steps > 0), 1.0


def items_per_response(response: ItemResponse) -> Pair:
    """NTRD's "item ratio" = N_p / N: generated items a response; it may exceed 1.

    >>> [items_per_response(ItemResponse.of("A", tops)) for tops in (["AB", "BC"], [])]
    [(2, 1), (0, 1)]

    Source: NTRD's public code (`run_novel.py`, "hypo item ratio").
    """
    return response.num_steps, 1


def item_slots_per_response(response: ItemResponse, is_empty: bool) -> Pair:
    """UniCRS' "item ratio" = N_p / #{generated responses that are not empty}.

    >>> item_slots_per_response(ItemResponse.of("A", ["AB", "BC"]), is_empty=False)
    (2, 1)
    >>> item_slots_per_response(ItemResponse.of("", []), is_empty=True)
    (0, 0)

    Source: UniCRS' public code (`evaluate_conv.py`), which counts `<movie>` slots.
    """
    return response.num_steps, int(not is_empty)


def novel_response(
    gold: Sequence[Item],
    items: Sequence[Item],
    tops: Sequence[Sequence[Item]],
    mentioned: Collection[Item],
) -> ItemResponse:
    """The same response without items that the dialogue has already mentioned.

    Gold items that were mentioned earlier are dropped, and so are the item steps that emitted a
    mentioned item; about a tenth of ReDial's gold items repeat the dialogue. The rankings at the
    remaining steps are unchanged.

    Args:
      gold: gold items of the response.
      items: the item that was emitted at each item step.
      tops: the top items at each item step.
      mentioned: items mentioned earlier in the dialogue.

    >>> rer(novel_response("AB", "AC", ["AB", "CB"], mentioned="A"), k=2)
    (1, 1)

    Source: He et al., CIKM 2023 ("Large Language Models as Zero-Shot Conversational Recommenders"),
      who show how much repeated items inflate; the treatment of item steps is ours.
    """
    kept = [top for item, top in zip(items, tops, strict=True) if item not in mentioned]
    return ItemResponse.of([g for g in gold if g not in mentioned], kept)


def mismatch(items: Sequence[Item], recommender_top: Sequence[Item]) -> Pair:
    """Share of generated item slots whose item is not the recommender's first for the turn.

    Where the recommender names nothing for the turn, every slot is a mismatch.

    >>> mismatch("AB", "AC"), mismatch("AB", "")
    ((1.0, 2.0), (2.0, 2.0))

    Source: the paper's Table 1, "Mismatch", which it does not define; this reading is ours.
    """
    first = set(recommender_top[:1])
    return float(sum(item not in first for item in items)), float(len(items))


def repeated_items(items: Sequence[Item], mentioned: Collection[Item]) -> Pair:
    """Share of the items that the dialogue has already mentioned.

    >>> repeated_items("ABA", mentioned="A")
    (2, 3)

    Source: He et al., CIKM 2023, who count them among the gold items.
    """
    return sum(item in mentioned for item in items), len(items)
