"""The training of a language model, teacher or student.

A dialogue teacher is trained with the NLL on rows without tags. A student is the same model,
trained with the gated distillation loss, usually on rows with tags. Both use the same `Task`:
features at the response tokens, a head, and `fused_gated_kd_loss`, without teachers for the NLL.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax
import numpy as np
from etils import epath
from jaxtyping import Int32

from conkd_jax.config import ConfigError, LanguageModelTraining
from conkd_jax.data.batches.language_model import LanguageModelBatches
from conkd_jax.data.batches.loader import BatchLoader
from conkd_jax.data.batches.plan import BatchPlan, quantile_buckets
from conkd_jax.data.rows.contract import Rows
from conkd_jax.data.teacher_store.files import TeacherStore
from conkd_jax.data.vocabulary import Vocabulary
from conkd_jax.distill.fused import fused_gated_kd_loss
from conkd_jax.distill.gates import gate_values, reads
from conkd_jax.eval.learning import Learning
from conkd_jax.eval.scoring import response_features, retrieved_ids
from conkd_jax.io import terminal
from conkd_jax.models.lora import FullTraining
from conkd_jax.runtime import parallel
from conkd_jax.stages.divided_vocabulary import divided_arrays, tables_of
from conkd_jax.stages.language_model import LanguageModel
from conkd_jax.stages.lora import LoRASettings, training_of
from conkd_jax.stages.training import Execution, make_loader, train
from conkd_jax.training import loop, optimizers

LORA_STREAM = 0x10CA  # of a training's random numbers, those that start LoRA's matrices
STORE_CACHE_BYTES = 2 << 30  # a teacher store up to this size is kept in memory


def batch_plan(training: LanguageModelTraining, rows: Rows, seed: int) -> BatchPlan:
    """The rows of each step, and the lengths that they are padded to."""
    lengths = rows.lengths
    buckets = quantile_buckets(lengths, training.num_buckets)
    return BatchPlan(lengths, training.batch_rows, buckets, seed)


def check_schedule(name: str, training: LanguageModelTraining, rows: Rows) -> None:
    """Checks that a learning rate schedule suits the number of training steps.

    Args:
      name: the name of the config part, for the message.
      training: epochs, batches and optimizer.
      rows: the rows of the training split.

    Raises:
      ConfigError: the schedule doesn't suit the number of steps; names the field.
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
    mentioned: Int32[np.ndarray, "N K"] | None = None,
) -> BatchLoader:
    """A loader of training batches; each is a pure function of (seed, step, host).

    Args:
      training: batch size, buckets and weighting.
      rows: the rows of the training split.
      vocabulary: the vocabulary of the rows.
      form: "teacher", or "student" with turn tags.
      seed: the seed of the order.
      execution: devices.
      store: the teachers' outputs for the same responses; None for training with the NLL.
      mentioned: the items mentioned before each of them, if the loss masks them.
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
        mentioned=mentioned,
    )
    return make_loader(plan, assemble, training.optimizer, execution)


@dataclasses.dataclass(frozen=True)
class Distillation:
    """The inputs of a student's loss besides the labels.

    Attributes:
      gate: maps the stored item mass [N], and what else it takes (`gates.reads`), to λ [N].
      gamma: γ of eq. 10.
      teacher: builds the fused loss's dialogue teacher from (batch, constants).
      rec_logits: recommender logits [G, I] from (batch, constants).
      constants: both teachers' heads, replicated on the devices.
      masks: whether `rec_logits` masks items, by their columns.
    """

    gate: Callable
    gamma: float
    teacher: Callable
    rec_logits: Callable
    constants: dict
    masks: bool = False


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
    lora: LoRASettings | None = None,
) -> tuple[LanguageModel, loop.Result]:
    """Trains a language model with the gated distillation loss or, without `distillation`, the NLL.

    Args:
      name: the name of the config part, for messages and logs.
      start: the model before the first step.
      batches: batches of the training split.
      training: epochs and optimizer.
      seed: the seed of every step's random numbers.
      rng_impl: generator of the dropout keys.
      directory: the artifact's folder.
      dev: rows that are scored with teacher forcing after every epoch.
      form: the form of the dev rows, "teacher" or "student".
      keep: "best" (lowest dev NLL) or "last".
      execution: devices and checkpoints.
      distillation: the gate and both teachers; None for the NLL.
      lora: trains low-rank changes instead of all parameters.

    Returns:
      The trained model with ordinary parameters, and the result of the loop. If dev says that it
      ended too soon, so does a line of output.
    """
    steps_per_epoch = batches.plan.steps_per_epoch
    tuning = training_of(start, lora)
    key = jax.random.fold_in(jax.random.key(seed, impl=rng_impl), LORA_STREAM)
    trained, fixed = tuning.divided(start.params, key)

    def evaluate(params) -> dict[str, float]:
        model = dataclasses.replace(start, params=tuning.merged(params, fixed))
        scored = model.score(dev, form, training.batch_rows)
        return {f"dev_{key}": v for key, v in scored.summary(dev.is_choice).items()}

    constants = {
        "frozen": {**fixed, **start.frozen},
        **({} if distillation is None else distillation.constants),
    }
    task = loop.Task(
        name=name,
        init=lambda rng: trained,
        loss=make_loss(start, execution.chunk_size, distillation, tuning),
        constants=constants,
        divided=divided_of(start, distillation, tuning),
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
    found = Learning.of(result.history, epochs=training.epochs, kept_step=result.step)
    if parallel.is_first_process() and found is not None:
        for note in found.notes():
            terminal.say(f"{name}: {note}")
    final = jax.tree.map(np.asarray, tuning.merged(result.params, fixed))
    return dataclasses.replace(start, params=final), result


def divided_of(
    start: LanguageModel, distillation: Distillation | None, tuning: FullTraining
) -> frozenset[str]:
    """The arrays that stay divided on a mesh; none if the loss needs all targets on a device."""
    if distillation is None:
        return divided_arrays(start.model, tuning, {})
    if distillation.masks or reads(distillation.gate, "log_probs"):
        return frozenset()
    return divided_arrays(start.model, tuning, distillation.constants)


def make_loss(
    start: LanguageModel,
    chunk_size: int,
    distillation: Distillation | None = None,
    tuning: FullTraining | None = None,
) -> parallel.Loss:
    """The loss of one device's micro-batch: NLL, or gated distillation (eqs. 8-11).

    Args:
      start: the model.
      chunk_size: response tokens at a time in the fused head.
      distillation: the gate and both teachers; None for the NLL.
      tuning: joins what is trained with what is fixed; None if everything is trained.
    """
    vocabulary, model = start.vocabulary, start.model
    tuning = tuning or FullTraining()

    def loss(params, batch, rng, constants):
        teachers, metrics = {}, {}
        variables = tuning.variables(params, constants["frozen"])
        num_words, num_targets = vocabulary.num_words, vocabulary.num_targets
        tables = tables_of(model, variables, batch, constants, num_words, num_targets)
        if distillation is not None:
            teacher = distillation.teacher(batch, tables.constants)
            gate = gate_values(
                distillation.gate,
                batch["item_mass"],
                teacher,
                num_targets,
                is_item=batch["labels"] >= num_words,
            )  # [N]
            # After the picks an item is given, and the recommender has nothing more to say of it.
            gate = gate * batch["is_choice"] if "is_choice" in batch else gate
            teachers = {
                "teacher": teacher,
                "rec_logits": distillation.rec_logits(tables.rec_batch, tables.constants),
                "response_index": batch["response_index"],
                "gate": gate,
                "gamma": distillation.gamma,
            }
            mask = batch["loss_mask"]
            metrics["gate"] = ((gate * mask).sum(), mask.sum())
        with tuning.reading():
            features = response_features(tables.model, tables.variables, tables.batch, rng)
        total, nll = fused_gated_kd_loss(
            features,
            tables.head.cast(model.compute.array_dtype),
            batch["labels"],
            batch["weights"],
            num_tokens=batch["num_tokens"],
            num_words=num_words,
            chunk_size=chunk_size,
            retrieved_ids=retrieved_ids(batch),
            columns=tables.columns,
            **teachers,
        )
        metrics["nll"] = (nll, batch["weights"].sum())
        metrics["tokens"] = (batch["num_tokens"], batch["num_tokens"])
        return total, metrics

    return loss
