"""Stage `student`: the unified model of the paper, distilled from both teachers (eqs. 6-11).

Reads the teacher store, applies the gate, trains for a fixed number of steps and keeps the last.
"""

from __future__ import annotations

import dataclasses
import inspect
import sys
from collections.abc import Mapping
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath

from conkd_jax.artifacts.fingerprint import merged, outside_fingerprint, view
from conkd_jax.artifacts.stage import Context, Stage
from conkd_jax.config import Config, ConfigError, DistillConfig, StudentTraining
from conkd_jax.data.corpus import Corpus
from conkd_jax.data.mentioned_items import mentioned_items
from conkd_jax.data.teacher_store.files import TeacherStore
from conkd_jax.data.teacher_store.schema import FORMATS, TOKEN_IDS, TeacherHeads
from conkd_jax.data.vocabulary import Vocabulary
from conkd_jax.distill.gates import find_gate, make_gate, reads
from conkd_jax.distill.head import Head, Switch
from conkd_jax.distill.mentioned import without_mentioned
from conkd_jax.distill.teachers import TeacherFeatures, TeacherLogits, TeacherTopK
from conkd_jax.own_code import source_sha256
from conkd_jax.stages import backbones, language_model, teacher_outputs
from conkd_jax.stages.backbones import ModelSettings, RowSettings
from conkd_jax.stages.dialogue_teacher import model_sources
from conkd_jax.stages.item_init import ItemInitSettings
from conkd_jax.stages.language_model_training import (
    Distillation,
    train_language_model,
    training_batches,
)
from conkd_jax.stages.lora import LoRASettings
from conkd_jax.stages.training import (
    EXECUTION_CHANGES_NO_RESULT,
    Execution,
    compute_setting,
)

VERSION = 2


@dataclasses.dataclass(frozen=True)
class GateSettings:
    """Settings of the distillation; a field that the gate does not use is None.

    Attributes:
      gamma: γ of eq. 10.
      gate: a name of `distill.gates`, or "package.module:function"; None with γ = 0.
      eta: the hard gate's threshold, or "fitted".
      constant: λ of the constant gate.
      gate_sha256: for a gate outside the package, SHA-256 of the source of its module, so that a
        change of the gate or of a helper trains a new student.
      mask_mentioned: True if P_ψ is masked to items not yet mentioned, else None.
    """

    gamma: float
    gate: str | None = None
    eta: float | str | None = None
    constant: float | None = None
    gate_sha256: str | None = None
    mask_mentioned: bool | None = None  # not False: a student without it has its old fingerprint

    @classmethod
    def of(cls, config_part: DistillConfig) -> GateSettings:
        """The settings of a config, with the parameters that its gate uses.

        Raises:
          ConfigError: there is no such gate, or it fails with its parameters.
        """
        if config_part.gamma == 0:
            return cls(gamma=0.0)
        try:
            parameters = _parameters(config_part.gate)
            settings = cls(
                gamma=config_part.gamma,
                gate=config_part.gate,
                eta=(config_part.eta or FITTED) if "eta" in parameters else None,
                constant=config_part.constant if "value" in parameters else None,
                gate_sha256=_module_sha256(config_part.gate) if ":" in config_part.gate else None,
                mask_mentioned=config_part.mask_mentioned or None,
            )
            settings.gate_function(fitted_eta=0.5)
        except ValueError as error:
            raise ConfigError(f"config.distill.gate: {error}") from error
        return settings

    def eta_used(self, fitted_eta: float | None) -> float | None:
        """η as a number; None for a gate without one.

        Args:
          fitted_eta: the value that the teacher store fitted to dev; None if dev has no items.

        Raises:
          ConfigError: η should be fitted, but dev has no items.
        """
        if self.eta != FITTED:
            return None if self.eta is None else float(self.eta)
        if fitted_eta is None:
            raise ConfigError(
                "config.distill.eta: expected a number above 0, got 0, which fits η to the items "
                "in the dev split; but the dev split has none"
            )
        return fitted_eta

    def gate_function(self, fitted_eta: float | None) -> Any:
        """The gate with its parameters, a function from item masses to λ."""
        if self.gate is None:
            raise ValueError("with γ = 0 there is no gate")
        values = {"eta": self.eta_used(fitted_eta), "value": self.constant}
        parameters = _parameters(self.gate)
        return make_gate(self.gate, **{name: v for name, v in values.items() if name in parameters})


FITTED = "fitted"


