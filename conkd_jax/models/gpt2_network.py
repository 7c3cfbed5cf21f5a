"""The network behind `models.gpt2`: FlaxGPT2, with what it lacks for bfloat16 and for long rows.

In float32 and without `remat` this is FlaxGPT2, operation by operation. In bfloat16 FlaxGPT2 would
compute the softmax of attention in bfloat16, and add up the gradients of biases and embedding rows
there, token by token. Here all of these are float32.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from conkd_jax.models.compute import Compute
from conkd_jax.models.layers import attend
from conkd_jax.torchless import without_torch

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


@contextlib.contextmanager
def transformers_promotion() -> Iterator[None]:
    """Relaxes JAX's strict modes for FlaxGPT2, which adds across ranks and mixes integer types.

    It is also where sums become float32 in a network of bfloat16.
    """
    with (
        jax.numpy_rank_promotion("allow"),
        jax.numpy_dtype_promotion("standard"),
        nn.intercept_methods(_float32_sums),
    ):
        yield


def _float32_sums(next_function, args, kwargs, context):
    """Attention and products in bfloat16, with softmax and the addition of biases in float32."""
    module, is_call = context.module, context.method_name == "__call__"
    is_ours = isinstance(module, (FlaxGPT2Attention, FlaxConv1D)) and is_call
    if not is_ours or module.dtype == jnp.float32 or module.is_initializing():
        return next_function(*args, **kwargs)
    if isinstance(module, FlaxConv1D):
        return _product(module, *args)
    return _attention(module, *args, **kwargs)


def _attention(
    module, states, *, attention_mask, deterministic, init_cache, output_attentions
) -> tuple[jax.Array]:
    del output_attentions
    query, key, value = map(module._split_heads, jnp.split(module.c_attn(states), 3, axis=2))
    length, total, start = query.shape[1], key.shape[1], 0
    has_cache = module.has_variable("cache", "cached_key")
    if has_cache:
        cache = module.variables["cache"]
        total, start = cache["cached_key"].shape[1], cache["cache_index"]
    mask = jax.lax.dynamic_slice(module.causal_mask, (0, 0, start, 0), (1, 1, length, total))
    if attention_mask is not None:
        mask = nn.combine_masks(mask, attention_mask[:, None, None, :], dtype=bool)
    if has_cache or init_cache:
        key, value, mask = module._concatenate_to_cache(key, value, query, mask)
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


def without_transpose(next_function, args, kwargs, context):
    """FlaxConv1D as one contraction with W as it is stored: y = W x + b, the same sums.

    FlaxConv1D transposes W first. When a single row is decoded on a CPU, XLA then copies every W at
    every step, and GPT-2 small took 250 ms per token, five times as long as PyTorch.
    """
    module = context.module
    if not isinstance(module, FlaxConv1D) or context.method_name != "__call__":
        return next_function(*args, **kwargs)
    return _product(module, *args)


def _product(module: FlaxConv1D, inputs: jax.Array) -> jax.Array:
    """W x + b, with the sum in float32, where the gradient of b is then summed as well."""
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
