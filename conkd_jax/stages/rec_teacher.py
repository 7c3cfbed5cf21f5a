"""Stage `rec_teacher`: samples, loss and schedule of the recommendation teacher.

Leaves the files that `trained_recommender.load` reads: parameters, the index of the nodes that they
belong to, and `rec_teacher.json`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from jaxtyping import Int, PyTree

from conkd_jax import loop, parallel
from conkd_jax.artifacts.build import Context, Stage
from conkd_jax.data.batches import FILL, Batch, Loader, Plan
from conkd_jax.data.corpus import Corpus, CorpusError, Dialogue
from conkd_jax.data.recommender_inputs import RecIndex, RecTargets, build_targets
from conkd_jax.models.recommender import (
    Contexts,
    Recommender,
    RecommenderGraphs,
    mim_loss,
    recommendation_loss,
)
from conkd_jax.stages.recommender import (
    RecSpec,
    build_graphs,
    build_index,
    build_module,
    build_teacher,
    indexed,
    save,
    score,
)

VERSION = 1
SCORED_SPLITS = ("dev", "valid")
CURVES = ("cross_entropy", "recall@1", "recall@10", "recall@50")  # on dev, after every epoch


def stage(config, corpus: Stage, fold: int | None = None) -> Stage:
    """The recommendation teacher of a config.

    Args:
      config: a whole config.
      corpus: with the split `inferred` where the config reads it.
      fold: for cross-fitting: a teacher that never sees this part of train.
    """
    part = config.rec_teacher
    identity = {
        "model": {key: value for key, value in part.to_dict().items() if key != "cross_fit_folds"},
        "seed": config.teacher_seed,
        "rng_impl": config.rng_impl,
    }
    if fold is not None:
        identity["fold"] = [fold, part.cross_fit_folds]

    def run_stage(directory: epath.Path, context: Context) -> dict:
        return run(
            part,
            Corpus.open(context.inputs["corpus"]),
            directory,
            seed=config.teacher_seed,
            fold=fold,
            num_folds=part.cross_fit_folds,
            log_dir=directory / "tensorboard",
            num_devices=config.parallel.num_devices,
            checkpoint_every=config.checkpoint_every,
            rng_impl=config.rng_impl,
        )

    return Stage("rec_teacher", VERSION, identity, {"corpus": corpus}, run_stage)


class RecBatches:
    """Assembles samples into one device's arrays (the loader's `assemble`).

    Arrays: `entities` [b, Le] and `concepts` [b, Lc] rows of the index, -1 for padding; `targets`
    [b] candidate index; `weights` [b] 1 / samples of the global batch, 0 for padding.
    """

    def __init__(self, contexts: Contexts, targets: RecTargets):
        self.contexts = contexts
        self.targets = targets

    def __call__(
        self, row_ids: Int[np.ndarray, " b"], bucket_length: int, step_rows: Int[np.ndarray, " B"]
    ) -> Batch:
        del bucket_length  # contexts have one length
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
    """A loader's batches with `mim_only` [D, A]: 1 in the steps that learn by MIM alone."""

    def __init__(self, loader: Loader, num_mim_steps: int):
        self.loader = loader
        self.num_mim_steps = num_mim_steps

    def iterate(self, start_step: int) -> Iterator[Batch]:
        """Batches from a step on."""
        for step, batch in enumerate(self.loader.iterate(start_step), start_step):
            is_mim_only = np.float32(step < self.num_mim_steps)
            yield {**batch, "mim_only": np.full(batch["weights"].shape[:2], is_mim_only)}

    def row_ids(self, step: int) -> Int[np.ndarray, " B"]:
        """Samples of a step's global batch, -1 where filled."""
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
    digest = hashlib.sha256(f"fold:{conversation_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big") % num_folds


def training_dialogues(
    config_part: Any, corpus: Corpus, fold: int | None = None, num_folds: int = 0
) -> list[Dialogue]:
    """Train, plus `inferred` where `use_inferred_order`, less the dialogues of `fold`.

    Raises:
      ValueError: a fold that is not one of `num_folds`, or nothing left to train on.
    """
    splits = ["train"] + (["inferred"] if config_part.use_inferred_order else [])
    dialogues = [dialogue for split in splits for dialogue in corpus.dialogues(split)]
    if fold is not None:
        if num_folds < 2 or not 0 <= fold < num_folds:
            raise ValueError(f"fold: expected one of at least 2 folds, got {fold} of {num_folds}")
        dialogues = [d for d in dialogues if fold_of(d.conversation_id, num_folds) != fold]
    if not len(build_targets(dialogues)):
        raise CorpusError(
            f"no movie is recommended in {len(dialogues)} training dialogues of "
            f"{corpus.directory}: the recommender has nothing to learn from"
        )
    return dialogues