def _module_sha256(gate: str) -> str:
    """SHA-256 of the source of a gate's module: its helpers and constants count as well."""
    return source_sha256(sys.modules[inspect.unwrap(find_gate(gate)).__module__])


def _parameters(gate: str) -> set[str]:
    return set(inspect.signature(find_gate(gate)).parameters)


@dataclasses.dataclass(frozen=True)
class StudentSettings:
    """Settings of a student.

    Attributes:
      student: its initialisation and its training.
      item_init: the start of its item rows from the recommender's vectors; None without one.
      distill: γ and the gate.
      initial: the untrained model.
      rows: its rows.
      seed: config.seed.
      rng_impl: generator of the dropout keys.
      compute_dtype: the type of the language model's products (`compute_setting`).
      lora: the rank and α of LoRA; None if all parameters are trained.
      backbone: the name of its backbone.
      execution: devices and checkpoints.
    """

    student: StudentTraining
    distill: GateSettings
    initial: ModelSettings
    rows: RowSettings
    seed: int
    rng_impl: str
    compute_dtype: str | None  # not "float32": an artifact of float32 has its old fingerprint
    item_init: ItemInitSettings | None = merged()
    lora: LoRASettings | None = merged()
    backbone: str = outside_fingerprint(because="initial and rows already depend on it")
    execution: Execution = outside_fingerprint(because=EXECUTION_CHANGES_NO_RESULT)


def stage(config: Config, stages: Mapping[str, Stage]) -> Stage:
    """The student of a config. With γ = 0, eq. 10 is the NLL, and no teacher store is read.

    Args:
      config: the whole config.
      stages: the stages that an untrained model is built from, `dialogue_teacher` and, if γ > 0,
        `teacher_outputs`.

    Raises:
      ConfigError: there is no such gate, it fails with its parameters, or the teacher store lacks
        what it reads.
    """
    backbone = backbones.named(config.backbone)
    settings = StudentSettings(
        student=view(config.student, StudentTraining),
        distill=_gate_settings(config),
        initial=backbone.model_settings(config),
        rows=backbone.row_settings(config),
        seed=config.seed,
        rng_impl=config.rng_impl,
        compute_dtype=compute_setting(config),
        item_init=ItemInitSettings.of(config.student),
        lora=LoRASettings.of(config.student),
        backbone=config.backbone,
        execution=Execution.of(config),
    )
    inputs = model_sources(config, stages)
    if settings.distill.gate is not None:
        inputs["teacher_outputs"] = stages["teacher_outputs"]
    if config.student.init == "dialogue_teacher":
        inputs["dialogue_teacher"] = stages["dialogue_teacher"]
    if settings.item_init is not None:
        inputs["rec_teacher"] = stages["rec_teacher"]
    return Stage("student", VERSION, settings, inputs, run)


def run(settings: StudentSettings, directory: epath.Path, context: Context) -> dict[str, Any]:
    """Trains the student; returns the metrics of its last step and, if the gate has one, η."""
    part, seed = settings.student, student_seed(settings.seed)
    corpus = Corpus.open(context.inputs["corpus"])
    vocabulary = Vocabulary.load(context.inputs["vocabulary"])
    train, dev = (
        settings.rows.rows_of(corpus, vocabulary, corpus.dialogues(split))
        for split in ("train", "dev")
    )
    store = teachers = eta = mentioned = None
    if "teacher_outputs" in context.inputs:
        made_from = context.manifests["teacher_outputs"]["inputs"]
        store = TeacherStore.open(
            context.inputs["teacher_outputs"],
            expect=teacher_outputs.provenance(made_from, vocabulary),
        )
        teachers = distillation(settings.distill, store)
        eta = settings.distill.eta_used(store.stats["fitted_eta"])
        if settings.distill.mask_mentioned:
            mentioned = mentioned_items(corpus.dialogues("train"), vocabulary)
    form = "student" if part.turn_tags else "teacher"
    if part.init == "dialogue_teacher":
        start = language_model.load(
            settings.backbone, context.inputs["dialogue_teacher"], vocabulary
        )
    else:
        start = language_model.LanguageModel.untrained(
            settings.initial, context.inputs, vocabulary, seed, settings.rng_impl
        )
    if settings.item_init is not None:
        key = jax.random.key(seed, impl=settings.rng_impl)
        start = settings.item_init.applied(start, context.inputs["rec_teacher"], corpus, key)
    trained, result = train_language_model(
        "student",
        start.computing(settings.compute_dtype, remat=settings.execution.remat),
        training_batches(
            part,
            train,
            vocabulary,
            form,
            seed=seed,
            execution=settings.execution,
            store=store,
            mentioned=mentioned,
        ),
        part,
        seed=seed,
        rng_impl=settings.rng_impl,
        directory=directory,
        dev=dev,
        form=form,
        keep="last",
        execution=settings.execution,
        distillation=teachers,
        lora=settings.lora,
    )
    language_model.save(trained, directory)
    return {**result.metrics, **({} if eta is None else {"eta": eta})}


