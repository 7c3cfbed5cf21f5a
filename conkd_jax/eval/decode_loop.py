"""The compiled loop of every decoder: choose a token for each row, and read it.

`decode_steps` is the loop alone. `decode_batch` runs it on a batch of prompts, greedily, by
sampling or with beams. What a response is, and which items it names, is left to `decoding`.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from conkd_jax.eval import pick_grammar
from conkd_jax.eval.item_rankings import FORBIDDEN_LOGIT
from conkd_jax.eval.pick_grammar import PickState
from conkd_jax.eval.search import (
    Beams,
    Draws,
    most_probable,
    repeated,
    row_axes,
    sayable,
    taken,
)
from conkd_jax.typing import Array, Bool, Float, Int


@dataclasses.dataclass(frozen=True)
class Reorder:
    """How the rows of a batch change places between two steps, as beams do.

    Attributes:
      parents: memory → [B] the row that each row continues.
      cache: (cache, rows [B]) → the cache of these rows.
    """

    parents: Callable[[Any], Array]
    cache: Callable[[Any, Array], Any]


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
    reorder: Reorder | None = None,
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
      reorder: for beams: which rows continue which; None where every row continues itself.

    Returns:
      The tokens, filled up with `end_id` after the end, and the features that chose them.
    """
    batch_size, width = features.shape
    tokens = jnp.full((batch_size, max_tokens), end_id, jnp.int32)
    kept = jnp.zeros((batch_size, max_tokens, width), features.dtype)

    def emit(t, features, cache, memory, tokens, kept, has_ended):
        chosen, memory = choose(features, memory)
        if reorder is not None:
            rows = reorder.parents(memory)
            cache = reorder.cache(cache, rows)
            features, tokens, kept, has_ended = (
                each[rows] for each in (features, tokens, kept, has_ended)
            )
        token = jnp.where(has_ended, end_id, chosen.astype(jnp.int32))
        tokens = tokens.at[:, t].set(token)
        ends = token == end_id if is_last is None else is_last(token, memory)
        return token, cache, memory, tokens, kept.at[:, t].set(features), has_ended | ends

    def proceed(state):
        t, *_, has_ended = state
        return (t < max_tokens) & ~has_ended.all()

    def body(state):
        t, token, cache, *rest = state
        features, cache = step(token, cache)
        return t + 1, *emit(t, features, cache, *rest)

    # A while_loop, not a scan: it ends with the longest response of the batch. The prompt gives the
    # features for the first token, and the last token is never read: T tokens take T - 1 steps.
    state = (jnp.int32(1), *emit(0, features, cache, memory, tokens, kept, has_ended))
    *_, tokens, kept, _ = jax.lax.while_loop(proceed, body, state)
    return tokens, kept


class Memory(NamedTuple):
    """What the choice of a token depends on besides the features; a part that is not used is None.

    Attributes:
      is_forbidden: [B, I] the items that a response may not name, or not any more.
      picks: where an item-first response is in its grammar.
      draws: of sampling.
      beams: of beam search; the rows are then those of all beams.
      parents: of beam search, the row that each row continues.
    """

    is_forbidden: Any
    picks: PickState | None
    draws: Draws | None = None
    beams: Beams | None = None
    parents: Any = None


