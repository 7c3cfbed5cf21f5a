"""Stage `dialogue_teacher`: a language model fine-tuned by NLL on recommender turns (eq. 5).

Items are tokens of its vocabulary. It is the P_φ of the paper, and also a row of the results table
by itself.

It may also be trained on dialogues with an inferred turn order (`use_inferred_order`; not in the
paper). They are trained on together with the exact ones, by one schedule, rather than before them:
there is no second training to configure, and the checkpoint is chosen on dev, which is exact.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
from etils import epath

from conkd_jax.artifacts.fingerprint import merged, outside_fingerprint, view
from conkd_jax.artifacts.stage import Context, Stage
from conkd_jax.config import Config, LanguageModelTraining
from conkd_jax.data.corpus import Corpus
from conkd_jax.data.vocabulary import Vocabulary
from conkd_jax.stages import backbones
from conkd_jax.stages.backbones import ModelSettings, RowSettings
from conkd_jax.stages.item_init import ItemInitSettings
from conkd_jax.stages.language_model import LanguageModel, save
from conkd_jax.stages.language_model_training import (
    check_schedule,
    train_language_model,
    training_batches,
)
from conkd_jax.stages.lora import LoRASettings
from conkd_jax.stages.training import (
    EXECUTION_CHANGES_NO_RESULT,
    Execution,
    compute_setting,
)

VERSION = 1


@dataclasses.dataclass(frozen=True)
class TrainedModel:
    """Settings of the untrained model and of its training."""

    training: LanguageModelTraining = merged()
    initial: ModelSettings = merged()


@dataclasses.dataclass(frozen=True)
class DialogueTeacherSettings:
    """Settings of a dialogue teacher.

    Attributes:
      model: the untrained model and its training.
      rows: its rows.
      seed: config.teacher_seed.
      rng_impl: generator of the dropout keys.
      use_inferred_order: True if it is trained on the split `inferred` as well, else None.
      item_init: the start of its item rows from the recommender's vectors; None without one.
      compute_dtype: the type of the language model's products (`compute_setting`).
      lora: the rank and α of LoRA; None if all parameters are trained.
      student: the student's training, if there will be one.
      execution: devices and checkpoints.
    """

    model: TrainedModel
    rows: RowSettings
    seed: int
    rng_impl: str
    use_inferred_order: bool | None  # not False: a teacher without it has its old fingerprint
    compute_dtype: str | None  # not "float32": an artifact of float32 has its old fingerprint
    item_init: ItemInitSettings | None = merged()
    lora: LoRASettings | None = merged()
    student: LanguageModelTraining | None = outside_fingerprint(
        because="its schedule is only checked here, so that an error shows before a long training"
    )
    execution: Execution = outside_fingerprint(because=EXECUTION_CHANGES_NO_RESULT)


def model_sources(config: Config, stages: Mapping[str, Stage]) -> dict[str, Stage]:
    """The stages that an untrained model is built from, by name."""
    wanted = ["corpus", "vocabulary"]
    wanted += ["rec_teacher"] if backbones.named(config.backbone).READS_RECOMMENDER else []
    return {name: stages[name] for name in wanted}


def stage(config: Config, stages: Mapping[str, Stage]) -> Stage:
    """The dialogue teacher of a config.

    Args:
      config: the whole config.
      stages: those of `model_sources`; `corpus` with the split `inferred` if the config trains on
        it.
    """
    backbone = backbones.named(config.backbone)
    settings = DialogueTeacherSettings(
        model=TrainedModel(
            training=view(config.dialogue_teacher, LanguageModelTraining),
            initial=backbone.model_settings(config),
        ),
        rows=backbone.row_settings(config),
        seed=config.teacher_seed,
        rng_impl=config.rng_impl,
        item_init=ItemInitSettings.of(config.dialogue_teacher),
        lora=LoRASettings.of(config.dialogue_teacher),
        use_inferred_order=config.dialogue_teacher.use_inferred_order or None,
        compute_dtype=compute_setting(config),
        student=view(config.student, LanguageModelTraining) if config.system == "student" else None,
        execution=Execution.of(config),
    )
    inputs = model_sources(config, stages)
    if settings.item_init is not None:
        inputs["rec_teacher"] = stages["rec_teacher"]
    return Stage("dialogue_teacher", VERSION, settings, inputs, run)


def run(
    settings: DialogueTeacherSettings, directory: epath.Path, context: Context
) -> dict[str, Any]:
    """Trains the teacher and keeps the step with the lowest dev NLL; returns its metrics."""
    corpus = Corpus.open(context.inputs["corpus"])
    vocabulary = Vocabulary.load(context.inputs["vocabulary"])
    exact, dev = (
        settings.rows.rows_of(corpus, vocabulary, corpus.dialogues(split))
        for split in ("train", "dev")
    )
    if settings.student is not None:
        check_schedule("student", settings.student, exact)
    train = exact
    if settings.use_inferred_order:
        dialogues = corpus.training_dialogues(use_inferred_order=True)
        train = settings.rows.rows_of(corpus, vocabulary, dialogues)
    training = settings.model.training
    start = LanguageModel.untrained(
        settings.model.initial, context.inputs, vocabulary, settings.seed, settings.rng_impl
    )
    if settings.item_init is not None:
        key = jax.random.key(settings.seed, impl=settings.rng_impl)
        start = settings.item_init.applied(start, context.inputs["rec_teacher"], corpus, key)
    trained, result = train_language_model(
        "dialogue_teacher",
        start.computing(settings.compute_dtype, remat=settings.execution.remat),
        training_batches(
            training, train, vocabulary, "teacher", seed=settings.seed, execution=settings.execution
        ),
        training,
        seed=settings.seed,
        rng_impl=settings.rng_impl,
        directory=directory,
        dev=dev,
        form="teacher",
        keep="best",
        execution=settings.execution,
        lora=settings.lora,
    )
    save(trained, directory)
    num_parameters = sum(leaf.size for leaf in jax.tree.leaves(trained.params))
    return {**result.metrics, "num_parameters": int(num_parameters)}
