"""Stage `rec_teacher`: trains the recommendation teacher on pairs (turn, item).

Writes the files that `stages.recommender.load` reads: parameters, the index of their nodes, and
`rec_teacher.json`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from jaxtyping import Int, PyTree

from conkd_jax.artifacts.fingerprint import outside_fingerprint, view, with_added
from conkd_jax.artifacts.stage import Context, Stage
from conkd_jax.config import Config, RecommenderConfig
from conkd_jax.data.batches.loader import Batch, BatchLoader
from conkd_jax.data.batches.plan import BatchPlan
from conkd_jax.data.corpus import Corpus, CorpusError, Dialogue
from conkd_jax.data.recommender_inputs import (
    NodeIndex,
    RecommenderTargets,
    build_recommender_targets,
)
from conkd_jax.data.rows.contract import FILL
from conkd_jax.io.files import by_hash
from conkd_jax.models.compute import Compute
from conkd_jax.models.recommenders.recommender import (
    Contexts,
    Recommender,
    RecommenderGraphs,
    mim_loss,
    recommendation_loss,
)
from conkd_jax.runtime import parallel
from conkd_jax.stages.recommender import (
    RecommenderSpec,
    build_graphs,
    build_index,
    build_module,
    build_recommender,
    indexed,
    other_nodes,
    save,
)
from conkd_jax.stages.systems.recall import score
from conkd_jax.stages.training import (
    EXECUTION_CHANGES_NO_RESULT,
    Execution,
    compute_setting,
    make_loader,
    train,
)
from conkd_jax.training import loop

VERSION = 2
SCORED_SPLITS = ("dev", "valid")
CURVES = ("cross_entropy", "recall@1", "recall@10", "recall@50")  # on dev, after every epoch


@dataclasses.dataclass(frozen=True)
class RecTeacherSettings:
    """Settings of a recommendation teacher.

    Attributes:
      seed: config.teacher_seed.
      rng_impl: generator of the dropout keys.
      fold: (k, K) trains without part k of K parts of the training split; None trains on all of it.
      model: the recommender and its training.
      compute_dtype: the type of the products in training (`compute_setting`). A trained recommender
        computes in float32.
      execution: devices and checkpoints.
    """

    seed: int
    rng_impl: str
    fold: tuple[int, int] | None
    compute_dtype: str | None  # not "float32": an artifact of float32 has its old fingerprint
    model: RecommenderConfig = with_added(
        *("use_concepts", "use_reviews", "context_nodes"),
        *("distinct_targets", "attention_init", "max_neighbors"),
    )
    execution: Execution = outside_fingerprint(because=EXECUTION_CHANGES_NO_RESULT)


def stage(config: Config, stages: Mapping[str, Stage], *, fold: int | None = None) -> Stage:
    """The recommendation teacher of a config.

    Args:
      config: the whole config.
      stages: `corpus`, including the split `inferred` if the config trains on it.
      fold: for cross-fitting, the part of train that is left out.
    """
    settings = RecTeacherSettings(
        model=view(config.rec_teacher, RecommenderConfig),
        seed=config.teacher_seed,
        rng_impl=config.rng_impl,
        fold=None if fold is None else (fold, config.rec_teacher.cross_fit_folds),
        compute_dtype=compute_setting(config),
        execution=Execution.of(config),
    )
    return Stage("rec_teacher", VERSION, settings, {"corpus": stages["corpus"]}, run)


def run(
    settings: RecTeacherSettings, directory: epath.Path, context: Context
) -> dict[str, int | float]:
    """Trains a recommender and keeps the parameters with the lowest dev cross-entropy.

    The first `mim_epochs` epochs use MIM alone, the others CE + mim_weight · MIM. Early stopping
    can't end the first part. The folder gets `params/`, `index.npz`, `rec_teacher.json` and the
    files of the loop.

    Returns:
      Metrics of every scored split (see `recommender.score`), the number of training pairs, and the
      step that was kept.

    Raises:
      CorpusError: there is nothing to train on.
    """
    corpus = Corpus.open(context.inputs["corpus"])
    spec = RecommenderSpec.of(settings.model)
    dialogues = training_dialogues(settings.model, corpus, settings.fold)
    index = build_index(corpus, spec, dialogues)
    graphs = build_graphs(corpus, spec, index)
    others = other_nodes(corpus, spec, index, graphs)
    task = make_task(settings, corpus, dialogues, index, graphs, others)
    result = train(
        task,
        settings.model.optimizer,
        seed=settings.seed,
        rng_impl=settings.rng_impl,
        directory=directory,
        execution=settings.execution,
    )
    recommender = build_recommender(result.params, spec, index, graphs, others)
    metrics: dict[str, int | float] = {
        "num_samples": len(targets_of(settings.model, dialogues)),
        "best_step": result.step,
    }
    for split in SCORED_SPLITS:
        if split in corpus.splits:
            scored = score(recommender, corpus, split)
            metrics |= {f"{split}_{name}": value for name, value in scored.items()}
    save(directory, result.params, spec, index, metrics)
    return metrics


class RecommenderBatches:
    """Assembles training pairs into one device's arrays (the loader's `assemble`).

    Arrays: `entities` [b, Le] and `concepts` [b, Lc], rows of the index, -1 for padding; `targets`
    [b], candidate indices; `weights` [b], 1 / pairs in the global batch, 0 for padding.
    """

    def __init__(self, contexts: Contexts, targets: RecommenderTargets):
        self.contexts = contexts
        self.targets = targets

    def __call__(
        self, row_ids: Int[np.ndarray, " b"], bucket_length: int, step_rows: Int[np.ndarray, " B"]
    ) -> Batch:
        """The arrays for the given pairs; FILL stands for padding."""
        del bucket_length  # all contexts are padded to the same length
        rows = np.maximum(row_ids, 0)
        responses = self.targets.response[rows]
        weight = 1.0 / np.count_nonzero(step_rows != FILL)
        return {
            "entities": np.asarray(self.contexts.entities[responses]),
            "concepts": np.asarray(self.contexts.concepts[responses]),
            "targets": self.targets.item[rows],
            "weights": np.where(row_ids != FILL, weight, 0.0).astype(np.float32),
        }


class MimFirst:
    """A loader's batches, with an array `mim_only` [D, A]: 1 in steps that train with MIM alone."""

    def __init__(self, loader: BatchLoader, num_mim_steps: int):
        self.loader = loader
        self.num_mim_steps = num_mim_steps

    def iterate(self, start_step: int) -> Iterator[Batch]:
        """The batches from `start_step` on."""
        for step, batch in enumerate(self.loader.iterate(start_step), start_step):
            is_mim_only = np.float32(step < self.num_mim_steps)
            yield {**batch, "mim_only": np.full(batch["weights"].shape[:2], is_mim_only)}

    def row_ids(self, step: int) -> Int[np.ndarray, " B"]:
        """The pairs in a step's global batch; FILL stands for padding."""
        return self.loader.row_ids(step)


