"""A human evaluation as drawn: which contexts are judged, in which order, what a blind id hides.

The paper's Appendix E: annotators judge the responses of all systems to the same random contexts on
three scales. A `Study` is the key of one such evaluation: it holds the system behind each id. The
files that annotators see (`sheets`, `form`) have ids only.
"""

from __future__ import annotations

import collections
import dataclasses
import json
from collections.abc import Mapping, Sequence

import numpy as np

from conkd_jax.data.mentions import MENTION, replace_mentions
from conkd_jax.errors import UserError
from conkd_jax.eval.predictions import ContextTurn, Prediction
from conkd_jax.io.files import sha256

FORMAT_VERSION = 1
EMPTY = "(nothing)"  # shown for a response without text, which is judged too

_JOINERS = "\u200c\u200d"  # not printable by themselves, but they join signs, as in some emoji


class StudyError(UserError, ValueError):
    """Runs that make no study, or sheets that don't belong to it. The message says what to do."""


@dataclasses.dataclass(frozen=True)
class Scale:
    """One question to the annotators, answered 0, 1 or 2.

    Attributes:
      name: as a column of a sheet.
      asks: what is judged.
      meanings: what 0, 1 and 2 stand for.
    """

    name: str
    asks: str
    meanings: tuple[str, str, str]

    @property
    def title(self) -> str:
        """The name for people."""
        return self.name.capitalize()

    @property
    def metric(self) -> str:
        """The name among metrics; `eval.tables.paper` has the paper's numbers under it."""
        return f"human_{self.name}"


# Wording: the paper's Appendix E.
SCALES = (
    Scale(
        "fluency",
        "naturalness, grammar, word choice and readability",
        ("not fluent", "readable, with some flaws", "fluent"),
    ),
    Scale(
        "informativeness",
        "relevant and accurate information",
        (
            "missing or incorrect",
            "included, but insufficient or partly inaccurate",
            "comprehensive and accurate",
        ),
    ),
    Scale(
        "coherence",
        "how the response fits the theme and the flow of the conversation",
        ("awkward", "makes sense, but somewhat disconnected", "coherent"),
    ),
)


@dataclasses.dataclass(frozen=True)
class System:
    """A run whose responses are judged.

    Attributes:
      name: its name in the scores; it is on no sheet.
      config: the path of its config under configs/; "" where it is not known.
      backbone: the backbone of its config, or "".
      corpus: the corpus of its config, or "".
      sha256: the SHA-256 of its predictions.jsonl.
    """

    name: str
    config: str
    backbone: str
    corpus: str
    sha256: str


@dataclasses.dataclass(frozen=True)
class Entry:
    """One response on one annotator's sheet.

    Attributes:
      id: annotator, place of the context and place of the response on that sheet.
      context: the context that the id stands for, as an index into those of the study.
      system: the system that the id stands for, likewise.
    """

    id: str
    context: int
    system: int


@dataclasses.dataclass(frozen=True)
class Study:
    """The key of a human evaluation.

    Attributes:
      seed: the seed of all draws.
      systems: the systems that are judged.
      contexts: (conversation_id, turn) of the responses that are judged.
      sheets: for each annotator, from 1, all responses to all contexts in the order shown: contexts
        shuffled for each annotator, systems for each annotator and context.
    """

    seed: int
    systems: tuple[System, ...]
    contexts: tuple[tuple[str, int], ...]
    sheets: tuple[tuple[Entry, ...], ...]

    @property
    def id(self) -> str:
        """The id on every row of every sheet, by which sheets of another study are recognised.

        It begins with a letter because a spreadsheet reads 12e34 as a number.
        """
        text = json.dumps(dataclasses.asdict(self), sort_keys=True)  # ASCII: ids stay what they are
        return "s" + sha256(text)[:11]


@dataclasses.dataclass(frozen=True)
class Shown:
    """A context as people read it: no ids of items, one line a turn.

    Attributes:
      turns: role and text of each turn so far.
      responses: the response of each system of the study.
    """

    turns: tuple[tuple[str, str], ...]
    responses: tuple[str, ...]


Answers = Mapping[tuple[str, int], Prediction]  # a system's predictions by their key


def draw_study(
    systems: Sequence[System],
    answers: Sequence[Answers],
    *,
    num_contexts: int = 100,
    num_annotators: int = 3,
    seed: int = 0,
) -> Study:
    """Draws the contexts and the orders of a study.

    The contexts depend on the seed and on the contexts that all systems answered. The order of a
    sheet depends on the seed, the annotator's number (one annotator more changes no other sheet)
    and the hashes of the predictions, so that nobody can draw it again from a sheet and this code.

    Args:
      systems: the systems that are judged, each name once.
      answers: the responses of each system.
      num_contexts: the number of contexts to draw, from those that all systems answered.
      num_annotators: the number of sheets.
      seed: the seed of all draws.

    Raises:
      StudyError: no system or one name twice, too few common contexts, or a context with two
        histories or none.

    Source: Appendix E (100 responses a system, three annotators).
    """
    names = collections.Counter(system.name for system in systems)
    twice = [name for name, count in names.items() if count > 1]
    if not systems or twice:
        raise StudyError(
            f"expected systems of different names, got {twice[0]!r} twice. A predictions.jsonl "
            "that is copied to NAME.jsonl counts as the system NAME."
            if twice
            else "expected at least one run to be judged, got none."
        )
    common = sorted(set.intersection(*(set(each) for each in answers)))
    if len(common) < num_contexts:
        held = ", ".join(f"{s.name} {len(a):,}" for s, a in zip(systems, answers, strict=True))
        raise StudyError(
            f"expected at least {num_contexts} contexts that all systems answered, found "
            f"{len(common)} (responses of each: {held}). Take runs that were scored on the same "
            "split, or fewer contexts: --num_contexts=N."
        )
    picked = _generator(seed, 0).choice(len(common), num_contexts, replace=False)
    contexts = tuple(common[index] for index in sorted(picked.tolist()))
    for key in contexts:
        _require_one_history(key, systems, answers)
    sheets = tuple(
        _sheet(number, num_contexts, systems, seed) for number in range(1, num_annotators + 1)
    )
    return Study(seed, tuple(systems), contexts, sheets)


