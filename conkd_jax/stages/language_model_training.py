"""How a language model is trained: teacher and student differ in data, not in code.

A dialogue teacher is trained by NLL on rows without tags; a student is the same model, trained by
the gated distillation loss on rows with tags. Both are one `Task` for the one loop: features at the
response tokens, a head, and `fused_gated_kd_loss`, to which a dialogue teacher passes no teachers.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from etils import epath

from conkd_jax import loop, optimizers, parallel
from conkd_jax.config import ConfigError, LanguageModelTraining
from conkd_jax.data.batches.language_model import LanguageModelBatches
from conkd_jax.data.batches.loader import BatchLoader
from conkd_jax.data.batches.plan import BatchPlan, quantile_buckets
from conkd_jax.data.rows.contract import Rows
from conkd_jax.data.teacher_store.files import TeacherStore
from conkd_jax.data.vocabulary import Vocabulary
from conkd_jax.distill.fused import fused_gated_kd_loss
from conkd_jax.distill.gates import gate_values
from conkd_jax.eval.scoring import response_features
from conkd_jax.stages.language_model import LanguageModel
from conkd_jax.stages.training import Execution, make_loader, train

STORE_CACHE_BYTES = 2 << 30  # a teacher store up to this size is read into memory once


def batch_plan(training: LanguageModelTraining, rows: Rows, seed: int) -> BatchPlan:
    """Which rows each step reads, and the lengths that they are padded to."""
    lengths = rows.lengths
    buckets = quantile_buckets(lengths, training.num_buckets)
    return BatchPlan(lengths, training.batch_rows, buckets, seed)


def check_schedule(name: str, training: LanguageModelTraining, rows: Rows) -> None:
    """Checks a learning rate schedule against the number of steps of a training.

    Args:
      name: of the config part, for the message.
      training: epochs, batches and optimizer.
      rows: of the training split.

    Raises:
      ConfigError: the schedule can't work for so many steps; names the field.
    """
    steps = training.epochs * batch_plan(training, rows, seed=0).steps_per_epoch
    try:
        optimizers.make_optimizer(training.optimizer, steps)
    except ValueError as error:
        raise ConfigError(f"config.{name}.{error}") from error


def training_batches(
    training: LanguageModelTraining,
    rows: Rows,
    vocabulary: Vocabulary,
    form: str,
    *,
    seed: int,
    execution: Execution,
    store: TeacherStore | None = None,
) -> BatchLoader:
    """Training batches of rows, a pure function of (seed, step, host).

    Args:
      training: batch size, buckets and weighting.
      rows: of the training split.
      vocabulary: of the rows.
      form: "teacher", or "student" with turn tags.
      seed: of the order.
      execution: devices.
      store: the teachers' outputs for the responses of the rows; None trains by NLL.
    """
    plan = batch_plan(training, rows, seed)
    assemble = LanguageModelBatches(
        rows,
        vocabulary,
        plan,
        form,
        weighting=training.weighting,
        store=store,
        cache_in_memory=STORE_CACHE_BYTES,
    )
    return make_loader(plan, assemble, training.optimizer, execution)


@dataclasses.dataclass(frozen=True)
class Distillation:
    """What a student's loss needs beyond labels.

    Attributes:
      gate: maps the stored item mass [N], and the teacher's distribution if it asks, to λ [N].
      gamma: γ of eq. 10.
      teacher: builds the fused loss's dialogue teacher from (batch, constants).
      rec_logits: recommender logits [G, I] from (batch, constants).
      constants: both teachers' heads, replicated on the devices.
    """

    gate: Callable
    gamma: float
    teacher: Callable
    rec_logits: Callable
    constants: dict


def train_language_model(
    name: str,
    start: LanguageModel,
    batches: BatchLoader,
    training: LanguageModelTraining,
    *,
    seed: int,
    rng_impl: str,
    directory: epath.Path,
    dev: Rows,
    form: str,
    keep: str,
    execution: Execution,
    distillation: Distillation | None = None,
) -> tuple[LanguageModel, loop.Result]:
    """Trains `start` on `batches`: by the gated KD loss where `distillation` is given, else by NLL.

    Args:
      name: of the config part, for messages and logs.
      start: the model before the first step.
      batches: of the training split.
      training: epochs and optimizer.
      seed: of every step's random numbers.
      rng_impl: generator of the dropout keys.
      directory: the artifact's folder.
      dev: rows that are scored with teacher forcing after every epoch.
      form: of the dev rows, "teacher" or "student".
      keep: "best" (lowest dev NLL) or "last".
      execution: devices and checkpoints.
      distillation: the gate and both teachers; None for NLL.
    """
    steps_per_epoch = batches.plan.steps_per_epoch

    def evaluate(params) -> dict[str, float]:
        scored = dataclasses.replace(start, params=params).score(dev, form, training.batch_rows)
        return {f"dev_{key}": value for key, value in scored.summary().items()}

    task = loop.Task(
        name=name,
        init=lambda rng: start.params,
        loss=make_loss(start, execution.chunk_size, distillation),
        constants={
            "frozen": start.frozen,
            **({} if distillation is None else distillation.constants),
        },
        loader=batches,
        num_steps=training.epochs * steps_per_epoch,
        evaluate=evaluate,
        evaluate_every=steps_per_epoch,
        select=("dev_nll", "min") if keep == "best" else None,
    )
    result = train(
        task,
        training.optimizer,
        seed=seed,
        rng_impl=rng_impl,
        directory=directory,
        execution=execution,
    )
    return dataclasses.replace(start, params=result.params), result


def make_loss(
    start: LanguageModel, chunk_size: int, distillation: Distillation | None = None
) -> parallel.Loss:
    """The loss of one device's micro-batch: features at the response tokens, head, gated KD."""
    vocabulary, model = start.vocabulary, start.model

    def loss(params, batch, rng, constants):
        given, metrics = {}, {}
        variables = {**params, **constants["frozen"]}
        if distillation is not None:
            teacher = distillation.teacher(batch, constants)
            gate = gate_values(
                distillation.gate, batch["item_mass"], teacher, vocabulary.num_targets
            )  # [N]
            given = {
                "teacher": teacher,
                "rec_logits": distillation.rec_logits(batch, constants),
                "response_index": batch["response_index"],
                "gate": gate,
                "gamma": distillation.gamma,
            }
            mask = batch["loss_mask"]
            metrics["gate"] = ((gate * mask).sum(), mask.sum())
        total, nll = fused_gated_kd_loss(
            response_features(model, variables, batch, rng),
            model.head(variables, vocabulary.num_targets),
            batch["labels"],
            batch["weights"],
            num_tokens=batch["num_tokens"],
            num_words=vocabulary.num_words,
            chunk_size=chunk_size,
            **given,
        )
        metrics["nll"] = (nll, batch["weights"].sum())
        metrics["tokens"] = (batch["num_tokens"], batch["num_tokens"])
        return total, metrics

    return loss
