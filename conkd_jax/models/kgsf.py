"""KGSF's dialogue model, the paper's second backbone: an encoder-decoder that reads the graphs.

Like GPT-2 it ends in features and a `Head`, so that both share the loss, the teacher store, the
scorer and the decoder. The recommender's node vectors are a frozen part of the parameters. This
file must not depend on how they were trained, or on corpora, losses or decoding rules.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from conkd_jax.distill.head import Head
from conkd_jax.models.encoder_decoder import (
    GRAPH,
    EncoderDecoder,
    EncoderDecoderNetwork,
    MentionedNodes,
    TransformerSpec,
    mentioned_nodes,
)
from conkd_jax.models.layers import Dense, repeated
from conkd_jax.typing import Array, Float, Params, PRNGKeyArray


@dataclasses.dataclass(frozen=True)
class KGSFSpec(TransformerSpec):
    """The shape of a KGSF dialogue model, as published by default; features have F = 2D."""


class KGSFNetwork(EncoderDecoderNetwork):
    """The trained part of `KGSF`."""

    num_memories = 3

    def setup(self) -> None:
        """Adds the layers that read the graphs, and those of the copy term."""
        super().setup()
        width = self.spec.embed_dim

        def dense():
            return Dense(width, dtype=self.dtype)

        self.entity_memory, self.concept_memory = dense(), dense()
        self.entity_pooled, self.concept_pooled = dense(), dense()
        self.copy_state = dense()
        # The head's part of the copy term. Only `KGSF.head` reads it; it is declared here to be
        # drawn and trained with the rest.
        kernel_init, bias_init = nn.initializers.lecun_normal(), nn.initializers.zeros
        self.copy_kernel = self.param("copy_kernel", kernel_init, (width, self.num_targets))
        self.copy_bias = self.param("copy_bias", bias_init, (self.num_targets,))

    def memories(self, *mentioned: MentionedNodes) -> tuple[Float[Array, "B L D"], ...]:
        """The mentioned entities, then the mentioned concepts."""
        entities, concepts = mentioned
        return self.entity_memory(entities.nodes), self.concept_memory(concepts.nodes)

    def of_context(self, *mentioned: MentionedNodes) -> Float[Array, "B _"]:
        """[W_v v(x); W_n n(x)]."""
        entities, concepts = mentioned
        return jnp.concatenate(
            [self.concept_pooled(concepts.pooled), self.entity_pooled(entities.pooled)], axis=-1
        )

    def features(
        self, states: Float[Array, "B T D"], of_context: Float[Array, "B _"]
    ) -> Float[Array, "B T F"]:
        """s_t ⊕ c_t."""
        pooled = repeated(of_context, states.shape[1])
        copied = self.copy_state(jnp.concatenate([pooled, states], axis=-1))
        return jnp.concatenate([states, copied], axis=-1)


@dataclasses.dataclass(frozen=True)
class KGSF(EncoderDecoder):
    """A transformer whose decoder attends to entities, concepts and context, and can copy words.

    With s_t the decoder's state and c_t = W_c [W_v v(x); W_n n(x); s_t] + b_c its copy state,

      logits_t = E s_t + (W_V c_t + b_V) ⊙ copy_mask,

    where E is the embedding shared by context and response, and v(x) and n(x) are the recommender's
    pooled concept and entity vectors (eq. 3). Every decoder layer attends to the tokens so far, to
    the mentioned entities, to the mentioned concepts and to the encoded context, in this order.

    KGSF's public code trains on logits without the copy term (`decode_forced` returns E s_t alone)
    and adds the term, untrained, when it decodes. Here both use it.

    All methods are pure functions of `params`. These are the trained parameters and, under the key
    "graph", frozen arrays that no gradient reaches:

      entities [O, node_dim], entity_energies [O]: node vectors and their attention energies;
      entity_rows [E + 1] int32: the row in `entities` of each entity id of the corpus, -1 for ids
        without one. The additional last slot is -1, and the padding id -1 indexes it;
      concepts [C, node_dim], concept_energies [C], concept_rows [Cn + 1]: likewise;
      copy_mask [Y] float32: 1 at targets that the copy term may raise, 0 elsewhere.

    Source: Zhou et al. 2020 (KGSF) and its public code.
    """

    NETWORK: ClassVar[type[EncoderDecoderNetwork]] = KGSFNetwork

    def init(
        self,
        rng: PRNGKeyArray,
        word_vectors: Float[Array | np.ndarray, "rows D"] | None = None,
    ) -> Params:
        """Draws the trained parameters, that is, all but the graph.

        Flax's defaults are used throughout: weights of variance 1/fan-in (equal to KGSF's Xavier
        for square matrices), biases 0, layer norms 1.

        Args:
          rng: key of all draws.
          word_vectors: the embedding to start from; None draws it from N(0, 1/D).

        Raises:
          ValueError: the shape of `word_vectors` is not that of the embedding.
        """
        shape = (self.num_rows, self.spec.embed_dim)
        if word_vectors is not None and word_vectors.shape != shape:
            raise ValueError(
                f"word_vectors has shape {word_vectors.shape}; KGSF(num_rows = {shape[0]}) "
                f"with embed_dim = {shape[1]} needs {shape}, one vector for every row"
            )
        params = self._initial(rng, num_graphs=2)
        if word_vectors is None:
            return params
        return {**params, "tokens": {"embedding": jnp.asarray(word_vectors, jnp.float32)}}

    def mentioned(self, graph: Params, inputs: Mapping[str, Any]) -> tuple[MentionedNodes, ...]:
        """The entities and the concepts that each context mentions."""
        return (
            mentioned_nodes(graph, inputs, "entities", "entity"),
            mentioned_nodes(graph, inputs, "concepts", "concept"),
        )

    def head(self, params: Params, num_targets: int) -> Head:
        """The output layer, with kernel [Eᵀ; W_Vᵀ ⊙ copy_mask] and bias b_V ⊙ copy_mask.

        The copy term is linear in c_t and the mask is constant, so its product with the mask can
        be taken once, in the kernel, and the logits become affine in the features.

        Raises:
          ValueError: `num_targets` is not the width of the copy term.
        """
        self._check_targets(num_targets)
        copy_mask = jax.lax.stop_gradient(params[GRAPH]["copy_mask"])
        words = params["tokens"]["embedding"][:num_targets].T  # [D, Y]
        copied = params["copy_kernel"] * copy_mask[None, :]  # [D, Y]
        return Head(kernel=jnp.concatenate([words, copied]), bias=params["copy_bias"] * copy_mask)
