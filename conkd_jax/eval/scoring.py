"""Teacher forcing: scores of the gold responses under a language model, token by token.

One pass over a split's rows gives everything that is measured without decoding: the NLL behind
every perplexity, the item mass behind every gate (eqs. 6-7), and the rank of the gold item. The dev
score during training, the teacher's gate statistics and the final evaluation all come from here.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Iterable

import jax
import jax.numpy as jnp
import numpy as np

from conkd_jax.distill.gates import item_mass_and_normalizer
from conkd_jax.distill.head import Head
from conkd_jax.eval.metrics.ranking import rank_by_score
from conkd_jax.models.backbone import Backbone
from conkd_jax.typing import Array, Float, Int

TOKENS_AT_A_TIME = 256  # tokens whose logits exist at once


@dataclasses.dataclass(frozen=True)
class TokenScores:
    """Scores of every target token of a split, flat, ordered by response and then by step.

    Attributes:
      response_index: [N] which response of the split a token belongs to.
      nll: [N] negative log-likelihood of the gold token, nats.
      item_mass: [N] probability of any item, Σ_{y'∈I} P(y'|y_<t, x) (eq. 7).
      is_item: [N] whether the gold token is an item.
      item_rank: [N] rank of the gold item among all items, from 1, ties by index; 0 at a word.
    """

    response_index: np.ndarray
    nll: np.ndarray
    item_mass: np.ndarray
    is_item: np.ndarray
    item_rank: np.ndarray

    def summary(self, is_choice: np.ndarray | None = None) -> dict[str, float]:
        """Means over tokens: NLL, its item and word parts, hit@k on item steps, λ_r and λ_v.

        Args:
          is_choice: [N] the tokens that hit@k, λ_r and λ_v are measured at (`Rows.is_choice`); None
            for all.
        """
        items, words = self.is_item, ~self.is_item
        chosen = np.ones_like(items) if is_choice is None else is_choice
        ranks = self.item_rank[items & chosen]

        def mean(values: np.ndarray) -> float:
            return float(values.mean()) if values.size else 0.0

        return {
            "nll": mean(self.nll),
            "nll_item": mean(self.nll[items]),
            "nll_word": mean(self.nll[words]),
            "lambda_r": mean(self.item_mass[items & chosen]),
            "lambda_v": mean(self.item_mass[words & chosen]),
            **{f"tf_hit@{k}": mean((ranks <= k).astype(np.float64)) for k in (1, 10, 50)},
        }


def logit_statistics(
    logits: Float[Array, "N Y"], labels: Int[Array, " N"], num_words: int, top_k: int = 0
) -> dict[str, Array]:
    """NLL, item mass, log-normaliser and the gold item's rank among items, for N tokens.

    Items with the same logit rank by index. With `top_k` = K above 0 there are also `log_probs` and
    `token_ids` [N, K]: the K most probable targets, most probable first, equal ones by index, and
    their log-probabilities under the whole distribution.
    """
    gold = jnp.take_along_axis(logits, labels[:, None], axis=-1)[:, 0]
    rank = rank_by_score(logits[:, num_words:], gold, labels - num_words).astype(jnp.int32)
    # Everything follows from one exponential of each logit.
    mass, log_normalizer = item_mass_and_normalizer(logits, num_words)
    found = {
        "nll": log_normalizer - gold,
        "item_mass": mass,
        "log_normalizer": log_normalizer,
        "item_rank": jnp.where(labels >= num_words, rank, 0),
    }
    if top_k:
        log_probs = logits - log_normalizer[:, None]
        found["log_probs"], found["token_ids"] = jax.lax.top_k(log_probs, top_k)
    return found


def head_statistics(
    features: Float[Array, "N F"],
    head: Head,
    labels: Int[Array, " N"],
    num_words: int,
    num_tokens: Int[Array | np.ndarray, ""] | int | None = None,
    retrieved_ids: Int[Array, "N L"] | None = None,
    top_k: int = 0,
) -> dict[str, Array]:
    """`logit_statistics` of head(features), in chunks: logits [N, Y] of a batch would be too large.

    Args:
      features: of N tokens.
      head: onto Y = V ∪ I.
      labels: the gold tokens.
      num_words: |V|, the id of the first item token.
      num_tokens: how many of the N tokens are real; they come first. Chunks of padding are skipped,
        and their statistics are 0. None for all.
      retrieved_ids: the words retrieved for each token's response, for a head that scores them.
      top_k: as in `logit_statistics`.
    """
    capacity = labels.shape[0]
    size = math.gcd(capacity, TOKENS_AT_A_TIME)  # chunks of one static size that fill N exactly

    def chunk(start):
        tokens, gold, retrieved = jax.tree.map(
            lambda array: jax.lax.dynamic_slice_in_dim(array, start, size),
            (features, labels, retrieved_ids),
        )
        return logit_statistics(head.logits(tokens, retrieved), gold, num_words, top_k)

    def add(index, found):
        start = index * size
        return jax.tree.map(
            lambda whole, part: jax.lax.dynamic_update_slice_in_dim(whole, part, start, 0),
            found,
            chunk(start),
        )

    shapes = jax.eval_shape(chunk, 0)
    found = jax.tree.map(lambda part: jnp.zeros((capacity, *part.shape[1:]), part.dtype), shapes)
    count = jnp.asarray(capacity if num_tokens is None else num_tokens, jnp.int32)
    # The number of chunks is an array, so that one compilation serves every number of real tokens.
    return jax.lax.fori_loop(jnp.int32(0), -(-count // size), add, found)


@functools.partial(jax.jit, static_argnames=("model", "num_words", "num_targets"))
def _score_batch(params, batch, *, model: Backbone, num_words: int, num_targets: int):
    features = response_features(model, params, batch)
    head = model.head(params, num_targets).cast(model.compute.array_dtype)
    labels, count, retrieved = batch["labels"], batch["num_tokens"], retrieved_ids(batch)
    return head_statistics(features, head, labels, num_words, count, retrieved)


def response_features(model: Backbone, params, batch, rng: jax.Array | None = None) -> jax.Array:
    """Features [N, F] at the response tokens of a micro-batch; with dropout if `rng` is given."""
    states = model.states(params, batch, rng=rng)  # [B, S, F]
    return states.reshape(-1, states.shape[-1])[batch["feature_index"]]  # [N, F]


def retrieved_ids(batch) -> jax.Array | None:
    """The words [N, L] retrieved for each token's response, from a batch that has some [G, L].

    None for the batches of other systems.
    """
    if "retrieved_ids" not in batch:
        return None
    return jnp.asarray(batch["retrieved_ids"])[batch["response_index"]]


def score_tokens(
    model: Backbone,
    params,
    batches: Iterable[tuple[np.ndarray, dict[str, np.ndarray]]],
    *,
    num_words: int,
    num_targets: int,
    progress: Callable[[int], object] = lambda number: None,
) -> TokenScores:
    """Scores every target token of the given batches.

    Args:
      model: the language model.
      params: its parameters.
      batches: pairs (response ids [G], micro-batch), as `stages.language_model.sequential` yields.
      num_words: |V|.
      num_targets: |Y|.
      progress: called with the number of responses of every batch that is scored.

    Returns:
      The scores, ordered by response and then by step, in whatever order the batches come.
    """
    parts: list[dict[str, np.ndarray]] = []
    for response_ids, batch in batches:
        scores = _score_batch(
            params, batch, model=model, num_words=num_words, num_targets=num_targets
        )
        count = int(batch["num_tokens"])
        part = {name: np.asarray(value)[:count] for name, value in scores.items()}
        part["response_index"] = response_ids[batch["response_index"][:count]]
        part["is_item"] = batch["labels"][:count] >= num_words
        parts.append(part)
        progress(len(response_ids))
    flat = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    order = np.argsort(flat["response_index"], kind="stable")
    flat = {name: value[order] for name, value in flat.items() if name != "log_normalizer"}
    return TokenScores(**flat)
