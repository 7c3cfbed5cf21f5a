"""Greedy decoding of a whole split: prompts in, responses and their item steps out.

One compiled loop per prompt length: a static cache, stopped when every row has ended. The logits
of a step are needed for one argmax only, so the loop keeps each step's features, and the most
probable items are computed afterwards for the few steps that emitted an item.

It knows token ids; it knows no text, no file and no metric.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from conkd_jax.data.rows import Prompts
from conkd_jax.distill.gates import item_mass
from conkd_jax.distill.head import Head
from conkd_jax.models.backbone import Backbone
from conkd_jax.typing import Array, Bool, Float, Int, Params

ITEM_RULES = ("argmax", "mass")
TOP_ITEMS_AT_A_TIME = 256  # item steps whose logits exist at once


class ItemStep(NamedTuple):
    """A step of a generated response that emitted an item.

    Attributes:
      step: index into the response's tokens.
      item: the emitted token.
      top: [K] the most probable item tokens at that step, best first; `top[0]` is `item`.
    """

    step: int
    item: int
    top: np.ndarray


@dataclasses.dataclass(frozen=True)
class Decoded:
    """A generated response.

    Attributes:
      tokens: without the opening token; the end token comes last where it was produced.
      item_steps: the steps that emitted an item, in order.
    """

    tokens: list[int]
    item_steps: list[ItemStep]


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
) -> list[Decoded]:
    """Generates a response to every prompt: y_t = argmax_y P(y | y_<t, x), t ≤ `max_tokens`.

    Prompts are sorted by length and cut into batches; a batch is padded to the smallest bucket that
    holds its longest. A row's tokens do not depend on its batch, but for ties within the rounding
    of the sums.

    Args:
      head: onto Y = V ∪ I, so that no input-only token can be emitted.
      prompts: what the model reads first, the opening token ([REC], [GEN] or the separator)
        included.
      end_id: the token that closes a response.
      num_words: |V|, where the items begin.
      buckets: prompt lengths to compile for. A longer prompt keeps its tail. None: 32, 48, 64,
        96, … up to the longest, or to what the model's positions allow.
      item_rule: "argmax", or "mass": where all items together have more than half of the
        probability, the best item is emitted even if a word beats each of them.

    Returns:
      the responses, in the order of the prompts.

    Raises:
      ValueError: an unknown rule, or a bucket the model can't hold.

    Source: the paper documents no decoding; greedy with 30 tokens is this project's choice.
    """
    if item_rule not in ITEM_RULES:
        raise ValueError(f"item_rule is {item_rule!r}; it is one of {', '.join(ITEM_RULES)}")
    lengths = prompts.lengths
    longest = int(max(lengths, default=1))
    buckets = _usable_buckets(buckets, longest, model.longest_prompt(max_tokens))
    responses: list[list[int]] = [[] for _ in lengths]
    item_steps: list[tuple[int, int]] = []  # (response, step)
    item_features: list[np.ndarray] = []
    for members, length in _batches(lengths, batch_size, buckets):
        tokens, features = _decode_batch(
            params,
            head,
            prompts.inputs(members, length, batch_size),
            np.arange(batch_size) >= len(members),
            model=model,
            end_id=end_id,
            max_tokens=max_tokens,
            num_words=num_words,
            item_rule=item_rule,
        )
        tokens, features = np.asarray(tokens), np.asarray(features)
        for row, member in enumerate(members):
            responses[member] = _until_end(tokens[row].tolist(), end_id)
            steps = [t for t, token in enumerate(responses[member]) if token >= num_words]
            item_steps.extend((member, step) for step in steps)
            item_features.append(features[row, steps])
    top = _top_items(head, item_features, num_words, top_k)
    decoded = [Decoded(tokens, []) for tokens in responses]
    for (member, step), best in zip(item_steps, top, strict=True):
        item = responses[member][step]
        best = np.concatenate([[item], best[best != item]])[: len(best)]  # a tie may be broken anew
        decoded[member].item_steps.append(ItemStep(step, item, best))
    return decoded


def decode_steps(
    features: Float[Array, "B F"],
    cache: Any,
    step: Callable[[Array, Any], tuple[Array, Any]],
    choose: Callable[[Array], Array],
    *,
    end_id: int,
    max_tokens: int,
    has_ended: Bool[Array, " B"],
) -> tuple[Int[Array, "B T"], Float[Array, "B T F"]]:
    """The loop of every decoder: choose a token, stop if all rows have ended, read the token.

    Args:
      features: the state that predicts the first token.
      cache: any pytree that `step` takes and gives back.
      step: (token [B], cache) → (features [B, F], cache).
      choose: features [B, F] → token [B].
      has_ended: rows that are only there to fill the batch.

    Returns:
      tokens, filled with `end_id` behind the end, and the features that chose them.
    """
    batch_size, width = features.shape
    tokens = jnp.full((batch_size, max_tokens), end_id, jnp.int32)
    kept = jnp.zeros((batch_size, max_tokens, width), features.dtype)

    def emit(t, features, tokens, kept, has_ended):
        token = jnp.where(has_ended, end_id, choose(features).astype(jnp.int32))
        tokens = tokens.at[:, t].set(token)
        return token, tokens, kept.at[:, t].set(features), has_ended | (token == end_id)

    def proceed(state):
        t, _, _, _, _, has_ended = state
        return (t < max_tokens) & ~has_ended.all()

    def body(state):
        t, token, cache, tokens, kept, has_ended = state
        features, cache = step(token, cache)
        token, tokens, kept, has_ended = emit(t, features, tokens, kept, has_ended)
        return t + 1, token, cache, tokens, kept, has_ended

    token, tokens, kept, has_ended = emit(0, features, tokens, kept, has_ended)
    state = (jnp.int32(1), token, cache, tokens, kept, has_ended)
    _, _, _, tokens, kept, _ = jax.lax.while_loop(proceed, body, state)
    return tokens, kept


def choose_token(
    logits: Float[Array, "B Y"], *, num_words: int, item_rule: str
) -> Int[Array, " B"]:
    """The token to emit: the most probable; by "mass" the best item where all items have > .5."""
    token = jnp.argmax(logits, axis=-1).astype(jnp.int32)
    if item_rule == "argmax":
        return token
    item = num_words + jnp.argmax(logits[:, num_words:], axis=-1).astype(jnp.int32)
    return jnp.where(item_mass(logits, num_words) > 0.5, item, token)


@functools.partial(
    jax.jit, static_argnames=("model", "end_id", "max_tokens", "num_words", "item_rule")
)
def _decode_batch(
    params, head, inputs, is_filled, *, model, end_id, max_tokens, num_words, item_rule
):
    features, cache = model.open_cache(params, inputs, max_tokens)
    return decode_steps(
        features,
        cache,
        functools.partial(model.step, params),
        lambda features: choose_token(
            head.logits(features), num_words=num_words, item_rule=item_rule
        ),
        end_id=end_id,
        max_tokens=max_tokens,
        has_ended=is_filled,
    )


def _batches(
    lengths: np.ndarray, batch_size: int, buckets: Sequence[int]
) -> Iterator[tuple[list[int], int]]:
    """Batches of like lengths: (indices of the prompts, the bucket that holds them)."""
    order = np.argsort(lengths, kind="stable")
    for start in range(0, len(order), batch_size):
        members = order[start : start + batch_size].tolist()
        longest = lengths[members[-1]]
        yield members, next((bucket for bucket in buckets if bucket >= longest), buckets[-1])


def _usable_buckets(buckets: Sequence[int] | None, longest: int, limit: int | None) -> list[int]:
    if limit is not None and limit < 1:
        raise ValueError("max_tokens exceeds the model's positions; lower it")
    if buckets is None:
        last = -(-longest // 32) * 32
        last = last if limit is None else min(last, limit)
        steps = (length for n in range(5, 20) for length in (2**n, 3 * 2 ** (n - 1)))
        return [*(length for length in steps if length < last), last]
    buckets = sorted(set(buckets))
    if not buckets or buckets[0] < 1 or (limit is not None and buckets[-1] > limit):
        raise ValueError(
            f"buckets are {buckets}; with max_tokens the model's positions leave room for prompts "
            f"of 1 to {limit} tokens, so choose buckets in this range"
        )
    return buckets


def _until_end(tokens: list[int], end_id: int) -> list[int]:
    return tokens[: tokens.index(end_id) + 1] if end_id in tokens else tokens


def _top_items(
    head: Head, features: Sequence[np.ndarray], num_words: int, top_k: int
) -> Iterator[np.ndarray]:
    """The most probable item tokens [K] at each of the given states, chunk by chunk."""
    rows = np.concatenate(features) if features else np.zeros((0, head.kernel.shape[0]))
    k = min(top_k, head.num_targets - num_words)
    for start in range(0, len(rows), TOP_ITEMS_AT_A_TIME):
        chunk = rows[start : start + TOP_ITEMS_AT_A_TIME]
        padded = np.pad(chunk, ((0, TOP_ITEMS_AT_A_TIME - len(chunk)), (0, 0)))
        yield from np.asarray(_top_item_ids(head, padded, num_words=num_words, k=k))[: len(chunk)]


@functools.partial(jax.jit, static_argnames=("num_words", "k"))
def _top_item_ids(head, features, *, num_words, k):
    items = Head(kernel=head.kernel[:, num_words:], bias=head.bias[num_words:])
    return num_words + jax.lax.top_k(items.logits(features), k)[1]
