"""Trivial systems beside every scored one: popular items, repetition, and chance.

A trivial system has a fixed rule in place of a model. Two rules rank the catalogue, one is random:

* popularity: items by their mentions in the training dialogues, ties in the order of the catalogue;
* repeat: the items that the dialogue has mentioned, the most recent first, then popularity;
* chance: k distinct items of the catalogue, drawn anew at every step. It is not sampled; what the
  metrics hold is its exact expectation.

The rules are scored twice. `recall@k_…` ranks gold items like `recall@k` of the recommender.
`rer@k_…`, `prr@k_…` and `f1@k_…` put the rule at the scored system's own item steps: they are what
a system gets that recommends exactly as often, in the same responses, without knowing what. The
denominators N_g and N_p and the one-to-one matching are those of the system's own metrics. A rule
gives the same list at every step of a response. Of `…_novel`, mentioned items are left out of the
lists, and of `…_2hop` a list hits where it meets the 2-hop set.
"""

from __future__ import annotations

import collections
import functools
from collections.abc import Collection, Sequence

from conkd_jax.eval.metrics import ranking
from conkd_jax.eval.metrics.items_in_responses import Item, ItemResponse
from conkd_jax.eval.metrics.options import MetricOptions
from conkd_jax.eval.metrics.pairs import Number, Pair
from conkd_jax.eval.metrics.two_hop import two_hop_items, two_hop_response
from conkd_jax.eval.predictions import TOP_ITEMS, Prediction

POPULARITY, REPEAT, CHANCE = "popularity", "repeat", "chance"
RULES = (POPULARITY, REPEAT, CHANCE)


def trivial_pairs(p: Prediction, options: MetricOptions) -> dict[str, Pair]:
    """The (sum, count) pairs of the trivial systems for one response, by the name of the metric.

    Empty without the catalogue and its popularity, which a corpus gives.
    """
    if options.popularity is None or not options.num_items:
        return {}
    return _at_gold_turns(p, options) | _at_item_steps(p, options)


def is_trivial(name: str) -> bool:
    """Whether a metric is of a trivial system, so that it needs no list of the scored one.

    >>> is_trivial("f1@10_novel_chance"), is_trivial("f1@10_novel")
    (True, False)
    """
    return name.rpartition("_")[2] in RULES


# --- lists -----------------------------------------------------------------------------------


def repeat_list(
    mentioned: Sequence[Item], popular: Sequence[Item], length: int
) -> tuple[Item, ...]:
    """Mentioned items, the most recent first, followed by the most popular of the others.

    Args:
      mentioned: the distinct items of the dialogue so far, the most recent last.
      popular: every item of the catalogue, the most popular first.
      length: length of the list.

    >>> repeat_list("XB", "ABC", length=4)
    ('B', 'X', 'A', 'C')
    """
    enough = popular[: length + len(mentioned)]
    return (*dict.fromkeys((*reversed(mentioned), *enough)),)[:length]


def unmentioned_list(
    mentioned: Collection[Item], popular: Sequence[Item], length: int
) -> list[Item]:
    """The most popular items that the dialogue has not mentioned.

    >>> unmentioned_list("A", "ABC", length=2)
    ['B', 'C']
    """
    enough = popular[: length + len(mentioned)]
    return [item for item in enough if item not in mentioned][:length]


# --- chance ----------------------------------------------------------------------------------


def chance_of_meeting(num_wanted: int, k: int, num_items: int) -> float:
    """P that k distinct items, drawn at random, hold one of `num_wanted` items or more.

    1 - C(M-u, k) / C(M, k) = 1 - Π_{i<k} (M-u-i) / (M-i) for M items, u of them wanted.

    >>> round(chance_of_meeting(1, k=10, num_items=100), 6), chance_of_meeting(3, 8, num_items=10)
    (0.1, 1.0)
    """
    missed = 1.0
    # C(M-u, k) / C(M, k) is symmetric in u and k; the shorter product is enough.
    drawn, wanted = min(k, num_items), min(num_wanted, num_items)
    fewer, more = min(drawn, wanted), max(drawn, wanted)
    for i in range(fewer):
        missed *= max(num_items - more - i, 0) / (num_items - i)
    return 1.0 - missed


