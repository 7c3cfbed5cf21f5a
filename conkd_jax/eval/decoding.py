"""Decoding of a whole split: from prompts to responses and their item steps.

One loop is compiled per prompt length, for greedy decoding, sampling and beams (`search`). Its
cache has a static size, and it stops when every row has ended. Forbidden items are removed from the
softmax: from the choice of tokens, from the item mass and from the rankings. An item-first response
is decoded along `pick_grammar`, and its text is the response. Everything here is token ids.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple

import numpy as np

from conkd_jax.config.parts import SearchConfig
from conkd_jax.data.rows.contract import Prompts
from conkd_jax.data.rows.picks import split_picks
from conkd_jax.distill.head import Head
from conkd_jax.eval.decode_loop import decode_batch
from conkd_jax.eval.item_rankings import item_mask, top_items
from conkd_jax.eval.pick_grammar import PickRules
from conkd_jax.eval.shared_prompts import prompt_batches, whole_batches
from conkd_jax.models.backbone import Backbone
from conkd_jax.typing import Params

GREEDY = SearchConfig()
ITEM_RULES = ("argmax", "mass", "class")


class EmittedItem(NamedTuple):
    """An item token in a generated response, and its rivals.

    Attributes:
      step: index into the response's tokens.
      item: the emitted token.
      top: [K] the most probable item tokens at that step, best first, forbidden ones left out;
        `top[0]` is `item`, even where sampling or beams chose another than the most probable.
    """

    step: int
    item: int
    top: np.ndarray


@dataclasses.dataclass(frozen=True)
class DecodedResponse:
    """A generated response.

    Attributes:
      tokens: without the opening token; the end token comes last where it was produced.
      item_steps: the steps that emitted an item, in order.
      picks: the items that an item-first response lists before `tokens`, its text.
    """

    tokens: list[int]
    item_steps: list[EmittedItem]
    picks: list[int] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True)
class Decoding:
    """How responses are decoded, the same for all of a split.

    Attributes:
      end_id: the token that closes a response.
      num_words: |V|, the id of the first item token.
      max_tokens: the longest response, end token included and picks excluded.
      batch_size: prompts of a batch.
      top_k: length of the rankings at item steps.
      buckets: prompt lengths to compile for. A longer prompt keeps its tail. None for 32, 48, 64,
        96, … up to the longest prompt, or to the limit of the model's positions.
      item_rule: "argmax"; "mass": where all items together have more than half of the probability,
        the best item is emitted even if a word is more probable than each of them; or "class": the
        same, and where they have less, the best word is emitted even if an item is more probable.
      allow_repeats: False forbids an item once the text of the response has emitted it.
      search: greedy decoding, sampling or beams; the rule and all constraints limit each.
    """

    end_id: int
    num_words: int
    max_tokens: int = 30
    batch_size: int = 64
    top_k: int = 50
    buckets: Sequence[int] | None = None
    item_rule: str = "argmax"
    allow_repeats: bool = True
    search: SearchConfig = GREEDY

    def __post_init__(self) -> None:
        if self.item_rule not in ITEM_RULES:
            known = ", ".join(ITEM_RULES)
            raise ValueError(f"item_rule: expected one of {known}, got {self.item_rule!r}")


# (indices of the prompts of a batch, what decodes it) → tokens [B, T] and features [B, T, F]
KeepBatch = Callable[[list[int], Callable[[], tuple[Any, Any]]], tuple[np.ndarray, np.ndarray]]


def decode_responses(
    model: Backbone,
    params: Params,
    head: Head,
    prompts: Prompts,
    how: Decoding,
    *,
    forbidden_items: Sequence[Collection[int]] | None = None,
    pick_rules: PickRules | None = None,
    response_ids: Sequence[int] | None = None,
    keep: KeepBatch | None = None,
) -> list[DecodedResponse]:
    """Generates a response to every prompt, by default y_t = argmax_y P(y | y_<t, x).

    Prompts are sorted by length and cut into batches; a batch is padded to the smallest bucket that
    holds its longest prompt. A decoder-only model reads what the prompts of a dialogue share only
    once (`shared_prompts`), unless it searches with beams. The tokens of a row do not depend on
    this or on its batch, except for ties within rounding.

    Args:
      model: the language model.
      params: its parameters.
      head: onto Y = V ∪ I, so that no input-only token can be emitted.
      prompts: what the model reads first, the opening token ([REC], [GEN] or the separator)
        included.
      how: lengths, rules and search.
      forbidden_items: for each prompt, the item tokens that are forbidden in its response (those
        that the dialogue has mentioned, for example). None forbids nothing.
      pick_rules: of item-first responses; None for a model of ordinary rows.
      response_ids: the number of each response in its split, from which sampling makes its random
        numbers; None for 0, 1, …
      keep: gives what an earlier process has decoded of a batch, or else decodes it and keeps that;
        None decodes every batch.

    Returns:
      The responses, in the order of the prompts. The rankings of an item-first response are those
      of the steps at which its items were picked.

    Raises:
      ValueError: the model can't hold a bucket.

    Source: the paper documents no decoding; greedy with 30 tokens is this project's choice.
    """
    num_words, batch_size = how.num_words, how.batch_size
    num_steps = how.max_tokens + (pick_rules.room if pick_rules else 0)
    limit, has_beams = model.longest_prompt(num_steps), how.search.strategy == "beam"
    buckets = _usable_buckets(how.buckets, int(max(prompts.lengths, default=1)), limit)
    num_items = head.num_targets - num_words
    is_constrained = forbidden_items is not None or not how.allow_repeats or pick_rules is not None
    given = forbidden_items or [()] * len(prompts.lengths)

    def decode(members, make_inputs):
        some = [given[member] for member in members]
        return decode_batch(
            params,
            head,
            make_inputs(),
            np.arange(batch_size) >= len(members),
            item_mask(some, batch_size, num_items, num_words) if is_constrained else None,
            pick_rules.states(members, batch_size, num_items) if pick_rules else None,
            _search_arrays(how.search, members, response_ids, batch_size),
            model=model,
            end_id=how.end_id,
            max_tokens=num_steps,
            num_words=num_words,
            item_rule=how.item_rule,
            allow_repeats=how.allow_repeats,
            max_picks=pick_rules.max_picks if pick_rules else 0,
            beam_width=how.search.beam_width if has_beams else 0,
        )

    if has_beams:  # which need the rows of every array of the cache
        batches = whole_batches(prompts, batch_size, buckets)
    else:
        batches = prompt_batches(model, params, prompts, batch_size, buckets, num_steps)
    decoded = [DecodedResponse([], []) for _ in prompts.lengths]
    emitted = _EmittedItems(num_words, how.allow_repeats)
    for members, make_inputs in batches:
        of_batch = functools.partial(decode, members, make_inputs)
        tokens, features = map(np.asarray, keep(members, of_batch) if keep else of_batch())
        for row, member in enumerate(members):
            text = tokens[row].tolist()
            if pick_rules is not None:
                picks, text = split_picks(text, num_words, how.end_id)
                decoded[member].picks.extend(picks)
            decoded[member].tokens.extend(_until_end(text[: how.max_tokens], how.end_id))
            emitted.add(decoded[member], features[row], given[member])
    emitted.rank(head, how.top_k, is_constrained)
    return decoded


@dataclasses.dataclass
class _EmittedItems:
    """The item steps of all responses, collected so that their rankings are computed together."""

    num_words: int
    allow_repeats: bool
    steps: list[tuple[DecodedResponse, int]] = dataclasses.field(default_factory=list)
    features: list[np.ndarray] = dataclasses.field(default_factory=list)
    forbidden: list[list[int]] = dataclasses.field(default_factory=list)

    def add(
        self, response: DecodedResponse, features: np.ndarray, forbidden: Collection[int]
    ) -> None:
        """Adds the item steps of a response, given the features [T, F] that chose its tokens."""
        steps = [t for t, token in enumerate(response.tokens) if token >= self.num_words]
        said = [response.tokens[step] for step in steps]
        self.steps.extend((response, step) for step in steps)
        if response.picks:  # an item was chosen where it was picked, and no item is picked twice
            chosen = [response.picks.index(item) for item in said]
            before = [response.picks[:place] for place in chosen]
        else:
            chosen = steps
            before = [[] if self.allow_repeats else said[:n] for n in range(len(steps))]
        self.features.append(features[chosen])
        self.forbidden.extend([*forbidden, *items] for items in before)

    def rank(self, head: Head, top_k: int, is_constrained: bool) -> None:
        """Gives every response its item steps, each with its most probable items."""
        forbidden = self.forbidden if is_constrained else None
        tops = top_items(head, self.features, forbidden, self.num_words, top_k)
        for (response, step), top in zip(self.steps, tops, strict=True):
            item = response.tokens[step]
            # These logits are computed anew, in other batches: a tie may be broken in another way.
            top = np.concatenate([[item], top[top != item]])[: len(top)]
            response.item_steps.append(EmittedItem(step, item, top))


def _search_arrays(
    search: SearchConfig, members: Sequence[int], response_ids: Sequence[int] | None, size: int
) -> dict[str, Any]:
    """The numbers of a search that the compiled decoder takes as arguments, for a batch."""
    if search.strategy == "sample":
        ids = members if response_ids is None else [response_ids[member] for member in members]
        return {
            "seed": np.uint32(search.seed),
            "responses": np.resize(np.asarray(ids, np.int32), size),
            "temperature": np.float32(search.temperature),
            "top_p": np.float32(search.top_p),
        }
    return (
        {"length_penalty": np.float32(search.length_penalty)} if search.strategy == "beam" else {}
    )


def _usable_buckets(buckets: Sequence[int] | None, longest: int, limit: int | None) -> list[int]:
    if limit is not None and limit < 1:
        raise ValueError(
            "max_tokens: the model's positions leave no room for a prompt; lower max_tokens"
        )
    if buckets is None:
        last = -(-longest // 32) * 32
        last = last if limit is None else min(last, limit)
        steps = (length for n in range(5, 20) for length in (2**n, 3 * 2 ** (n - 1)))
        return [*(length for length in steps if length < last), last]
    buckets = sorted(set(buckets))
    if not buckets or buckets[0] < 1 or (limit is not None and buckets[-1] > limit):
        raise ValueError(
            f"buckets: expected prompt lengths from 1 to {limit}, the room that max_tokens leaves "
            f"in the model's positions, got {buckets}"
        )
    return buckets


def _until_end(tokens: Sequence[int], end_id: int) -> Sequence[int]:
    return tokens[: tokens.index(end_id) + 1] if end_id in tokens else tokens
