"""Our parameters under the names that transformers gives them: the inverse of reading weights.

`gpt2_weights` and `llama_weights` read published models; this module makes the arrays and the
config.json of one. It writes no file.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict

from conkd_jax.models.gpt2 import INIT_STDDEV, GPT2Spec
from conkd_jax.models.gpt2_weights import EXPECTED_CONFIG as GPT2_CONFIG
from conkd_jax.models.llama_network import LlamaSpec
from conkd_jax.models.llama_weights import EXPECTED_CONFIG as LLAMA_CONFIG
from conkd_jax.models.llama_weights import IN_LAYER, OUTER, ROPE_SCALING, SIZES
from conkd_jax.typing import Params


def gpt2_tensors(params: Params, num_rows: int) -> dict[str, np.ndarray]:
    """The arrays of a GPT2LMHeadModel, whose head is the embedding.

    Args:
      params: of a `GPT2`.
      num_rows: how many rows of the embedding are kept, the first ones.
    """
    tensors = {}
    for path, leaf in flatten_dict(params).items():
        *parents, last = path
        array = np.asarray(leaf, np.float32)
        if last == "kernel":
            array = array.T  # PyTorch's Conv1D has [in, out]
        elif parents[-1] == "wte":
            array = array[:num_rows]
        name = last if last == "bias" else "weight"
        tensors[".".join(("transformer", *parents, name))] = np.ascontiguousarray(array)
    return tensors


def gpt2_config(spec: GPT2Spec, num_rows: int) -> dict[str, Any]:
    """The config.json of a GPT2LMHeadModel, without its special tokens."""
    return {
        "architectures": ["GPT2LMHeadModel"],
        **GPT2_CONFIG,
        "vocab_size": num_rows,
        "n_layer": spec.num_layers,
        "n_embd": spec.embed_dim,
        "n_head": spec.num_heads,
        "n_positions": spec.num_positions,
        "n_ctx": spec.num_positions,
        **dict.fromkeys(("embd_pdrop", "attn_pdrop", "resid_pdrop"), spec.dropout),
        "initializer_range": INIT_STDDEV,
    }


def llama_tensors(params: Params, num_rows: int) -> dict[str, np.ndarray]:
    """The arrays of a LlamaForCausalLM; arguments as of `gpt2_tensors`, of a `Llama`."""
    tensors = {}
    for path, leaf in flatten_dict(params).items():
        array = np.asarray(leaf, np.float32)
        if path in OUTER:
            has_rows = path[-1] == "embedding"
            tensors[OUTER[path]] = np.ascontiguousarray(array[:num_rows] if has_rows else array)
            continue
        for layer, own in enumerate(array):  # PyTorch's kernels are [out, in]
            own = np.ascontiguousarray(own.T if path[-1] == "kernel" else own)
            tensors[f"model.layers.{layer}.{IN_LAYER[path[1:]]}"] = own
    return tensors


def llama_config(spec: LlamaSpec, num_rows: int) -> dict[str, Any]:
    """The config.json of a LlamaForCausalLM, without its special tokens."""
    scaling: Mapping[str, Any] | None = None
    if spec.rope_scaling is not None:
        fields = {theirs: getattr(spec.rope_scaling, ours) for ours, theirs in ROPE_SCALING.items()}
        scaling = {"rope_type": "llama3", **fields}
    return {
        "architectures": ["LlamaForCausalLM"],
        **LLAMA_CONFIG,
        "vocab_size": num_rows,
        **{theirs: getattr(spec, ours) for ours, theirs in SIZES.items()},
        "num_key_value_heads": spec.num_kv_heads,
        "head_dim": spec.head_dim,
        "rope_theta": spec.rope_theta,
        "rope_scaling": scaling,
        "rms_norm_eps": spec.norm_epsilon,
        "tie_word_embeddings": spec.tied,
    }
