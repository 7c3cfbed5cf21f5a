"""ReDial's dialogue model: a hierarchical recurrent encoder, AutoRec, and a switching decoder.

Like every language model here it ends in features and a `Head`. The sentiment model that says what
of the mentioned movies the seeker likes is a frozen part of the parameters. This file must not
depend on how it was trained, or on corpora, losses or decoding rules.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, ClassVar

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from conkd_jax.distill.head import Head, Switch
from conkd_jax.models.compute import Compute
from conkd_jax.models.recommenders import autorec
from conkd_jax.models.sentiment import SentimentSpec, mention_ratings
from conkd_jax.models.utterances import ConversationGRU, UtteranceGRU, last_state
from conkd_jax.typing import Array, Float, Int, Params, PRNGKeyArray

AUTOREC = "autorec"  # the key, in the parameters, of AutoRec, which is trained further
SENTIMENT = "sentiment"  # the key of what is read but not trained


@dataclasses.dataclass(frozen=True)
class ReDialSpec:
    """The shape of a ReDial model, without its vocabulary; defaults as published.

    Attributes:
      word_dim: width of the encoder's word vectors.
      utterance_dim: width of each direction of the GRU over the tokens of an utterance.
      hidden_dim: width of the GRU over utterances, of the context and of the decoder.
      token_dim: width of the decoder's token embedding.
      autorec_dim: width of AutoRec's hidden layer.
      sentiment: the shape of the sentiment model; None if a mentioned movie counts as liked.
    """

    word_dim: int = 300
    utterance_dim: int = 256
    hidden_dim: int = 256
    token_dim: int = 512
    autorec_dim: int = 1000
    sentiment: SentimentSpec | None = SentimentSpec()


@flax.struct.dataclass
class ReDialCache:
    """What is kept while a batch is decoded.

    Attributes:
      state: h, the decoder's state.
      context: the context's part of the features.
    """

    state: Float[Array, "B D"]
    context: Context


@flax.struct.dataclass
class Context:
    """What the decoder reads of a history.

    Attributes:
      vector: c, the state after the last utterance; zeros before the first.
      user: AutoRec's user vector.
    """

    vector: Float[Array, "B D"]
    user: Float[Array, "B H"]


@dataclasses.dataclass(frozen=True)
class ReDial:
    """A decoder that switches, at every step, between saying a word and recommending a movie.

    With c the context, h_t the decoder's state (h_0 = c) and a = σ(W₁ x + b₁) AutoRec's user vector
    from x, the probabilities that the seeker likes the movies mentioned so far,

      s_t = w · [c; h_t] + b,
      P(y) = σ(-s_t) softmax_V(W_V h_t + b_V)   for words y,
      P(y) = σ(s_t)  softmax_I(W₂ a + b₂)       for movies y.

    The features are h_t ⊕ a ⊕ s_t, and the head's kernel is block-diagonal. The released code has
    σ(s) for words, the same up to the sign of w.

    All methods are pure functions of `params`: the trained parameters, among them AutoRec under
    "autorec", and the frozen parameters of the sentiment model under "sentiment".

    Attributes:
      spec: the network's shape.
      num_rows: rows of the token embeddings: Y = V ∪ I first, then the input-only rows.
      num_words: |V|.
      num_targets: |Y|.
      compute: the type of the products of encoder and decoder. Recurrent states and AutoRec are
        float32, and there are no layers for `remat`.

    Source: Li et al. 2018 (ReDial) and its public code.
    """

    EMBEDDING: ClassVar[str] = "tokens"

    spec: ReDialSpec
    num_rows: int
    num_words: int
    num_targets: int
    compute: Compute = Compute()

    def computing(self, compute: Compute) -> ReDial:
        """The same model, with another `compute`."""
        return dataclasses.replace(self, compute=compute)

    def init(
        self,
        rng: PRNGKeyArray,
        word_vectors: Float[Array | np.ndarray, "rows D"] | None = None,
    ) -> Params:
        """Draws the trained parameters; AutoRec's too, which a caller replaces by trained ones.

        Args:
          rng: key of all draws.
          word_vectors: the encoder's word vectors to start from; None draws them from N(0, 1/D).

        Raises:
          ValueError: the shape of `word_vectors` is not that of the embedding.
        """
        shape = (self.num_rows, self.spec.word_dim)
        if word_vectors is not None and word_vectors.shape != shape:
            raise ValueError(
                f"word_vectors has shape {word_vectors.shape}; ReDial(num_rows = {shape[0]}) with "
                f"word_dim = {shape[1]} needs {shape}, one vector for every row"
            )
        place = jnp.zeros((1, 1), jnp.int32)
        inputs = {
            **dict.fromkeys(("context_ids", "response_ids"), place),
            **dict.fromkeys(("utterance_starts", "utterance_ends"), place),
            "senders": jnp.zeros((1, 1)),
        }
        network, other = jax.random.split(rng)
        params = jax.jit(self._network.init)(network, inputs)["params"]
        if word_vectors is not None:
            params = {**params, "words": {"embedding": jnp.asarray(word_vectors, jnp.float32)}}
        num_items = self.num_targets - self.num_words
        return {**params, AUTOREC: autorec.init_autorec(other, num_items, self.spec.autorec_dim)}

    def states(
        self, params: Params, inputs: Mapping[str, Any], rng: PRNGKeyArray | None = None
    ) -> Float[Array, "B T F"]:
        """Features h_t ⊕ a ⊕ s_t at every response token; t predicts y_t.

        Args:
          params: the trained parameters and the sentiment model's.
          inputs: those of `data.rows.utterances.Histories.inputs`, and "response_ids" [B, T], the
            opening token followed by y_1 … y_{T-1}, with arbitrary padding on the right.
          rng: not used, as the model has no dropout.
        """
        user = self._user(params, inputs)
        states, switch = self._apply(params, inputs)
        user = jnp.broadcast_to(user[:, None], (*states.shape[:2], user.shape[-1]))
        features = jnp.concatenate([states, user, switch], axis=-1)
        return features.astype(self.compute.array_dtype)

    def head(self, params: Params, num_targets: int) -> Head:
        """The output layer: W_V on h_t for words, W₂ on a for movies, and s_t as the switch.

        Raises:
          ValueError: `num_targets` is not the number of words and movies.
        """
        if num_targets != self.num_targets:
            raise ValueError(
                f"expected a head onto {self.num_targets} targets, ReDial's words and movies, got "
                f"{num_targets}; take both from the same vocabulary"
            )
        words, items = params["word_scores"], params[AUTOREC]["decoder"]
        num_items = num_targets - self.num_words
        spec = self.spec
        kernel = jnp.concatenate(
            [
                jnp.pad(jnp.asarray(words["kernel"]), ((0, 0), (0, num_items))),
                jnp.pad(jnp.asarray(items["kernel"]), ((0, 0), (self.num_words, 0))),
                jnp.zeros((1, num_targets)),
            ]
        )  # [F, Y]
        is_switch = np.zeros(spec.hidden_dim + spec.autorec_dim + 1, np.float32)
        is_switch[-1] = 1.0
        return Head(
            kernel=kernel,
            bias=jnp.concatenate([jnp.asarray(words["bias"]), jnp.asarray(items["bias"])]),
            switch=Switch(jnp.asarray(is_switch), jnp.zeros(()), self.num_words),
        )

    def open_cache(
        self, params: Params, inputs: Mapping[str, Any], max_tokens: int
    ) -> tuple[Float[Array, "B F"], ReDialCache]:
        """Reads histories and opening tokens.

        Args:
          params: the trained parameters and the sentiment model's.
          inputs: as in `states`, with "first_token" [B] instead of "response_ids".
          max_tokens: not used: a recurrent state has no length.

        Returns:
          The features that predict y_1, and the cache for `step`.
        """
        vector = self._apply(params, inputs, method="context")
        cache = ReDialCache(vector, Context(vector, self._user(params, inputs)))
        return self.step(params, jnp.asarray(inputs["first_token"]), cache)

    def step(
        self, params: Params, token: Int[Array | np.ndarray, " B"], cache: ReDialCache
    ) -> tuple[Float[Array, "B F"], ReDialCache]:
        """Reads one more token of every row."""
        state, switch = self._apply(
            params, token, cache.state, cache.context.vector, method="decode"
        )
        features = jnp.concatenate([state, cache.context.user, switch], axis=-1)
        return features.astype(self.compute.array_dtype), ReDialCache(state, cache.context)

    def longest_prompt(self, max_tokens: int) -> None:
        """No limit, since a recurrent network has no positions."""

    def _user(self, params: Params, inputs: Mapping[str, Any]) -> Float[Array, "B H"]:
        """AutoRec's user vector; no gradient reaches what it reads."""
        sentiment = params.get(SENTIMENT, {})
        ratings = mention_ratings(self.spec.sentiment, self.num_rows, sentiment, inputs)
        ratings = jax.lax.stop_gradient(ratings)
        return autorec.user_vectors(params[AUTOREC], inputs["movies"], ratings)

    @functools.cached_property
    def _network(self) -> _Network:
        if not 0 < self.num_words < self.num_targets <= self.num_rows:
            raise ValueError(
                f"expected 0 < num_words < num_targets <= num_rows, got {self.num_words}, "
                f"{self.num_targets} and {self.num_rows}"
            )
        return _Network(self.spec, self.num_rows, self.num_words, self.compute.array_dtype)

    def _apply(self, params: Params, *args, **settings) -> Any:
        own = {name: leaf for name, leaf in params.items() if name not in (AUTOREC, SENTIMENT)}
        return self._network.apply({"params": own}, *args, **settings)


