"""The network behind `models.gpt2`: FlaxGPT2, with what it lacks for bfloat16 and for long rows.

In float32 and without `remat` this is FlaxGPT2, operation by operation. In bfloat16 FlaxGPT2 would
compute the softmax of attention in bfloat16, and add up the gradients of biases and embedding rows
there, token by token. Here all of these are float32.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from conkd_jax.models.compute import Compute
from conkd_jax.models.layers import attend
from conkd_jax.runtime.torchless import without_torch

with without_torch():
    from transformers import GPT2Config
    from transformers.models.gpt2.modeling_flax_gpt2 import (
        FlaxConv1D,
        FlaxGPT2Attention,
        FlaxGPT2BlockCollection,
        FlaxGPT2Module,
    )


class GPT2Network(FlaxGPT2Module):
    """FlaxGPT2 with float32 embeddings; everything after them computes in `dtype`.

    Attributes:
      config: the shape.
      dtype: that of `compute`.
      compute: the type of the blocks, and whether they are computed again in the backward pass.
    """

    dtype: Any = jnp.float32  # transformers declares it as an instance of numpy.dtype
    compute: Compute = Compute()

    def setup(self) -> None:
        """Creates the layers of FlaxGPT2, under its names."""
        config, dtype = self.config, self.dtype
        init = nn.initializers.normal(stddev=config.initializer_range)
        # The gradient of an embedding row is a sum over all tokens that read it.
        self.wte = nn.Embed(config.vocab_size, config.n_embd, embedding_init=init)
        self.wpe = nn.Embed(config.n_positions, config.n_embd, embedding_init=init)
        self.dropout = nn.Dropout(rate=config.embd_pdrop)
        self.h = _Blocks(config, dtype=dtype, compute=self.compute)
        self.ln_f = nn.LayerNorm(epsilon=config.layer_norm_epsilon, dtype=dtype)


class _Blocks(FlaxGPT2BlockCollection):
    dtype: Any = jnp.float32
    compute: Compute = Compute()

    def __call__(
        self,
        hidden_states,
        attention_mask=None,
        encoder_hidden_states=None,
        encoder_attention_mask=None,
        *,
        deterministic=True,
        init_cache=False,
        **unused: Any,
    ) -> tuple:
        del encoder_hidden_states, encoder_attention_mask, unused

        def call(block, states):
            return block(
                states, attention_mask, deterministic=deterministic, init_cache=init_cache
            )[0]

        states = hidden_states.astype(self.dtype)
        for block in self.blocks:
            states = self.compute.layer(call)(block, states)
        return states, None, None, None


def float32_sums(next_function, args, kwargs, context):
    """Attention and products in bfloat16, with softmax and the addition of biases in float32."""
    module, is_call = context.module, context.method_name == "__call__"
    is_ours = isinstance(module, (FlaxGPT2Attention, FlaxConv1D)) and is_call
    if not is_ours or module.dtype == jnp.float32 or module.is_initializing():
        return next_function(*args, **kwargs)
    if isinstance(module, FlaxConv1D):
        return _product(module, *args)
    return _attention(module, *args, **kwargs)


@contextlib.contextmanager
def transformers_promotion(methods: Callable = float32_sums) -> Iterator[None]:
    """Relaxes JAX's strict modes for FlaxGPT2, which adds across ranks and mixes integer types.

    Args:
      methods: an interceptor (`nn.intercept_methods`) of FlaxGPT2's methods: `float32_sums` where
        whole sequences are read, `with_cache` where a response is decoded.
    """
    with (
        jax.numpy_rank_promotion("allow"),
        jax.numpy_dtype_promotion("standard"),
        nn.intercept_methods(methods),
    ):
        yield


def _attention(
    module, states, *, attention_mask, deterministic, init_cache, output_attentions
) -> tuple[jax.Array]:
    del init_cache, output_attentions
    query, key, value = map(module._split_heads, jnp.split(module.c_attn(states), 3, axis=2))
    length = query.shape[1]
    mask = module.causal_mask[:, :, :length, :length]
    if attention_mask is not None:
        mask = nn.combine_masks(mask, attention_mask[:, None, None, :], dtype=bool)
    use_dropout = not deterministic and module.config.attn_pdrop > 0
    attended = attend(
        query,
        key,
        value,
        jnp.asarray(mask, bool),
        dropout_rng=module.make_rng("dropout") if use_dropout else None,
        dropout_rate=module.config.attn_pdrop,
    )  # [B, S, H, D/H]
    attended = module.c_proj(module._merge_heads(attended))
    return (module.resid_dropout(attended, deterministic=deterministic),)


# --- decoding --------------------------------------------------------------------------------


def empty_cache(config: GPT2Config, batch_size: int, length: int, dtype: Any) -> dict[str, Any]:
    """The "cache" collection of the network, for `length` places of each row.

    Keys and values are [B, H, L, D/H]. FlaxGPT2 keeps [B, L, H, D/H], over which a CPU multiplies
    ten times as slowly: its products want the heads before the places.
    """
    shape = (batch_size, config.n_head, length, config.n_embd // config.n_head)

    def layer() -> dict[str, Any]:
        keys, values = jnp.zeros(shape, dtype), jnp.zeros(shape, dtype)
        return {"attn": {"keys": keys, "values": values, "index": jnp.int32(0)}}

    return {"h": {str(number): layer() for number in range(config.n_layer)}}


def with_cache(next_function, args, kwargs, context):
    """Attention over an `empty_cache`, and products as `_product` computes them, while decoding."""
    module = context.module
    if context.method_name == "__call__" and isinstance(module, FlaxConv1D):
        return _product(module, *args)
    if context.method_name == "__call__" and isinstance(module, FlaxGPT2Attention):
        (states,) = args
        return _cached_attention(module, states, kwargs["attention_mask"])
    return next_function(*args, **kwargs)


def _cached_attention(module, states, is_real) -> tuple[jax.Array]:
    """Writes the keys and values of the S tokens of a prompt, or of the next token, and attends.

    `is_real` [B, L] is False at the places that no token may attend to.
    """
    projected = module.c_attn(states).reshape(*states.shape[:2], -1, module.head_dim)
    query, new_keys, new_values = jnp.split(projected.swapaxes(1, 2), 3, axis=1)  # [B, H, S, D/H]
    start = module.get_variable("cache", "index")
    keys, values = (
        jax.lax.dynamic_update_slice_in_dim(module.get_variable("cache", name), new, start, axis=2)
        for name, new in (("keys", new_keys), ("values", new_values))
    )
    length = query.shape[2]
    for name, array in (("keys", keys), ("values", values), ("index", start + length)):
        module.put_variable("cache", name, array)
    if length > 1:  # a prompt, which comes first: the places behind it are still empty
        keys, values, is_real = new_keys, new_values, is_real[:, :length]
    is_before = jnp.arange(keys.shape[2]) <= start + jnp.arange(length)[:, None]  # [S, L]
    may_attend = is_before & is_real[:, None, None, :]
    scores = jnp.einsum("bhsd,bhld->bhsl", query / math.sqrt(query.shape[-1]), keys)
    scores = jnp.where(may_attend, scores.astype(jnp.float32), jnp.finfo(jnp.float32).min)
    weights = jax.nn.softmax(scores, axis=-1).astype(values.dtype)  # [B, H, S, L]
    attended = jnp.einsum("bhsl,bhld->bhsd", weights, values).swapaxes(1, 2)  # [B, S, H, D/H]
    return (module.c_proj(module._merge_heads(attended)),)


def _product(module: FlaxConv1D, inputs: jax.Array) -> jax.Array:
    """W x + b, with the sum in float32, where the gradient of b is then summed as well.

    One contraction with W as it is stored. FlaxConv1D transposes W first, and when a single row is
    decoded on a CPU, XLA then copies every W at every step: GPT-2 small took 250 ms per token.
    """
    kernel = jnp.asarray(module.get_variable("params", "kernel"), module.dtype)
    last = inputs.ndim - 1
    inputs = jnp.asarray(inputs, module.dtype)
    product = jax.lax.dot_general(inputs, kernel, (((last,), (1,)), ((), ())))
    summed = product.astype(jnp.float32) + module.get_variable("params", "bias")
    return summed.astype(module.dtype)


def gpt2_network(
    *,
    num_rows: int,
    num_layers: int,
    embed_dim: int,
    num_heads: int,
    num_positions: int,
    dropout: float,
    initializer_range: float,
    compute: Compute,
) -> GPT2Network:
    """The network of a shape (`models.gpt2.GPT2Spec`)."""
    config = GPT2Config(
        vocab_size=num_rows,
        n_layer=num_layers,
        n_embd=embed_dim,
        n_head=num_heads,
        n_positions=num_positions,
        embd_pdrop=dropout,
        attn_pdrop=dropout,
        resid_pdrop=dropout,
        initializer_range=initializer_range,
    )
    return GPT2Network(config, dtype=compute.array_dtype, compute=compute)
