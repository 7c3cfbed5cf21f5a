"""A human evaluation as drawn: which contexts are judged, in which order, what a blind id hides.

The paper's Appendix E: annotators judge the responses of all systems to the same random contexts on
three scales. A `Study` is the key of one such evaluation. It knows who is behind an id and nothing
of the files that annotators see (`human_sheets`, `human_form`), which know ids only.
"""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping, Sequence

import numpy as np

from conkd_jax.errors import UserError
from conkd_jax.eval.predictions import ContextTurn, Prediction

FORMAT_VERSION = 1
EMPTY = "(nothing)"  # a response without a word has to be seen, and judged

_JOINERS = "\u200c\u200d"  # not printable by themselves: they make one sign of several
_MENTION = re.compile(r"@(\d{1,18})")  # no id is longer, and int() refuses thousands of digits


class StudyError(UserError, ValueError):
    """Runs that make no study, or sheets that are not its own. The message says what to do."""


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
        """The name among metrics, the one that `eval.paper` has for the paper's own numbers."""
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
      name: what the scores call it; no sheet does.
      config: its path under configs/, "" where it isn't known.
      backbone: the backbone of its config, "" likewise.
      corpus: the corpus of its config, "" likewise.
      sha256: hash of its predictions.jsonl.
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
      context, system: what it hides, as indices into the study's.
    """

    id: str
    context: int
    system: int


@dataclasses.dataclass(frozen=True)
class Study:
    """The key of a human evaluation.

    Attributes:
      seed: what it was drawn with.
      systems: who is judged.
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
        """Stands on every row of every sheet, so that sheets of another study are noticed.

        It begins with a letter: a spreadsheet takes 12e34 for a number.
        """
        text = json.dumps(dataclasses.asdict(self), sort_keys=True)
        return "s" + hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:11]


@dataclasses.dataclass(frozen=True)
class Shown:
    """A context as people read it: no ids of items, one line a turn.

    Attributes:
      turns: role and text of each turn so far.
      responses: what each system of the study answered.
    """

    turns: tuple[tuple[str, str], ...]
    responses: tuple[str, ...]


Answers = Mapping[tuple[str, int], Prediction]  # a system's predictions by their key


def draw(
    systems: Sequence[System],
    answers: Sequence[Answers],
    *,
    num_contexts: int = 100,
    num_annotators: int = 3,
    seed: int = 0,
) -> Study:
    """Draws contexts and orders.

    Which contexts are drawn depends on the seed and on what all systems answered. A sheet's order
    depends on the seed, the annotator's number (one annotator more changes no other sheet) and the
    hashes of the predictions: who has a sheet and this code can't draw the order again.

    Args:
      systems: who is judged, each name once.
      answers: what each of them answered.
      num_contexts: contexts to draw, of those that all systems answered.
      num_annotators: how many sheets.
      seed: of all draws.

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
            f"expected at least {num_contexts} responses that all systems gave, found "
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
            'one predictions.jsonl has to hold the field "context".'
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
    hidden = hashlib.sha256("".join(system.sha256 for system in systems).encode()).digest()
    rng = _generator(seed, annotator, int.from_bytes(hidden))
    entries = []
    for place, context in enumerate(rng.permutation(num_contexts).tolist(), start=1):
        for number, system in enumerate(rng.permutation(len(systems)).tolist(), start=1):
            name = f"a{annotator}-c{place:03}-r{number:02}"  # no spreadsheet takes it for a date
            entries.append(Entry(name, context, system))
    return tuple(entries)


def _generator(*entropy: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(entropy)))


# --- the key as a file -----------------------------------------------------------------------


def to_document(study: Study) -> dict:
    """The plain form of a study: what key.json holds."""
    return {"format_version": FORMAT_VERSION, "study": study.id, **dataclasses.asdict(study)}


def from_document(document: object, *, where: str) -> Study:
    """The study of a parsed key.json.

    Raises:
      StudyError: it is none, or was changed after it was written.
    """
    try:
        if not isinstance(document, Mapping) or document["format_version"] != FORMAT_VERSION:
            raise ValueError(f"no JSON object of format version {FORMAT_VERSION}")
        study = Study(
            seed=document["seed"],
            systems=tuple(System(**system) for system in document["systems"]),
            contexts=tuple((name, turn) for name, turn in document["contexts"]),
            sheets=tuple(tuple(Entry(**e) for e in sheet) for sheet in document["sheets"]),
        )
        if study.id != document["study"]:
            raise ValueError(f"its content makes study {study.id}, it says {document['study']!r}")
    except (KeyError, TypeError, ValueError) as error:
        raise StudyError(
            f"{where}: expected the key that conkd_jax.human export wrote; it is damaged, changed "
            f"or of another version ({error}). Only the original file can tell who is who."
        ) from error
    return study


# --- what people read ------------------------------------------------------------------------


def shown(study: Study, answers: Sequence[Answers], titles: Mapping[int, str]) -> tuple[Shown, ...]:
    """Every context of a study with all responses to it, items as titles.

    Args:
      study: who and what.
      answers: what each of its systems answered.
      titles: title of each item; an item without one stays `@id`.
    """
    return tuple(
        Shown(
            tuple((turn.role, readable(turn.text, titles)) for turn in _history(key, answers)),
            tuple(readable(answer[key].generated, titles) for answer in answers),
        )
        for key in study.contexts
    )


def _history(key: tuple[str, int], answers: Sequence[Answers]) -> tuple[ContextTurn, ...]:
    """What the responses answer; a file of another toolkit may not tell it."""
    return next((answer[key].context for answer in answers if answer[key].context), ())


def untitled(texts: Sequence[Shown]) -> set[str]:
    """The items, as `@id`, that stand in texts without a title."""
    lines = [text for each in texts for text in (*each.responses, *(t for _, t in each.turns))]
    return {match.group() for line in lines for match in _MENTION.finditer(line)}


def readable(text: str, titles: Mapping[int, str]) -> str:
    """A text with items as titles, on one line, without what can't be printed.

    >>> readable("Have you\\n seen @7 ?", {7: "Gladiator  (2000)"})
    'Have you seen Gladiator (2000) ?'
    >>> readable(" ", {})
    '(nothing)'
    """
    text = _MENTION.sub(lambda match: titles.get(int(match[1]), match[0]), text)
    printable = "".join(c if c.isprintable() or c in _JOINERS else " " for c in text)
    return " ".join(printable.split()) or EMPTY
