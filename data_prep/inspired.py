"""Reads INSPIRED, and finds its movies among those of another corpus.

INSPIRED's movies have titles and no ids that other corpora know, so a dialogue is read as texts
with the titles that somebody marked in them. `MovieMatcher` finds a title in a catalogue, and
`with_mentions` writes what it found as "@" ids. Two layouts are read: UniCRS' JSONL, a dialogue a
line, and the official TSV, an utterance a line.
"""

from __future__ import annotations

import csv
import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from etils import epath

from conkd_jax.data.title_links import Word, split_title, words_of
from conkd_jax.errors import UserError
from conkd_jax.io.files import numbered_lines, parse_json, read_csv
from data_prep.raw_dialogues import Problems, RawDialogue, clean_text
from data_prep.sources import RAW_DIR_VARIABLE, MissingDataError, RawFile, raw_root

PARTS = ("dev", "test")
SAME, NEAR_YEAR, NO_YEAR = "same title and year", "year differs by one", "listed without year"
_FOLDERS = ("inspired", "inspired/data/dialog_data", "data/dialog_data", ".")
_ROLES = {"RECOMMENDER": True, "SEEKER": False}
_COLUMNS = ("dialog_id", "speaker", "text", "movies")
_REMEDY = "Get the file from its official source again, or correct the line"
_QUOTE = "QUOTATION_MARK"  # stands for " in the official texts
_ARTICLES = ("the", "a", "an")


class InspiredError(UserError, ValueError):
    """A file of INSPIRED doesn't hold what it should, or has nothing in common with a catalogue."""


@dataclasses.dataclass(frozen=True)
class MarkedMessage:
    """A message and the movies that are marked in it.

    Attributes:
      is_recommender: whose it is.
      text: the message, clean.
      movies: titles, "Name (year)", each with the words of the text that mean it, or "" where the
        file doesn't say which do.
    """

    is_recommender: bool
    text: str
    movies: tuple[tuple[str, str], ...]


@dataclasses.dataclass(frozen=True)
class MarkedDialogue:
    """A dialogue of INSPIRED; without an id of its own, it is named after its line."""

    conversation_id: str
    messages: tuple[MarkedMessage, ...]


# --- files -------------------------------------------------------------------------------------


def find_part(part: str, raw_dir: epath.PathLike | None = None) -> RawFile:
    """Finds a part of INSPIRED.

    Args:
      part: "dev" or "test".
      raw_dir: the folder of the raw files; None uses `CONKD_RAW_DIR`, then the download cache.

    Raises:
      MissingDataError: there is no such file.
    """
    root = raw_root(raw_dir)
    names = (f"{part}.jsonl", f"{part}.tsv")
    for folder, name in itertools.product(_FOLDERS, names):
        if (root / folder / name).is_file():
            return RawFile(root / folder / name)
    raise MissingDataError(
        f"INSPIRED's {part} part was not found in {root}: expected {' or '.join(names)}, there or "
        "in inspired/. Put UniCRS' linked file (github.com/RUCAIBox/UniCRS) or the official one "
        "(github.com/sweetpeach/Inspired, data/dialog_data/) there, and name the folder by "
        f"--config.corpus.raw_dir of the run or export {RAW_DIR_VARIABLE}=DIR."
    )


def read_part(file: RawFile, problems: Problems) -> list[MarkedDialogue]:
    """Reads the dialogues of a file, in either layout.

    Args:
      file: as `find_part` returns it.
      problems: counts unusual characters.

    Raises:
      InspiredError: the file doesn't hold what it should; names the line.
    """
    read = _of_tsv if file.name.endswith(".tsv") else _of_jsonl
    dialogues = list(read(file, problems))
    if not any(dialogue.messages for dialogue in dialogues):
        raise InspiredError(f"{file}: expected dialogues, found none. {_REMEDY}.")
    return dialogues


def _of_jsonl(file: RawFile, problems: Problems) -> Iterator[MarkedDialogue]:
    for number, content in numbered_lines(file.lines()):
        try:
            turns = parse_json(content.decode("utf-8"))
            if not isinstance(turns, list):
                raise ValueError(f"expected a list of turns, got {type(turns).__name__}")
            messages = tuple(_turn(turn, i, problems) for i, turn in enumerate(turns, start=1))
        except ValueError as error:
            raise InspiredError(f"{file}, line {number}: {error}. {_REMEDY}.") from error
        yield MarkedDialogue(str(number), messages)


def _turn(turn: Any, number: int, problems: Problems) -> MarkedMessage:
    if not isinstance(turn, dict) or not isinstance(turn.get("text"), str):
        raise ValueError(f"turn {number}: expected an object with a text")
    if turn.get("role") not in _ROLES:
        raise ValueError(f"turn {number}: role: expected {' or '.join(_ROLES)}")
    movies, names = (_texts(turn, field, number) for field in ("movie", "movie_name"))
    if len(names) != len(movies):  # then it isn't known which name is which movie's
        names = [""] * len(movies)
    text = clean_text(turn["text"], problems)
    return MarkedMessage(_ROLES[turn["role"]], text, tuple(zip(movies, names, strict=True)))


