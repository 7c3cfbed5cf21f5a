"""LoRA: trains low-rank changes of the weights of attention and MLP, and none of these weights.

A linear layer with the pretrained weight W [in, out] computes

  y = x W + b + (α/r) (x A) B,   A [in, r], B [r, out],

which is the layer with the weight W + (α/r) A B. W and b stay as they are; A and B are trained. A
starts at random and B at zero, so that training starts from the pretrained model exactly.

Beside A and B, the new rows of the vocabulary are trained: those of items, tags and padding. Nobody
has pretrained them. The rows of words, biases, layer norms and learned positions are fixed. If the
output layer is the embedding, an item's row is trained as input and as output, and a word's row is
fixed as both; an output layer of its own is divided in the same way.

Only what is trained has gradients and a state of the optimizer. No module of the networks knows of
this: their parameters get two more arrays beside each kernel, which `LoRA.reading` makes the layers
read. `LoRA.merged` returns ordinary parameters.

Source: Hu et al. 2021, eq. 3. A is drawn as in the authors' code.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict

from conkd_jax.models.decoder_only import DecoderOnly
from conkd_jax.typing import Params, PRNGKeyArray

KERNEL, EMBEDDING = "kernel", "embedding"
A, B = "lora_a", "lora_b"
NEW_ROWS = "new_rows"

Path = tuple[str, ...]


class FullTraining:
    """Every parameter is trained. Also what training expects of another choice, such as `LoRA`."""

    def divided(self, params: Params, rng: PRNGKeyArray) -> tuple[Params, Params]:
        """Divides ordinary parameters into what is trained, as it starts, and what is fixed.

        Args:
          params: the model's parameters.
          rng: key of trained arrays that the model does not have itself.
        """
        del rng
        return params, {}

    def variables(self, trained: Params, fixed: Params) -> Params:
        """What the model's functions take under `reading`, from the two parts."""
        return {**trained, **fixed}

    def merged(self, trained: Params, fixed: Params) -> Params:
        """The same model as ordinary parameters."""
        return {**trained, **fixed}

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """The context in which a model reads `variables`."""
        yield


@dataclasses.dataclass(frozen=True)
class LoRA(FullTraining):
    """Training of low-rank changes and new rows, for a kind of model.

    Its trained part has, at the path of each kernel, "lora_a" [*L, in, r] and "lora_b" [*L, r, out]
    (L: layers that are stacked), and at the path of each embedding of the vocabulary "new_rows"
    [R - V, D]. The fixed part has the rest, with the rows of words alone.

    Attributes:
      rank: r.
      alpha: α.
      num_words: V; the rows of embeddings from here on are new.
      row_layers: the layers whose embedding has a row for each token.
      kernel_axes: the last two axes of the model's kernels, ("in", "out") or ("out", "in").
    """

    rank: int
    alpha: float
    num_words: int
    row_layers: tuple[str, ...]
    kernel_axes: tuple[str, str]

    @classmethod
    def of(cls, model: DecoderOnly, num_words: int, *, rank: int, alpha: float) -> LoRA:
        """The training of a model with `num_words` pretrained words."""
        return cls(rank, alpha, num_words, model.ROW_LAYERS, model.KERNEL_AXES)

    def divided(self, params: Params, rng: PRNGKeyArray) -> tuple[Params, Params]:
        """As `FullTraining.divided`; A is uniform in ±1/√in, B zero."""
        trained, fixed = {}, {}
        flat = _flat(params)
        for (path, leaf), key in zip(flat.items(), jax.random.split(rng, len(flat)), strict=True):
            if self._has_rows(path):
                fixed[path] = leaf[: self.num_words]
                trained[(*path[:-1], NEW_ROWS)] = leaf[self.num_words :]
                continue
            fixed[path] = leaf
            if path[-1] != KERNEL:
                continue
            *stacked, num_in, num_out = self._from_in_to_out(leaf).shape
            bound = 1 / math.sqrt(num_in)
            shape = (*stacked, num_in, self.rank)
            start = jax.random.uniform(key, shape, jnp.float32, -bound, bound)
            trained[(*path[:-1], A)] = start
            trained[(*path[:-1], B)] = jnp.zeros((*stacked, self.rank, num_out), jnp.float32)
        return unflatten_dict(trained), unflatten_dict(fixed)

    def variables(self, trained: Params, fixed: Params) -> Params:
        """The model's parameters, with A and B beside each kernel, and whole embeddings.

        Further arrays in `fixed` stay as they are.
        """
        flat = {**_flat(fixed), **_flat(trained)}
        for path in [path for path in flat if path[-1] == NEW_ROWS]:
            rows = (*path[:-1], EMBEDDING)
            flat[rows] = jnp.concatenate([flat[rows], flat.pop(path)])
        return unflatten_dict(flat)

    def merged(self, trained: Params, fixed: Params) -> Params:
        """Ordinary parameters, with the kernels W + (α/r) A B."""
        flat = _flat(self.variables(trained, fixed))
        for path in [path for path in flat if path[-1] == A]:
            kernel = (*path[:-1], KERNEL)
            change = flat.pop(path) @ flat.pop((*path[:-1], B))
            flat[kernel] = flat[kernel] + self.alpha / self.rank * self._from_in_to_out(change)
        return unflatten_dict(flat)

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """The context in which linear layers add (α/r) (x A) B, if they have an A and a B."""
        scale = self.alpha / self.rank

        def add_change(next_function, args, kwargs, context):
            outputs, module = next_function(*args, **kwargs), context.module
            if context.method_name != "__call__" or not module.has_variable("params", A):
                return outputs
            (inputs,) = args
            a, b = (jnp.asarray(module.get_variable("params", n), outputs.dtype) for n in (A, B))
            low = jnp.einsum("...i,ir->...r", inputs.astype(outputs.dtype), a)
            return outputs + scale * jnp.einsum("...r,ro->...o", low, b)

        with nn.intercept_methods(add_change):
            yield

    def _has_rows(self, path: Path) -> bool:
        return path[-1] == EMBEDDING and path[0] in self.row_layers

    def _from_in_to_out(self, kernel: Any) -> Any:
        """A kernel as [*L, in, out], or such a matrix as a kernel: each is the other's inverse."""
        return kernel if self.kernel_axes == ("in", "out") else jnp.swapaxes(kernel, -1, -2)


def _flat(params: Params) -> dict[Path, Any]:
    """Arrays by their paths, in an order that depends on these alone."""
    return dict(sorted(flatten_dict(params).items()))