def _gate_settings(config: Config) -> GateSettings:
    """The settings of a config's gate, which must find what it reads in the teacher store."""
    settings, stored = GateSettings.of(config.distill), config.teacher_outputs
    gate = settings.gate
    if gate is not None and stored.format == "topk" and reads(find_gate(gate), "log_probs"):
        raise ConfigError(
            f"config.distill.gate: expected a gate of the item mass, got {gate!r}, which reads "
            "log_probs, the dialogue teacher's whole distribution; with "
            f"config.teacher_outputs.format=topk, the {stored.top_k} most probable targets of a "
            "token are stored. Set the format to features or dense, or choose another gate"
        )
    return settings


def student_seed(seed: int) -> int:
    """The seed of a student's random stream, different from its dialogue teacher's.

    Both are trained by the same code. With the same seed, a student would start with the weights of
    the teacher, read the data in the same order and drop the same units, and become its copy.

    >>> student_seed(0), student_seed(1)
    (336614359, 727063581)
    """
    child = np.random.SeedSequence(seed, spawn_key=(1,))
    return int(child.generate_state(1)[0] >> 1)  # 31 bits, which any key accepts


def _dialogue_head(heads: TeacherHeads) -> Head:
    """The output layer of the dialogue teacher, rebuilt from a store of features."""
    # Left as they are stored: whoever places the constants on devices makes arrays of them.
    kernel, bias = cast(Any, heads.dialogue_kernel), cast(Any, heads.dialogue_bias)
    if heads.switch_kernel is None:
        return Head(kernel, bias)
    num_words = len(bias) - heads.rec_biases.shape[1]
    return Head(kernel, bias, Switch(heads.switch_kernel, heads.switch_bias, num_words))


def distillation(settings: GateSettings, store: TeacherStore) -> Distillation:
    """The gate, and both teachers rebuilt from the store inside the train step."""
    fitted_eta = store.stats["fitted_eta"]
    return distillation_from(settings, store.heads, format=store.spec.format, fitted_eta=fitted_eta)


def distillation_from(
    settings: GateSettings, heads: TeacherHeads, *, format: str, fitted_eta: float | None
) -> Distillation:
    """`distillation`, from the parts of a store that it needs.

    Args:
      settings: γ and the gate.
      heads: the output layers of both teachers.
      format: the format of the store.
      fitted_eta: η of the store, for a gate that uses it.
    """
    constants: dict[str, Any] = {
        "rec_kernels": heads.rec_kernels,
        "rec_biases": heads.rec_biases,
    }
    if heads.dialogue_kernel is not None and heads.dialogue_bias is not None:
        constants["dialogue_head"] = _dialogue_head(heads)

    def teacher(batch, constants):
        outputs, normalizer = batch[FORMATS[format]], batch["teacher_log_normalizer"]
        if format == "topk":
            # Not as they are stored: places among columns that devices divide may be negative.
            return TeacherTopK(jnp.asarray(batch[TOKEN_IDS]).astype(jnp.int32), outputs)
        if format == "dense":
            return TeacherLogits(outputs, normalizer)
        return TeacherFeatures(outputs, constants["dialogue_head"], normalizer)

    def rec_logits(batch, constants):
        """Logits of P_ψ [G, I], with the head of the fold that labels each response."""
        logits = jnp.einsum("gd,kdi->kgi", batch["user_vectors"], constants["rec_kernels"])
        logits = logits + constants["rec_biases"][:, None, :]
        fold = batch["rec_head_index"][None, :, None]
        logits = jnp.take_along_axis(logits, fold, axis=0)[0]
        if settings.mask_mentioned:
            return without_mentioned(logits, batch["mentioned_items"])
        return logits

    return Distillation(
        gate=settings.gate_function(fitted_eta),
        gamma=settings.gamma,
        teacher=teacher,
        rec_logits=rec_logits,
        constants=constants,
        masks=bool(settings.mask_mentioned),
    )