def make_loss(module: Recommender, mim_weight: float) -> parallel.Loss:
    """The loss of one device's micro-batch: first Σ w MIM, then Σ w [CE + mim_weight · MIM].

    Without concepts, it is Σ w CE.
    """

    def loss(params, batch, rng, graphs):
        forward: Any = module.apply(
            {"params": params},
            graphs,
            Contexts(batch["entities"], batch["concepts"]),
            deterministic=False,
            rngs={"dropout": rng},
        )
        logits, mim_scores = forward
        entities, weights, mim_only = batch["entities"], batch["weights"], batch["mim_only"]
        cross_entropy = recommendation_loss(logits, graphs.item_scores[batch["targets"]])
        num_pairs = jnp.sum(weights > 0).astype(jnp.float32)
        metrics = {
            "cross_entropy": (jnp.sum(weights * cross_entropy), weights.sum()),
            "tokens": (num_pairs, num_pairs),  # pairs, for the displayed rate
        }
        if mim_scores is None:
            return metrics["cross_entropy"][0], metrics
        members = jnp.where(entities >= 0, graphs.node_scores[jnp.maximum(entities, 0)], -1)
        mim = mim_loss(mim_scores, members)
        metrics["mim"] = (jnp.sum(weights * mim), weights.sum())
        combined = jnp.where(mim_only > 0, mim, cross_entropy + mim_weight * mim)
        return jnp.sum(weights * combined), metrics

    return loss


def fold_of(conversation_id: str, num_folds: int) -> int:
    """The cross-fitting fold of a conversation: SHA-256 of its id, modulo `num_folds`."""
    return by_hash(f"fold:{conversation_id}", num_folds)


