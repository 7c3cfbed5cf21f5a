"""Checks of what depends on the data, made before anything is trained.

Corpora and vocabulary are built in minutes and trainings take hours, so a split that is not there
or a warm-up that is longer than the training is told as soon as the first are complete.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from conkd_jax.artifacts.manifest import checked, is_whole
from conkd_jax.artifacts.stage import Stage
from conkd_jax.config import Config, ConfigError
from conkd_jax.data.corpus import RECOMMENDER, Corpus, responses
from conkd_jax.data.rows.contract import Rows
from conkd_jax.data.vocabulary import Vocabulary
from conkd_jax.stages import backbones, rec_teacher, turn_classifier
from conkd_jax.stages.language_model_training import check_schedule
from conkd_jax.training import optimizers

DATA_STAGES = ("corpus", "vocabulary")  # what a check reads


def unbuilt(config: Config, stages: Mapping[str, Stage]) -> list[str]:
    """The names of the data stages that `check_data` would read and that are not complete."""
    return list(
        dict.fromkeys(
            stage.name for stage in data_stages(stages) if not is_whole(stage, config.artifacts_dir)
        )
    )


def data_stages(stages: Mapping[str, Stage]) -> list[Stage]:
    """The corpora of a run and its vocabulary, each once."""
    evaluation = stages["evaluation"]
    found = [stages["corpus"], stages["rec_teacher"].inputs["corpus"], stages["vocabulary"]]
    found += [stages["dialogue_teacher"].inputs["corpus"]]
    found += [evaluation.inputs[name] for name in ("scored_corpus",) if name in evaluation.inputs]
    return list({stage.fingerprint: stage for stage in found}.values())


def check_data(config: Config, stages: Mapping[str, Stage]) -> None:
    """Checks a run against its data; `data_stages` must be complete.

    Only what is still to be made is checked.

    Raises:
      ConfigError: the split to score has no responses, a turn has more items than a response may
        pick, or a learning rate schedule doesn't suit the number of training steps; names the
        fields.
    """
    will_run = [name for name, stage in stages.items() if not is_whole(stage, config.artifacts_dir)]
    problems = [*_split_problems(config, stages)] if "evaluation" in will_run else []
    too_many = [*_pick_problems(config, stages)] if config.vocabulary.max_picks else []
    # Without rows, which such turns refuse, the number of steps is unknown.
    problems += too_many or _schedule_problems(config, stages, will_run)
    if problems:
        raise ConfigError("; ".join(dict.fromkeys(problems)))


def _split_problems(config: Config, stages: Mapping[str, Stage]) -> Iterator[str]:
    """What is wrong with the splits that are trained on, chosen on and scored."""
    evaluation = stages["evaluation"]
    scored = evaluation.inputs.get("scored_corpus", stages["corpus"])
    for field, stage, split in (
        ("corpus", stages["corpus"], "train"),
        ("corpus", stages["corpus"], "dev"),
        ("evaluation.split", scored, evaluation.settings.split),
    ):
        corpus = Corpus.open(checked(stage, config.artifacts_dir))
        there = [name for name in corpus.splits if _has_responses(corpus, name)]
        if split not in there:
            yield (
                f"config.{field}: expected a corpus with responses in its split {split!r}; "
                f"{corpus.directory} has some in {', '.join(there) or 'none'}"
            )


def _pick_problems(config: Config, stages: Mapping[str, Stage]) -> Iterator[str]:
    """Whether a turn of any split has more items than a response may pick."""
    corpora = [stage for stage in data_stages(stages) if stage.name == "corpus"]
    for corpus in (Corpus.open(checked(stage, config.artifacts_dir)) for stage in corpora):
        most = max(
            (
                (len(set(turn.items)), split, dialogue.conversation_id)
                for split in corpus.splits
                for dialogue in corpus.dialogues(split)
                for turn in dialogue.turns
                if turn.role == RECOMMENDER
            ),
            default=(0, "", ""),
        )
        if most[0] > config.vocabulary.max_picks:
            yield (
                f"config.vocabulary.max_picks: expected at least {most[0]}, the different items "
                f"of a turn in dialogue {most[2]} of the split {most[1]!r}, got "
                f"{config.vocabulary.max_picks}"
            )


def _has_responses(corpus: Corpus, split: str) -> bool:
    return any(True for dialogue in corpus.dialogues(split) for _ in responses(dialogue))


def is_checked_later(stages: Mapping[str, Stage]) -> bool:
    """Whether some learning rate schedules are only checked when their trainings begin.

    These are AutoRec's and its sentiment model's, the first trainings of a run.
    """
    graphs = rec_teacher.RecTeacherSettings
    return not all(isinstance(stage.settings, graphs) for stage in _recommenders(stages))


def _schedule_problems(
    config: Config, stages: Mapping[str, Stage], will_run: list[str]
) -> Iterator[str]:
    """What is wrong with the learning rate schedules of trainings to come."""
    for stage in _recommenders(stages):
        settings = stage.settings
        is_graph = isinstance(settings, rec_teacher.RecTeacherSettings)
        if is_graph and not is_whole(stage, config.artifacts_dir):
            corpus = Corpus.open(checked(stage.inputs["corpus"], config.artifacts_dir))
            dialogues = rec_teacher.training_dialogues(settings.model, corpus, settings.fold)
            steps = rec_teacher.num_steps(settings.model, dialogues)
            try:
                optimizers.make_optimizer(settings.model.optimizer, steps)
            except ValueError as error:
                yield f"config.rec_teacher.{error}"
    on_rows = {"dialogue_teacher", "student", "turn_classifier"} & set(will_run)
    if not on_rows:
        return
    rows = _training_rows(config, stages, on_rows)
    for name in ("dialogue_teacher", "student"):
        try:
            if name in on_rows:
                check_schedule(name, getattr(config, name), rows[name])
        except ConfigError as error:
            yield str(error)
    if "turn_classifier" in on_rows:
        try:
            steps = turn_classifier.num_steps(
                stages["turn_classifier"].settings, rows["turn_classifier"]
            )
            optimizers.make_optimizer(config.turn_classifier.optimizer, steps)
        except ValueError as error:
            yield f"config.turn_classifier.{error}"


def _recommenders(stages: Mapping[str, Stage]) -> list[Stage]:
    """The recommender of a run and, with cross-fitting, those of the folds."""
    found = [stages["rec_teacher"]]
    if "teacher_outputs" in stages:
        found += [s for s in stages["teacher_outputs"].inputs.values() if s.name == "rec_teacher"]
    return list({stage.fingerprint: stage for stage in found}.values())


def _training_rows(
    config: Config, stages: Mapping[str, Stage], names: Iterable[str]
) -> dict[str, Rows]:
    """The rows that each of some stages is trained on."""
    vocabulary = Vocabulary.load(checked(stages["vocabulary"], config.artifacts_dir))
    settings = backbones.named(config.backbone).row_settings(config)
    found: dict[bool, Rows] = {}
    chosen = {
        name: name == "dialogue_teacher" and config.dialogue_teacher.use_inferred_order
        for name in names
    }
    for name, has_inferred in chosen.items():
        if has_inferred not in found:
            corpus = Corpus.open(checked(stages[name].inputs["corpus"], config.artifacts_dir))
            dialogues = corpus.training_dialogues(use_inferred_order=has_inferred)
            found[has_inferred] = settings.rows_of(corpus, vocabulary, dialogues)
    return {name: found[has_inferred] for name, has_inferred in chosen.items()}