def expected_hits(gold: Sequence[Item], num_steps: int, k: int, num_items: int) -> float:
    """E[hits_k] of one-to-one matching where each item step holds k random items of the catalogue.

    A step hits if its k items hold one of the u distinct gold items that are still free, with
    probability p_u = 1 - C(M-u, k) / C(M, k). The best-ranked of them is taken, which is each with
    probability 1/u, since a random list prefers none. A gold item that the reference names c times
    can be taken c times. With c the numbers of free mentions of the distinct gold items, and
    c - e_j one less of item j,

      E(c, s) = (1 - p_u) E(c, s-1) + p_u (1 + Σ_j E(c - e_j, s-1) / u),   E(c, 0) = E((), s) = 0.

    For distinct gold items the state is u alone.

    Args:
      gold: the gold items that are in the catalogue, with repeats.
      num_steps: s, the number of item steps.
      k: the cut-off.
      num_items: M, the size of the catalogue.

    >>> round(expected_hits("A", 1, k=10, num_items=100), 6)
    0.1
    >>> round(expected_hits("AB", 2, k=1, num_items=2), 3)  # 1 for the first, 1/2 for the second
    1.5
    """
    counts = tuple(sorted(collections.Counter(gold).values()))
    return _expected_hits(counts, num_steps, k, num_items)


@functools.lru_cache(maxsize=1 << 14)
def _expected_hits(counts: tuple[int, ...], num_steps: int, k: int, num_items: int) -> float:
    states = {counts: 1.0}  # P of each state of free mentions; forward, so nothing recurses
    for _ in range(num_steps):
        after: dict[tuple[int, ...], float] = collections.defaultdict(float)
        for free, probability in states.items():
            meets = chance_of_meeting(len(free), k, num_items)
            after[free] += probability * (1.0 - meets)
            for place, count in enumerate(free):
                left = (*free[:place], *free[place + 1 :], *([count - 1] if count > 1 else []))
                after[tuple(sorted(left))] += probability * meets / len(free)
        states = after
    return sum(counts) - sum(probability * sum(free) for free, probability in states.items())


@functools.lru_cache(maxsize=1 << 14)
def expected_capped_hits(num_gold: int, num_steps: int, meets: float) -> float:
    """E[min(H, num_gold)] for H ~ Binomial(num_steps, meets): chance in 2-hop relevance.

    Each step is one hit with probability `meets`; hits are capped at the number of gold items.

    >>> expected_capped_hits(1, 2, 0.5), expected_capped_hits(3, 2, 0.5)
    (0.75, 1.0)
    """
    reached = [1.0] + [0.0] * num_gold  # P of each number of hits so far
    for _ in range(num_steps):
        for hits in range(num_gold, 0, -1):
            stays = reached[hits] if hits == num_gold else reached[hits] * (1.0 - meets)
            reached[hits] = stays + reached[hits - 1] * meets
        if num_gold:
            reached[0] *= 1.0 - meets
    return sum(hits * probability for hits, probability in enumerate(reached))


# --- pairs -----------------------------------------------------------------------------------


def _at_gold_turns(p: Prediction, options: MetricOptions) -> dict[str, Pair]:
    """`recall@k_…` over every gold item, those outside the vocabulary included."""
    popularity, num_items = options.popularity or {}, options.num_items or 0
    popular = options.by_popularity
    targets = (*p.reference_items, *(p.reference_items_out_of_vocabulary or ()))
    lists: dict[str, tuple[Item, ...]] = {POPULARITY: popular[:TOP_ITEMS]}
    if p.mentioned_items is not None:
        lists[REPEAT] = repeat_list(p.mentioned_items, popular, TOP_ITEMS)
    pairs: dict[str, Pair] = {}
    for rule, items in lists.items():
        ranks = ranking.target_ranks(targets, items)
        for k in options.ks:
            pairs[f"recall@{k}_{rule}"] = (int(ranking.hits_at_k(ranks, k).sum()), len(targets))
    num_known = sum(target in popularity for target in targets)
    for k in options.ks:
        hits = num_known * min(k, num_items) / num_items
        pairs[f"recall@{k}_{CHANCE}"] = (hits, len(targets))
    return pairs


