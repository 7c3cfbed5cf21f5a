"""Stage `turn_classifier`: from the dialogue so far, will the next turn recommend? (eq. 12)

At inference its answer is the [REC] or [GEN] that opens a student's response.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax
from etils import epath

from conkd_jax import checkpoint, loop, parallel
from conkd_jax.data.batches import FILL, Loader, Plan, quantile_buckets
from conkd_jax.data.corpus import Corpus
from conkd_jax.data.rows import Rows, contexts
from conkd_jax.data.vocabulary import Vocabulary
from conkd_jax.models.turn_classifier import GEN, REC, TurnClassifier
from conkd_jax.stages.artifacts import Context, Stage
from conkd_jax.stages.vocabulary import row_limits, rows_of

VERSION = 1
_SHAPE_FILE = "model.json"


def stage(config, corpus: Stage, vocabulary: Stage) -> Stage:
    """The turn classifier of a config; its checkpoint of lowest dev cross-entropy is kept."""
    part = config.turn_classifier
    identity = {
        "model": part.to_dict(),
        "rows": row_limits(config),
        "seed": config.teacher_seed,
        "rng_impl": config.rng_impl,
    }

    def run(directory: epath.Path, context: Context) -> dict:
        opened = Corpus.open(context.inputs["corpus"])
        words = Vocabulary.load(context.inputs["vocabulary"])
        train, dev = (rows_of(config, opened, words, split) for split in ("train", "dev"))
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
        result = _train(model, config, train, dev, words, directory)
        checkpoint.save(directory / "params", result.params)
        if parallel.is_first_process():
            (directory / _SHAPE_FILE).write_text(json.dumps(shape, indent=2))
        return result.metrics

    inputs = {"corpus": corpus, "vocabulary": vocabulary}
    return Stage("turn_classifier", VERSION, identity, inputs, run)


def predict(
    directory: epath.Path, histories: Sequence[np.ndarray], batch_size: int = 256
) -> np.ndarray:
    """Whether each response will recommend ([N] bool), from the history before it.

    Args:
      directory: the artifact.
      histories: token ids in the teacher's form, as `data.rows.contexts` gives them.
      batch_size: contexts at a time.
    """
    model = TurnClassifier(**json.loads((directory / _SHAPE_FILE).read_text()))
    params = checkpoint.load(directory / "params")
    return _log_probs(model, params, histories, batch_size).argmax(axis=-1) == REC


def _train(model, config, train: Rows, dev: Rows, words: Vocabulary, directory) -> loop.Result:
    part = config.turn_classifier
    histories = contexts(train, part.max_context_tokens, form="teacher")
    labels = np.where(train.response_is_rec, REC, GEN).astype(np.int32)
    dev_histories = contexts(dev, part.max_context_tokens, form="teacher")
    dev_labels = np.where(dev.response_is_rec, REC, GEN).astype(np.int32)
    lengths = np.array([max(1, len(history)) for history in histories])
    plan = Plan(
        lengths, part.batch_size, quantile_buckets(lengths, part.num_buckets), config.teacher_seed
    )

    def assemble(row_ids, bucket_length, step_rows):
        ids, mask = _padded([histories[r] if r != FILL else [] for r in row_ids], bucket_length)
        real = row_ids != FILL
        return {
            "ids": ids,
            "mask": mask,
            "labels": np.where(real, labels[row_ids], GEN).astype(np.int32),
            "weights": (real / max(1, (step_rows != FILL).sum())).astype(np.float32),
        }

    def loss(params, batch, rng, constants):
        logits = model.apply(
            {"params": params}, batch["ids"], batch["mask"], False, rngs={"dropout": rng}
        )
        losses = optax.losses.softmax_cross_entropy_with_integer_labels(logits, batch["labels"])
        real = batch["weights"] > 0
        right = (logits.argmax(-1) == batch["labels"]) & real
        tokens = jnp.where(real[:, None], batch["mask"], False).sum()
        metrics = {"accuracy": (right.sum(), real.sum()), "tokens": (tokens, tokens)}
        return (losses * batch["weights"]).sum(), metrics

    def evaluate(params) -> dict[str, float]:
        log_probs = _log_probs(model, params, dev_histories, 256)
        gold = log_probs[np.arange(len(dev_labels)), dev_labels]
        rate = float((dev_labels == REC).mean())
        return {
            "dev_loss": float(-gold.mean()),
            "dev_accuracy": float((log_probs.argmax(-1) == dev_labels).mean()),
            "dev_base_rate": max(rate, 1 - rate),
        }

    def init(rng):
        ids = jnp.zeros((1, 4), jnp.int32)
        return model.init(rng, ids, jnp.ones((1, 4), bool))["params"]

    task = loop.Task(
        name="turn_classifier",
        init=init,
        loss=loss,
        loader=Loader(
            plan,
            assemble,
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


def _log_probs(model, params, histories: Sequence, batch_size: int) -> np.ndarray:
    """Log-probabilities of [GEN] and [REC], [N, 2], batch by batch in order of length."""
    lengths = np.array([max(1, len(history)) for history in histories])
    buckets = quantile_buckets(lengths, 4, multiple=32)
    apply = jax.jit(lambda p, ids, mask: jax.nn.log_softmax(model.apply({"params": p}, ids, mask)))
    found = np.zeros((len(histories), 2), np.float32)
    order = np.argsort(lengths, kind="stable")
    bucket_of = np.searchsorted(buckets, lengths[order])
    for bucket, length in enumerate(buckets):
        members = order[bucket_of == bucket]
        for start in range(0, len(members), batch_size):
            chunk = members[start : start + batch_size]
            rows = [histories[i] for i in chunk] + [[]] * (batch_size - len(chunk))
            # the model's positions bound the bucket; histories are cut to them already
            ids, mask = _padded(rows, min(length, model.num_positions))
            found[chunk] = np.asarray(apply(params, ids, mask))[: len(chunk)]
    return found


def _padded(histories: Sequence, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Token ids and mask [B, S]; a history's tail is kept."""
    ids = np.zeros((len(histories), length), np.int32)
    mask = np.zeros((len(histories), length), bool)
    for row, history in enumerate(histories):
        tail = np.asarray(history, np.int32)[-length:]
        ids[row, : len(tail)] = tail
        mask[row, : len(tail)] = True
    return ids, mask