def without_fold(dialogues: Sequence[Dialogue], fold: tuple[int, int] | None) -> list[Dialogue]:
    """The dialogues outside of a fold.

    Args:
      dialogues: any dialogues.
      fold: (k, K) leaves out fold k of K; None leaves out nothing.

    Raises:
      ValueError: the fold does not exist, or there are fewer than 2.
    """
    if fold is None:
        return list(dialogues)
    number, num_folds = fold
    if num_folds < 2 or not 0 <= number < num_folds:
        raise ValueError(f"fold: expected one of at least 2 folds, got {number} of {num_folds}")
    return [d for d in dialogues if fold_of(d.conversation_id, num_folds) != number]


def training_dialogues(
    model: RecommenderConfig, corpus: Corpus, fold: tuple[int, int] | None = None
) -> list[Dialogue]:
    """The dialogues of train, and of `inferred` if the config uses it, without those of a fold.

    Args:
      model: the recommender and its training.
      corpus: the corpus, with the split `inferred` if it is used.
      fold: (k, K) leaves out fold k of K; None leaves out nothing.

    Raises:
      ValueError: the fold does not exist, or there are fewer than 2.
      CorpusError: no dialogue with an item is left.
    """
    dialogues = corpus.training_dialogues(use_inferred_order=model.use_inferred_order)
    dialogues = without_fold(dialogues, fold)
    if not len(targets_of(model, dialogues)):
        raise CorpusError(
            f"{corpus.directory}: expected recommended items to train on, found none in "
            f"{len(dialogues)} training dialogues"
        )
    return dialogues


def targets_of(model: RecommenderConfig, dialogues: Sequence[Dialogue]) -> RecommenderTargets:
    """The training pairs of dialogues."""
    return build_recommender_targets(dialogues, distinct=model.distinct_targets)


def batch_plan(model: RecommenderConfig, num_pairs: int, seed: int = 0) -> BatchPlan:
    """The training pairs of each step; all have one length."""
    return BatchPlan(np.ones(num_pairs), model.batch_size, (1,), seed)


def num_steps(model: RecommenderConfig, dialogues: Sequence[Dialogue]) -> int:
    """The number of training steps on these dialogues."""
    num_pairs = len(targets_of(model, dialogues))
    return model.epochs * batch_plan(model, num_pairs).steps_per_epoch


def make_task(
    settings: RecTeacherSettings,
    corpus: Corpus,
    dialogues: Sequence[Dialogue],
    index: NodeIndex,
    graphs: RecommenderGraphs,
    others: tuple[NodeIndex, RecommenderGraphs],
) -> loop.Task:
    """The task of the loop: graphs are constants, and the dev cross-entropy selects the step."""
    model, spec = settings.model, RecommenderSpec.of(settings.model)
    module = build_module(
        spec,
        user_dropout=model.user_dropout,
        context_dropout=model.context_dropout,
        dtype=settings.compute_dtype or Compute.dtype,
    )
    batches = RecommenderBatches(
        indexed(spec.contexts(dialogues, corpus), index), targets_of(model, dialogues)
    )
    plan = batch_plan(model, len(batches.targets), settings.seed)
    loader = make_loader(plan, batches, model.optimizer, settings.execution)

    def init(rng: jax.Array) -> PyTree:
        example = jax.tree.map(lambda ids: ids[:1], batches.contexts)
        return jax.jit(module.init)(rng, graphs, example)["params"]

    def evaluate(params: PyTree) -> Mapping[str, float]:
        scored = score(build_recommender(params, spec, index, graphs, others), corpus, "dev")
        return {f"dev_{name}": scored[name] for name in CURVES}

    return loop.Task(
        name="rec_teacher",
        init=init,
        loss=make_loss(module, model.mim_weight),
        loader=MimFirst(loader, model.mim_epochs * plan.steps_per_epoch),
        num_steps=model.epochs * plan.steps_per_epoch,
        constants=graphs,
        evaluate=evaluate,
        evaluate_every=plan.steps_per_epoch,
        select=("dev_cross_entropy", "min"),
        # MIM hardly changes the dev cross-entropy, so early stopping must wait until it is over.
        patience=max(model.patience, model.mim_epochs + 1) if model.patience else 0,
        ema_decay=model.ema_decay,
    )
