"""The contract of a language model that can be a teacher or a student.

A model is a frozen dataclass without arrays; its parameters are passed to every call as a plain
dict. It ends in features [F] and a `Head` onto Y = V ∪ I, so that one loss, one teacher store, one
decoder and one scorer serve every model. Arrays that a model reads but does not train, such as the
node vectors of a graph, are part of the same dict.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Protocol, runtime_checkable

from conkd_jax.distill.head import Head
from conkd_jax.models.compute import Compute
from conkd_jax.typing import Array, Float, Int, Params, PRNGKeyArray


@runtime_checkable
class Backbone(Protocol):
    """A language model, such as `models.gpt2`, `.llama`, `.kgsf` or `.kbrd`."""

    EMBEDDING: ClassVar[str]  # the layer whose "embedding" has the rows of words and items

    @property
    def spec(self) -> Any:
        """The model's shape: a dataclass of numbers."""
        ...

    @property
    def compute(self) -> Compute:
        """How it computes: the type of products and features, and what the backward pass keeps."""
        ...

    def computing(self, compute: Compute) -> Backbone:
        """The same model, with another `compute`."""
        ...

    def states(
        self, params: Params, inputs: Mapping[str, Any], rng: PRNGKeyArray | None = None
    ) -> Float[Array, "B S F"]:
        """Features of a batch under teacher forcing, from the arrays of its rows (`Rows.inputs`).

        Applies dropout if `rng` is given. Padding changes no feature of a real token.
        """
        ...

    def head(self, params: Params, num_targets: int) -> Head:
        """The output layer onto Y, the first `num_targets` rows of the vocabulary."""
        ...

    def open_cache(
        self, params: Params, inputs: Mapping[str, Any], max_tokens: int
    ) -> tuple[Float[Array, "B F"], Any]:
        """Reads prompts (`Prompts.inputs`) and opens a cache for `max_tokens` generated tokens.

        Returns:
          The features that predict each row's first token, and a cache, which may be any pytree.
        """
        ...

    def step(
        self, params: Params, token: Int[Array, " B"], cache: Any
    ) -> tuple[Float[Array, "B F"], Any]:
        """Reads one more token of every row; returns features and the next cache."""
        ...

    def longest_prompt(self, max_tokens: int) -> int | None:
        """The longest prompt that leaves room for `max_tokens`; None if there is no limit."""
        ...
