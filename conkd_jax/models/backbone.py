"""What a language model must be able to do to be a teacher or a student: the contract of all.

A model is a frozen dataclass without arrays; its parameters come with every call, as a plain dict.
It ends in features [F] and a `Head` onto Y = V ∪ I, so that one loss, one teacher store, one
decoder and one scorer serve every model. Arrays that it reads but doesn't train (a graph's node
vectors, say) stand in the same dict.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

from conkd_jax.distill.head import Head
from conkd_jax.typing import Array, Float, Int, Params, PRNGKeyArray


@runtime_checkable
class Backbone(Protocol):
    """GPT-2 (`models.gpt2`) and KGSF's dialogue model (`models.kgsf`) are two of them."""

    @property
    def spec(self) -> Any:
        """The model's shape, a dataclass of numbers."""
        ...

    def states(
        self, params: Params, inputs: Mapping[str, Any], rng: PRNGKeyArray | None = None
    ) -> Float[Array, "B S F"]:
        """Features of a batch by teacher forcing, from the arrays of its rows (`Rows.inputs`).

        Dropout where `rng` is given. Padding changes no feature of a real token.
        """
        ...

    def head(self, params: Params, num_targets: int) -> Head:
        """The output layer onto the first `num_targets` rows, Y."""
        ...

    def open_cache(
        self, params: Params, inputs: Mapping[str, Any], max_tokens: int
    ) -> tuple[Float[Array, "B F"], Any]:
        """Reads prompts (`Prompts.inputs`) and makes room for `max_tokens` more.

        Returns:
          the features that predict each row's first token, and a cache, any pytree.
        """
        ...

    def step(
        self, params: Params, token: Int[Array, " B"], cache: Any
    ) -> tuple[Float[Array, "B F"], Any]:
        """Reads one more token of every row."""
        ...

    def longest_prompt(self, max_tokens: int) -> int | None:
        """The longest prompt that leaves room for `max_tokens`; None where there is no limit."""
        ...
