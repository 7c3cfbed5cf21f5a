"""Llama as a backbone: token ids in, features out, with cached decoding and published weights.

Llama, SmolLM2 and others have this form. The network is in `models.llama_network`, the files of
published weights in `models.llama_weights`. The output layer is a `Head`, like that of every
backbone, so no logits are computed here. This file must not depend on corpora, losses or decoding
rules.
"""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Sequence
from typing import Any, ClassVar

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from conkd_jax.distill.head import Head
from conkd_jax.models import llama_weights
from conkd_jax.models.decoder_only import DecoderOnly, windows
from conkd_jax.models.item_rows import extend_rows
from conkd_jax.models.llama_network import KeysValues, LlamaNetwork, LlamaSpec
from conkd_jax.typing import Array, Bool, Float, Int, Params, PRNGKeyArray

INIT_STDDEV = 0.02  # Llama's initializer_range
HEAD = "lm_head"  # the layer of an output layer of its own


@flax.struct.dataclass
class KVCache:
    """Keys and values of a batch that is being decoded, and where its next token goes.

    Attributes:
      layers: keys and values of all layers, of a static length L.
      attention_mask: True at the real tokens read so far; False at padding and in empty slots.
      positions: position of each row's next token, that is, its number of real tokens so far.
      slot: the slot of the next token, the same for all rows.
    """

    layers: KeysValues
    attention_mask: Bool[Array, "B L"]
    positions: Int[Array, " B"]
    slot: Int[Array, ""]


@dataclasses.dataclass(frozen=True)
class Llama(DecoderOnly):
    """A decoder-only transformer over `num_rows` embedding rows.

    Its parameters are those of `LlamaNetwork` and, if the output layer is not tied, "lm_head" →
    "embedding" [R, D], one row per token as in the embedding.

    Attributes:
      spec: the network's shape.
      num_rows: rows of the token embedding: Y = V ∪ I first, then the input-only rows.
      compute: the type of its products, and what the backward pass keeps.

    Source: Touvron et al. 2023.
    """

    EMBEDDING: ClassVar[str] = "embed"
    ROW_LAYERS: ClassVar[tuple[str, ...]] = (EMBEDDING, HEAD)
    KERNEL_AXES: ClassVar[tuple[str, str]] = ("in", "out")
    ROW_AXIS: ClassVar[int] = 1

    spec: LlamaSpec

    def init(self, rng: PRNGKeyArray) -> Params:
        """Draws fp32 parameters by Llama's scheme: weights N(0, .02²), scales of norms 1."""
        ids = jnp.zeros((1, 1), jnp.int32)
        params = jax.jit(self._module.init)(rng, ids, ids)["params"]
        if not self.spec.tied:
            shape = (self.num_rows, self.spec.embed_dim)
            own = jax.random.normal(jax.random.fold_in(rng, 1), shape, jnp.float32)
            params = {**params, HEAD: {"embedding": INIT_STDDEV * own}}
        return params

    def features(
        self,
        params: Params,
        input_ids: Int[Array | np.ndarray, "B S"],
        *,
        rng: PRNGKeyArray | None = None,
    ) -> Float[Array, "B S F"]:
        """As `DecoderOnly.features` says."""
        positions = self._positions(*input_ids.shape)
        return self._apply(
            params,
            input_ids,
            positions,
            deterministic=rng is None,
            rngs=None if rng is None else {"dropout": rng},
        )[0]

    def head(self, params: Params, num_targets: int) -> Head:
        """The output layer onto the first Y rows, tied or not, with a bias of zeros."""
        layer = self.EMBEDDING if self.spec.tied else HEAD
        kernel = params[layer]["embedding"][:num_targets].T  # [F, Y]
        return Head(kernel=kernel, bias=jnp.zeros((num_targets,), kernel.dtype))

    def prefill(
        self,
        params: Params,
        input_ids: Int[Array | np.ndarray, "B S"],
        attention_mask: Bool[Array | np.ndarray, "B S"],
        max_length: int,
    ) -> tuple[Float[Array, "B F"], KVCache]:
        """As `DecoderOnly.prefill` says."""
        self._check_length(max_length)
        real = jnp.asarray(attention_mask)
        length = input_ids.shape[1]
        num_real = jnp.cumsum(real, axis=1, dtype=jnp.int32)  # [B, S]
        causal = jnp.tril(jnp.ones((length, length), bool))
        states, kept = self._apply(
            params,
            input_ids,
            jnp.maximum(num_real - 1, 0),
            mask=causal[None] & real[:, None, :],
            keep=True,
        )
        room = ((0, 0), (0, 0), (0, max_length - length), (0, 0), (0, 0))
        layers = jax.tree.map(lambda each: jnp.pad(each, room), kept)
        mask = jnp.pad(real, ((0, 0), (0, max_length - length)))
        cache = KVCache(layers, mask, num_real[:, -1], jnp.asarray(length, jnp.int32))
        return states[:, -1], cache

    def branch(
        self,
        layers: KeysValues,
        rows: Int[Array | np.ndarray, " B"],
        ends: Int[Array | np.ndarray, " B"],
        num_read: Int[Array | np.ndarray, " B"],
        length: int,
        max_length: int,
    ) -> KVCache:
        """As `DecoderOnly.branch` says."""
        after = max_length - length
        sizes = {"before": length, "after": after, "row_axis": self.ROW_AXIS}
        is_read = jnp.arange(length) >= length - jnp.asarray(num_read)[:, None]
        return KVCache(
            jax.tree.map(lambda each: windows(each, rows, ends, **sizes), layers),
            jnp.pad(is_read, ((0, 0), (0, after))),
            jnp.asarray(num_read),
            jnp.int32(length),
        )

    def step(
        self, params: Params, token: Int[Array | np.ndarray, " B"], cache: KVCache
    ) -> tuple[Float[Array, "B F"], KVCache]:
        """As `DecoderOnly.step` says."""
        mask = cache.attention_mask.at[:, cache.slot].set(True)
        states, layers = self._apply(
            params,
            jnp.asarray(token)[:, None],
            cache.positions[:, None],
            cache.layers,
            mask=mask[:, None, :],
            slot=cache.slot,
            keep=True,
        )
        return states[:, -1], KVCache(layers, mask, cache.positions + 1, cache.slot + 1)

    @functools.cached_property
    def _module(self) -> LlamaNetwork:
        return LlamaNetwork(self.spec, self.num_rows, self.compute)

    def _apply(self, params: Params, input_ids: Any, *args: Any, **options: Any) -> Any:
        own = {name: leaf for name, leaf in params.items() if name != HEAD}
        return self._module.apply({"params": own}, jnp.asarray(input_ids), *args, **options)


