"""Stage `turn_classifier`: predicts from the history whether the next turn recommends (eq. 12).

At inference, a student's response starts with the predicted [REC] or [GEN].
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax
from etils import epath

from conkd_jax.artifacts.fingerprint import outside_fingerprint
from conkd_jax.artifacts.stage import Context, Stage
from conkd_jax.config import Config, TurnClassifierConfig
from conkd_jax.data.batches.loader import Batch
from conkd_jax.data.batches.plan import (
    BatchPlan,
    batches_by_length,
    fixed_buckets,
    quantile_buckets,
)
from conkd_jax.data.corpus import Corpus
from conkd_jax.data.rows.contract import FILL, Rows
from conkd_jax.data.vocabulary import Vocabulary
from conkd_jax.io.files import write_json
from conkd_jax.models.turn_classifier import GEN, REC, TurnClassifier
from conkd_jax.runtime import parallel
from conkd_jax.stages import backbones
from conkd_jax.stages.backbones import RowSettings
from conkd_jax.stages.training import (
    EXECUTION_CHANGES_NO_RESULT,
    Execution,
    compute_setting,
    make_loader,
    train,
)
from conkd_jax.training import checkpoint, loop
from conkd_jax.typing import Array, Bool, Float, Int, Params

VERSION = 1
SHAPE_FILE = "model.json"
SCORING_BATCH = 256  # contexts at a time


@dataclasses.dataclass(frozen=True)
class TurnClassifierSettings:
    """Settings of a turn classifier.

    Attributes:
      model: the classifier and its training.
      rows: the rows that provide the histories.
      seed: config.teacher_seed.
      rng_impl: generator of the dropout keys.
      compute_dtype: the type of the products (`compute_setting`); the trained classifier keeps it.
      execution: devices and checkpoints.
    """

    model: TurnClassifierConfig
    rows: RowSettings
    seed: int
    rng_impl: str
    compute_dtype: str | None  # not "float32": an artifact of float32 has its old fingerprint
    execution: Execution = outside_fingerprint(because=EXECUTION_CHANGES_NO_RESULT)


def stage(config: Config, stages: Mapping[str, Stage]) -> Stage:
    """The turn classifier of a config."""
    # It reads what was said, so that one classifier serves rows with picks and without.
    plain = config.replace({"vocabulary.max_picks": 0})
    settings = TurnClassifierSettings(
        model=config.turn_classifier,
        rows=backbones.named(config.backbone).row_settings(plain),
        seed=config.teacher_seed,
        rng_impl=config.rng_impl,
        compute_dtype=compute_setting(config),
        execution=Execution.of(config),
    )
    inputs = {name: stages[name] for name in ("corpus", "vocabulary")}
    return Stage("turn_classifier", VERSION, settings, inputs, run)


def run(
    settings: TurnClassifierSettings, directory: epath.Path, context: Context
) -> dict[str, int | float]:
    """Trains the classifier and keeps the step of lowest dev cross-entropy; returns its metrics."""
    corpus = Corpus.open(context.inputs["corpus"])
    vocabulary = Vocabulary.load(context.inputs["vocabulary"])
    train_rows, dev_rows = (
        settings.rows.rows_of(corpus, vocabulary, corpus.dialogues(split))
        for split in ("train", "dev")
    )
    part = settings.model
    shape = {
        "vocab": vocabulary.num_rows,
        "num_layers": part.num_layers,
        "num_heads": part.num_heads,
        "embed_dim": part.embed_dim,
        "mlp_dim": part.mlp_dim,
        "num_positions": part.max_context_tokens,
        "dropout": part.dropout,
    }
    if settings.compute_dtype is not None:
        shape["dtype"] = settings.compute_dtype
    model = TurnClassifier(**shape)
    result = train(
        make_task(model, settings, train_rows, dev_rows),
        part.optimizer,
        seed=settings.seed,
        rng_impl=settings.rng_impl,
        directory=directory,
        execution=settings.execution,
    )
    checkpoint.save(directory / "params", result.params)
    if parallel.is_first_process():
        write_json(directory / SHAPE_FILE, shape, indent=2)
    return result.metrics


def predict(directory: epath.Path, rows: Rows) -> np.ndarray:
    """Predicts from the history whether each response recommends, [N] bool.

    Args:
      directory: the artifact of the classifier.
      rows: the rows that provide the histories.
    """
    model, params = load(directory)
    histories = rows.histories(model.num_positions, "teacher")
    return _log_probs(model, params, histories, SCORING_BATCH).argmax(axis=-1) == REC


def load(directory: epath.Path) -> tuple[TurnClassifier, Params]:
    """Loads the classifier of an artifact: (model, parameters)."""
    model = TurnClassifier(**json.loads((directory / SHAPE_FILE).read_text()))
    return model, checkpoint.load(directory / "params")


class ClassifierBatches:
    """Assembles contexts into one device's arrays (the loader's `assemble`).

    Arrays: `ids` and `mask` [b, S]; `labels` [b]; `weights` [b], 1 / contexts in the global batch.
    """

    def __init__(self, histories: Sequence[np.ndarray], labels: np.ndarray):
        self.histories = histories
        self.labels = labels

    def __call__(self, row_ids: np.ndarray, bucket_length: int, step_rows: np.ndarray) -> Batch:
        """The arrays for the given contexts; FILL stands for padding."""
        rows = [self.histories[row] if row != FILL else () for row in row_ids]
        ids, mask = padded(rows, bucket_length)
        is_real = row_ids != FILL
        return {
            "ids": ids,
            "mask": mask,
            "labels": np.where(is_real, self.labels[row_ids], GEN).astype(np.int32),
            "weights": (is_real / (step_rows != FILL).sum()).astype(np.float32),
        }


def make_loss(model: TurnClassifier) -> parallel.Loss:
    """Cross-entropy of one device's micro-batch: eq. 12, in which the paper omits the label."""

    def loss(params, batch, rng, constants):
        logits = jnp.asarray(
            model.apply(
                {"params": params}, batch["ids"], batch["mask"], False, rngs={"dropout": rng}
            )
        )
        losses = optax.losses.softmax_cross_entropy_with_integer_labels(logits, batch["labels"])
        is_real = batch["weights"] > 0
        is_right = (logits.argmax(-1) == batch["labels"]) & is_real
        tokens = batch["mask"].sum()
        metrics = {"accuracy": (is_right.sum(), is_real.sum()), "tokens": (tokens, tokens)}
        return (losses * batch["weights"]).sum(), metrics

    return loss


