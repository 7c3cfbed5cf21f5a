"""Greedy decoding of a whole split: from prompts to responses and their item steps.

One loop is compiled per prompt length. Its cache has a static size, and it stops when every row has
ended. Forbidden items are removed from the softmax: from the argmax, from the item mass and from
the rankings. An item-first response is decoded along `pick_grammar`, and its text is the response.
Everything here is token ids.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from conkd_jax.data.rows.contract import Prompts
from conkd_jax.data.rows.picks import split_picks
from conkd_jax.distill.gates import item_mass
from conkd_jax.distill.head import Head
from conkd_jax.eval import pick_grammar
from conkd_jax.eval.item_rankings import FORBIDDEN_LOGIT, item_mask, top_items
from conkd_jax.eval.pick_grammar import PickRules
from conkd_jax.models.backbone import Backbone
from conkd_jax.typing import Array, Bool, Float, Int, Params

ITEM_RULES = ("argmax", "mass", "class")


class EmittedItem(NamedTuple):
    """An item token in a generated response, and its rivals.

    Attributes:
      step: index into the response's tokens.
      item: the emitted token.
      top: [K] the most probable item tokens at that step, best first, forbidden ones left out;
        `top[0]` is `item`.
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


def greedy_decode(
    model: Backbone,
    params: Params,
    head: Head,
    prompts: Prompts,
    *,
    end_id: int,
    num_words: int,
    max_tokens: int = 30,
    batch_size: int = 64,
    top_k: int = 50,
    buckets: Sequence[int] | None = None,
    item_rule: str = "argmax",
    forbidden_items: Sequence[Collection[int]] | None = None,
    allow_repeats: bool = True,
    pick_rules: PickRules | None = None,
) -> list[DecodedResponse]:
    """Generates a response to every prompt: y_t = argmax_y P(y | y_<t, x), t ≤ `max_tokens`.

    Prompts are sorted by length and cut into batches; a batch is padded to the smallest bucket that
    holds its longest prompt. The tokens of a row do not depend on its batch, except for ties within
    rounding.

    Args:
      model: the language model.
      params: its parameters.
      head: onto Y = V ∪ I, so that no input-only token can be emitted.
      prompts: what the model reads first, the opening token ([REC], [GEN] or the separator)
        included.
      end_id: the token that closes a response.
      num_words: |V|, the id of the first item token.
      max_tokens: the longest response, end token included and picks excluded.
      batch_size: rows of a batch.
      top_k: length of the rankings at item steps.
      buckets: prompt lengths to compile for. A longer prompt keeps its tail. None for 32, 48, 64,
        96, … up to the longest prompt, or to the limit of the model's positions.
      item_rule: "argmax"; "mass": where all items together have more than half of the probability,
        the best item is emitted even if a word is more probable than each of them; or "class": the
        same, and where they have less, the best word is emitted even if an item is more probable.
      forbidden_items: for each prompt, the item tokens that are forbidden in its response (those
        that the dialogue has mentioned, for example). None forbids nothing.
      allow_repeats: False forbids an item once the text of the response has emitted it.
      pick_rules: of item-first responses; None for a model of ordinary rows.

    Returns:
      The responses, in the order of the prompts. The rankings of an item-first response are those
      of the steps at which its items were picked.

    Raises:
      ValueError: the rule is unknown, or the model can't hold a bucket.

    Source: the paper documents no decoding; greedy with 30 tokens is this project's choice.
    """
    if item_rule not in ITEM_RULES:
        raise ValueError(f"item_rule: expected one of {', '.join(ITEM_RULES)}, got {item_rule!r}")
    lengths = prompts.lengths
    longest = int(max(lengths, default=1))
    num_steps = max_tokens + (pick_rules.room if pick_rules else 0)
    buckets = _usable_buckets(buckets, longest, model.longest_prompt(num_steps))
    num_items = head.num_targets - num_words
    is_constrained = forbidden_items is not None or not allow_repeats or pick_rules is not None
    decoded = [DecodedResponse([], []) for _ in lengths]
    emitted = _EmittedItems(num_words, allow_repeats)
    for members, length in _batches(lengths, batch_size, buckets):
        given = [forbidden_items[member] if forbidden_items else () for member in members]
        tokens, features = _decode_batch(
            params,
            head,
            prompts.inputs(members, length, batch_size),
            np.arange(batch_size) >= len(members),
            item_mask(given, batch_size, num_items, num_words) if is_constrained else None,
            pick_rules.states(members, batch_size, num_items) if pick_rules else None,
            model=model,
            end_id=end_id,
            max_tokens=num_steps,
            num_words=num_words,
            item_rule=item_rule,
            allow_repeats=allow_repeats,
            max_picks=pick_rules.max_picks if pick_rules else 0,
        )
        tokens, features = np.asarray(tokens), np.asarray(features)
        for row, member in enumerate(members):
            picks, text = [], tokens[row].tolist()
            if pick_rules is not None:
                picks, text = split_picks(text, num_words, end_id)
            decoded[member].picks.extend(picks)
            decoded[member].tokens.extend(_until_end(text[:max_tokens], end_id))
            emitted.add(decoded[member], features[row], given[row])
    emitted.rank(head, top_k, is_constrained)
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


