"""The output layer that every language model here ends in: features [F] to logits over Y = V + I.

Teachers, students and baselines share its form, so that one loss, one teacher store, one decoder
and one scorer serve them all. The logits of most systems are affine in the features. Two more terms
cover the others: a `Switch` between words and items, and a term on `Retrieved` words. This file
must not depend on how the features were computed.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp

from conkd_jax.typing import Array, Float, Int


@flax.struct.dataclass
class Switch:
    """A class-factored softmax: first word or item, then which word or which item.

    With the switch s = features · kernel + bias and the affine logits z,

        P(y) = σ(-s) softmax(z over V)[y] for a word,    σ(s) softmax(z over I)[y] for an item.

    As a term that is added to z these are two values per token, log σ(-s) - logsumexp(z over V) on
    words and log σ(s) - logsumexp(z over I) on items. The NLL of a gold token is the cross-entropy
    within its class plus the binary cross-entropy of the switch, so training needs no second loss.

    Attributes:
      kernel: [F], onto the log-odds of an item.
      bias: [], their bias.
      num_words: |V|, the index of the first item.

    Source: the vocabulary pointer of RecInDial and the switching decoder of ReDial.
    """

    # Not typed as arrays: JAX also builds this pytree from placeholders that are not arrays.
    kernel: Any
    bias: Any
    num_words: int = flax.struct.field(pytree_node=False)

    def applied(self, logits: Float[Array, "*N Y"], features: Float[Array, "*N F"]) -> Array:
        """The log-probabilities [*N, Y], in the type of `logits`."""
        dtype = logits.dtype
        switch = features.astype(dtype) @ self.kernel.astype(dtype) + self.bias.astype(dtype)
        words = jax.nn.log_softmax(logits[..., : self.num_words], axis=-1)
        items = jax.nn.log_softmax(logits[..., self.num_words :], axis=-1)
        log_words = jax.nn.log_sigmoid(-switch)[..., None]
        log_items = jax.nn.log_sigmoid(switch)[..., None]
        return jnp.concatenate([words + log_words, items + log_items], axis=-1)  # [*N, Y]


class Retrieved(NamedTuple):
    """A sparse term: additional features score the few words that were retrieved for a response.

    Which words these are depends on the response, so the term has no place in the kernel of `Head`.
    Only the columns of the retrieved words are read: with L of them, L dot products per token.

    Attributes:
      kernel: onto all targets; `features` have Fr more entries than the main kernel reads.
      bias: added on the same words.

    Source: RevCore, whose reviews raise their own words.
    """

    kernel: Float[Array, "Fr Y"]
    bias: Float[Array, " Y"]

    def added(
        self,
        logits: Float[Array, "*N Y"],
        features: Float[Array, "*N Fr"],
        word_ids: Int[Array, "*N L"],
    ) -> Float[Array, "*N Y"]:
        """`logits` with the term on the words `word_ids`, distinct, -1 where there are fewer."""
        dtype, num_targets = logits.dtype, logits.shape[-1]
        columns = jnp.take(self.kernel.T.astype(dtype), jnp.maximum(word_ids, 0), axis=0)
        bias = jnp.take(self.bias.astype(dtype), jnp.maximum(word_ids, 0), axis=0)
        values = jnp.einsum("...f,...lf->...l", features.astype(dtype), columns) + bias  # [*N, L]
        flat = logits.reshape(-1, num_targets)
        rows = jnp.arange(flat.shape[0])[:, None]
        # A negative index would count from the end; beyond the end, it is dropped.
        places = jnp.where(word_ids < 0, num_targets, word_ids).reshape(flat.shape[0], -1)
        values = values.reshape(places.shape)
        return flat.at[rows, places].add(values, mode="drop").reshape(logits.shape)


class Head(NamedTuple):
    """A map onto the targets: logits = features · kernel + bias, and what else a system adds.

    Attributes:
      kernel: one column per target. For GPT-2 these are rows of the tied embedding, transposed.
      bias: zeros where the model has none; -1e9 at columns that exist only as padding.
      switch: makes the softmax class-factored; None for one softmax over Y.
      retrieved: the term on retrieved words, read from the last Fr features; None without one.
    """

    kernel: Float[Array, "F Y"]
    bias: Float[Array, " Y"]
    switch: Switch | None = None
    retrieved: Retrieved | None = None

    @property
    def num_targets(self) -> int:
        """|Y|, the number of targets."""
        return self.kernel.shape[-1]

    @property
    def num_features(self) -> int:
        """Width of the features, those of the retrieved words included."""
        width = self.kernel.shape[0]
        return width if self.retrieved is None else width + self.retrieved.kernel.shape[0]

    def cast(self, dtype: jnp.dtype) -> Head:
        """The head with its kernels in another type, for products of that type.

        Biases and switch are added to float32 sums and keep theirs.
        """
        kernel, retrieved = jnp.asarray(self.kernel).astype(dtype), self.retrieved
        if retrieved is not None:
            columns = jnp.asarray(retrieved.kernel).astype(dtype)
            retrieved = retrieved._replace(kernel=columns)
        return self._replace(kernel=kernel, retrieved=retrieved)

    def logits(
        self, features: Float[Array, "*N F"], retrieved_ids: Int[Array, "*N L"] | None = None
    ) -> Float[Array, "*N Y"]:
        """Computes logits, accumulated in float32 or wider.

        The product uses the wider of the two types. For a float32 head that means float32 even
        where the features were stored as bfloat16, so a stored teacher is rebuilt exactly.

        Args:
          features: of any number of tokens.
          retrieved_ids: the words retrieved for each token's response, -1 where there are fewer;
            only for a head with `retrieved`.

        Raises:
          ValueError: a head with `retrieved` got no `retrieved_ids`.
        """
        dtype = wider_dtype(features.dtype, self.kernel.dtype)
        logits = jnp.dot(
            features[..., : self.kernel.shape[0]].astype(dtype),
            self.kernel.astype(dtype),
            preferred_element_type=accumulation_dtype(dtype),
        )  # [*N, Y]
        logits = logits + jnp.broadcast_to(self.bias.astype(logits.dtype), logits.shape)
        return self.with_terms(logits, features, retrieved_ids)

    def with_terms(
        self,
        logits: Float[Array, "*N Y"],
        features: Float[Array, "*N F"],
        retrieved_ids: Int[Array, "*N L"] | None = None,
    ) -> Float[Array, "*N Y"]:
        """The affine logits with the terms of `retrieved` and `switch`; arguments as in `logits`.

        Raises:
          ValueError: a head with `retrieved` got no `retrieved_ids`.
        """
        width = self.kernel.shape[0]
        if self.retrieved is not None:
            if retrieved_ids is None:
                raise ValueError(
                    "This head scores retrieved words, so `retrieved_ids` must be given: the word "
                    "ids that were retrieved for each token's response."
                )
            logits = self.retrieved.added(logits, features[..., width:], retrieved_ids)
        if self.switch is not None:
            logits = self.switch.applied(logits, features[..., :width])
        return logits

    def items(self, num_words: int) -> Head:
        """The head onto the items alone.

        It orders the items as the whole head does, since neither a switch nor retrieved words
        change their order.
        """
        return Head(kernel=self.kernel[:, num_words:], bias=self.bias[num_words:])

    def with_item_offset(self, num_words: int, offset: float) -> Head:
        """The head with a constant added to the logit of every item.

        Items keep their order among each other; above 0 they win against words more often. The
        offset is part of a bias, so decoding with another one compiles nothing again.

        >>> head = Head(kernel=jnp.zeros((2, 3)), bias=jnp.zeros(3))
        >>> head.with_item_offset(num_words=2, offset=1.5).bias.tolist()
        [0.0, 0.0, 1.5]
        """
        if self.switch is not None:  # within its class, a constant changes nothing
            bias = jnp.asarray(self.switch.bias)
            shifted = bias + jnp.asarray(offset, bias.dtype)
            switch = dataclasses.replace(self.switch, bias=shifted)
            return self._replace(switch=switch)
        bias = jnp.asarray(self.bias)
        return self._replace(bias=bias.at[num_words:].add(jnp.asarray(offset, bias.dtype)))


def wider_dtype(dtype: jnp.dtype, other: jnp.dtype) -> jnp.dtype:
    """The narrowest type that holds the values of both."""
    # JAX's strict promotion mode, in which the tests run, forbids implicit mixing only.
    with jax.numpy_dtype_promotion("standard"):
        return jnp.promote_types(dtype, other)


def accumulation_dtype(dtype: jnp.dtype) -> jnp.dtype:
    """The type in which sums are kept: float32, or float64 where the operands are float64."""
    return wider_dtype(dtype, jnp.dtype(jnp.float32))
