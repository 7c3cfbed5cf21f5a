"""Stage `student`: the one model of the paper, distilled from both teachers (eqs. 6-11).

Reads the teacher store, chooses the gate, trains a fixed number of steps and keeps the last.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from etils import epath

from conkd_jax.artifacts.build import Context, Stage
from conkd_jax.config import ConfigError
from conkd_jax.data.corpus import Corpus
from conkd_jax.data.teacher_store.files import TeacherStore
from conkd_jax.data.vocabulary import Vocabulary
from conkd_jax.distill.gates import find_gate, make_gate
from conkd_jax.distill.head import Head
from conkd_jax.distill.teachers import TeacherFeatures, TeacherLogits
from conkd_jax.stages import backbones, language_model, teacher_outputs

VERSION = 2


def stage(
    config, sources: Mapping[str, Stage], dialogue_teacher: Stage, store: Stage | None
) -> Stage:
    """The student of a config. With γ = 0 eq. 10 is the NLL alone: there is no store to read.

    Args:
      sources: what an untrained model is made from (`pipeline.model_sources`).
      dialogue_teacher: read where the student starts from it.
      store: the teachers' outputs; None with γ = 0.

    Raises:
      ConfigError: no such gate.
    """
    part, distill, backbone = config.student, config.distill, backbones.of(config)
    _check_gate(distill)
    identity = {
        "student": part.to_dict(),
        "distill": distill_identity(distill),
        "initial": backbone.initial_identity(config),
        "rows": backbone.row_identity(config),
        "seed": config.seed,
        "rng_impl": config.rng_impl,
    }
    inputs = dict(sources)
    if store is not None:
        inputs["teacher_outputs"] = store
    if part.init == "dialogue_teacher":
        inputs["dialogue_teacher"] = dialogue_teacher

    def run(directory: epath.Path, context: Context) -> dict:
        seed = own_seed(config.seed)
        opened = Corpus.open(context.inputs["corpus"])
        words = Vocabulary.load(context.inputs["vocabulary"])
        splits = opened.dialogues("train"), opened.dialogues("dev")
        train, dev = (backbone.rows_of(config, opened, words, said) for said in splits)
        outputs, taught, used = None, None, {}
        if store is not None:
            outputs = TeacherStore.open(
                context.inputs["teacher_outputs"],
                expect=teacher_outputs.provenance(store.inputs, words),
            )
            eta = distill.eta or outputs.stats["fitted_eta"]
            taught = distillation(distill, outputs, eta)
            used = {"eta": eta} if "eta" in gate_parameters(distill, eta) else {}
        form = "student" if part.turn_tags else "teacher"
        if part.init == "dialogue_teacher":
            start = language_model.load(config, context.inputs["dialogue_teacher"], words)
        else:
            start = language_model.initial(config, context.inputs, words, seed)
        batches = language_model.loader(config, part, train, words, form, seed=seed, store=outputs)
        trained, result = language_model.train(
            "student",
            start,
            batches,
            part,
            config=config,
            seed=seed,
            directory=directory,
            dev=dev,
            form=form,
            keep="last",
            distillation=taught,
        )
        language_model.save(trained, directory)
        return {**result.metrics, **used}

    return Stage("student", VERSION, identity, inputs, run)


def own_seed(seed: int) -> int:
    """The seed of a student's random stream, which is none of its dialogue teacher's.

    The two are trained by the same code. With the bare number, a student of seed k would begin with
    the weights of a teacher of seed k, read in its order and drop its units: a twin, from which
    there is nothing to learn.

    >>> own_seed(0), own_seed(1)
    (336614359, 727063581)
    """
    child = np.random.SeedSequence(seed, spawn_key=(1,))
    return int(child.generate_state(1)[0] >> 1)  # 31 bits: a key takes no more everywhere


def distill_identity(distill) -> dict:
    """The fields of the distill part that a student depends on: η counts only where it is used.

    Of a gate that a user keeps elsewhere, its source text too: another text is another student.
    """
    if distill.gamma == 0:
        return {"gamma": 0.0}
    identity = {"gate": distill.gate, "gamma": distill.gamma}
    parameters = gate_parameters(distill, distill.eta)
    if "eta" in parameters:
        identity["eta"] = distill.eta or "fitted"
    if "value" in parameters:
        identity["constant"] = distill.constant
    if ":" in distill.gate:
        source = inspect.getsource(find_gate(distill.gate))
        identity["gate_sha256"] = hashlib.sha256(source.encode()).hexdigest()
    return identity


def gate_parameters(distill, eta: float | None) -> dict:
    """What a config gives a gate that asks for it: `eta`, and distill.constant as `value`.

    Raises:
      ConfigError: it asks for an η that could not be fitted.
    """
    asked = inspect.signature(find_gate(distill.gate)).parameters
    if "eta" in asked and eta is None:
        raise ConfigError(
            "config.distill.eta: expected a number above 0, got 0, which fits it to the item steps "
            "of dev; but no response of dev has an item"
        )
    given = {"eta": eta, "value": distill.constant}
    return {name: value for name, value in given.items() if name in asked}


def _check_gate(distill) -> None:
    """Tries the gate before any stage runs: not when both teachers are trained."""
    try:
        make_gate(distill.gate, **gate_parameters(distill, distill.eta))
    except ValueError as error:
        raise ConfigError(f"config.distill.gate: {error}") from error


def distillation(distill, store: TeacherStore, eta: float) -> language_model.Distillation:
    """The gate, and both teachers rebuilt from the store inside the train step."""
    heads = store.heads
    constants: dict[str, Any] = {
        "rec_kernels": heads.rec_kernels,
        "rec_biases": heads.rec_biases,
    }
    is_dense = store.spec.format == "dense"
    if heads.dialogue_kernel is not None and heads.dialogue_bias is not None:
        head = Head(jnp.asarray(heads.dialogue_kernel), jnp.asarray(heads.dialogue_bias))
        constants["dialogue_head"] = head

    def teacher(batch, constants):
        normalizer = batch["teacher_log_normalizer"]
        if is_dense:
            return TeacherLogits(batch["teacher_logits"], normalizer)
        return TeacherFeatures(batch["teacher_features"], constants["dialogue_head"], normalizer)

    def rec_logits(batch, constants):
        """Logits of P_ψ [G, I]: user vector onto the head of the fold that did not see it."""
        logits = jnp.einsum("gd,kdi->kgi", batch["user_vectors"], constants["rec_kernels"])
        logits = logits + constants["rec_biases"][:, None, :]
        fold = batch["rec_head_index"][None, :, None]
        return jnp.take_along_axis(logits, fold, axis=0)[0]

    return language_model.Distillation(
        gate=make_gate(distill.gate, **gate_parameters(distill, eta)),
        gamma=distill.gamma,
        teacher=teacher,
        rec_logits=rec_logits,
        constants=constants,
    )
