"""GPT-2 as a backbone: token ids in, features out, with cached decoding and published weights.

The network is transformers' FlaxGPT2 (`models.gpt2_network`). Parameters are a plain dict under
GPT-2's published names. The output layer is a `Head`, like that of every backbone, so no logits are
computed here. This file must not depend on corpora, losses or decoding rules.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import os
from collections.abc import Sequence
from typing import Any, ClassVar

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from conkd_jax.distill.head import Head
from conkd_jax.models import gpt2_weights
from conkd_jax.models.decoder_only import DecoderOnly, windows
from conkd_jax.models.gpt2_network import (
    GPT2Network,
    empty_cache,
    gpt2_network,
    transformers_promotion,
    with_cache,
)
from conkd_jax.models.item_rows import extend_rows
from conkd_jax.typing import Array, Bool, Float, Int, Params, PRNGKeyArray

INIT_STDDEV = 0.02  # GPT-2's initializer_range


@dataclasses.dataclass(frozen=True)
class GPT2Spec:
    """The shape of a GPT-2, without its vocabulary.

    Attributes:
      num_layers: transformer blocks.
      embed_dim: D, the width; features have F = D.
      num_heads: attention heads; divides `embed_dim`.
      num_positions: number of learned positions, and so the longest sequence in tokens.
      dropout: rate of GPT-2's three dropouts (embeddings, attention, residual).
    """

    num_layers: int
    embed_dim: int
    num_heads: int
    num_positions: int
    dropout: float = 0.1


@flax.struct.dataclass
class KVCache:
    """Keys and values of a batch that is being decoded, and the next position of its rows.

    Attributes:
      layers: the network's "cache" collection, of a static length L.
      attention_mask: False at the left padding, True elsewhere, including the slots that are not
        yet written, which the causal mask hides.
      positions: position of each row's next token, that is, its number of real tokens so far.
    """

    layers: Params
    attention_mask: Bool[Array, "B L"]
    positions: Int[Array, " B"]


@dataclasses.dataclass(frozen=True)
class GPT2(DecoderOnly):
    """A decoder-only transformer over `num_rows` embedding rows.

    Attributes:
      spec: the network's shape.
      num_rows: rows of the token embedding: Y = V ∪ I first, then the input-only rows.
      compute: the type of its products, and what the backward pass keeps.

    Source: Radford et al. 2019 (GPT-2). DialoGPT (Zhang et al. 2020) has the same form.
    """

    EMBEDDING: ClassVar[str] = "wte"
    ROW_LAYERS: ClassVar[tuple[str, ...]] = (EMBEDDING,)
    KERNEL_AXES: ClassVar[tuple[str, str]] = ("out", "in")  # as FlaxConv1D has them
    ROW_AXIS: ClassVar[int] = 0

    spec: GPT2Spec

    def init(self, rng: PRNGKeyArray) -> Params:
        """Draws parameters by GPT-2's scheme.

        Weights and embeddings are N(0, .02²), biases 0, layer norms 1. The projections that write
        to the residual stream (`c_proj`) are scaled by 1/√(2·num_layers), a step that transformers'
        Flax module omits.

        Returns:
          fp32 parameters: "wte", "wpe", "h" → "0"…, "ln_f".
        """
        ids = jnp.zeros((1, 1), jnp.int32)
        with transformers_promotion():
            params = jax.jit(self._module.init)(rng, ids, None, ids)["params"]
        scale = 1 / math.sqrt(2 * self.spec.num_layers)

        def scaled(path, leaf):
            name = jax.tree_util.keystr(path, simple=True, separator=".")
            return leaf * scale if name.endswith("c_proj.kernel") else leaf

        return jax.tree_util.tree_map_with_path(scaled, params)

    def features(
        self,
        params: Params,
        input_ids: Int[Array | np.ndarray, "B S"],
        *,
        rng: PRNGKeyArray | None = None,
    ) -> Float[Array, "B S F"]:
        """As `DecoderOnly.features` says."""
        positions = self._positions(*input_ids.shape)
        with transformers_promotion():
            return self._module.apply(
                {"params": params},
                input_ids,
                None,
                positions,
                deterministic=rng is None,
                return_dict=False,
                rngs=None if rng is None else {"dropout": rng},
            )[0]

    def head(self, params: Params, num_targets: int) -> Head:
        """The tied output layer: the embedding's first Y rows, transposed, and a bias of zeros."""
        kernel = params["wte"]["embedding"][:num_targets].T  # [F, Y]
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
        batch_size, length = input_ids.shape
        # On the left, so that the last tokens of all rows are in one column and every later token
        # of the batch is written to the same slot of the cache.
        mask = _with_room(attention_mask, max_length)
        num_real = jnp.cumsum(jnp.asarray(attention_mask), axis=1, dtype=jnp.int32)  # [B, S]
        config, dtype = self._module.config, self.compute.array_dtype
        layers = empty_cache(config, batch_size, max_length, dtype)
        cache = KVCache(layers, mask, num_real[:, -1])
        return self._advance(params, input_ids, jnp.maximum(num_real - 1, 0), cache)

    def branch(
        self,
        layers: Params,
        rows: Int[Array | np.ndarray, " B"],
        ends: Int[Array | np.ndarray, " B"],
        num_read: Int[Array | np.ndarray, " B"],
        length: int,
        max_length: int,
    ) -> KVCache:
        """As `DecoderOnly.branch` says."""
        sizes = {"before": length, "after": max_length - length, "row_axis": self.ROW_AXIS}

        def branched(leaf):
            if leaf.ndim == 0:  # the index of the next place
                return jnp.int32(length)
            return windows(leaf, rows, ends, **sizes)

        is_read = jnp.arange(length) >= length - jnp.asarray(num_read)[:, None]
        return KVCache(
            jax.tree.map(branched, layers), _with_room(is_read, max_length), jnp.asarray(num_read)
        )

    def step(
        self, params: Params, token: Int[Array | np.ndarray, " B"], cache: KVCache
    ) -> tuple[Float[Array, "B F"], KVCache]:
        """As `DecoderOnly.step` says."""
        advanced = dataclasses.replace(cache, positions=cache.positions + 1)
        return self._advance(params, token[:, None], cache.positions[:, None], advanced)

    @functools.cached_property
    def _module(self) -> GPT2Network:
        spec = self.spec
        if spec.embed_dim % spec.num_heads:
            raise ValueError(
                f"GPT2Spec.embed_dim = {spec.embed_dim} is not a multiple of "
                f"num_heads = {spec.num_heads}; change one of them"
            )
        return gpt2_network(
            **dataclasses.asdict(spec),
            num_rows=self.num_rows,
            initializer_range=INIT_STDDEV,
            compute=self.compute,
        )

    def _advance(self, params, input_ids, positions, cache):
        with transformers_promotion(with_cache):
            (states, *_), updated = self._module.apply(
                {"params": params, "cache": cache.layers},
                input_ids,
                cache.attention_mask,
                positions,
                return_dict=False,
                mutable=["cache"],
            )
        return states[:, -1], dataclasses.replace(cache, layers=updated["cache"])


