"""A trained AutoRec: ReDial's recommender, as the teacher store and the evaluation read it.

Its user vector is AutoRec's hidden layer, computed from the movies mentioned so far and, if there
is a sentiment model, from how likely the seeker likes each. `autorec_training` trains it.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from jaxtyping import Float

from conkd_jax.data.batches.plan import batches_by_length, fixed_buckets
from conkd_jax.data.corpus import Corpus, Dialogue
from conkd_jax.data.rows.contract import FILL
from conkd_jax.data.rows.utterances import Histories, HistoryLimits, build_histories
from conkd_jax.data.vocabulary import Vocabulary
from conkd_jax.distill.head import Head
from conkd_jax.io.files import write_json
from conkd_jax.models.recommenders import autorec
from conkd_jax.models.sentiment import SentimentSpec, mention_ratings
from conkd_jax.runtime import parallel
from conkd_jax.training import checkpoint
from conkd_jax.typing import Array, Params

REPORT, PARAMS, VOCABULARY = "autorec.json", "params", "vocabulary"
_ROWS_AT_A_TIME = 64  # histories that are read at once


@dataclasses.dataclass(frozen=True)
class AutoRecSpec:
    """What is read of a history, and the width of the user vector.

    Attributes:
      embed_dim: H, the width of AutoRec's hidden layer.
      limits: what of a history is kept.
      vocabulary: the token ids that the sentiment model reads.
      sentiment: the shape of the sentiment model; None without one.
    """

    embed_dim: int
    limits: HistoryLimits
    vocabulary: Vocabulary
    sentiment: SentimentSpec | None

    def contexts(self, dialogues: Sequence[Dialogue], corpus: Corpus) -> Histories:
        """The history of every response of `dialogues`."""
        del corpus  # the graphs are not read
        return build_histories(dialogues, self.vocabulary, self.limits)


@dataclasses.dataclass(frozen=True)
class TrainedAutoRec:
    """A trained AutoRec, with the frozen sentiment model that it reads.

    Attributes:
      spec: what it reads.
      params: AutoRec's parameters, over all candidates.
      sentiment: the sentiment model's parameters; empty without one.
    """

    spec: AutoRecSpec
    params: Params
    sentiment: Params

    @property
    def head(self) -> Head:
        """W₂ and b₂, onto the candidates in the corpus' order of items."""
        decoder = self.params["decoder"]
        return Head(jnp.asarray(decoder["kernel"]), jnp.asarray(decoder["bias"]))

    def user_vectors(self, contexts: Histories) -> Float[np.ndarray, "N D"]:
        """The hidden layer of every history, float32."""
        vectors = np.zeros((len(contexts), self.spec.embed_dim), np.float32)
        if not len(contexts):
            return vectors
        buckets = fixed_buckets(int(contexts.lengths.max()), self.spec.limits.max_tokens)
        words = self.spec.vocabulary
        for rows, length in batches_by_length(contexts.lengths, _ROWS_AT_A_TIME, buckets):
            row_ids = np.full(_ROWS_AT_A_TIME, FILL, np.int64)
            row_ids[: len(rows)] = rows
            found = _user_vectors(
                self.params["encoder"],
                self.sentiment,
                contexts.inputs(row_ids, length, words.pad_id),
                words.item_candidates,
                spec=self.spec.sentiment,
                num_rows=words.num_rows,
            )
            vectors[rows] = np.asarray(found)[: len(rows)]
        return vectors

    def scores(self, user_vectors: Float[np.ndarray, "N D"]) -> Float[np.ndarray, "N M"]:
        """ŷ over the candidates."""
        return np.asarray(self.head.logits(jnp.asarray(user_vectors)))


@functools.partial(jax.jit, static_argnames=("spec", "num_rows"))
def _user_vectors(encoder, sentiment, inputs, candidates, *, spec, num_rows) -> Array:
    movies = jnp.asarray(inputs["movies"])
    items = jnp.where(movies >= 0, jnp.asarray(candidates)[movies], -1)
    ratings = mention_ratings(spec, num_rows, sentiment, inputs)
    return autorec.user_vectors({"encoder": encoder}, items, ratings)


# --- files ---------------------------------------------------------------------------------------


def save(
    directory: epath.Path, recommender: TrainedAutoRec, metrics: Mapping[str, int | float]
) -> None:
    """Writes the files that `load` reads; called by every process."""
    spec = recommender.spec
    found = {"autorec": recommender.params, "sentiment": recommender.sentiment}
    checkpoint.save(directory / PARAMS, {name: tree for name, tree in found.items() if tree})
    if parallel.is_first_process():
        shape = {
            "embed_dim": spec.embed_dim,
            "limits": dataclasses.asdict(spec.limits),
            "sentiment": None if spec.sentiment is None else dataclasses.asdict(spec.sentiment),
        }
        spec.vocabulary.save(directory / VOCABULARY)
        write_json(directory / REPORT, {"spec": shape, "metrics": dict(metrics)})


def is_autorec(directory: epath.Path) -> bool:
    """Whether an artifact of the stage `rec_teacher` is an AutoRec."""
    return (directory / REPORT).exists()


def load(directory: epath.Path, corpus: Corpus) -> TrainedAutoRec:
    """Reopens what `save` wrote.

    Args:
      directory: the artifact of the stage `rec_teacher`.
      corpus: a corpus with the movies of the training.

    Raises:
      ValueError: the corpus has other movies.
    """
    shape = json.loads((directory / REPORT).read_text())["spec"]
    vocabulary = Vocabulary.load(directory / VOCABULARY)
    if vocabulary.candidate_item_ids.tolist() != corpus.items.item_ids.tolist():
        raise ValueError(
            f"{directory}: expected a corpus with its {len(vocabulary.candidate_item_ids)} "
            f"movies, but {corpus.directory} has others. Open the corpus that the recommender was "
            "trained on, or train it again."
        )
    sentiment = shape["sentiment"]
    spec = AutoRecSpec(
        embed_dim=shape["embed_dim"],
        limits=HistoryLimits(**shape["limits"]),
        vocabulary=vocabulary,
        sentiment=None if sentiment is None else SentimentSpec(**sentiment),
    )
    params = checkpoint.load(directory / PARAMS)
    return TrainedAutoRec(spec, params["autorec"], params.get("sentiment", {}))
