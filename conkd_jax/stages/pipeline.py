"""The graph of stages of a config, from raw files to a scored system.

corpus ─► vocabulary ─► dialogue_teacher ──┬─► teacher_outputs ─► student ─► evaluation
   └────► rec_teacher (or one per fold) ───┘                                     ▲
   └────► turn_classifier ───────────────────────────────────────────────────────┘

Not drawn: corpus and vocabulary are inputs of all later stages (`rec_teacher` reads the corpus
only), both teachers are inputs of `evaluation`, and `rec_teacher` is read by the language models of
all backbones but DialoGPT, and by those whose item rows start from it. With
`rec_teacher.architecture = autorec`, there are two more stages before `rec_teacher`:
`questionnaires`, and `sentiment`, which is trained on them, unless `autorec.use_sentiment` is off.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from etils import epath

from conkd_jax.artifacts.manifest import is_whole
from conkd_jax.artifacts.stage import Stage
from conkd_jax.config import Config, ConfigError
from conkd_jax.config.parts import DialogueTeacherConfig, RecTeacherConfig
from conkd_jax.eval.origin import KEY as LINKS
from conkd_jax.io.files import is_remote
from conkd_jax.io.writable import unwritable
from conkd_jax.stages import (
    autorec_training,
    backbones,
    checks,
    corpus,
    dialogue_teacher,
    evaluation,
    questionnaires,
    rec_teacher,
    sentiment,
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
    if config.rec_teacher.architecture == "autorec":
        stages["questionnaires"] = questionnaires.stage(config, stages)
        if config.autorec.use_sentiment:
            stages["sentiment"] = sentiment.stage(config, stages)
    stages["rec_teacher"] = _recommender(
        config, _with_corpus_for(config.rec_teacher, config, stages)
    )
    stages["dialogue_teacher"] = dialogue_teacher.stage(
        config, _with_corpus_for(config.dialogue_teacher, config, stages)
    )
    if config.system == "student":
        if config.distill.gamma > 0:
            labellers = _labellers(config, stages)
            stages["teacher_outputs"] = teacher_outputs.stage(config, stages | labellers)
        stages["student"] = student.stage(config, stages)
        if config.student.turn_tags:
            stages["turn_classifier"] = turn_classifier.stage(config, stages)
    stages["evaluation"] = evaluation.stage(config, stages, split=split)
    return stages


def _with_corpus_for(
    teacher: RecTeacherConfig | DialogueTeacherConfig, config: Config, stages: dict[str, Stage]
) -> dict[str, Stage]:
    """The stages with a teacher's corpus, which may include the inferred-order dialogues."""
    if not teacher.use_inferred_order:
        return stages
    return stages | {"corpus": corpus.stage(config, stages, use_inferred_order=True)}


def _recommender(config: Config, stages: Mapping[str, Stage], *, fold: int | None = None) -> Stage:
    """The recommendation teacher of either architecture; arguments as in `rec_teacher.stage`.

    A fold's AutoRec has a sentiment model of its own, trained without that fold as well.
    """
    if config.rec_teacher.architecture != "autorec":
        return rec_teacher.stage(config, stages, fold=fold)
    if fold is not None and config.autorec.use_sentiment:
        stages = {**stages, "sentiment": sentiment.stage(config, stages, fold=fold)}
    return autorec_training.stage(config, stages, fold=fold)


def _labellers(config: Config, stages: dict[str, Stage]) -> dict[str, Stage]:
    """The recommender that labels the training responses or, with cross-fitting, one per fold."""
    folds = config.rec_teacher.cross_fit_folds
    if not folds:
        return {f"{teacher_outputs.FOLD}0": stages["rec_teacher"]}
    inputs = _with_corpus_for(config.rec_teacher, config, stages)
    return {
        f"{teacher_outputs.FOLD}{fold}": _recommender(config, inputs, fold=fold)
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


def check_folders(config: Config, folder: epath.PathLike, stages: Mapping[str, Stage]) -> None:
    """Checks that artifacts and results can be written, before any stage runs.

    Artifacts that are all there need only be readable.

    Args:
      config: the config of the run.
      folder: the folder of its results.
      stages: the stages of the config, by name.

    Raises:
      ConfigError: a folder can't be written to, or the artifacts are where the run's links to
        them go; names the option.
    """
    links = epath.Path(folder) / LINKS
    if os.path.abspath(config.artifacts_dir) == os.path.abspath(links):
        raise ConfigError(
            f"config.artifacts_dir: expected another folder than {links}, where --workdir={folder} "
            "has links to the artifacts of the run"
        )
    evaluation = stages["evaluation"]
    read = (evaluation, *evaluation.inputs.values())
    written = {"--workdir": folder}
    is_bucket = is_remote(config.artifacts_dir)  # whose client may be missing
    if is_bucket or not all(is_whole(stage, config.artifacts_dir) for stage in read):
        written = {"config.artifacts_dir": config.artifacts_dir, **written}
    for option, path in written.items():
        if why := unwritable(path):
            raise ConfigError(f"{option}: expected a folder to write to, got {path}: {why}")


def check_raw_files(config: Config, stages: Mapping[str, Stage]) -> None:
    """Looks into the raw files of corpora that are still to be built.

    Raises:
      UserError: a file is missing or damaged.
    """
    for stage in checks.data_stages(stages):
        if stage.name == "corpus" and not is_whole(stage, config.artifacts_dir):
            stage.settings.check_raw()


def untrained(stages: Mapping[str, Stage], artifacts_dir: str) -> list[str]:
    """The names of training stages with a missing artifact."""
    trained = ("sentiment", "rec_teacher", "dialogue_teacher", "turn_classifier", "student")
    found = [name for name in trained if name in stages]
    return [name for name in found if not is_whole(stages[name], artifacts_dir)]