def _with_room(is_real: Any, max_length: int) -> Bool[Array, "B L"]:
    """A cache's `attention_mask`, given that of a prompt [B, S]."""
    room = ((0, 0), (0, max_length - is_real.shape[1]))
    return jnp.pad(jnp.asarray(is_real), room, constant_values=True)


def extend_embedding(
    params: Params,
    num_words: int,
    title_token_ids: Sequence[Sequence[int]],
    num_rows: int,
    rng: PRNGKeyArray,
) -> Params:
    """Extends GPT-2's word embedding to Y = V ∪ I and the input-only rows (`extend_rows`).

    Args:
      params: of the published model.
      num_words: |V|; further rows of the published embedding are dropped.
      title_token_ids: for each item, the word ids of its title.
      num_rows: rows of the result: words, items, then the input-only rows.
      rng: key of the noise, which is that of GPT-2's initial rows.

    Raises:
      ValueError: the published embedding or `num_rows` is too small, or a title contains an id that
        is not a word.
    """
    table = extend_rows(
        params["wte"]["embedding"], num_words, title_token_ids, num_rows, rng, INIT_STDDEV
    )
    return {**params, "wte": {"embedding": table}}


def load_pretrained(name_or_folder: str | os.PathLike) -> tuple[GPT2Spec, Params]:
    """Loads GPT-2 or DialoGPT weights as they are published.

    A folder contains `config.json` and one of `flax_model.msgpack`, `model.safetensors` and
    `pytorch_model.bin`, tried in this order; the last needs PyTorch. A hub name is looked up in the
    local cache first, then on the hub.

    Returns:
      The model's shape, and its fp32 parameters with as many embedding rows as were published.

    Raises:
      FileNotFoundError: the folder, file or hub name does not exist, or the hub is unreachable.
      ValueError: the file is unreadable or sharded, or its arrays do not match its config.
    """
    published = gpt2_weights.read_weights(os.fspath(name_or_folder))
    gpt2_weights.check_num_layers(published)
    config = published.config
    spec = GPT2Spec(
        num_layers=config["n_layer"],
        embed_dim=config["n_embd"],
        num_heads=config["n_head"],
        num_positions=gpt2_weights.num_positions(config),
        dropout=config.get("resid_pdrop", 0.1),
    )
    num_rows = published.params.get(("wte", "embedding"), np.zeros((1, 0))).shape[0]
    shapes = jax.eval_shape(GPT2(spec, num_rows).init, jax.random.key(0))
    expected = flatten_dict(shapes)
    gpt2_weights.check_params(published, expected)
    return spec, unflatten_dict(
        {path: jnp.asarray(published.params[path], jnp.float32) for path in expected}
    )
