"""KBRD's dialogue model: a transformer whose output layer is biased by the recommender's user.

Like KGSF it ends in features and a `Head`. The recommender's node vectors are a frozen part of the
parameters. This file must not depend on how they were trained, or on corpora, losses or decoding
rules.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import flax.linen as nn
import jax.numpy as jnp

from conkd_jax.distill.head import Head
from conkd_jax.models.encoder_decoder import (
    EncoderDecoder,
    EncoderDecoderNetwork,
    MentionedNodes,
    TransformerSpec,
    mentioned_nodes,
)
from conkd_jax.models.layers import Dense, repeated
from conkd_jax.typing import Array, Float, Params, PRNGKeyArray


@dataclasses.dataclass(frozen=True)
class KBRDSpec(TransformerSpec):
    """The shape of a KBRD dialogue model, as published by default; features have F = D + H.

    Attributes:
      bias_dim: H, the hidden width of the vocabulary bias.
    """

    bias_dim: int = 512


class KBRDNetwork(EncoderDecoderNetwork):
    """The trained part of `KBRD`; the decoder attends to nothing besides the context."""

    def setup(self) -> None:
        """Adds the two layers of the vocabulary bias."""
        super().setup()
        self.bias_hidden = Dense(self.spec.bias_dim, dtype=self.dtype)
        # Only `KBRD.head` reads these; they are declared here to be drawn and trained with the
        # rest.
        kernel_init, bias_init = nn.initializers.lecun_normal(), nn.initializers.zeros
        shape = (self.spec.bias_dim, self.num_targets)
        self.bias_kernel = self.param("bias_kernel", kernel_init, shape)
        self.bias = self.param("bias", bias_init, (self.num_targets,))

    def of_context(self, *mentioned: MentionedNodes) -> Float[Array, "B H"]:
        """relu(W₁ t_u + b₁)."""
        (entities,) = mentioned
        return nn.relu(self.bias_hidden(entities.pooled))

    def features(
        self, states: Float[Array, "B T D"], of_context: Float[Array, "B H"]
    ) -> Float[Array, "B T F"]:
        """s_t ⊕ relu(W₁ t_u + b₁), the second part equal at every step."""
        return jnp.concatenate([states, repeated(of_context, states.shape[1])], axis=-1)


@dataclasses.dataclass(frozen=True)
class KBRD(EncoderDecoder):
    """A transformer with a vocabulary bias from the user's vector.

    With s_t the decoder's state and t_u the recommender's user vector, the attentive pooling of the
    entities that the dialogue mentioned before the response,

      logits_t = E s_t + b_u,    b_u = W₂ relu(W₁ t_u + b₁) + b₂,

    where E is the embedding shared by context and response. b_u is one vector per response. A
    dialogue that mentions nothing has t_u = 0, and so a learned bias of its own.

    The frozen arrays are `entities`, `entity_energies` and `entity_rows` of `mentioned_nodes`: the
    recommender is not trained further, as in KBRD's public code.

    Source: Chen et al. 2019 (KBRD) and its public code.
    """

    NETWORK: ClassVar[type[EncoderDecoderNetwork]] = KBRDNetwork

    def init(self, rng: PRNGKeyArray) -> Params:
        """Draws the trained parameters, that is, all but the graph.

        The embedding is drawn from N(0, 1/D), everything else by Flax's defaults.
        """
        return self._initial(rng, num_graphs=1)

    def mentioned(self, graph: Params, inputs: Mapping[str, Any]) -> tuple[MentionedNodes, ...]:
        """The entities that each context mentions."""
        return (mentioned_nodes(graph, inputs, "entities", "entity"),)

    def head(self, params: Params, num_targets: int) -> Head:
        """The output layer, with kernel [Eᵀ; W₂ᵀ] and bias b₂.

        Raises:
          ValueError: `num_targets` is not the width of the vocabulary bias.
        """
        self._check_targets(num_targets)
        words = params["tokens"]["embedding"][:num_targets].T  # [D, Y]
        kernel = jnp.concatenate([words, params["bias_kernel"]])  # [F, Y]
        return Head(kernel=kernel, bias=params["bias"])
