"""ReDial's sentiment model: what a dialogue says about each movie that it mentions.

It answers, for both speakers, the questions of ReDial's forms: was the movie suggested, did the
seeker see it, did the seeker like it. The probability that the seeker likes a movie, after the
utterances so far, is what AutoRec reads. This file must not depend on files or corpora.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from conkd_jax.models.layers import Dense
from conkd_jax.models.utterances import ConversationGRU, UtteranceGRU, last_state
from conkd_jax.typing import Array, Float, Int, Params

LIKED = 1  # of the answers disliked, liked, not said
# The logits of a form's questions, and those of both forms, the seeker's (initiator's) first.
QUESTIONS = {"suggested": 1, "seen": 3, "liked": 3}
FORMS = ("initiator", "respondent")
NUM_ANSWERS = len(FORMS) * len(QUESTIONS)
NUM_LOGITS = len(FORMS) * sum(QUESTIONS.values())
# Of the classes of "liked" in the loss; in ReDial they are roughly 1 : 16 : 3.
LIKED_WEIGHTS = (1 / 5, 1 / 80, 1 / 15)


@dataclasses.dataclass(frozen=True)
class SentimentSpec:
    """The shape of a sentiment model, without its vocabulary; defaults as published.

    Attributes:
      word_dim: width of the word vectors.
      features: width of each direction of the utterance GRU, and of the conversation GRU.
      num_layers: layers of each.
      dropout: rate between layers and on the utterance vectors.
    """

    word_dim: int = 300
    features: int = 512
    num_layers: int = 2
    dropout: float = 0.4


class Sentiment(nn.Module):
    """Bidirectional GRU over tokens, GRU over utterances, and a linear layer per movie.

    A token's vector is its word vector and a bit: 1 where the movie in question is mentioned. An
    utterance that does not mention the movie has the same vector for every movie, so it is computed
    once; the copies in which a movie is marked are a sequence of their own (`mention_ids`). The GRU
    over utterances runs once per movie, from left to right, so the state after utterance u depends
    on utterances up to u.

    Attributes:
      spec: the shape.
      num_rows: rows of the word vectors.
      dtype: the type of the products; recurrent states and logits are float32.
    """

    spec: SentimentSpec
    num_rows: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, inputs: Mapping[str, Any], *, deterministic: bool = True
    ) -> Float[Array, "B K U A"]:
        """The logits of all answers for every movie, after every utterance.

        Args:
          inputs: see `data.rows.utterances.Histories.inputs`.
          deterministic: whether dropout is off; if not, apply with `rngs={"dropout": key}`.
        """
        spec = self.spec
        words = nn.Embed(
            self.num_rows,
            spec.word_dim,
            embedding_init=nn.initializers.normal(spec.word_dim**-0.5),
            name="words",
        )
        shape = (spec.features, spec.num_layers, spec.dropout, self.dtype)
        encoder = UtteranceGRU(*shape, name="utterances")
        drop = nn.Dropout(spec.dropout)

        def encode(ids, marks, starts, ends):
            bits = jnp.asarray(marks, jnp.float32)[..., None]
            vectors = jnp.concatenate([words(ids), bits], axis=-1)
            found = encoder(vectors, starts, ends, deterministic=deterministic)
            return drop(found, deterministic=deterministic)

        ids = jnp.asarray(inputs["context_ids"])
        starts, ends = inputs["utterance_starts"], inputs["utterance_ends"]
        plain = encode(ids, jnp.zeros(ids.shape), starts, ends)  # [B, U, 2F]
        marked = encode(
            inputs["mention_ids"],
            inputs["mention_marks"],
            inputs["mention_starts"],
            inputs["mention_ends"],
        )  # [B, P, 2F]
        size, count = inputs["movies"].shape
        per_movie = jnp.broadcast_to(plain[:, None], (size, count, *plain.shape[1:]))
        # Padding is moved out of bounds, where nothing is written; -1 would be the last place.
        movie = jnp.asarray(inputs["mention_movies"])
        movie = jnp.where(movie >= 0, movie, count)
        rows = jnp.arange(size)[:, None]
        utterance = jnp.asarray(inputs["mention_utterances"])
        per_movie = per_movie.at[rows, movie, utterance].set(marked, mode="drop")
        senders = jnp.asarray(inputs["senders"])[:, None]
        senders = jnp.broadcast_to(senders, per_movie.shape[:-1])
        states = ConversationGRU(*shape, name="conversation")(
            per_movie, senders, deterministic=deterministic
        )
        answers = Dense(NUM_LOGITS, dtype=self.dtype, name="answers")(states)
        return answers.astype(jnp.float32)


def final_answers(
    logits: Float[Array, "B K U A"], ends: Int[Array | np.ndarray, "B U"]
) -> Float[Array, "B K A"]:
    """The logits after the last utterance of each history."""
    return last_state(logits, ends)


def split_answers(logits: Float[Array, "*N A"]) -> dict[str, Float[Array, "*N _"]]:
    """The logits of every question, by "FORM_QUESTION"."""
    widths = {f"{form}_{q}": width for form in FORMS for q, width in QUESTIONS.items()}
    places = np.cumsum(list(widths.values()))[:-1].tolist()
    return dict(zip(widths, jnp.split(logits, places, axis=-1), strict=True))


def liked_probability(
    model: Sentiment, params: Params, inputs: Mapping[str, Any]
) -> Float[Array, "B K"]:
    """P(the seeker likes it) of every mentioned movie after the last utterance; 0 for padding.

    The seeker's own form counts: softmax of its three answers (disliked, liked, not said).
    """
    logits: Any = model.apply({"params": params}, inputs)
    answers = split_answers(final_answers(logits, inputs["utterance_ends"]))
    liked = jax.nn.softmax(answers["initiator_liked"], axis=-1)[..., LIKED]
    return jnp.where(jnp.asarray(inputs["movies"]) >= 0, liked, 0.0)


def mention_ratings(
    spec: SentimentSpec | None, num_rows: int, params: Params, inputs: Mapping[str, Any]
) -> Float[Array, "B K"]:
    """What AutoRec reads of a history: how far the seeker likes each mentioned movie, from 0 to 1.

    Args:
      spec: the shape of the sentiment model; None without one, where a mention counts as liked.
      num_rows: rows of its word vectors.
      params: its parameters; not read without one.
      inputs: see `data.rows.utterances.Histories.inputs`.
    """
    if spec is None:
        return (jnp.asarray(inputs["movies"]) >= 0).astype(jnp.float32)
    return liked_probability(Sentiment(spec, num_rows), params, inputs)


def answer_losses(
    logits: Float[Array, "*N A"], answers: Int[Array | np.ndarray, "*N Q"]
) -> dict[str, Float[Array, "*N"]]:
    """The six losses of each (dialogue, movie), unweighted, by "FORM_QUESTION".

    Binary cross-entropy for "suggested", cross-entropy for "seen" and "liked".

    Args:
      logits: of all answers.
      answers: the six answers in the order of `split_answers`.
    """
    found = {}
    for index, (name, part) in enumerate(split_answers(logits).items()):
        label = jnp.asarray(answers)[..., index]
        if name.endswith("suggested"):
            binary = optax.losses.sigmoid_binary_cross_entropy(
                part[..., 0], label.astype(part.dtype)
            )
            found[name] = binary
        else:
            loss = optax.losses.softmax_cross_entropy_with_integer_labels
            found[name] = loss(part, label)
    return found
