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
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int64

from conkd_jax.data.batches.plan import batches_by_length
from conkd_jax.data.rows.contract import Prompts
from conkd_jax.data.rows.dialogue import TokenPrompts
from conkd_jax.models.backbone import Backbone
from conkd_jax.models.decoder_only import DecoderOnly
from conkd_jax.typing import Params

TRUNK_BYTES = 2**30  # of keys and values that are kept at once, unless one batch needs more

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

    Of the trunks, sorted by length, as many are kept at once as fit into `TRUNK_BYTES`. They are
    read when the inputs of the first batch that branches from them are made. If all fit, the
    batches are those of `whole_batches`.

    Args:
      model: the language model; one that is not `DecoderOnly` reads its prompts whole.
      params: its parameters.
      prompts: what responses are generated for; they are read whole where trunks, padded to whole
        batches, are no less to read.
      batch_size: as for `whole_batches`.
      buckets: as for `whole_batches`.
      max_tokens: the most tokens of a response.

    Returns:
      The batches, as `whole_batches` yields them.
    """
    # A subclass may have more inputs than tokens.
    if isinstance(model, DecoderOnly) and type(prompts) is TokenPrompts:
        prompts = prompts.cut(buckets[-1])
        trunks, trunk_of = prompts.trunks()
        sizes = batch_size, buckets
        if _padded_length(trunks, *sizes) < _padded_length(prompts, *sizes):
            return _branching_batches(model, params, prompts, trunks, trunk_of, *sizes, max_tokens)
    return whole_batches(prompts, batch_size, buckets)


def _branching_batches(
    model: DecoderOnly,
    params: Params,
    prompts: TokenPrompts,
    trunks: TokenPrompts,
    trunk_of: Int64[np.ndarray, " P"],
    batch_size: int,
    buckets: Sequence[int],
    max_tokens: int,
) -> Iterator[tuple[list[int], MakeInputs]]:
    for pieces in _chunks(model, params, trunks, batch_size, buckets):
        chunk = _Chunk(model, params, trunks, pieces, batch_size, max_tokens)
        branching = np.flatnonzero(np.isin(trunk_of, np.concatenate([rows for rows, _ in pieces])))
        lengths = prompts.lengths[branching]
        for rows, length in batches_by_length(lengths, batch_size, buckets):
            members = branching[rows].tolist()
            tokens = [prompts.tokens[member] for member in members]
            of_members = trunk_of[members].tolist()
            yield members, functools.partial(chunk.inputs, tokens, of_members, length)


def _padded_length(prompts: TokenPrompts, batch_size: int, buckets: Sequence[int]) -> int:
    """How long all batches of prompts are together."""
    return sum(length for _, length in batches_by_length(prompts.lengths, batch_size, buckets))


def _chunks(
    model: DecoderOnly,
    params: Params,
    trunks: TokenPrompts,
    batch_size: int,
    buckets: Sequence[int],
) -> Iterator[list[tuple[np.ndarray, int]]]:
    """Yields the trunks that are kept at once, as pieces: (trunks of a batch, padded length)."""
    one = np.zeros((1, 1), np.int32)
    shapes = jax.eval_shape(lambda params: _layers(model, params, one, one > 0, 1), params)
    bytes_of_place = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(shapes))
    most_places = TRUNK_BYTES // bytes_of_place
    pieces: list[tuple[np.ndarray, int]] = []
    for rows, length in batches_by_length(trunks.lengths, batch_size, buckets):
        if pieces and (len(pieces) + 1) * batch_size * length > most_places:
            yield pieces
            pieces = []
        pieces.append((rows, length))
    yield pieces


@dataclasses.dataclass(frozen=True)
class _Chunk:
    """Trunks that are kept at once, and batches that branch from them."""

    model: DecoderOnly
    params: Params
    trunks: TokenPrompts
    pieces: list[tuple[np.ndarray, int]]
    batch_size: int
    max_tokens: int

    def inputs(
        self, prompts: Sequence[Sequence[int]], trunk_of: Sequence[int], length: int
    ) -> dict[str, Any]:
        """The inputs of `open_cache` for some prompts, then for rows that fill the batch."""
        rows, ends, num_read, opening = np.zeros((4, self.batch_size), np.int32)
        for place, (tokens, trunk) in enumerate(zip(prompts, trunk_of, strict=True)):
            rows[place], start = self._row_and_start[trunk]
            num_read[place] = len(tokens) - 1
            ends[place] = start + len(tokens) - 1
            opening[place] = tokens[-1]
        before, after = length - 1, self.max_tokens
        branched = self.model.branch(self._layers, rows, ends, num_read, before, before + after)
        return {"branched": branched, "opening": opening}

    @functools.cached_property
    def _layers(self) -> Any:
        """Keys and values of all trunks: the rows of one piece after those of another."""
        longest = self.pieces[-1][1]
        read = []
        for rows, length in self.pieces:
            inputs = self.trunks.inputs(rows.tolist(), length, self.batch_size)
            arrays = inputs["input_ids"], inputs["attention_mask"]
            read.append(_layers(self.model, self.params, *arrays, longest))
        axis = self.model.ROW_AXIS
        return jax.tree.map(
            lambda *leaves: jnp.concatenate(leaves, axis) if leaves[0].ndim else leaves[0], *read
        )

    @functools.cached_property
    def _row_and_start(self) -> dict[int, tuple[int, int]]:
        """For each trunk, its row in `_layers` and the place of its first token."""
        lengths = self.trunks.lengths
        return {
            trunk: (number * self.batch_size + row, length - int(lengths[trunk]))
            for number, (rows, length) in enumerate(self.pieces)
            for row, trunk in enumerate(rows.tolist())
        }


@functools.partial(jax.jit, static_argnums=(0, 4))
def _layers(model, params, input_ids, attention_mask, max_length):
    _, cache = model.prefill(params, input_ids, attention_mask, max_length)
    return cache.layers
