"""Stage `rec_teacher`: samples, loss and schedule of the recommendation teacher.

Leaves the files that `trained_recommender.load` reads: parameters, the index of the nodes that they
belong to, and `rec_teacher.json`.
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

from conkd_jax import loop, parallel
from conkd_jax.artifacts.fingerprint import outside_fingerprint, view
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
from conkd_jax.files import by_hash
from conkd_jax.models.recommender import (
    Contexts,
    Recommender,
    RecommenderGraphs,
    mim_loss,
    recommendation_loss,
)
from conkd_jax.stages.recommender import (
    RecommenderSpec,
    build_graphs,
    build_index,
    build_module,
    build_recommender,
    indexed,
    save,
    score,
)
from conkd_jax.stages.training import EXECUTION_CHANGES_NO_RESULT, Execution, make_loader, train

VERSION = 1
SCORED_SPLITS = ("dev", "valid")
CURVES = ("cross_entropy", "recall@1", "recall@10", "recall@50")  # on dev, after every epoch


@dataclasses.dataclass(frozen=True)
class RecTeacherSettings:
    """A recommendation teacher.

    Attributes:
      model: the recommender and its training.
      seed: config.teacher_seed.
      rng_impl: generator of the dropout keys.
      fold: (k, K): a teacher that never sees part k of K of the training split; None for the whole.
      execution: devices and checkpoints.
    """

    model: RecommenderConfig
    seed: int
    rng_impl: str
    fold: tuple[int, int] | None
    execution: Execution = outside_fingerprint(because=EXECUTION_CHANGES_NO_RESULT)


def stage(config: Config, stages: Mapping[str, Stage], *, fold: int | None = None) -> Stage:
    """The recommendation teacher of a config.

    Args:
      config: the whole config.
      stages: `corpus`, with the split `inferred` where the config trains on it.
      fold: for cross-fitting, the part of train that this teacher never sees.
    """
    settings = RecTeacherSettings(
        model=view(config.rec_teacher, RecommenderConfig),
        seed=config.teacher_seed,
        rng_impl=config.rng_impl,
        fold=None if fold is None else (fold, config.rec_teacher.cross_fit_folds),
        execution=Execution.of(config),
    )
    return Stage("rec_teacher", VERSION, settings, {"corpus": stages["corpus"]}, run)


def run(
    settings: RecTeacherSettings, directory: epath.Path, context: Context
) -> dict[str, int | float]:
    """Trains a recommender and keeps the parameters of the lowest dev cross-entropy.

    In one run of the loop, the first `mim_epochs` train by MIM alone and the rest by
    CE + mim_weight · MIM. Early stopping can't end the first part. The folder gets `params/`,
    `index.npz`, `rec_teacher.json` and the files of the loop.

    Returns:
      Metrics of every scored split (see `recommender.score`), the number of training samples, and
      the step that was kept.

    Raises:
      CorpusError: there is nothing to train on.
    """
    corpus = Corpus.open(context.inputs["corpus"])
    spec = RecommenderSpec.of(settings.model)
    dialogues = training_dialogues(settings.model, corpus, settings.fold)
    index = build_index(corpus, spec)
    graphs = build_graphs(corpus, spec, index)
    task = make_task(settings, corpus, dialogues, index, graphs)
    result = train(
        task,
        settings.model.optimizer,
        seed=settings.seed,
        rng_impl=settings.rng_impl,
        directory=directory,
        execution=settings.execution,
    )
    recommender = build_recommender(result.params, spec, index, graphs)
    metrics: dict[str, int | float] = {
        "num_samples": len(build_recommender_targets(dialogues)),
        "best_step": result.step,
    }
    for split in SCORED_SPLITS:
        if split in corpus.splits:
            scored = score(recommender, corpus, split)
            metrics |= {f"{split}_{name}": value for name, value in scored.items()}
    save(directory, result.params, spec, index, metrics)
    return metrics


class RecommenderBatches:
    """Assembles training samples into one device's arrays (the loader's `assemble`).

    Arrays: `entities` [b, Le] and `concepts` [b, Lc] rows of the index, -1 for padding; `targets`
    [b] candidate index; `weights` [b] 1 / samples of the global batch, 0 for padding.
    """

    def __init__(self, contexts: Contexts, targets: RecommenderTargets):
        self.contexts = contexts
        self.targets = targets

    def __call__(
        self, row_ids: Int[np.ndarray, " b"], bucket_length: int, step_rows: Int[np.ndarray, " B"]
    ) -> Batch:
        """The arrays of some rows; -1 is padding."""
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
    """A loader's batches with `mim_only` [D, A]: 1 in the steps that train by MIM alone."""

    def __init__(self, loader: BatchLoader, num_mim_steps: int):
        self.loader = loader
        self.num_mim_steps = num_mim_steps

    def iterate(self, start_step: int) -> Iterator[Batch]:
        """Batches, starting with the one of `start_step`."""
        for step, batch in enumerate(self.loader.iterate(start_step), start_step):
            is_mim_only = np.float32(step < self.num_mim_steps)
            yield {**batch, "mim_only": np.full(batch["weights"].shape[:2], is_mim_only)}

    def row_ids(self, step: int) -> Int[np.ndarray, " B"]:
        """Samples of a step's global batch, -1 for padding."""
        return self.loader.row_ids(step)