def _require_one_history(
    key: tuple[str, int], systems: Sequence[System], answers: Sequence[Answers]
) -> None:
    where = f"conversation {key[0]!r}, turn {key[1]}"
    history, by = _history(key, answers), ""
    if not history:
        raise StudyError(
            f"expected the history of {where}: nobody can judge a response without it. At least "
            'one predictions.jsonl must have the field "context".'
        )
    for system, answer in zip(systems, answers, strict=True):
        if answer[key].context == history:
            by = by or system.name
        elif answer[key].context:
            raise StudyError(
                f"expected one history for {where}; {by} and {system.name} answered different "
                "ones. Take runs on the same corpus."
            )


def _sheet(
    annotator: int, num_contexts: int, systems: Sequence[System], seed: int
) -> tuple[Entry, ...]:
    predictions = int(sha256("".join(system.sha256 for system in systems)), 16)
    rng = _generator(seed, annotator, predictions)
    entries = []
    for place, context in enumerate(rng.permutation(num_contexts).tolist(), start=1):
        for number, system in enumerate(rng.permutation(len(systems)).tolist(), start=1):
            name = f"a{annotator}-c{place:03}-r{number:02}"  # no spreadsheet reads it as a date
            entries.append(Entry(name, context, system))
    return tuple(entries)


def _generator(*entropy: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(entropy)))


# --- the key as a file -----------------------------------------------------------------------


def study_document(study: Study) -> dict:
    """Returns the plain form of a study, which key.json holds."""
    return {"format_version": FORMAT_VERSION, "study": study.id, **dataclasses.asdict(study)}


def study_from_document(document: object, *, where: str) -> Study:
    """Returns the study of a key.json.

    Args:
      document: the parsed JSON.
      where: the file, for the message.

    Raises:
      StudyError: it is not a key, or was changed after it was written.
    """
    try:
        if not isinstance(document, Mapping) or document["format_version"] != FORMAT_VERSION:
            raise ValueError(f"not a JSON object of format version {FORMAT_VERSION}")
        study = Study(
            seed=document["seed"],
            systems=tuple(System(**system) for system in document["systems"]),
            contexts=tuple((name, turn) for name, turn in document["contexts"]),
            sheets=tuple(tuple(Entry(**e) for e in sheet) for sheet in document["sheets"]),
        )
        if study.id != document["study"]:
            raise ValueError(f"its content is study {study.id}, its name {document['study']!r}")
    except (KeyError, TypeError, ValueError) as error:
        raise StudyError(
            f"{where}: expected the key that conkd_jax.human export wrote; it is damaged, changed "
            f"or of another version ({error}). Restore the original file: nothing else holds the "
            "systems behind the ids."
        ) from error
    return study


# --- what people read ------------------------------------------------------------------------


def shown_contexts(
    study: Study, answers: Sequence[Answers], titles: Mapping[int, str]
) -> tuple[Shown, ...]:
    """Returns every context of a study with all responses to it, with titles for items.

    Args:
      study: the study.
      answers: the responses of each of its systems.
      titles: title of each item; an item without one stays `@id`.
    """
    return tuple(
        Shown(
            tuple((turn.role, readable_text(turn.text, titles)) for turn in _history(key, answers)),
            tuple(readable_text(answer[key].generated, titles) for answer in answers),
        )
        for key in study.contexts
    )


def _history(key: tuple[str, int], answers: Sequence[Answers]) -> tuple[ContextTurn, ...]:
    """Returns the history before a response; files of other toolkits may lack it."""
    return next((answer[key].context for answer in answers if answer[key].context), ())


def untitled_items(texts: Sequence[Shown]) -> set[str]:
    """Returns the items, as `@id`, that appear in texts without a title."""
    lines = [text for each in texts for text in (*each.responses, *(t for _, t in each.turns))]
    return {match.group() for line in lines for match in MENTION.finditer(line)}


def readable_text(text: str, titles: Mapping[int, str]) -> str:
    r"""Returns a text on one line, with titles for items and without unprintable characters.

    >>> readable_text("Have you\n seen @7 ?", {7: "Gladiator  (2000)"})
    'Have you seen Gladiator (2000) ?'
    >>> readable_text(" ", {})
    '(nothing)'
    """
    text = replace_mentions(text, titles.get)
    printable = "".join(c if c.isprintable() or c in _JOINERS else " " for c in text)
    return " ".join(printable.split()) or EMPTY