def score(model: TurnClassifier, params, histories: Sequence, labels: np.ndarray) -> dict:
    """Cross-entropy, accuracy, and the accuracy of the majority-class baseline."""
    log_probs = _log_probs(model, params, histories, SCORING_BATCH)
    rate = float((labels == REC).mean())
    return {
        "loss": float(-log_probs[np.arange(len(labels)), labels].mean()),
        "accuracy": float((log_probs.argmax(-1) == labels).mean()),
        "base_rate": max(rate, 1 - rate),
    }


def make_task(
    model: TurnClassifier, settings: TurnClassifierSettings, train_rows: Rows, dev_rows: Rows
) -> loop.Task:
    """The task of the loop; the dev cross-entropy selects the step."""
    part = settings.model
    histories, labels = _examples(train_rows, part.max_context_tokens)
    dev_histories, dev_labels = _examples(dev_rows, part.max_context_tokens)
    plan = batch_plan(settings, histories)

    def evaluate(params) -> dict[str, float]:
        scored = score(model, params, dev_histories, dev_labels)
        return {f"dev_{name}": value for name, value in scored.items()}

    def init(rng):
        ids, mask = jnp.zeros((1, 1), jnp.int32), jnp.ones((1, 1), bool)
        return model.init(rng, ids, mask)["params"]

    return loop.Task(
        name="turn_classifier",
        init=init,
        loss=make_loss(model),
        loader=make_loader(
            plan, ClassifierBatches(histories, labels), part.optimizer, settings.execution
        ),
        num_steps=part.epochs * plan.steps_per_epoch,
        evaluate=evaluate,
        evaluate_every=plan.steps_per_epoch,
        select=("dev_loss", "min"),
        patience=part.patience,
    )


def batch_plan(settings: TurnClassifierSettings, histories: Sequence[np.ndarray]) -> BatchPlan:
    """The contexts of each step, and the lengths that they are padded to."""
    part = settings.model
    lengths = np.array([max(1, len(history)) for history in histories])
    buckets = quantile_buckets(lengths, part.num_buckets, limit=part.max_context_tokens)
    return BatchPlan(lengths, part.batch_size, buckets, settings.seed)


def num_steps(settings: TurnClassifierSettings, rows: Rows) -> int:
    """The number of training steps on the responses of these rows."""
    histories, _ = _examples(rows, settings.model.max_context_tokens)
    return settings.model.epochs * batch_plan(settings, histories).steps_per_epoch


def _examples(rows: Rows, max_tokens: int) -> tuple[list[np.ndarray], np.ndarray]:
    """The history before every response, and whether the response contains an item."""
    labels = np.where(rows.response_is_rec, REC, GEN).astype(np.int32)
    return rows.histories(max_tokens, "teacher"), labels


@functools.partial(jax.jit, static_argnames="model")
def log_probs(
    params: Params,
    ids: Int[Array | np.ndarray, "B S"],
    mask: Bool[Array | np.ndarray, "B S"],
    *,
    model: TurnClassifier,
) -> Float[Array, "B 2"]:
    """Log-probabilities of [GEN] and [REC], [B, 2], of padded contexts."""
    return jax.nn.log_softmax(jnp.asarray(model.apply({"params": params}, ids, mask)))


def scoring_lengths(model: TurnClassifier, histories: Sequence[np.ndarray]) -> tuple[int, ...]:
    """The lengths that contexts are padded to, ascending: the same ones for every set of contexts.

    Args:
      model: the classifier; its number of positions is the upper limit.
      histories: the contexts, cut to that limit.
    """
    return fixed_buckets(max(map(len, histories), default=0), limit=model.num_positions)


def padded(histories: Sequence, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Padded token ids and mask, [B, S]; a longer history keeps its last tokens."""
    ids = np.zeros((len(histories), length), np.int32)
    mask = np.zeros((len(histories), length), bool)
    for row, history in enumerate(histories):
        tail = np.asarray(history, np.int32)[-length:]
        ids[row, : len(tail)] = tail
        mask[row, : len(tail)] = True
    return ids, mask


def _log_probs(model, params, histories: Sequence, batch_size: int) -> np.ndarray:
    """Log-probabilities of [GEN] and [REC], [N, 2], batch by batch in order of length."""
    lengths = [len(history) for history in histories]
    found = np.zeros((len(histories), 2), np.float32)
    for chunk, length in batches_by_length(lengths, batch_size, scoring_lengths(model, histories)):
        rows = [histories[i] for i in chunk] + [[]] * (batch_size - len(chunk))
        ids, mask = padded(rows, length)
        found[chunk] = np.asarray(log_probs(params, ids, mask, model=model))[: len(chunk)]
    return found