def _texts(turn: Mapping[str, Any], field: str, number: int) -> list[str]:
    found = turn.get(field)
    if not isinstance(found, list) or not all(isinstance(text, str) for text in found):
        raise ValueError(f"turn {number}: {field}: expected a list of texts")
    return found


def _of_tsv(file: RawFile, problems: Problems) -> Iterator[MarkedDialogue]:
    try:
        # The official files don't quote: a quotation mark in them is a part of the text.
        text = file.read_bytes().decode("utf-8").replace('"', '""').replace("\r\n", "\n")
        quoted = "\n".join(
            "\t".join(f'"{cell}"' for cell in line.split("\t")) for line in text.split("\n")
        )
        rows = read_csv(quoted, "\t", may_be_shorter=True)
        header = next(rows, (1, []))[1]
        if lacking := [name for name in _COLUMNS if name not in header]:
            raise csv.Error(f"line 1: expected the columns {', '.join(lacking)}, found none")
        places = {name: header.index(name) for name in _COLUMNS}
        utterances = (
            (row[places["dialog_id"]], _utterance(line, row, places, problems))
            for line, row in rows
        )
        for conversation, found in itertools.groupby(utterances, key=lambda each: each[0]):
            yield MarkedDialogue(conversation, tuple(message for _, message in found))
    except (csv.Error, UnicodeDecodeError) as error:
        raise InspiredError(f"{file}, {error}. {_REMEDY}.") from error


def _utterance(
    line: int, row: Sequence[str], places: Mapping[str, int], problems: Problems
) -> MarkedMessage:
    speaker = row[places["speaker"]].strip().upper()
    if speaker not in _ROLES or not row[places["dialog_id"]].strip():
        got = f"{row[places['dialog_id']]!r} and {row[places['speaker']]!r}"
        raise csv.Error(
            f"line {line}: expected a dialog_id, and a speaker RECOMMENDER or SEEKER, got {got}"
        )
    text = clean_text(row[places["text"]].replace(_QUOTE, '"'), problems)
    titles = [title.strip() for title in row[places["movies"]].split(";")]
    return MarkedMessage(_ROLES[speaker], text, tuple((title, "") for title in titles if title))


# --- movies ------------------------------------------------------------------------------------


class MovieMatcher:
    """Finds movies of another source in a catalogue, by title and year.

    Names are compared without case, accents, punctuation and a first article. The year must be the
    same; or differ by one, as lists disagree on when a film came out; or be missing in the
    catalogue. In the last two cases only one movie of the catalogue may have the name.

    Args:
      titles: the titles of the catalogue, "Name (year)".
    """

    def __init__(self, titles: Sequence[str]) -> None:
        self._items: dict[str, list[tuple[int, int | None]]] = {}
        for item, title in enumerate(titles):
            name, year = split_title(title)
            self._items.setdefault(_key(name), []).append((item, year))

    def find(self, title: str) -> tuple[int, str] | None:
        """Returns the candidate index of a movie and how it was found; None if it was not."""
        name, year = split_title(title)
        found = self._items.get(_key(name), [])
        exact = [item for item, listed in found if listed == year]
        if exact and year is not None:
            return exact[0], SAME
        if len(found) != 1 or year is None:
            return None
        item, listed = found[0]
        if listed is None:
            return item, NO_YEAR
        return (item, NEAR_YEAR) if abs(listed - year) == 1 else None


def with_mentions(
    dialogue: MarkedDialogue, items: Mapping[str, int]
) -> tuple[RawDialogue, list[list[str]]]:
    """Writes the marked movies of a catalogue as "@" and their ids.

    Movies that the catalogue doesn't have, or whose words are not in the text, stay words.

    Args:
      dialogue: texts and marked movies.
      items: the id of every title that is in the catalogue.

    Returns:
      The dialogue, and the titles of each message that are now mentions.
    """
    messages, written = [], []
    for message in dialogue.messages:
        spans: dict[tuple[int, int], str] = {}
        words = words_of(message.text)
        for title, said in message.movies:
            for start, end in _places(words, title, said) if title in items else ():
                if not any(start < last and first < end for first, last in spans):
                    spans[start, end] = title
        text, end = "", 0
        for (start, last), title in sorted(spans.items()):
            text += f"{message.text[end:start]}@{items[title]}"
            end = last
        messages.append((message.is_recommender, text + message.text[end:]))
        written.append([title for _, title in sorted(spans.items())])
    return RawDialogue(dialogue.conversation_id, tuple(messages), {}), written


def _places(words: Sequence[Word], title: str, said: str) -> list[tuple[int, int]]:
    """Where a text has a title: as the file says, or its name, with or without its article."""
    name = [word.key for word in words_of(split_title(title)[0])]
    forms = [[word.key for word in words_of(said)], name, _without_article(name)]
    for form in forms:
        size = len(form)
        runs = (words[i : i + size] for i in range(len(words) - size + 1)) if size else ()
        found = [(run[0].start, run[-1].end) for run in runs if [w.key for w in run] == form]
        if found:
            return found
    return []


def _key(name: str) -> str:
    return "".join(_without_article([word.key for word in words_of(name)]))


def _without_article(words: list[str]) -> list[str]:
    return words[1:] if len(words) > 1 and words[0] in _ARTICLES else words
