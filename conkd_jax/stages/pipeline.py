"""The graph of stages that a config asks for, from raw files to a scored system.

corpus ─► vocabulary ─► dialogue_teacher ──┬─► teacher_outputs ─► student ─► evaluation
   └────► rec_teacher (or one a fold) ─────┘
   └────► turn_classifier ───────────────────────────────────────────────────┘
"""

from __future__ import annotations

from collections.abc import Mapping

from conkd_jax.artifacts.build import Stage
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


def build(config, split: str | None = None) -> Mapping[str, Stage]:
    """The stages of a config by name; `evaluation` is the last.

    Args:
      config: a validated config.
      split: what `evaluation` scores; None takes the config's.

    Raises:
      data_prep.sources.MissingDataError: raw files are not there.
    """
    stages = {"corpus": corpus.stage(config)}
    stages["vocabulary"] = vocabulary.stage(config, stages["corpus"])
    stages["rec_teacher"] = rec_teacher.stage(config, _rec_corpus(config, stages["corpus"]))
    stages["dialogue_teacher"] = dialogue_teacher.stage(config, model_sources(config, stages))
    if config.system == "student":
        stages |= _student(config, stages)
    stages["evaluation"] = evaluation.stage(config, stages, split or config.evaluation.split)
    return stages


def model_sources(config, stages: Mapping[str, Stage]) -> dict[str, Stage]:
    """What an untrained language model is made from: KGSF's reads the recommender's graphs."""
    wanted = ["corpus", "vocabulary"]
    wanted += ["rec_teacher"] if backbones.of(config).READS_RECOMMENDER else []
    return {name: stages[name] for name in wanted}


def _rec_corpus(config, plain: Stage) -> Stage:
    """The recommender's corpus: with the dialogues of inferred order where it may read them."""
    if not config.rec_teacher.use_inferred_order:
        return plain
    return corpus.stage(config, use_inferred_order=True)


def _student(config, stages: Mapping[str, Stage]) -> dict[str, Stage]:
    added = {}
    if config.distill.gamma > 0:
        added["teacher_outputs"] = _store(config, stages)
    if config.student.turn_tags:
        added["turn_classifier"] = turn_classifier.stage(
            config, stages["corpus"], stages["vocabulary"]
        )
    added["student"] = student.stage(
        config,
        model_sources(config, stages),
        stages["dialogue_teacher"],
        added.get("teacher_outputs"),
    )
    return added


def _store(config, stages: Mapping[str, Stage]) -> Stage:
    folds = config.rec_teacher.cross_fit_folds
    labellers = [stages["rec_teacher"]]
    if folds:
        rec_corpus = _rec_corpus(config, stages["corpus"])
        labellers = [rec_teacher.stage(config, rec_corpus, fold) for fold in range(folds)]
    common = stages["corpus"], stages["vocabulary"], stages["dialogue_teacher"]
    return teacher_outputs.stage(config, *common, labellers)


def check_sources(config, stages: Mapping[str, Stage]) -> None:
    """Looks for the tokenizer and the weights that stages will read, before the first one runs.

    Raises:
      ConfigError: naming the field; expected files are not there, or of another model.
    """

    def will_run(name: str) -> bool:
        return name in stages and not stages[name].is_whole(config.artifacts_dir)

    backbones.of(config).check_sources(
        config,
        makes_words=will_run("vocabulary"),
        makes_model=will_run("dialogue_teacher") or will_run("student"),
    )


def untrained(stages: Mapping[str, Stage], artifacts_dir: str) -> list[str]:
    """Names of the trained stages whose artifact is missing."""
    trained = ("rec_teacher", "dialogue_teacher", "turn_classifier", "student")
    return [name for name in trained if name in stages and not stages[name].is_whole(artifacts_dir)]