def run(
    config_part: Any,
    corpus: Corpus,
    directory: epath.PathLike,
    *,
    seed: int,
    fold: int | None = None,
    num_folds: int = 0,
    **training: Any,
) -> dict[str, int | float]:
    """Trains a teacher and keeps the parameters of the lowest dev cross-entropy.

    One run of the loop: the first `mim_epochs` learn by MIM alone, the rest by
    CE + mim_weight · MIM. Early stopping never ends the first part.

    Args:
      config_part: the `rec_teacher` part of a config.
      corpus: with splits "train" and "dev".
      directory: gets `params/`, `index.npz`, `rec_teacher.json` and the loop's own files.
      seed: of parameters, dropout and the order of samples.
      fold: for cross-fitting: train without the dialogues of this fold.
      num_folds: how many folds there are.
      **training: further arguments of `loop.train` (num_devices, checkpoint_every, rng_impl, …).

    Returns:
      Metrics of every scored split (see `score`), samples trained on, and the step that was kept.

    Raises:
      ValueError: an unknown `score_over` or `norm`, or nothing to train on.
    """
    directory = epath.Path(directory)
    spec = RecSpec.of(config_part)
    dialogues = training_dialogues(config_part, corpus, fold, num_folds)
    index = build_index(corpus, spec)
    graphs = build_graphs(corpus, spec, index)
    task = make_task(
        config_part,
        corpus,
        dialogues,
        index,
        graphs,
        seed=seed,
        num_devices=training.get("num_devices", 0),
    )
    result = loop.train(task, config_part.optimizer, seed=seed, directory=directory, **training)

    teacher = build_teacher(result.params, spec, index, graphs)
    metrics: dict[str, int | float] = {
        "num_samples": len(build_targets(dialogues)),
        "best_step": result.step,
    }
    for split in SCORED_SPLITS:
        if split in corpus.splits:
            scored = score(teacher, corpus, split)
            metrics |= {f"{split}_{name}": value for name, value in scored.items()}
    save(directory, result.params, spec, index, metrics)
    return metrics


def make_task(
    config_part: Any,
    corpus: Corpus,
    dialogues: Sequence[Dialogue],
    index: RecIndex,
    graphs: RecommenderGraphs,
    *,
    seed: int,
    num_devices: int = 0,
) -> loop.Task:
    """What the loop trains: graphs are constants, dev cross-entropy selects."""
    spec = RecSpec.of(config_part)
    module = build_module(
        spec,
        user_dropout=config_part.user_dropout,
        context_dropout=config_part.context_dropout,
    )
    batches = RecBatches(indexed(spec.contexts(dialogues, corpus), index), build_targets(dialogues))
    plan = Plan(np.ones(len(batches.targets)), config_part.batch_size, (1,), seed)
    loader = Loader(
        plan,
        batches,
        len(parallel.select_devices(num_devices)),
        config_part.optimizer.accumulate_steps,
        jax.process_index(),
        jax.process_count(),
    )

    def init(rng: jax.Array) -> PyTree:
        example = jax.tree.map(lambda ids: ids[:1], batches.contexts)
        return jax.jit(module.init)(rng, graphs, example)["params"]

    def evaluate(params: PyTree) -> Mapping[str, float]:
        scored = score(build_teacher(params, spec, index, graphs), corpus, "dev")
        return {f"dev_{name}": scored[name] for name in CURVES}

    return loop.Task(
        name="rec_teacher",
        init=init,
        loss=make_loss(module, config_part.mim_weight),
        loader=MimFirst(loader, config_part.mim_epochs * plan.steps_per_epoch),
        num_steps=config_part.epochs * plan.steps_per_epoch,
        constants=graphs,
        evaluate=evaluate,
        evaluate_every=plan.steps_per_epoch,
        select=("dev_cross_entropy", "min"),
        patience=max(config_part.patience, config_part.mim_epochs + 1)
        if config_part.patience
        else 0,
        ema_decay=config_part.ema_decay,
    )
