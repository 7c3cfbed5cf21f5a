"""The graph of stages that a config asks for, from raw files to a scored system.

corpus ─► vocabulary ─► dialogue_teacher ──┬─► teacher_outputs ─► student ─► evaluation
   └────► rec_teacher (or one a fold) ─────┘
   └────► turn_classifier ───────────────────────────────────────────────────┘
"""

from __future__ import annotations

from collections.abc import Mapping

from etils import epath

from conkd_jax.data.corpus import Corpus
from conkd_jax.stages import (
    corpus,
    dialogue_teacher,
    evaluation,
    rec_teacher,
    student,
    teacher_outputs,
    turn_classifier,
    vocabulary,
)
from conkd_jax.stages.artifacts import Context, Stage

REC_TEACHER_VERSION = 1


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
    stages["rec_teacher"] = _rec_teacher(config, _rec_corpus(config, stages["corpus"]))
    stages["dialogue_teacher"] = dialogue_teacher.stage(
        config, stages["corpus"], stages["vocabulary"]
    )
    if config.system == "student":
        stages |= _student(config, stages)
    stages["evaluation"] = evaluation.stage(config, stages, split or config.evaluation.split)
    return stages


def _rec_teacher(config, corpus: Stage, fold: int | None = None) -> Stage:
    """The recommendation teacher; with a fold, one that never sees that part of train."""
    part = config.rec_teacher
    identity = {
        "model": {k: v for k, v in part.to_dict().items() if k != "cross_fit_folds"},
        "seed": config.teacher_seed,
        "rng_impl": config.rng_impl,
    }
    if fold is not None:
        identity["fold"] = [fold, part.cross_fit_folds]

    def run(directory: epath.Path, context: Context) -> dict:
        return rec_teacher.run(
            part,
            Corpus.open(context.inputs["corpus"]),
            directory,
            seed=config.teacher_seed,
            fold=fold,
            num_folds=part.cross_fit_folds,
            log_dir=directory / "tensorboard",
            num_devices=config.parallel.num_devices,
            checkpoint_every=config.checkpoint_every,
            rng_impl=config.rng_impl,
        )

    return Stage("rec_teacher", REC_TEACHER_VERSION, identity, {"corpus": corpus}, run)


def _rec_corpus(config, plain: Stage) -> Stage:
    """The recommender's corpus: with the dialogues of inferred order where it may read them."""
    if not config.rec_teacher.use_inferred_order:
        return plain
    return corpus.stage(config, use_inferred_order=True)


def _student(config, stages: Mapping[str, Stage]) -> dict[str, Stage]:
    common = stages["corpus"], stages["vocabulary"]
    folds = config.rec_teacher.cross_fit_folds
    labellers = [stages["rec_teacher"]]
    if folds:
        rec_corpus = _rec_corpus(config, stages["corpus"])
        labellers = [_rec_teacher(config, rec_corpus, fold) for fold in range(folds)]
    store = teacher_outputs.stage(config, *common, stages["dialogue_teacher"], labellers)
    added = {"teacher_outputs": store}
    if config.student.turn_tags:
        added["turn_classifier"] = turn_classifier.stage(config, *common)
    added["student"] = student.stage(config, *common, stages["dialogue_teacher"], store)
    return added


def untrained(stages: Mapping[str, Stage], artifacts_dir: str) -> list[str]:
    """Names of the trained stages whose artifact is missing."""
    trained = ("rec_teacher", "dialogue_teacher", "turn_classifier", "student")
    return [name for name in trained if name in stages and not stages[name].is_whole(artifacts_dir)]
