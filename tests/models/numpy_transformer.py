"""A transformer in plain NumPy, one sample at a time, straight from its equations: an oracle."""

import numpy as np

from conkd_jax.models.transformer import sinusoidal_positions


def softmax(scores):
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True)


def linear(params, x):
    return x @ params["kernel"] + params["bias"]


def norm(params, x):
    x = x - x.mean(axis=-1, keepdims=True)
    return (
        x / np.sqrt((x**2).mean(axis=-1, keepdims=True) + 1e-5) * params["scale"] + params["bias"]
    )


def attend(params, queries, memory, mask=True):
    """[Q, D], [L, _] -> [Q, D], one head after the other; zeros where there is no memory."""
    if not len(memory):
        return np.zeros_like(queries)
    total = params["out"]["bias"]
    num_heads, width = params["query"]["bias"].shape
    for head in range(num_heads):
        q, k, v = (
            x @ params[name]["kernel"][:, head] + params[name]["bias"][head]
            for name, x in (("query", queries), ("key", memory), ("value", memory))
        )
        scores = np.where(mask, q @ k.T / np.sqrt(width), -np.inf)
        total = total + softmax(scores) @ v @ params["out"]["kernel"][head]
    return total


def mlp(params, x):
    return linear(params["linear_2"], np.maximum(linear(params["linear_1"], x), 0))


def embed(params, ids):
    embedding = params["tokens"]["embedding"]
    positions = sinusoidal_positions(len(ids), embedding.shape[1])
    return embedding[ids] * np.sqrt(embedding.shape[1]) + positions


def encode(params, ids, num_layers):
    """The encoded context [S, D]."""
    return encode_states(params, embed(params, ids), num_layers)


def encode_states(params, context, num_layers):
    """Encodes embedded tokens [S, D], which bring their positions."""
    for index in range(num_layers):
        layer = params[f"encoder_{index}"]
        context = norm(layer["norm_1"], context + attend(layer["attention"], context, context))
        context = norm(layer["norm_2"], context + mlp(layer, context))
    return context


def decode(params, ids, memories, num_layers):
    """The decoder's states [T, D], which attend to the memories in turn."""
    states = embed(params, ids)
    causal = np.tril(np.ones((len(states), len(states)), bool))
    for index in range(num_layers):
        layer = params[f"decoder_{index}"]
        attended = attend(layer["self_attention"], states, states, causal)
        states = norm(layer["self_norm"], states + attended)
        for m, memory in enumerate(memories):
            attended = attend(layer[f"memory_attention_{m}"], states, memory)
            states = norm(layer[f"memory_norm_{m}"], states + attended)
        states = norm(layer["mlp_norm"], states + mlp(layer, states))
    return states


def pooled(nodes, energies):
    """Σ softmax(energies)_i nodes_i [node_dim]; zeros without nodes."""
    return softmax(energies) @ nodes if len(nodes) else np.zeros(nodes.shape[1])
