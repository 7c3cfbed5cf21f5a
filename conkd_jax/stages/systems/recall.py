"""How well a recommender ranks the items that responses mention, of either architecture."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from conkd_jax.data.corpus import Corpus
from conkd_jax.data.recommender_inputs import build_recommender_targets
from conkd_jax.distill.head import Head
from conkd_jax.eval.metrics import ranking
from conkd_jax.stages.any_recommender import AnyRecommender

RECALL_AT = (1, 10, 50)
_TARGETS_AT_A_TIME = 1024


def score(recommender: AnyRecommender, corpus: Corpus, split: str) -> dict[str, int | float]:
    """Recall@1/10/50, MRR, NDCG@10 and cross-entropy over the items that responses mention.

    Without a prefix, the metrics are over all mentions of a split. `linked_` restricts them to
    items that are DBpedia entities, as KGSF does; `novel_` to items that were not mentioned
    before in the dialogue. Items with the same score rank in the order of the candidates.
    """
    dialogues = corpus.dialogues(split)
    targets = build_recommender_targets(dialogues)
    vectors = recommender.user_vectors(recommender.spec.contexts(dialogues, corpus))
    ranks, nll = target_scores(recommender.head, vectors[targets.response], targets.item)
    parts = {
        "": np.ones(len(targets), bool),
        "linked_": corpus.items.is_linked[targets.item],
        "novel_": targets.is_novel,
    }
    metrics: dict[str, int | float] = {}
    for prefix, chosen in parts.items():
        metrics[f"{prefix}num_targets"] = int(chosen.sum())
        if not chosen.any():
            continue
        for k in RECALL_AT:
            metrics[f"{prefix}recall@{k}"] = ranking.recall_at_k(ranks[chosen], k)
        metrics[f"{prefix}mrr"] = ranking.mrr(ranks[chosen])
        metrics[f"{prefix}ndcg@10"] = ranking.ndcg(ranks[chosen], 10)
        metrics[f"{prefix}cross_entropy"] = float(nll[chosen].mean())
    return metrics


def target_scores(
    head: Head, user_vectors: Float[np.ndarray, "N D"], items: Int[np.ndarray, " N"]
) -> tuple[Int[np.ndarray, " N"], Float[np.ndarray, " N"]]:
    """(rank from 1, negative log-likelihood) of one target item per user vector; ties by index."""
    ranks, nll = np.zeros(len(items), np.int64), np.zeros(len(items), np.float64)
    for start in range(0, len(items), _TARGETS_AT_A_TIME):
        part = slice(start, start + _TARGETS_AT_A_TIME)
        ranks[part], nll[part] = _target_scores(head, user_vectors[part], items[part])
    return ranks, nll


@jax.jit
def _target_scores(head, user_vectors, items):
    logits = head.logits(user_vectors)
    target = jnp.take_along_axis(logits, items[:, None], axis=1)
    rank = ranking.rank_by_score(logits, target[:, 0], items)
    return rank, jax.nn.logsumexp(logits, axis=1) - target[:, 0]
