"""Stage `questionnaires`: what both speakers of a dialogue say about its movies afterwards.

An artifact of its own, read from the raw files of the corpus, so that a corpus is the same for the
systems that don't need them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from etils import epath

from conkd_jax.artifacts.fingerprint import outside_fingerprint
from conkd_jax.artifacts.stage import Context, Stage
from conkd_jax.config import Config, ConfigError
from conkd_jax.data.corpus import Corpus
from conkd_jax.data.questionnaires import (
    Questionnaires,
    questionnaire_report,
    read_questionnaires,
    write_questionnaires,
)
from conkd_jax.io import terminal
from conkd_jax.runtime import parallel
from conkd_jax.stages.corpora.movieworld import MovieWorldSettings
from data_prep.questionnaires import movieworld_questionnaires, redial_questionnaires

VERSION = 1


@dataclasses.dataclass(frozen=True)
class QuestionnaireSettings:
    """Settings of the questionnaires.

    Attributes:
      world: the world whose dialogues were generated; None for ReDial.
      raw_dir: the folder of ReDial's raw files.
    """

    world: MovieWorldSettings | None
    raw_dir: str = outside_fingerprint(because="the files enter by content, through the corpus")


def stage(config: Config, stages: Mapping[str, Stage]) -> Stage:
    """The questionnaires of a config's corpus."""
    world = stages["corpus"].settings
    settings = QuestionnaireSettings(
        world=world if isinstance(world, MovieWorldSettings) else None,
        raw_dir=config.corpus.raw_dir,
    )
    return Stage("questionnaires", VERSION, settings, {"corpus": stages["corpus"]}, run)


def run(settings: QuestionnaireSettings, directory: epath.Path, context: Context) -> dict[str, Any]:
    """Reads or makes the questionnaires on the first process; returns what they cover.

    Raises:
      ConfigError: no training dialogue has both questionnaires.
    """
    corpus = Corpus.open(context.inputs["corpus"])
    if parallel.is_first_process():
        num_unknown = 0
        if settings.world is not None:
            world = settings.world
            forms = movieworld_questionnaires(world.seed, world.num_movies, world.num_dialogues)
        else:
            forms, num_unknown = redial_questionnaires(settings.raw_dir or None)
        splits = {
            split: [dialogue.conversation_id for dialogue in corpus.dialogues(split)]
            for split in corpus.splits
        }
        known = {conversation for ids in splits.values() for conversation in ids}
        kept = {
            name: {i: form for i, form in of.items() if i in known} for name, of in forms.items()
        }
        report = {
            "splits": questionnaire_report(kept, splits),
            "unknown_answers": num_unknown,
        }
        write_questionnaires(directory, Questionnaires(kept, report))
        for line in summary(report):
            terminal.say(line)
    parallel.barrier("questionnaires written")
    report = read_questionnaires(directory).report
    if not report["splits"]["train"]["answered_movies"]:
        raise ConfigError(
            "config.rec_teacher.architecture: autorec learns from the questionnaires of the "
            "training dialogues (initiatorQuestions, respondentQuestions), but none has both: use "
            "ReDial's official files, or --config.rec_teacher.architecture=graph"
        )
    return dict(report)


def summary(report: Mapping[str, Any]) -> list[str]:
    """What the questionnaires cover, a line for each split."""
    return [
        f"questionnaires: {split}: {counts['with_both']:,} of {counts['dialogues']:,} dialogues "
        f"have both forms, {counts['with_one']:,} one, {counts['with_none']:,} none; both name "
        f"{counts['answered_movies']:,} movies"
        for split, counts in report["splits"].items()
    ]
