"""How the decoder goes from logits to tokens: which tokens may come, and which of them does.

`sayable` masks what a rule or a constraint excludes. Of the rest, greedy decoding takes the most
probable token, `Draws` takes one at random, and `Beams` keeps several responses to a prompt, each
as a row of the batch. Pure functions of arrays; the loop is in `decode_loop`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from conkd_jax.distill.gates import item_mass
from conkd_jax.eval.item_rankings import FORBIDDEN_LOGIT
from conkd_jax.typing import Array, Bool, Float, Int, PRNGKeyArray

KEYS = "threefry2x32"  # gives a row the same numbers in every batch; rbg does not
SHARED = -1  # in place of the axis of the rows, for arrays that all rows share


def sayable(
    logits: Float[Array, "B Y"],
    *,
    num_words: int,
    item_rule: str,
    is_forbidden: Bool[Array, "B I"] | None = None,
) -> Float[Array, "B Y"]:
    """The logits of the tokens that may come next; all others have `FORBIDDEN_LOGIT`.

    By "argmax" all tokens may. By "mass" only items may where all items together have more than
    1/2. By "class" the same, and elsewhere only words may. With a head whose switch is σ(s), the
    items have exactly σ(s), so "class" masks one class by the switch, as RecInDial does with its
    pointer.

    Forbidden items have no probability: the softmax is over words and the other items. If f is the
    forbidden share of the items' probability, the others have σ(s) (1 - f) / (1 - σ(s) f) under a
    switch, less than σ(s). So "class" is no longer decided by the switch alone: a response whose
    likely items are all forbidden goes on with a word.
    """
    words, items = logits[:, :num_words], logits[:, num_words:]
    if is_forbidden is not None:
        items = jnp.where(is_forbidden, FORBIDDEN_LOGIT, items)
        logits = jnp.concatenate([words, items], axis=-1)  # [B, Y]
    if item_rule == "argmax":
        return logits
    is_item = item_mass(logits, num_words)[:, None] > 0.5
    words = jnp.where(is_item, FORBIDDEN_LOGIT, words)
    if item_rule == "class":
        items = jnp.where(is_item, items, FORBIDDEN_LOGIT)
    return jnp.concatenate([words, items], axis=-1)  # [B, Y]


def most_probable(logits: Float[Array, "B Y"]) -> Int[Array, " B"]:
    """argmax_y of the logits, the first of equal ones, eleven times as fast on a CPU.

    XLA's argmax carries pairs of value and index through its reduction, which CPUs don't vectorise.
    The largest value, and then the first index that has it, are two plain reductions.
    """
    is_largest = logits == logits.max(axis=-1, keepdims=True)
    return jnp.where(is_largest, jnp.arange(logits.shape[-1]), logits.shape[-1] - 1).min(axis=-1)


# --- sampling --------------------------------------------------------------------------------


class Draws(NamedTuple):
    """Where the random numbers of a batch come from, and what is drawn with them.

    The numbers of a token depend on the seed, its response and its step. They do not depend on the
    batch, its padding or the number of devices.

    Attributes:
      keys: [B] one for each response.
      step: of the next token.
      temperature: τ; a token y is drawn in proportion to P(y)^(1/τ).
      top_p: the share of the probability that may be drawn.
    """

    keys: PRNGKeyArray
    step: Int[Array, ""]
    temperature: Float[Array, ""]
    top_p: Float[Array, ""]

    @classmethod
    def of(cls, seed: Any, responses: Int[Array, " B"], temperature: Any, top_p: Any) -> Draws:
        """The draws of some responses before their first token.

        Args:
          seed: of the whole split.
          responses: the number of each response in the split.
          temperature: as of the attribute.
          top_p: as of the attribute.
        """
        key = jax.random.key(seed, impl=KEYS)
        keys = jax.vmap(jax.random.fold_in, (None, 0))(key, responses)
        return cls(keys, jnp.int32(0), jnp.float32(temperature), jnp.float32(top_p))

    def drawn(self, logits: Float[Array, "B Y"]) -> tuple[Int[Array, " B"], Draws]:
        """A token for each row, and the draws for the next one.

        Adding Gumbel noise to log-probabilities and taking the maximum draws from their softmax.
        """
        logits = top_p_logits(logits / self.temperature, self.top_p)
        keys = jax.vmap(jax.random.fold_in, (0, None))(self.keys, self.step)
        shape, dtype = logits.shape[1:], logits.dtype
        noise = jax.vmap(lambda key: jax.random.gumbel(key, shape, dtype))(keys)
        token = jnp.argmax(logits + noise, axis=-1).astype(jnp.int32)
        return token, self._replace(step=self.step + 1)


def top_p_logits(logits: Float[Array, "B Y"], top_p: Float[Array, ""]) -> Float[Array, "B Y"]:
    """The logits of the fewest tokens that together have at least `top_p`, most probable first.

    All others get `FORBIDDEN_LOGIT`. The most probable token always stays, and tokens as probable
    as the last one stay with it.

    Source: nucleus sampling, Holtzman et al., 2020.
    """
    probability = jax.nn.softmax(logits.astype(jnp.float32), axis=-1)

    def bits(floats):
        return jax.lax.bitcast_convert_type(floats, jnp.int32)

    def halve(_, ends):
        low, high = ends
        middle = low + (high - low) // 2
        least = jax.lax.bitcast_convert_type(middle, jnp.float32)[:, None]
        holds = jnp.where(probability >= least, probability, 0).sum(axis=-1) >= top_p
        return jnp.where(holds, middle, low), jnp.where(holds, high, middle)

    # The smallest probability that stays, by bisection. Positive floats are in the order of their
    # bits, so that 31 halvings find it exactly; sorting the vocabulary takes 25 times as long.
    high = bits(probability.max(axis=-1)) + 1
    low, _ = jax.lax.fori_loop(0, 31, halve, (jnp.zeros_like(high), high))
    stays = bits(probability) >= low[:, None]
    return jnp.where(stays, logits, FORBIDDEN_LOGIT)


# --- beams -----------------------------------------------------------------------------------


class Beams(NamedTuple):
    """The W unfinished or finished responses to each prompt, as W consecutive rows of the batch.

    A response y of T tokens has the score log P(y | x) / T^α. At every step each unfinished one is
    continued by every token, a finished one stays as it is, and the W best are kept, best first.
    With W = 1 this is greedy decoding. With α = 0 the score is the log-probability, which prefers
    short responses; with α = 1 it is the mean over tokens.

    Attributes:
      log_prob: [B W] log P of the tokens so far; -inf for rows that are not in use yet.
      length: [B W] the number of tokens so far, the end token included.
      has_ended: [B W] whether the response is finished.
      length_penalty: α.
    """

    log_prob: Float[Array, " BW"]
    length: Int[Array, " BW"]
    has_ended: Bool[Array, " BW"]
    length_penalty: Float[Array, ""]

    @classmethod
    def of(cls, is_filled: Bool[Array, " B"], width: int, length_penalty: Any) -> Beams:
        """One empty response to each prompt; rows that only fill the batch have ended."""
        is_first = jnp.arange(width) == 0
        log_prob = jnp.tile(jnp.where(is_first, 0.0, -jnp.inf), len(is_filled))
        return cls(
            log_prob.astype(jnp.float32),
            jnp.zeros(len(log_prob), jnp.int32),
            jnp.repeat(jnp.asarray(is_filled), width),
            jnp.float32(length_penalty),
        )

    def extended(
        self, logits: Float[Array, "BW Y"], width: int, end_id: int
    ) -> tuple[Int[Array, " BW"], Int[Array, " BW"], Beams]:
        """The best responses with one more token.

        Returns:
          The token of each, the row of the response that it continues, and the beams, in which
          `has_ended` is still that of the continued response.
        """
        num_rows, num_targets = logits.shape
        log_probs = jax.nn.log_softmax(logits, axis=-1)
        stay = jnp.where(jnp.arange(num_targets) == end_id, 0.0, -jnp.inf).astype(log_probs.dtype)
        log_probs = jnp.where(self.has_ended[:, None], stay, log_probs)
        total = self.log_prob[:, None] + log_probs  # [BW, Y]
        length = self.length + ~self.has_ended
        divisor = jnp.maximum(length, 1).astype(total.dtype) ** self.length_penalty
        scores = (total / divisor[:, None]).reshape(-1, width * num_targets)
        _, best = jax.lax.top_k(scores, width)  # [B, W]
        firsts = jnp.arange(0, num_rows, width)[:, None]
        parents = (firsts + best // num_targets).reshape(-1)
        tokens = (best % num_targets).reshape(-1).astype(jnp.int32)
        kept = self._replace(
            log_prob=total[parents, tokens],
            length=length[parents],
            has_ended=self.has_ended[parents],
        )
        return tokens, parents, kept


def row_axes(cache_of: Callable[[Any], Any], inputs: Any) -> list[int]:
    """The axis along which each array of a cache has the rows of the batch, or `SHARED`.

    A cache may be any pytree, so this is found by comparing its shapes with those for a batch of
    twice as many rows. Nothing is computed.

    Args:
      cache_of: inputs → cache.
      inputs: of a batch; every array has its rows first.

    Returns:
      The axes in the order of the cache's leaves.

    Raises:
      ValueError: an array has the rows in no axis of its own.
    """

    def twice(array):
        return jax.ShapeDtypeStruct((2 * array.shape[0], *array.shape[1:]), array.dtype)

    def shapes(inputs):
        leaves = jax.eval_shape(lambda inputs: jax.tree.leaves(cache_of(inputs)), inputs)
        return [leaf.shape for leaf in leaves]

    num_rows = jax.tree.leaves(inputs)[0].shape[0]
    axes = []
    for one, two in zip(shapes(inputs), shapes(jax.tree.map(twice, inputs)), strict=True):
        changed = [axis for axis in range(len(one)) if one[axis] != two[axis]]
        if len(changed) > 1 or any(one[axis] != num_rows for axis in changed):
            raise ValueError(
                "decode.strategy = beam: expected a cache whose arrays have the rows of the batch "
                f"in one axis; with {num_rows} rows got shape {one}, with twice as many {two}"
            )
        axes.append(changed[0] if changed else SHARED)
    return axes


def repeated(cache: Any, axes: Sequence[int], width: int) -> Any:
    """A cache with each row `width` times; `axes` is what `row_axes` returned."""
    return _by_rows(cache, axes, lambda array, axis: jnp.repeat(array, width, axis))


def taken(cache: Any, axes: Sequence[int], rows: Int[Array, " R"]) -> Any:
    """A cache with other rows; `axes` is what `row_axes` returned."""
    return _by_rows(cache, axes, lambda array, axis: jnp.take(array, rows, axis))


def _by_rows(cache: Any, axes: Sequence[int], change: Callable[[Array, int], Array]) -> Any:
    leaves, structure = jax.tree.flatten(cache)
    changed = [
        leaf if axis == SHARED else change(leaf, axis)
        for leaf, axis in zip(leaves, axes, strict=True)
    ]
    return jax.tree.unflatten(structure, changed)
