"""The graph of stages of a config, from raw files to a scored system.

corpus ─► vocabulary ─► dialogue_teacher ──┬─► teacher_outputs ─► student ─► evaluation
   └────► rec_teacher (or one per fold) ───┘                                     ▲
   └────► turn_classifier ───────────────────────────────────────────────────────┘

Not drawn: corpus and vocabulary are inputs of all later stages (`rec_teacher` reads the corpus
only), both teachers are inputs of `evaluation`, and KGSF's language models read `rec_teacher`.
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
      split: the split that `evaluation` scores; None means the config's.

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
    """The recommender that labels the training responses or, with cross-fitting, one per fold."""
    folds = config.rec_teacher.cross_fit_folds
    if not folds:
        return {f"{teacher_outputs.FOLD}0": stages["rec_teacher"]}
    inputs = _with_rec_corpus(config, stages)
    return {
        f"{teacher_outputs.FOLD}{fold}": rec_teacher.stage(config, inputs, fold=fold)
        for fold in range(folds)
    }


def check_sources(config: Config, stages: Mapping[str, Stage]) -> None:
    """Checks the tokenizer and weights that missing stages will read, before any stage runs.

    Raises:
      ConfigError: files are missing or unusable; names the field.
    """

    def will_run(name: str) -> bool:
        return name in stages and not is_whole(stages[name], config.artifacts_dir)

    backbones.named(config.backbone).check_sources(
        config,
        makes_words=will_run("vocabulary"),
        makes_model=will_run("dialogue_teacher") or will_run("student"),
    )


def untrained(stages: Mapping[str, Stage], artifacts_dir: str) -> list[str]:
    """The names of training stages with a missing artifact."""
    trained = ("rec_teacher", "dialogue_teacher", "turn_classifier", "student")
    found = [name for name in trained if name in stages]
    return [name for name in found if not is_whole(stages[name], artifacts_dir)]