def decode_steps(
    features: Float[Array, "B F"],
    cache: Any,
    step: Callable[[Array, Any], tuple[Array, Any]],
    choose: Callable[[Array, Any], tuple[Array, Any]],
    *,
    end_id: int,
    max_tokens: int,
    has_ended: Bool[Array, " B"],
    memory: Any = None,
    is_last: Callable[[Array, Any], Array] | None = None,
) -> tuple[Int[Array, "B T"], Float[Array, "B T F"]]:
    """The loop of every decoder: choose a token, stop if all rows have ended, read the token.

    The features of each step are returned rather than its logits [B, Y]: they are small, and the
    logits are needed again only at the few steps that emit an item (`item_rankings`).

    Args:
      features: the state that predicts the first token.
      cache: any pytree that `step` takes and returns.
      step: (token [B], cache) → (features [B, F], cache).
      choose: (features [B, F], memory) → (token [B], memory).
      end_id: the token that closes a response.
      max_tokens: T, the longest response, end token included.
      has_ended: True for rows that only fill the batch.
      memory: carried from one choice to the next, any pytree.
      is_last: whether a token [B] ends its response, given the memory after it; None where the end
        token does.

    Returns:
      The tokens, filled up with `end_id` after the end, and the features that chose them.
    """
    batch_size, width = features.shape
    tokens = jnp.full((batch_size, max_tokens), end_id, jnp.int32)
    kept = jnp.zeros((batch_size, max_tokens, width), features.dtype)

    def emit(t, features, memory, tokens, kept, has_ended):
        chosen, memory = choose(features, memory)
        token = jnp.where(has_ended, end_id, chosen.astype(jnp.int32))
        tokens = tokens.at[:, t].set(token)
        ends = token == end_id if is_last is None else is_last(token, memory)
        return token, memory, tokens, kept.at[:, t].set(features), has_ended | ends

    def proceed(state):
        t, *_, has_ended = state
        return (t < max_tokens) & ~has_ended.all()

    def body(state):
        t, cache, token, *rest = state
        features, cache = step(token, cache)
        return t + 1, cache, *emit(t, features, *rest)

    # A while_loop, not a scan: it ends with the longest response of the batch. The prompt gives the
    # features for the first token, and the last token is never read: T tokens take T - 1 steps.
    state = (jnp.int32(1), cache, *emit(0, features, memory, tokens, kept, has_ended))
    *_, tokens, kept, _ = jax.lax.while_loop(proceed, body, state)
    return tokens, kept