@dataclasses.dataclass(frozen=True)
class Chooser:
    """The choice of a token for each row; the arguments are those of `decode_batch`."""

    num_words: int
    end_id: int
    item_rule: str
    allow_repeats: bool
    max_picks: int = 0
    beam_width: int = 0

    def possible(self, logits: Float[Array, "B Y"], memory: Memory) -> Float[Array, "B Y"]:
        """The logits without what is forbidden; the item rule excludes nothing here."""
        if memory.picks is not None:
            ids = {"num_words": self.num_words, "end_id": self.end_id}
            is_allowed = pick_grammar.allowed(memory.picks, max_picks=self.max_picks, **ids)
            logits = jnp.where(is_allowed, logits, FORBIDDEN_LOGIT)
        return sayable(
            logits,
            num_words=self.num_words,
            item_rule="argmax",
            is_forbidden=memory.is_forbidden,
        )

    def choose(
        self, logits: Float[Array, "B Y"], memory: Memory
    ) -> tuple[Int[Array, " B"], Memory]:
        """The tokens, and the memory after them."""
        logits = sayable(
            self.possible(logits, memory), num_words=self.num_words, item_rule=self.item_rule
        )
        if memory.beams is not None:
            token, parents, beams = memory.beams.extended(logits, self.beam_width, self.end_id)
            of_parents = jax.tree.map(lambda rows: rows[parents], memory[:2])
            memory = Memory(*of_parents, beams=beams, parents=parents)
        elif memory.draws is not None:
            token, draws = memory.draws.drawn(logits)
            memory = memory._replace(draws=draws)
        else:
            token = most_probable(logits)
        return token, self._after(token, memory)

    def _after(self, token: Int[Array, " B"], memory: Memory) -> Memory:
        is_forbidden, picks, _, beams, _ = memory
        if not self.allow_repeats:
            # a word has a negative index here, and one_hot makes a row of zeros of it
            said = jax.nn.one_hot(token - self.num_words, is_forbidden.shape[1], dtype=bool)
            if picks is not None:  # a pick is not said yet
                said &= (picks.phase == pick_grammar.TEXT)[:, None]
            is_forbidden |= said
        if picks is not None:
            picks = pick_grammar.after(picks, token, num_words=self.num_words, end_id=self.end_id)
        memory = memory._replace(is_forbidden=is_forbidden, picks=picks)
        if beams is not None:
            has_ended = beams.has_ended | self.is_last(token, memory)
            memory = memory._replace(beams=beams._replace(has_ended=has_ended))
        return memory

    def is_last(self, token: Int[Array, " B"], memory: Memory) -> Bool[Array, " B"]:
        """Whether a token ends its response, given the memory after it."""
        if memory.picks is None:
            return token == self.end_id
        return memory.picks.phase == pick_grammar.DONE


def choose_token(
    logits: Float[Array, "B Y"], *, num_words: int, item_rule: str
) -> Int[Array, " B"]:
    """The most probable of the tokens that may come next by a rule, where nothing is forbidden."""
    chooser = Chooser(num_words, end_id=-1, item_rule=item_rule, allow_repeats=True)
    token, _ = chooser.choose(logits, Memory(None, None))
    return token


@functools.partial(
    jax.jit,
    static_argnames=(
        *("model", "end_id", "max_tokens", "num_words", "item_rule", "allow_repeats", "max_picks"),
        "beam_width",
    ),
)
def decode_batch(
    params,
    head,
    inputs,
    is_filled,
    is_forbidden,
    picks,
    search,
    *,
    model,
    end_id,
    max_tokens,
    num_words,
    item_rule,
    allow_repeats,
    max_picks,
    beam_width,
):
    """Decodes a batch of prompts; returns tokens [B, T] and the features [B, T, F] that chose them.

    `is_forbidden` is [B, I], or None where nothing is; `picks` is None without `max_picks`. For
    sampling, `search` has the arguments of `Draws.of`; for beams, of which there are `beam_width`,
    it has `length_penalty`; for greedy decoding it is empty.
    """
    chooser = Chooser(num_words, end_id, item_rule, allow_repeats, max_picks, beam_width)
    retrieved_ids = inputs.get("retrieved_ids")
    features, cache = model.open_cache(params, inputs, max_tokens)
    memory, reorder = Memory(is_forbidden, picks), None
    if beam_width:
        axes = row_axes(lambda each: model.open_cache(params, each, max_tokens)[1], inputs)
        cache = repeated(cache, axes, beam_width)
        of_beams = (features, retrieved_ids, memory)
        features, retrieved_ids, memory = jax.tree.map(
            lambda rows: jnp.repeat(rows, beam_width, axis=0), of_beams
        )
        beams = Beams.of(is_filled, beam_width, search["length_penalty"])
        memory = memory._replace(beams=beams, parents=jnp.arange(len(features)))
        is_filled = beams.has_ended
        reorder = Reorder(
            lambda memory: memory.parents, lambda cache, rows: taken(cache, axes, rows)
        )
    elif search:
        memory = memory._replace(draws=Draws.of(**search))
    tokens, kept = decode_steps(
        features,
        cache,
        functools.partial(model.step, params),
        lambda features, memory: chooser.choose(head.logits(features, retrieved_ids), memory),
        end_id=end_id,
        max_tokens=max_tokens,
        has_ended=is_filled,
        memory=memory,
        is_last=chooser.is_last,
        reorder=reorder,
    )
    every = slice(None, None, beam_width or 1)  # the best beam of each prompt is its first
    return tokens[every], kept[every]