def _at_item_steps(p: Prediction, options: MetricOptions) -> dict[str, Pair]:
    """`rer@k_…`, `prr@k_…` and `f1@k_…` of the rules at the item steps of the response."""
    top, num_steps = options.by_popularity[:TOP_ITEMS], len(p.generated_items)
    plain = ItemResponse.of(p.reference_items, [top] * num_steps)
    pairs = _of_list(plain, options, f"_{POPULARITY}")
    pairs |= _of_chance(plain, p.reference_items, options.num_items or 0, options, f"_{CHANCE}")
    if p.mentioned_items is not None:
        repeat = repeat_list(p.mentioned_items, options.by_popularity, TOP_ITEMS)
        repeated = ItemResponse.of(p.reference_items, [repeat] * num_steps)
        pairs |= _of_list(repeated, options, f"_{REPEAT}")
        pairs |= _novel(p, options)
        pairs |= _two_hop(p, options) if options.neighbours is not None else {}
    return pairs


def _novel(p: Prediction, options: MetricOptions) -> dict[str, Pair]:
    """The rules at the steps that name something new, over what was not mentioned."""
    mentioned = set(p.mentioned_items or ())
    new = unmentioned_list(mentioned, options.by_popularity, TOP_ITEMS)
    tops = [new for item in p.generated_items if item not in mentioned]
    gold = [item for item in p.reference_items if item not in mentioned]
    response = ItemResponse.of(gold, tops)
    num_new = (options.num_items or 0) - sum(
        item in (options.popularity or {}) for item in mentioned
    )
    pairs = _of_list(response, options, f"_novel_{POPULARITY}")
    return pairs | _of_chance(response, gold, num_new, options, f"_novel_{CHANCE}")


def _two_hop(p: Prediction, options: MetricOptions) -> dict[str, Pair]:
    """The rules where 2-hop neighbours of mentioned items count."""
    gold, num_steps = p.reference_items, len(p.generated_items)
    mentioned, neighbours = set(p.mentioned_items or ()), options.neighbours or {}
    tops = [options.by_popularity[:TOP_ITEMS]] * num_steps
    response = two_hop_response(gold, tops, mentioned, neighbours)
    pairs = _of_list(response, options, f"_2hop_{POPULARITY}")
    near = two_hop_items(gold, mentioned, neighbours) & (options.popularity or {}).keys()
    for k in options.ks:
        meets = chance_of_meeting(len(near), k, options.num_items or 0)
        hits = expected_capped_hits(len(gold), num_steps, meets)
        pairs |= _ratios(f"{k}_2hop_{CHANCE}", hits, response)
    return pairs


def _of_list(response: ItemResponse, options: MetricOptions, suffix: str) -> dict[str, Pair]:
    pairs: dict[str, Pair] = {}
    for k in options.ks:
        pairs |= _ratios(f"{k}{suffix}", response.hits(k), response)
    return pairs


def _of_chance(
    response: ItemResponse,
    gold: Sequence[Item],
    num_drawn: int,
    options: MetricOptions,
    suffix: str,
) -> dict[str, Pair]:
    """Expected ratios where every step of a response holds random ones of `num_drawn` items."""
    known = [item for item in gold if item in (options.popularity or {})]
    pairs: dict[str, Pair] = {}
    for k in options.ks:
        hits = expected_hits(known, response.num_steps, k, num_drawn)
        pairs |= _ratios(f"{k}{suffix}", hits, response)
    return pairs


def _ratios(cut_off: str, hits: Number, response: ItemResponse) -> dict[str, Pair]:
    """ReR, PrR and F1 of a number of hits; the denominators are the response's own."""
    return {
        f"rer@{cut_off}": (hits, response.num_gold),
        f"prr@{cut_off}": (hits, response.num_steps),
        f"f1@{cut_off}": (2 * hits, response.num_gold + response.num_steps),
    }