def make_loss(module: Recommender, mim_weight: float) -> parallel.Loss:
    """The loss of one device's micro-batch: Σ w [CE + mim_weight · MIM], or Σ w MIM at first."""

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
        members = jnp.where(entities >= 0, graphs.node_scores[jnp.maximum(entities, 0)], -1)
        cross_entropy = recommendation_loss(logits, graphs.item_scores[batch["targets"]])
        mim = mim_loss(mim_scores, members)
        combined = jnp.where(mim_only > 0, mim, cross_entropy + mim_weight * mim)
        num_samples = jnp.sum(weights > 0).astype(jnp.float32)
        metrics = {
            "cross_entropy": (jnp.sum(weights * cross_entropy), weights.sum()),
            "mim": (jnp.sum(weights * mim), weights.sum()),
            "tokens": (num_samples, num_samples),  # samples, for the rate
        }
        return jnp.sum(weights * combined), metrics

    return loss


def fold_of(conversation_id: str, num_folds: int) -> int:
    """The cross-fitting fold of a conversation: SHA-256 of its id, modulo `num_folds`."""
    return by_hash(f"fold:{conversation_id}", num_folds)


def training_dialogues(
    model: RecommenderConfig, corpus: Corpus, fold: tuple[int, int] | None = None
) -> list[Dialogue]:
    """Train, plus `inferred` where `use_inferred_order`, less the dialogues of a fold (k, K).

    Raises:
      ValueError: the fold is not one of at least 2.
      CorpusError: nothing is left to train on.
    """
    splits = ["train"] + (["inferred"] if model.use_inferred_order else [])
    dialogues = [dialogue for split in splits for dialogue in corpus.dialogues(split)]
    if fold is not None:
        number, num_folds = fold
        if num_folds < 2 or not 0 <= number < num_folds:
            raise ValueError(f"fold: expected one of at least 2 folds, got {number} of {num_folds}")
        dialogues = [d for d in dialogues if fold_of(d.conversation_id, num_folds) != number]
    if not len(build_recommender_targets(dialogues)):
        raise CorpusError(
            f"no movie is recommended in {len(dialogues)} training dialogues of "
            f"{corpus.directory}: the recommender has nothing to learn from"
        )
    return dialogues


def make_task(
    settings: RecTeacherSettings,
    corpus: Corpus,
    dialogues: Sequence[Dialogue],
    index: NodeIndex,
    graphs: RecommenderGraphs,
) -> loop.Task:
    """What the loop trains: the graphs are constants, dev cross-entropy selects."""
    model, spec = settings.model, RecommenderSpec.of(settings.model)
    module = build_module(
        spec, user_dropout=model.user_dropout, context_dropout=model.context_dropout
    )
    batches = RecommenderBatches(
        indexed(spec.contexts(dialogues, corpus), index), build_recommender_targets(dialogues)
    )
    plan = BatchPlan(np.ones(len(batches.targets)), model.batch_size, (1,), settings.seed)
    loader = make_loader(plan, batches, model.optimizer, settings.execution)

    def init(rng: jax.Array) -> PyTree:
        example = jax.tree.map(lambda ids: ids[:1], batches.contexts)
        return jax.jit(module.init)(rng, graphs, example)["params"]

    def evaluate(params: PyTree) -> Mapping[str, float]:
        scored = score(build_recommender(params, spec, index, graphs), corpus, "dev")
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
        # The dev cross-entropy hardly moves during MIM: stopping there would end the training.
        patience=max(model.patience, model.mim_epochs + 1) if model.patience else 0,
        ema_decay=model.ema_decay,
    )
