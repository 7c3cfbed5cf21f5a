"""How many floating-point operations a train step takes, counted in the program that JAX traces.

Matrix products are counted and nothing else: 2·m·k·n for an [m, k] by [k, n] product, which is what
a model's FLOPs are taken to be everywhere. XLA's own count (`cost_analysis`) has the body of a loop
once, however often it runs, so that the chunks of the fused head and micro-batches would be lost.
Here each round counts.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

from jax.extend import core

SCAN, WHILE, COND, PRODUCT = "scan", "while", "cond", "dot_general"


@dataclasses.dataclass(frozen=True)
class StepWork:
    """The matrix products of one device in one train step, in floating-point operations.

    Attributes:
      products: all of them: forward and backward pass, the teachers' heads, and what
        `parallel.remat` computes again.
      model: what the model itself asks for, as MFU counts it: a plain NLL step without
        recomputation, attention counted for the half that is not masked.
    """

    products: int
    model: int


def product_flops(program: core.ClosedJaxpr | core.Jaxpr, rounds: int = 0) -> int:
    """Floating-point operations of the matrix products of a traced program.

    A program that is spread over devices (`shard_map`, `pmap`) has the shapes of one device inside,
    so this is the work of one device. Of the branches of a `cond` the largest counts.

    >>> import jax, jax.numpy as jnp
    >>> x = jnp.ones((3, 4))
    >>> product_flops(jax.make_jaxpr(lambda x: x @ x.T)(x))  # 2 · 3 · 4 · 3
    72

    Args:
      program: what `jax.make_jaxpr` returns.
      rounds: how often a `while` loop runs, which no trace tells; 0 if no loop has products.

    Raises:
      ValueError: a `while` loop has products, and `rounds` is 0.
    """
    total = 0
    for equation in getattr(program, "jaxpr", program).eqns:
        name = equation.primitive.name
        inner = [product_flops(each, rounds) for each in _inner_programs(equation.params)]
        if name == PRODUCT:
            (contracted, _), _ = equation.params["dimension_numbers"]
            left: Any = equation.invars[0].aval
            result: Any = equation.outvars[0].aval
            total += (
                2 * math.prod(result.shape) * math.prod(left.shape[axis] for axis in contracted)
            )
        elif name == SCAN:
            total += equation.params["length"] * sum(inner)
        elif name == COND:
            total += max(inner, default=0)
        elif name == WHILE and any(inner):
            if not rounds:
                raise ValueError("expected the rounds of a while loop that has matrix products")
            total += rounds * sum(inner)
        else:
            total += sum(inner)
    return total


def _inner_programs(params: dict[str, Any]) -> Iterator[core.ClosedJaxpr | core.Jaxpr]:
    """The programs that an equation calls."""
    for value in params.values():
        for each in value if isinstance(value, (tuple, list)) else (value,):
            if isinstance(each, (core.ClosedJaxpr, core.Jaxpr)):
                yield each


def masked_attention_flops(rows: int, length: int, width: int, num_layers: int) -> int:
    """What causal attention computes in vain, forward and backward: the masked half of QKᵀ and AV.

    Each of the two products takes 2·L²·d operations a row and layer, and twice that backward.

    Args:
      rows: rows of a batch.
      length: L, tokens of a row.
      width: d, the width of the queries of all heads.
      num_layers: layers.
    """
    return 6 * rows * length**2 * width * num_layers
