"""ReDial's questionnaires: what both speakers say after a dialogue about each movie in it.

The seeker (initiator) and the recommender (respondent) fill in the same form about the seeker: was
the movie suggested, has the seeker seen it, does the seeker like it. They are kept apart from the
corpus, because only the sentiment model and AutoRec read them.
"""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from etils import epath

from conkd_jax.errors import UserError
from conkd_jax.io.files import read_json, write_json, write_whole

FORMS = ("initiator", "respondent")
QUESTIONS = {"suggested": 2, "seen": 3, "liked": 3}  # the number of answers
DISLIKED, LIKED, NOT_SAID = 0, 1, 2  # the answers to "liked"

# The answers of a form to the questions above, in that order, by movie id.
Form = Mapping[int, tuple[int, int, int]]

_ARRAYS, _REPORT = "questionnaires.npz", "report.json"
_REMEDY = "build the questionnaires again"


class QuestionnaireError(UserError, ValueError):
    """A folder of questionnaires is missing or damaged."""


@dataclasses.dataclass(frozen=True)
class Questionnaires:
    """The forms of the dialogues that have any.

    Attributes:
      forms: for each speaker, the forms by conversation id. A dialogue without one is left out.
      report: how many dialogues have both forms, one, or none.
    """

    forms: Mapping[str, Mapping[str, Form]]
    report: Mapping[str, Any]

    def seeker_likes(self, conversation_id: str) -> dict[int, float]:
        """What the seeker likes (1) and dislikes (0), by movie id; empty without a form."""
        form = self.forms["initiator"].get(conversation_id, {})
        liked = {movie: answers[2] for movie, answers in form.items()}
        return {movie: float(answer) for movie, answer in liked.items() if answer != NOT_SAID}

    def answers_of_both(self, conversation_id: str) -> dict[int, tuple[int, ...]]:
        """The six answers about each movie that both forms name; empty if one form is missing."""
        first, second = (self.forms[form].get(conversation_id, {}) for form in FORMS)
        return {movie: (*first[movie], *second[movie]) for movie in first if movie in second}


def write_questionnaires(directory: epath.PathLike, questionnaires: Questionnaires) -> None:
    """Writes a folder of questionnaires."""
    directory = epath.Path(directory)
    arrays: dict[str, np.ndarray] = {}
    for name in FORMS:
        forms = questionnaires.forms[name]
        rows = [(movie, *answers) for form in forms.values() for movie, answers in form.items()]
        arrays[f"{name}_ids"] = np.array(list(forms), np.str_)
        arrays[f"{name}_sizes"] = np.array([len(form) for form in forms.values()], np.int64)
        arrays[f"{name}_rows"] = np.array(rows, np.int64).reshape(-1, 1 + len(QUESTIONS))
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    write_whole(directory / _ARRAYS, buffer.getvalue())
    write_json(directory / _REPORT, dict(questionnaires.report))


def read_questionnaires(directory: epath.PathLike) -> Questionnaires:
    """Reads what `write_questionnaires` wrote.

    Raises:
      QuestionnaireError: there is no such folder, or it is damaged.
    """
    directory = epath.Path(directory)
    if not (directory / _ARRAYS).exists():
        raise QuestionnaireError(f"expected questionnaires at {directory}, found no {_ARRAYS}")
    forms: dict[str, dict[str, Form]] = {}
    with np.load(io.BytesIO((directory / _ARRAYS).read_bytes()), allow_pickle=False) as archive:
        for name in FORMS:
            rows = iter(archive[f"{name}_rows"].tolist())
            sizes = archive[f"{name}_sizes"].tolist()
            forms[name] = {
                conversation: {
                    movie: (suggested, seen, liked)
                    for movie, suggested, seen, liked in (next(rows) for _ in range(size))
                }
                for conversation, size in zip(archive[f"{name}_ids"].tolist(), sizes, strict=True)
            }
    return Questionnaires(forms, read_json(directory / _REPORT, QuestionnaireError, _REMEDY))


def questionnaire_report(
    forms: Mapping[str, Mapping[str, Form]], splits: Mapping[str, list[str]]
) -> dict[str, dict[str, int]]:
    """How many dialogues of each split have which forms, and how many movies both of them name.

    Args:
      forms: for each speaker, the forms by conversation id.
      splits: the conversation ids of each split.

    >>> both = {"a": {1: (1, 0, 1)}}
    >>> questionnaire_report({"initiator": both, "respondent": both}, {"train": ["a", "b"]})
    {'train': {'dialogues': 2, 'with_both': 1, 'with_one': 0, 'with_none': 1, 'answered_movies': 1}}
    """
    report = {}
    for split, ids in splits.items():
        counts = [sum(i in forms[form] for form in FORMS) for i in ids]
        first, second = (forms[form] for form in FORMS)
        report[split] = {
            "dialogues": len(ids),
            "with_both": counts.count(2),
            "with_one": counts.count(1),
            "with_none": counts.count(0),
            "answered_movies": sum(
                len(first.get(i, {}).keys() & second.get(i, {}).keys()) for i in ids
            ),
        }
    return report
