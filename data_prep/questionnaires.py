"""Reads the questionnaires of ReDial's dialogues, and makes MovieWorld's.

`conkd_jax.data.questionnaires` says what they are. A dialogue without a questionnaire is left out,
and so is an answer that is none of the known ones.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from typing import Any

from etils import epath

from conkd_jax.data.mentions import MENTION, mention_id
from conkd_jax.data.questionnaires import FORMS, LIKED, NOT_SAID, QUESTIONS, Form
from conkd_jax.io.files import numbered_lines, parse_json
from data_prep.movieworld import words
from data_prep.movieworld.conversations import make_dialogues
from data_prep.movieworld.world import make_world
from data_prep.raw_dialogues import Problems as DialogueProblems
from data_prep.raw_dialogues import RawDialogue, clean_text
from data_prep.sources import find_sources

Forms = dict[str, dict[str, Form]]  # by speaker, then by conversation id


def redial_questionnaires(
    raw_dir: epath.PathLike | None, *, use_test: bool = False
) -> tuple[Forms, int]:
    """The questionnaires in ReDial's files of dialogues.

    Args:
      raw_dir: as for `data_prep.redial.build_redial`.
      use_test: whether to read the test dialogues, if they are there.

    Returns:
      The forms, and how many answers were left out because they are none of the known ones.

    Raises:
      MissingDataError: a raw file is missing.
    """
    files = find_sources(raw_dir, use_test=use_test)
    lines = (file.lines() for file in (files.train, files.valid, files.test) if file is not None)
    return read_forms(itertools.chain.from_iterable(lines))


def read_forms(lines: Iterable[bytes]) -> tuple[Forms, int]:
    """The forms in lines of ReDial's JSONL, and the number of unknown answers.

    Lines that are no dialogues have no forms; building the corpus reports them.
    """
    forms: Forms = {name: {} for name in FORMS}
    num_unknown = 0
    for _, line in numbered_lines(lines):
        try:
            dialogue = parse_json(line.decode("utf-8", errors="replace"))
        except ValueError:
            continue
        if not isinstance(dialogue, dict) or "conversationId" not in dialogue:
            continue
        conversation = clean_text(str(dialogue["conversationId"]), DialogueProblems())
        for name in FORMS:
            found, unknown = _form(dialogue.get(f"{name}Questions"))
            num_unknown += unknown
            if found and conversation not in forms[name]:
                forms[name][conversation] = found
    return forms, num_unknown


def movieworld_questionnaires(seed: int, num_movies: int, num_dialogues: int) -> Forms:
    """The questionnaires of a MovieWorld, from the messages of its dialogues.

    A movie that the seeker names is seen and liked. One that the recommender names is suggested;
    if the next answer is that the seeker has seen it, it is seen, and otherwise nothing is said of
    that. The last suggestion is liked, since every seeker accepts it; of the others nothing is
    said. Both speakers fill in the same.
    """
    dialogues = make_dialogues(make_world(seed, num_movies), seed, num_dialogues)
    forms = {dialogue.conversation_id: _movieworld_form(dialogue) for dialogue in dialogues}
    forms = {conversation: form for conversation, form in forms.items() if form}
    return {name: dict(forms) for name in FORMS}


def _form(value: Any) -> tuple[dict[int, tuple[int, int, int]], int]:
    """The answers of a form by movie id, and the number of unknown ones."""
    if not isinstance(value, Mapping):  # ReDial writes an empty list where there is no form
        return {}, 0
    found, unknown = {}, 0
    for key, answers in value.items():
        movie = mention_id(key) if key.isdecimal() else None
        given = answers if isinstance(answers, Mapping) else {}
        values = [given.get(question) for question in QUESTIONS]
        is_known = all(
            type(value) is int and 0 <= value < number
            for value, number in zip(values, QUESTIONS.values(), strict=True)
        )
        if movie is None or not is_known:
            unknown += 1
        else:
            found[movie] = tuple(values)
    return found, unknown


def _movieworld_form(dialogue: RawDialogue) -> dict[int, tuple[int, int, int]]:
    not_seen, seen, seen_not_said = 0, 1, 2
    form: dict[int, tuple[int, int, int]] = {}
    last: list[int] = []
    for is_recommender, text in dialogue.messages:
        named = [mention_id(match[1]) for match in MENTION.finditer(text)]
        movies = [movie for movie in named if movie is not None]
        if is_recommender:
            form |= dict.fromkeys(movies, (1, seen_not_said, NOT_SAID))
            last = movies or last
        elif movies:
            form |= dict.fromkeys(movies, (0, seen, LIKED))
        elif text in words.SEEN_IT and last:
            form[last[0]] = (1, seen, LIKED)
        elif text in words.ACCEPT and last:
            form[last[0]] = (1, not_seen, LIKED)
    return form
