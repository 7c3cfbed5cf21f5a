"""Stage `turn_classifier`: from the dialogue so far, will the next turn recommend? (eq. 12)

At inference its answer is the [REC] or [GEN] that opens a student's response.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax
from etils import epath

from conkd_jax import checkpoint, loop, parallel
from conkd_jax.artifacts.build import Context, Stage
from conkd_jax.data.batches import Batch, Loader, Plan, quantile_buckets
from conkd_jax.data.corpus import Corpus
from conkd_jax.data.rows.contract import FILL, Rows
from conkd_jax.data.vocabulary import Vocabulary
from conkd_jax.models.turn_classifier import GEN, REC, TurnClassifier
from conkd_jax.stages import backbones
from conkd_jax.typing import Array, Bool, Float, Int, Params

VERSION = 1
SHAPE_FILE = "model.json"
SCORING_BATCH = 256  # contexts at a time
SCORING_BUCKETS = 4


def stage(config, corpus: Stage, vocabulary: Stage) -> Stage:
    """The turn classifier of a config; its checkpoint of lowest dev cross-entropy is kept."""
    part, backbone = config.turn_classifier, backbones.of(config)
    identity = {
        "model": part.to_dict(),
        "rows": backbone.row_identity(config),
        "seed": config.teacher_seed,
        "rng_impl": config.rng_impl,
    }

    def run(directory: epath.Path, context: Context) -> dict:
        opened = Corpus.open(context.inputs["corpus"])
        words = Vocabulary.load(context.inputs["vocabulary"])
        splits = opened.dialogues("train"), opened.dialogues("dev")
        train, dev = (backbone.rows_of(config, opened, words, said) for said in splits)
        shape = {
            "vocab": words.num_rows,
            "num_layers": part.num_layers,
            "num_heads": part.num_heads,
            "embed_dim": part.embed_dim,
            "mlp_dim": part.mlp_dim,
            "num_positions": part.max_context_tokens,
            "dropout": part.dropout,
        }
        model = TurnClassifier(**shape)
        result = _train(model, config, train, dev, directory)
        checkpoint.save(directory / "params", result.params)
        if parallel.is_first_process():
            (directory / SHAPE_FILE).write_text(json.dumps(shape, indent=2))
        return result.metrics

    inputs = {"corpus": corpus, "vocabulary": vocabulary}
    return Stage("turn_classifier", VERSION, identity, inputs, run)


def predict(directory: epath.Path, histories: Sequence[np.ndarray]) -> np.ndarray:
    """Whether each response will recommend ([N] bool), from the history before it.

    Args:
      directory: the artifact.
      histories: token ids in the teacher's form, as `Rows.histories` gives them.
    """
    model, params = load(directory)
    return _log_probs(model, params, histories, SCORING_BATCH).argmax(axis=-1) == REC


def load(directory: epath.Path) -> tuple[TurnClassifier, Params]:
    """The trained classifier of an artifact."""
    model = TurnClassifier(**json.loads((directory / SHAPE_FILE).read_text()))
    return model, checkpoint.load(directory / "params")


class ClassifierBatches:
    """Assembles contexts into one device's arrays (the loader's `assemble`).

    Arrays: `ids` and `mask` [b, S], `labels` [b], `weights` [b] = 1 / contexts of the global batch.
    """

    def __init__(self, histories: Sequence[np.ndarray], labels: np.ndarray):
        self.histories = histories
        self.labels = labels

    def __call__(self, row_ids: np.ndarray, bucket_length: int, step_rows: np.ndarray) -> Batch:
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
    """Cross-entropy of one device's micro-batch (eq. 12, read with its missing one-hot label)."""

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
    """Cross-entropy, accuracy, and the accuracy of always answering the commoner label."""
    log_probs = _log_probs(model, params, histories, SCORING_BATCH)
    rate = float((labels == REC).mean())
    return {
        "loss": float(-log_probs[np.arange(len(labels)), labels].mean()),
        "accuracy": float((log_probs.argmax(-1) == labels).mean()),
        "base_rate": max(rate, 1 - rate),
    }


def _train(model, config, train: Rows, dev: Rows, directory: epath.Path) -> loop.Result:
    part = config.turn_classifier
    histories, labels = _examples(train, part.max_context_tokens)
    dev_histories, dev_labels = _examples(dev, part.max_context_tokens)
    lengths = np.array([max(1, len(history)) for history in histories])
    buckets = quantile_buckets(lengths, part.num_buckets, limit=model.num_positions)
    plan = Plan(lengths, part.batch_size, buckets, config.teacher_seed)

    def evaluate(params) -> dict[str, float]:
        scored = score(model, params, dev_histories, dev_labels)
        return {f"dev_{name}": value for name, value in scored.items()}

    def init(rng):
        ids, mask = jnp.zeros((1, 1), jnp.int32), jnp.ones((1, 1), bool)
        return model.init(rng, ids, mask)["params"]

    task = loop.Task(
        name="turn_classifier",
        init=init,
        loss=make_loss(model),
        loader=Loader(
            plan,
            ClassifierBatches(histories, labels),
            parallel.num_devices(config.parallel.num_devices),
            part.optimizer.accumulate_steps,
            jax.process_index(),
            jax.process_count(),
        ),
        num_steps=part.epochs * plan.steps_per_epoch,
        evaluate=evaluate,
        evaluate_every=plan.steps_per_epoch,
        select=("dev_loss", "min"),
        patience=part.patience,
    )
    return loop.train(
        task,
        part.optimizer,
        seed=config.teacher_seed,
        directory=directory,
        log_dir=directory / "tensorboard",
        num_devices=config.parallel.num_devices,
        checkpoint_every=config.checkpoint_every,
        rng_impl=config.rng_impl,
    )


def _examples(rows: Rows, max_tokens: int) -> tuple[list[np.ndarray], np.ndarray]:
    """The history before every response, and whether the response holds an item."""
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
    """What contexts are padded to, rising: few lengths, since each is one compilation.

    Args:
      histories: cut to the model's positions, which bound the lengths too.
    """
    lengths = [max(1, len(history)) for history in histories]
    return quantile_buckets(lengths, SCORING_BUCKETS, multiple=32, limit=model.num_positions)


def padded(histories: Sequence, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Token ids and mask [B, S]; a history's tail is kept."""
    ids = np.zeros((len(histories), length), np.int32)
    mask = np.zeros((len(histories), length), bool)
    for row, history in enumerate(histories):
        tail = np.asarray(history, np.int32)[-length:]
        ids[row, : len(tail)] = tail
        mask[row, : len(tail)] = True
    return ids, mask


def _log_probs(model, params, histories: Sequence, batch_size: int) -> np.ndarray:
    """Log-probabilities of [GEN] and [REC], [N, 2], batch by batch in order of length."""
    lengths = np.array([max(1, len(history)) for history in histories])
    buckets = scoring_lengths(model, histories)
    found = np.zeros((len(histories), 2), np.float32)
    order = np.argsort(lengths, kind="stable")
    bucket_of = np.searchsorted(buckets, lengths[order])
    for bucket, length in enumerate(buckets):
        members = order[bucket_of == bucket]
        for start in range(0, len(members), batch_size):
            chunk = members[start : start + batch_size]
            rows = [histories[i] for i in chunk] + [[]] * (batch_size - len(chunk))
            ids, mask = padded(rows, length)
            found[chunk] = np.asarray(log_probs(params, ids, mask, model=model))[: len(chunk)]
    return found
