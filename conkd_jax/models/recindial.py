"""RecInDial: GPT-2 with a knowledge-aware bias on items and a pointer between words and items.

Before a response, a user vector is pooled from the items that the dialogue has mentioned, over the
node vectors of a trained recommender. It raises the logits of the items that it is close to, at
every step of the response. A pointer, read from GPT-2's state, decides between the two vocabularies
at each step.

Node vectors and user vectors are constants here: the recommender is trained before the language
model. This file must not depend on how, or on corpora, losses or decoding rules.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from conkd_jax.distill.head import Head, Switch
from conkd_jax.models.compute import Compute
from conkd_jax.models.gpt2 import GPT2, INIT_STDDEV, GPT2Spec, KVCache
from conkd_jax.models.recommenders.attention_pooling import attention_pool
from conkd_jax.typing import Array, Float, Int, Params, PRNGKeyArray

GRAPH = "graph"  # the key, in the parameters, of what is read but not trained
POINTER = "pointer"  # the key of what is trained beside GPT-2


@flax.struct.dataclass
class RecInDialCache:
    """GPT-2's cache, and the user vector of every row, which no token changes."""

    gpt2: KVCache
    user_vectors: Float[Array, "B d"]


@dataclasses.dataclass(frozen=True)
class RecInDial:
    """GPT-2 whose item logits know the mentioned items, and whose words and items are two classes.

    With h_t GPT-2's state and t_u the user vector of the response,

      z_t     = [E_V; E_I] h_t + [0; H_I t_u]
      P_vp    = σ(wᵀ h_t + b)
      P(y)    = (1 - P_vp) softmax over V of z_t   for a word
                P_vp softmax over I of z_t         for an item

    where E_V and E_I are the rows of GPT-2's tied embedding, H_I the recommender's node vectors of
    the items that have a token, and t_u the attentive pooling of the mentioned items; zeros if none
    is mentioned. As features are h_t ⊕ t_u, all of this is one `Head`: its kernel is
    [[E_Vᵀ E_Iᵀ]; [0 H_Iᵀ]], and its switch is the pointer.

    All methods are pure functions of `params`. These are GPT-2's parameters under its published
    names, "pointer" (w as "kernel" [D], b as "bias" []), and, under the key "graph", frozen arrays
    that no gradient reaches:

      entities [O, d], entity_energies [O]: node vectors and their attention energies;
      entity_rows [E + 1] int32: the row in `entities` of each entity id of the corpus, -1 for ids
        without one. The additional last slot is -1, and the padding id -1 indexes it;
      items [I, d]: H_I, the node vectors of the items that have a token, in the order of tokens.

    Attributes:
      gpt2: the language model.

    Source: Wang et al. 2022 (RecInDial), re-implemented from the description, since their code is
    not public.
    """

    EMBEDDING: ClassVar[str] = GPT2.EMBEDDING

    gpt2: GPT2

    @property
    def spec(self) -> GPT2Spec:
        """GPT-2's shape; that of the rest follows from the graph."""
        return self.gpt2.spec

    @property
    def compute(self) -> Compute:
        """How GPT-2 computes."""
        return self.gpt2.compute

    def computing(self, compute: Compute) -> RecInDial:
        """The same model, with another `compute`."""
        return RecInDial(dataclasses.replace(self.gpt2, compute=compute))

    def pointer_params(self, rng: PRNGKeyArray) -> Params:
        """Draws the pointer: w from N(0, .02²), as GPT-2's weights, and b = 0."""
        width = self.spec.embed_dim
        kernel = INIT_STDDEV * jax.random.normal(rng, (width,), jnp.float32)
        return {"kernel": kernel, "bias": jnp.zeros((), jnp.float32)}

    def states(
        self, params: Params, inputs: Mapping[str, Any], rng: PRNGKeyArray | None = None
    ) -> Float[Array, "B S F"]:
        """Features h_t ⊕ t_u at every position; t_u is zeros where no response is predicted.

        Args:
          params: the trained parameters and the graph.
          inputs: "input_ids" [B, S], padded on the right; "entities" [B, K, Le], the entities
            mentioned before each of a row's responses, ids of the corpus' graph, -1 for padding;
            "response_slot" [B, S], the response that a position belongs to, -1 for none.
          rng: key of the dropout masks; None turns dropout off.
        """
        hidden = self.gpt2.features(_of_gpt2(params), inputs["input_ids"], rng=rng)
        slot = jnp.asarray(inputs["response_slot"])[:, :, None]  # [B, S, 1]
        users = _user_vectors(params[GRAPH], inputs["entities"])  # [B, K, d]
        # A gather, not a pooling per position: a response has one user vector for all its tokens.
        at_positions = jnp.take_along_axis(users, jnp.maximum(slot, 0), axis=1)  # [B, S, d]
        at_positions = jnp.where(slot >= 0, at_positions, 0.0).astype(hidden.dtype)
        return jnp.concatenate([hidden, at_positions], axis=-1)

    def head(self, params: Params, num_targets: int) -> Head:
        """The output layer, with kernel [[E_Vᵀ E_Iᵀ]; [0 H_Iᵀ]] and the pointer as its switch.

        The bias is zeros, since neither part has one.
        """
        embedding, pointer = params["wte"]["embedding"], params[POINTER]
        items = jax.lax.stop_gradient(jnp.asarray(params[GRAPH]["items"]))  # [I, d]
        num_words = num_targets - items.shape[0]
        known = jnp.pad(items.T, ((0, 0), (num_words, 0))).astype(embedding.dtype)  # [d, Y]
        kernel = jnp.concatenate([embedding[:num_targets].T, known])  # [F, Y]
        return Head(
            kernel=kernel,
            bias=jnp.zeros((num_targets,), kernel.dtype),
            switch=Switch(
                kernel=jnp.pad(pointer["kernel"], (0, items.shape[1])),  # it reads h_t alone
                bias=pointer["bias"],
                num_words=num_words,
            ),
        )

    def open_cache(
        self, params: Params, inputs: Mapping[str, Any], max_tokens: int
    ) -> tuple[Float[Array, "B F"], RecInDialCache]:
        """Reads prompts as GPT-2 does, and pools the user vector of every response.

        Args:
          params: the trained parameters and the graph.
          inputs: "input_ids" and "attention_mask" [B, S], padded on the left; "entities" [B, Le].
          max_tokens: the longest response, of which the last token is never read.
        """
        hidden, cache = self.gpt2.open_cache(_of_gpt2(params), inputs, max_tokens)
        users = _user_vectors(params[GRAPH], inputs["entities"]).astype(hidden.dtype)  # [B, d]
        return jnp.concatenate([hidden, users], axis=-1), RecInDialCache(cache, users)

    def step(
        self, params: Params, token: Int[Array | np.ndarray, " B"], cache: RecInDialCache
    ) -> tuple[Float[Array, "B F"], RecInDialCache]:
        """Reads one more token of every row."""
        hidden, advanced = self.gpt2.step(_of_gpt2(params), token, cache.gpt2)
        features = jnp.concatenate([hidden, cache.user_vectors], axis=-1)
        return features, dataclasses.replace(cache, gpt2=advanced)

    def longest_prompt(self, max_tokens: int) -> int:
        """As GPT-2: the learned positions that a response of `max_tokens` leaves."""
        return self.gpt2.longest_prompt(max_tokens)


def _of_gpt2(params: Params) -> Params:
    return {name: leaf for name, leaf in params.items() if name not in (GRAPH, POINTER)}


def _user_vectors(graph: Params, ids: Int[Array | np.ndarray, "*N Le"]) -> Float[Array, "*N d"]:
    """t_u of every list of entity ids; no gradient passes."""
    graph = jax.lax.stop_gradient(graph)
    nodes = jnp.asarray(graph["entities"])
    found = jnp.asarray(graph["entity_rows"])[jnp.asarray(ids)]  # -1 for padding, without a node
    lists = found.reshape(-1, found.shape[-1])  # [n, Le]
    pooled = attention_pool(
        nodes, jnp.asarray(graph["entity_energies"]), jnp.maximum(lists, 0), lists >= 0
    )
    return pooled.reshape(*found.shape[:-1], nodes.shape[-1])
