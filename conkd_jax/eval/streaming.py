"""Decoding a token at a time, with what each step says about the items.

The choice of a token is that of `decode_loop`, so a streamed response equals the one that the
evaluation decodes. Two programs are compiled for each prompt length and batch size: one reads the
prompts and chooses the first token, the other reads a token and chooses the next. A third reads a
given response and returns its item mass, which is λ where the model is the dialogue teacher.
Everything here is token ids.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from conkd_jax.distill.gates import item_mass
from conkd_jax.distill.head import Head
from conkd_jax.eval.decode_loop import Chooser, Memory
from conkd_jax.models.backbone import Backbone
from conkd_jax.typing import Params


class StreamStep(NamedTuple):
    """One token of every response of a batch, and the distribution that it was chosen from.

    Attributes:
      token: [B] the chosen tokens; the end token for rows that have ended before.
      probability: [B] of the chosen tokens, forbidden ones left out.
      item_mass: [B] Σ_{y∈I} P(y), of all items together.
      top: [B, K] the most probable item tokens, best first; forbidden ones rank last.
      top_probability: [B, K] of each.
      has_ended: [B] whether the response is complete with this token.
    """

    token: Any
    probability: Any
    item_mass: Any
    top: Any
    top_probability: Any
    has_ended: Any


def stream_batch(
    model: Backbone,
    params: Params,
    head: Head,
    inputs: Mapping[str, Any],
    memory: Memory,
    is_filled: np.ndarray,
    *,
    chooser: Chooser,
    max_tokens: int,
    top_k: int = 50,
    least_tokens: int = 1,
) -> Iterator[StreamStep]:
    """Generates responses to a batch of prompts, a token at a time.

    Args:
      model: the language model.
      params: its parameters.
      head: onto Y = V ∪ I.
      inputs: the result of `Prompts.inputs`.
      memory: what the choices depend on, before the first token.
      is_filled: [B] True for rows that only fill the batch.
      chooser: the choice of a token.
      max_tokens: the longest response, picks and end token included.
      top_k: length of the rankings.
      least_tokens: the fewest steps, even after all responses have ended.

    Yields:
      The steps, as NumPy arrays, until every response has ended.
    """
    how = {
        "model": model,
        "chooser": chooser,
        "top_k": min(top_k, head.num_targets - chooser.num_words),
    }
    inputs = dict(inputs)
    step, state = _first(params, head, inputs, memory, is_filled, max_tokens=max_tokens, **how)
    for place in range(max_tokens):
        if place:
            step, state = _next(params, head, inputs.get("retrieved_ids"), state, **how)
        step = jax.tree.map(np.asarray, step)
        yield step
        if step.has_ended.all() and place + 1 >= least_tokens:
            return


@functools.partial(jax.jit, static_argnames=("model", "chooser", "max_tokens", "top_k"))
def _first(params, head, inputs, memory, is_filled, *, model, chooser, max_tokens, top_k):
    features, cache = model.open_cache(params, inputs, max_tokens)
    logits = head.logits(features, inputs.get("retrieved_ids"))
    return _chosen(logits, cache, memory, is_filled, chooser, top_k)


@functools.partial(jax.jit, static_argnames=("model", "chooser", "top_k"))
def _next(params, head, retrieved_ids, state, *, model, chooser, top_k):
    token, cache, memory, has_ended = state
    features, cache = model.step(params, token, cache)
    logits = head.logits(features, retrieved_ids)
    return _chosen(logits, cache, memory, has_ended, chooser, top_k)


def _chosen(logits, cache, memory, has_ended, chooser, top_k):
    possible = jax.nn.softmax(chooser.possible(logits, memory), axis=-1)  # [B, Y]
    token, memory = chooser.choose(logits, memory)
    token = jnp.where(has_ended, chooser.end_id, token)
    items = possible[:, chooser.num_words :]
    top_probability, top = jax.lax.top_k(items, top_k)
    has_ended = has_ended | chooser.is_last(token, memory)
    step = StreamStep(
        token=token,
        probability=jnp.take_along_axis(possible, token[:, None], axis=-1)[:, 0],
        item_mass=items.sum(axis=-1),
        top=chooser.num_words + top,
        top_probability=top_probability,
        has_ended=has_ended,
    )
    return step, (token, cache, memory, has_ended)


class ReadResponse(NamedTuple):
    """What a model predicts at every token of given responses, under teacher forcing.

    Attributes:
      item_mass: [B, T] the probability of all items together.
      features: [B, T, F] for the rankings of items (`item_rankings.top_items`).
    """

    item_mass: Any
    features: Any


@functools.partial(jax.jit, static_argnames=("model", "num_words"))
def read_response(
    params: Params,
    head: Head,
    inputs: Mapping[str, Any],
    tokens: Any,
    *,
    model: Backbone,
    num_words: int,
) -> ReadResponse:
    """Reads given responses to a batch of prompts.

    Args:
      params: the parameters of the model.
      head: onto Y = V ∪ I.
      inputs: the result of `Prompts.inputs`.
      tokens: [B, T] the responses, picks included, filled up with any token.
      model: the language model.
      num_words: |V|, the id of the first item token.
    """
    features, cache = model.open_cache(params, inputs, tokens.shape[1])

    def read(state, token):
        features, cache = state
        mass = item_mass(head.logits(features, inputs.get("retrieved_ids")), num_words)
        return model.step(params, token, cache), ReadResponse(mass, features)

    _, found = jax.lax.scan(read, (features, cache), tokens.T)
    return jax.tree.map(lambda steps: jnp.swapaxes(steps, 0, 1), found)