def choose_token(
    logits: Float[Array, "B Y"],
    *,
    num_words: int,
    item_rule: str,
    is_forbidden: Bool[Array, "B I"] | None = None,
) -> Int[Array, " B"]:
    """The token to emit: by "argmax" the most probable one.

    By "mass" it is the best item where all items together have more than 1/2. By "class" it is that
    or else the best word. With a head whose switch is σ(s), the items have exactly σ(s), so "class"
    masks one class by the switch, as RecInDial does with its pointer.

    Forbidden items have no probability: the softmax is over words and the other items. If f is the
    forbidden share of the items' probability, the others have σ(s) (1 - f) / (1 - σ(s) f) under a
    switch, less than σ(s). So "class" is no longer decided by the switch alone: a response whose
    likely items are all forbidden goes on with a word.
    """
    if is_forbidden is not None:
        items = jnp.where(is_forbidden, FORBIDDEN_LOGIT, logits[:, num_words:])
        logits = jnp.concatenate([logits[:, :num_words], items], axis=-1)  # [B, Y]
    token = jnp.argmax(logits, axis=-1).astype(jnp.int32)
    if item_rule == "argmax":
        return token
    item = num_words + jnp.argmax(logits[:, num_words:], axis=-1).astype(jnp.int32)
    if item_rule == "class":
        token = jnp.argmax(logits[:, :num_words], axis=-1).astype(jnp.int32)
    return jnp.where(item_mass(logits, num_words) > 0.5, item, token)


@functools.partial(
    jax.jit,
    static_argnames=(
        *("model", "end_id", "max_tokens", "num_words", "item_rule", "allow_repeats", "max_picks"),
    ),
)
def _decode_batch(
    params,
    head,
    inputs,
    is_filled,
    is_forbidden,
    picks,
    *,
    model,
    end_id,
    max_tokens,
    num_words,
    item_rule,
    allow_repeats,
    max_picks,
):
    """Decodes a batch.

    `is_forbidden` is [B, I], or None where nothing is; `picks` is None without `max_picks`.
    """
    ids = {"num_words": num_words, "end_id": end_id}

    def choose(features, memory):
        is_forbidden, picks = memory
        logits = head.logits(features, inputs.get("retrieved_ids"))
        if picks is not None:
            is_allowed = pick_grammar.allowed(picks, max_picks=max_picks, **ids)
            logits = jnp.where(is_allowed, logits, FORBIDDEN_LOGIT)
        token = choose_token(
            logits, num_words=num_words, item_rule=item_rule, is_forbidden=is_forbidden
        )
        if not allow_repeats:
            # a word has a negative index here, and one_hot makes a row of zeros of it
            said = jax.nn.one_hot(token - num_words, is_forbidden.shape[1], dtype=bool)
            if picks is not None:  # a pick is not said yet
                said &= (picks.phase == pick_grammar.TEXT)[:, None]
            is_forbidden |= said
        if picks is not None:
            picks = pick_grammar.after(picks, token, **ids)
        return token, (is_forbidden, picks)

    def is_last(token, memory):
        return memory[1].phase == pick_grammar.DONE

    features, cache = model.open_cache(params, inputs, max_tokens)
    return decode_steps(
        features,
        cache,
        functools.partial(model.step, params),
        choose,
        end_id=end_id,
        max_tokens=max_tokens,
        has_ended=is_filled,
        memory=(is_forbidden, picks),
        is_last=None if picks is None else is_last,
    )


def _batches(
    lengths: np.ndarray, batch_size: int, buckets: Sequence[int]
) -> Iterator[tuple[list[int], int]]:
    """Batches of similar lengths: (indices of the prompts, the bucket that holds them)."""
    order = np.argsort(lengths, kind="stable")
    for start in range(0, len(order), batch_size):
        members = order[start : start + batch_size].tolist()
        longest = lengths[members[-1]]
        yield members, next((bucket for bucket in buckets if bucket >= longest), buckets[-1])


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
