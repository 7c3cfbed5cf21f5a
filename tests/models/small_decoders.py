"""Small decoder-only models for tests: PyTorch's, random, and the same models here."""

import dataclasses
from typing import Any

import torch
import transformers

from conkd_jax.models import gpt2, llama
from conkd_jax.models.llama_network import LlamaSpec, RopeScaling

NUM_ROWS = 97
GPT2 = gpt2.GPT2Spec(num_layers=2, embed_dim=32, num_heads=4, num_positions=48, dropout=0.1)
# Four heads of queries share two of keys and values, and θ is not transformers' default.
LLAMA = LlamaSpec(
    num_layers=3,
    embed_dim=32,
    num_heads=4,
    num_kv_heads=2,
    head_dim=8,
    mlp_dim=44,
    num_positions=48,
    rope_theta=500.0,
    norm_epsilon=1e-4,
    tied=True,
)
# Of the four frequencies the first is high, the last one low, and two are in transition.
LLAMA_3 = dataclasses.replace(LLAMA, tied=False, rope_scaling=RopeScaling(8.0, 0.1, 1.0, 24))
SPECS = {"gpt2": GPT2, "llama": LLAMA, "llama3": LLAMA_3}


def model_of(spec: Any) -> gpt2.GPT2 | llama.Llama:
    """The model of a shape, without parameters."""
    kind = gpt2.GPT2 if isinstance(spec, gpt2.GPT2Spec) else llama.Llama
    return kind(spec, NUM_ROWS)


def peer_of(spec: Any) -> transformers.PreTrainedModel:
    """PyTorch's model of a shape, always with the same random weights, without dropout."""
    torch.manual_seed(0)
    make = _gpt2 if isinstance(spec, gpt2.GPT2Spec) else _llama
    return make(spec).eval()


def loaded(peer: transformers.PreTrainedModel, folder) -> tuple[Any, dict]:
    """(shape, parameters) of PyTorch's model, by way of a folder as it is published."""
    peer.save_pretrained(folder)
    load = gpt2 if isinstance(peer, transformers.GPT2LMHeadModel) else llama
    return load.load_pretrained(folder)


def extended(spec: Any, *arguments: Any) -> dict:
    """The parameters with further rows: `extend_embedding` or `extend_vocabulary`."""
    if isinstance(spec, gpt2.GPT2Spec):
        return gpt2.extend_embedding(*arguments)
    return llama.extend_vocabulary(*arguments)


def _gpt2(spec: gpt2.GPT2Spec) -> transformers.GPT2LMHeadModel:
    config = transformers.GPT2Config(
        vocab_size=NUM_ROWS,
        n_layer=spec.num_layers,
        n_embd=spec.embed_dim,
        n_head=spec.num_heads,
        n_positions=spec.num_positions,
        initializer_range=0.1,
    )
    return transformers.GPT2LMHeadModel(config)


def _llama(spec: LlamaSpec) -> transformers.LlamaForCausalLM:
    """Scales of norms are not all 1."""
    scaling = spec.rope_scaling
    config = transformers.LlamaConfig(
        vocab_size=NUM_ROWS,
        hidden_size=spec.embed_dim,
        intermediate_size=spec.mlp_dim,
        num_hidden_layers=spec.num_layers,
        num_attention_heads=spec.num_heads,
        num_key_value_heads=spec.num_kv_heads,
        head_dim=spec.head_dim,
        max_position_embeddings=spec.num_positions,
        rope_theta=spec.rope_theta,
        rms_norm_eps=spec.norm_epsilon,
        tie_word_embeddings=spec.tied,
        initializer_range=0.2,
        rope_scaling=scaling
        and {
            "rope_type": "llama3",
            "factor": scaling.factor,
            "low_freq_factor": scaling.low_freq_factor,
            "high_freq_factor": scaling.high_freq_factor,
            "original_max_position_embeddings": scaling.original_positions,
        },
    )
    model = transformers.LlamaForCausalLM(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name:
                parameter.uniform_(0.5, 1.5)
    return model
