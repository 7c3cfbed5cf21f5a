"""Matrix products alone: what fusing, or decoding in batches, can't do without.

`kd_head` and `decode` time them beside the whole work. They compute nothing that is of use.
"""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.random_gpt2 import GPT2Size
from benchmarks.side_by_side import Compiled, Run, use_torch


def head_in_jax(inputs: Mapping[str, np.ndarray], chunk_size: int) -> Run:
    """The products of the closed form, in our chunks, where Δ is the sum of both logits."""
    count = len(inputs["features"])
    size = min(chunk_size, count)

    def step(features, table, teacher_features, teacher_kernel):
        def chunk(d_table, rows):
            h, t = rows
            delta = h @ table.T + t @ teacher_kernel
            return d_table + delta.T @ h, delta @ table

        chunks = [x.reshape(count // size, size, -1) for x in (features, teacher_features)]
        d_table, d_features = jax.lax.scan(chunk, jnp.zeros_like(table), tuple(chunks))
        return d_features.reshape(features.shape), d_table

    names = ("features", "table", "teacher_features", "teacher_kernel")
    return Compiled(step, *(jnp.asarray(inputs[name]) for name in names))


def head_in_torch(inputs: Mapping[str, np.ndarray], chunk_size: int) -> Run:
    """The same in PyTorch, which adds up products in place."""
    torch = use_torch()
    batch = {name: torch.from_numpy(value) for name, value in inputs.items()}
    features, table = batch["features"], batch["table"]

    @torch.no_grad()
    def run():
        d_features, d_table = torch.empty_like(features), torch.zeros_like(table)
        for rows in torch.arange(len(features)).split(chunk_size):
            h = features[rows]
            delta = h @ table.T
            delta.addmm_(batch["teacher_features"][rows], batch["teacher_kernel"])
            d_features[rows] = delta @ table
            d_table.addmm_(delta.T, h)
        return d_features, d_table

    return run


def of_a_response(size: GPT2Size, batch_size: int, num_tokens: int) -> Run:
    """As many steps of a response as come after its first token, without all that mixes them."""
    width = size.width
    shapes = [(width, 3 * width), (width, width), (width, 4 * width), (4 * width, width)]
    rng = np.random.default_rng(0)

    def kernel(fan_in: int, fan_out: int) -> np.ndarray:
        return (rng.standard_normal((fan_in, fan_out)) / fan_in**0.5).astype(np.float32)

    layers = [[kernel(*shape) for shape in shapes] for _ in range(size.num_layers)]
    head = kernel(width, size.num_targets)

    def steps(states, layers, head):
        def step(_, states):
            for attention, out, up, down in layers:
                query, key, value = jnp.split(states @ attention, 3, axis=1)
                states = (query + key + value) @ out @ up @ down
            logits = states @ head
            return states / jnp.max(jnp.abs(logits), axis=1, keepdims=True)

        return jax.lax.fori_loop(1, num_tokens, step, states)

    states = rng.standard_normal((batch_size, width)).astype(np.float32)
    return Compiled(steps, *jax.device_put((states, layers, head)))
