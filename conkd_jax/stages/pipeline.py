"""The graph of stages that a config asks for, from raw files to a scored system.

corpus ─► vocabulary ─► dialogue_teacher ──┬─► teacher_outputs ─► student ─► evaluation
   └────► rec_teacher (or one a fold) ─────┘
   └────► turn_classifier ───────────────────────────────────────────────────┘
"""

from __future__ import annotations

from collections.abc import Mapping

from conkd_jax.artifacts.manifest import is_whole
from conkd_jax.artifacts.stage import Stage
from conkd_jax.config import Config
from conkd_jax.stages import (
    backbones,
    corpus,
    dialogue_teacher,
    evaluation,
    rec_teacher,
    student,
    teacher_outputs,
    turn_classifier,
    vocabulary,
)


def build(config: Config, split: str | None = None) -> Mapping[str, Stage]:
    """The stages of a config by name; `evaluation` is the last.

    Args:
      config: a validated config.
      split: what `evaluation` scores; None takes the config's.

    Raises:
      data_prep.sources.MissingDataError: raw files are missing.
    """
    stages: dict[str, Stage] = {}
    stages["corpus"] = corpus.stage(config, stages)
    stages["vocabulary"] = vocabulary.stage(config, stages)
    stages["rec_teacher"] = rec_teacher.stage(config, _with_rec_corpus(config, stages))
    stages["dialogue_teacher"] = dialogue_teacher.stage(config, stages)
    if config.system == "student":
        if config.distill.gamma > 0:
            labellers = _labellers(config, stages)
            stages["teacher_outputs"] = teacher_outputs.stage(config, stages | labellers)
        stages["student"] = student.stage(config, stages)
        if config.student.turn_tags:
            stages["turn_classifier"] = turn_classifier.stage(config, stages)
    stages["evaluation"] = evaluation.stage(config, stages, split=split)
    return stages


def _with_rec_corpus(config: Config, stages: dict[str, Stage]) -> dict[str, Stage]:
    """The stages with the recommender's corpus, which may include the inferred-order dialogues."""
    if not config.rec_teacher.use_inferred_order:
        return stages
    return stages | {"corpus": corpus.stage(config, stages, use_inferred_order=True)}


def _labellers(config: Config, stages: dict[str, Stage]) -> dict[str, Stage]:
    """The recommender that labels the training responses; or, cross-fitted, one for each fold."""
    folds = config.rec_teacher.cross_fit_folds
    if not folds:
        return {f"{teacher_outputs.FOLD}0": stages["rec_teacher"]}
    given = _with_rec_corpus(config, stages)
    return {
        f"{teacher_outputs.FOLD}{fold}": rec_teacher.stage(config, given, fold=fold)
        for fold in range(folds)
    }


def check_sources(config: Config, stages: Mapping[str, Stage]) -> None:
    """Looks for the tokenizer and weights that the missing stages will read, before any runs.

    Raises:
      ConfigError: names the field; files are missing, or belong to another model.
    """

    def will_run(name: str) -> bool:
        return name in stages and not is_whole(stages[name], config.artifacts_dir)

    backbones.named(config.backbone).check_sources(
        config,
        makes_words=will_run("vocabulary"),
        makes_model=will_run("dialogue_teacher") or will_run("student"),
    )


def untrained(stages: Mapping[str, Stage], artifacts_dir: str) -> list[str]:
    """Names of the trained stages whose artifact is missing."""
    trained = ("rec_teacher", "dialogue_teacher", "turn_classifier", "student")
    found = [name for name in trained if name in stages]
    return [name for name in found if not is_whole(stages[name], artifacts_dir)]
