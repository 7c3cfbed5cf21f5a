"""The batches of prompts that a split is decoded in, in which what prompts share is read once.

Each prompt of a dialogue begins with the one before it, except for its opening token. A
decoder-only model has the same keys and values for the same beginning. So the longest prompt of
each dialogue is read without its opening token, as a trunk. The others branch from it: their keys
and values are copied, and only the opening token is read for each response. How tokens are chosen
is of no concern here.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from conkd_jax.data.batches.plan import batches_by_length
from conkd_jax.data.rows.contract import Prompts
from conkd_jax.data.rows.dialogue import TokenPrompts
from conkd_jax.models.backbone import Backbone
from conkd_jax.models.decoder_only import DecoderOnly
from conkd_jax.typing import Params

MakeInputs = Callable[[], Mapping[str, Any]]


def whole_batches(
    prompts: Prompts, batch_size: int, buckets: Sequence[int]
) -> Iterator[tuple[list[int], MakeInputs]]:
    """Goes through prompts that are read from their first token, in batches of similar lengths.

    Args:
      prompts: of any model.
      batch_size: prompts of a batch; the last one may have fewer.
      buckets: the lengths that prompts are padded to, ascending.

    Yields:
      The prompts of a batch, and a function that makes the inputs of the model's `open_cache`.
    """
    for rows, length in batches_by_length(prompts.lengths, batch_size, buckets):
        members = rows.tolist()
        yield members, functools.partial(prompts.inputs, members, length, batch_size)


def prompt_batches(
    model: Backbone,
    params: Params,
    prompts: Prompts,
    batch_size: int,
    buckets: Sequence[int],
    max_tokens: int,
) -> Iterator[tuple[list[int], MakeInputs]]:
    """Goes through prompts in batches that branch from trunks, where the model can do so.

    A batch of trunks of similar lengths is kept at a time, and read when the inputs of the first
    batch that branches from it are made. What is compiled depends on the buckets alone, not on how
    many prompts there are or how much they share.

    Args:
      model: the language model; one that is not `DecoderOnly` reads its prompts whole.
      params: its parameters.
      prompts: what responses are generated for.
      batch_size: of trunks and of prompts, as for `whole_batches`.
      buckets: of trunks and of prompts, as for `whole_batches`; a longer prompt keeps its tail.
      max_tokens: the most tokens of a response.

    Returns:
      The batches, as `whole_batches` yields them.
    """
    # A subclass may have more inputs than tokens.
    if isinstance(model, DecoderOnly) and type(prompts) is TokenPrompts:
        prompts = prompts.cut(buckets[-1])
        return _branching_batches(model, params, prompts, batch_size, buckets, max_tokens)
    return whole_batches(prompts, batch_size, buckets)


def _branching_batches(
    model: DecoderOnly,
    params: Params,
    prompts: TokenPrompts,
    batch_size: int,
    buckets: Sequence[int],
    max_tokens: int,
) -> Iterator[tuple[list[int], MakeInputs]]:
    trunks, trunk_of = prompts.trunks()
    for rows, length in batches_by_length(trunks.lengths, batch_size, buckets):
        read = _Trunks(model, params, trunks, rows.tolist(), length, batch_size)
        branching = np.flatnonzero(np.isin(trunk_of, rows))
        for chosen, padded in batches_by_length(prompts.lengths[branching], batch_size, buckets):
            members = branching[chosen].tolist()
            tokens = [prompts.tokens[member] for member in members]
            of_members = trunk_of[members].tolist()
            yield (
                members,
                functools.partial(read.inputs, tokens, of_members, padded, max_tokens),
            )


@dataclasses.dataclass(frozen=True)
class _Trunks:
    """A batch of trunks, and the batches that branch from them.

    Attributes:
      model: the language model.
      params: its parameters.
      trunks: all trunks.
      members: those of this batch.
      length: what they are padded to, on the left.
      batch_size: rows of every batch.
    """

    model: DecoderOnly
    params: Params
    trunks: TokenPrompts
    members: list[int]
    length: int
    batch_size: int

    def inputs(
        self,
        prompts: Sequence[Sequence[int]],
        trunk_of: Sequence[int],
        length: int,
        max_tokens: int,
    ) -> dict[str, Any]:
        """The inputs of `open_cache` for some prompts, then for rows that fill the batch."""
        rows, ends, num_read, opening = np.zeros((4, self.batch_size), np.int32)
        for place, (tokens, trunk) in enumerate(zip(prompts, trunk_of, strict=True)):
            rows[place] = self.members.index(trunk)
            num_read[place] = len(tokens) - 1
            ends[place] = self.length - len(self.trunks.tokens[trunk]) + num_read[place]
            opening[place] = tokens[-1]
        before = length - 1
        most = before + max_tokens
        branched = self.model.branch(self._layers, rows, ends, num_read, before, most)
        return {"branched": branched, "opening": opening}

    @functools.cached_property
    def _layers(self) -> Any:
        """Keys and values of the trunks."""
        inputs = self.trunks.inputs(self.members, self.length, self.batch_size)
        return _layers(self.model, self.params, inputs["input_ids"], inputs["attention_mask"])


@functools.partial(jax.jit, static_argnums=0)
def _layers(model, params, input_ids, attention_mask):
    _, cache = model.prefill(params, input_ids, attention_mask, input_ids.shape[1])
    return cache.layers