class _Network(nn.Module):
    """Encoder, decoder and switch of `ReDial`: what is trained, but for AutoRec."""

    spec: ReDialSpec
    num_rows: int
    num_words: int
    dtype: Any = jnp.float32

    def setup(self) -> None:
        spec = self.spec

        def embedding(width):
            return nn.Embed(
                self.num_rows, width, embedding_init=nn.initializers.normal(width**-0.5)
            )

        self.words, self.tokens = embedding(spec.word_dim), embedding(spec.token_dim)
        self.utterances = UtteranceGRU(spec.utterance_dim, dtype=self.dtype)
        self.conversation = ConversationGRU(spec.hidden_dim, dtype=self.dtype)
        self.decoder = nn.GRUCell(spec.hidden_dim, dtype=self.dtype)
        self.switch = nn.Dense(1)
        # The head's part for words; declared here to be drawn and trained with the rest.
        self.word_scores = nn.Dense(self.num_words)

    def __call__(self, inputs) -> tuple[Array, Array]:
        """(h_t [B, T, D], s_t [B, T, 1]) of every response token."""
        context = self.context(inputs)
        tokens = self.tokens(inputs["response_ids"])  # [B, T, E]
        scan = nn.scan(
            lambda cell, state, token: cell(state, token),
            variable_broadcast="params",
            split_rngs={"params": False},
            in_axes=1,
            out_axes=1,
        )
        _, states = scan(self.decoder, context, tokens)  # [B, T, D]
        if self.is_initializing():
            self.word_scores(states)
        repeated = jnp.broadcast_to(context[:, None], states.shape)
        return states, self.switch(jnp.concatenate([repeated, states], axis=-1))

    def context(self, inputs) -> Array:
        """The state c [B, D] after the last utterance."""
        ends = inputs["utterance_ends"]
        words = self.words(jnp.asarray(inputs["context_ids"]))
        utterances = self.utterances(words, inputs["utterance_starts"], ends)
        return last_state(self.conversation(utterances, inputs["senders"]), ends)

    def decode(self, token, state, context) -> tuple[Array, Array]:
        """(h_t [B, D], s_t [B, 1]) after one more token."""
        state, _ = self.decoder(state, self.tokens(token))
        return state, self.switch(jnp.concatenate([context, state], axis=-1))