def extend_vocabulary(
    params: Params,
    num_words: int,
    title_token_ids: Sequence[Sequence[int]],
    num_rows: int,
    rng: PRNGKeyArray,
) -> Params:
    """Extends the embedding, and an output layer of its own, to items and tags (`extend_rows`).

    Args:
      params: of the published model.
      num_words: |V|; further published rows are dropped.
      title_token_ids: for each item, the word ids of its title.
      num_rows: rows of the result: words, items, then the input-only rows.
      rng: key of the noise, which is that of Llama's initial rows.

    Raises:
      ValueError: as `extend_rows`.
    """
    extended = {
        layer: {
            "embedding": extend_rows(
                params[layer]["embedding"], num_words, title_token_ids, num_rows, rng, INIT_STDDEV
            )
        }
        for layer in Llama.ROW_LAYERS
        if layer in params
    }
    return {**params, **extended}


def load_pretrained(name: str | os.PathLike) -> tuple[LlamaSpec, Params]:
    """Loads a Llama as it is published: from a folder, a GGUF file, a package or the hub.

    Args:
      name: a folder with config.json and safetensors, one file or shards; a .gguf file;
        "package:NAME" for the one in an installed package; or a hub name, which is looked up in the
        local cache first.

    Returns:
      The model's shape, and its fp32 parameters with as many embedding rows as were published.

    Raises:
      FileNotFoundError: nothing was found, or the hub is unreachable.
      ValueError: the files are unreadable, of another architecture, or don't match their config.
    """
    published = llama_weights.find_weights(os.fspath(name))
    spec = LlamaSpec.from_fields(llama_weights.shape_of(published))
    num_rows = published.config["vocab_size"]
    shapes = jax.eval_shape(Llama(spec, num_rows).init, jax.random.key(0))
    return spec, llama_weights.read_params(published, shapes)
