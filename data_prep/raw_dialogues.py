"""Reads ReDial's JSONL, one dialogue per line, in whatever state the line is.

Everything that can't be used is counted and described: no single line stops the program, and none
is dropped silently. A file of which most can't be used is refused. This module implements ReDial's
official schema and is independent of graphs, items and splits.
"""

from __future__ import annotations

import collections
import dataclasses
import json
import unicodedata
from collections.abc import Iterable, Iterator
from typing import Any

from conkd_jax.data.mentions import mention_id
from conkd_jax.data.titles import readable_title
from conkd_jax.errors import UserError
from conkd_jax.io.files import numbered_lines, parse_json

# A dialogue with more messages is counted as over-long; ReDial's longest has far fewer.
LONG_DIALOGUE_MESSAGES = 200
# How many problems a report describes; all of them are counted.
_MAX_EXAMPLES = 20
# The problems for which a whole line is left out.
_UNUSABLE = ("malformed_lines", "empty_dialogues", "duplicate_ids")
_ID_FIELDS = ("initiatorWorkerId", "respondentWorkerId")

PROBLEM_KINDS = (
    "malformed_lines",
    "invalid_utf8_lines",
    "empty_dialogues",
    "duplicate_ids",
    "over_long_dialogues",
    "blank_messages",
    "unknown_senders",
    "control_characters",
    "lone_surrogates",
    "emoji",
    "other_non_ascii",
)


class RawDialogueError(UserError, ValueError):
    """A file of dialogues that can't be used as a whole."""


@dataclasses.dataclass(frozen=True)
class RawDialogue:
    """A dialogue as it is in its file, with cleaned text.

    Attributes:
      conversation_id: the official id.
      messages: (is by the recommender, text) in file order, blank messages included.
      titles: the titles of the dialogue's movies, by movie id, without URL escapes ("Him%3F").
    """

    conversation_id: str
    messages: tuple[tuple[bool, str], ...]
    titles: dict[int, str]


@dataclasses.dataclass
class Problems:
    """The problems of a raw file.

    Attributes:
      counts: the number of problems of each kind.
      examples: descriptions of the first few.
      first: the description of the first problem of each kind.
    """

    counts: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    examples: list[str] = dataclasses.field(default_factory=list)
    first: dict[str, str] = dataclasses.field(default_factory=dict)

    def add(self, kind: str, detail: str = "", number: int = 1) -> None:
        """Counts `number` problems of a kind; `detail` describes one and its place."""
        self.counts[kind] += number
        self.first.setdefault(kind, f"{kind}: {detail}")
        if detail and len(self.examples) < _MAX_EXAMPLES:
            self.examples.append(f"{kind}: {detail}")

    @property
    def unusable_lines(self) -> int:
        """The number of lines that are left out."""
        return sum(self.counts[kind] for kind in _UNUSABLE)

    @property
    def first_unusable_line(self) -> str:
        """Place and description of one of these lines; "" if there is none."""
        return next((self.first[kind] for kind in _UNUSABLE if kind in self.first), "")

    def as_json(self) -> dict[str, Any]:
        """Returns the counts of every known kind, zeros included, and the examples."""
        return {kind: self.counts[kind] for kind in PROBLEM_KINDS} | {
            "examples": list(self.examples)
        }


def read_jsonl(lines: Iterable[bytes], filename: str, problems: Problems) -> Iterator[RawDialogue]:
    """Reads the dialogues of one file.

    Args:
      lines: the lines of the file.
      filename: its name, for messages.
      problems: counts everything that deviates from the schema.

    Yields:
      Each usable dialogue once, in file order.
    """
    seen: set[str] = set()
    for number, line in numbered_lines(lines):
        where = f"{filename}, line {number}"
        try:
            text = line.decode("utf-8")
        except UnicodeDecodeError as error:
            problems.add("invalid_utf8_lines", f"{where}: {error.reason} at byte {error.start}")
            text = line.decode("utf-8", errors="replace")
        try:
            dialogue = _parse(parse_json(text), where, problems)
        except ValueError as error:
            problems.add("malformed_lines", f"{where}: {error}")
            continue
        if not any(text for _, text in dialogue.messages):
            problems.add("empty_dialogues", f"{where}: dialogue {dialogue.conversation_id}")
            continue
        if dialogue.conversation_id in seen:
            problems.add("duplicate_ids", f"{where}: {dialogue.conversation_id}, kept the first")
            continue
        seen.add(dialogue.conversation_id)
        if len(dialogue.messages) > LONG_DIALOGUE_MESSAGES:
            problems.add("over_long_dialogues", f"{where}: {len(dialogue.messages)} messages")
        yield dialogue


def expect_usable(num_dialogues: int, problems: Problems, filename: str) -> None:
    """Refuses a file of which no line, or less than every second one, is a dialogue.

    Args:
      num_dialogues: how many dialogues `read_jsonl` found.
      problems: what it counted.
      filename: the file's name, for the message.

    Raises:
      RawDialogueError: the file is empty, or is of another format.
    """
    if not num_dialogues and not problems.unusable_lines:
        raise RawDialogueError(
            f"{filename}: expected one dialogue on each line, got an empty file. Get the file from "
            "its official source again."
        )
    if num_dialogues < max(problems.unusable_lines, 1):
        raise RawDialogueError(
            f"{filename}: expected a dialogue, a JSON object of ReDial's schema, on each line; "
            f"usable lines: {num_dialogues:,}, others: {problems.unusable_lines:,}, for example "
            f"{problems.first_unusable_line}. Use the official file, or write one dialogue a line: "
            "`jq -c .` does so for objects over several lines, `jq -c '.[]'` for an array."
        )


def merge_turns(messages: Iterable[tuple[bool, str]]) -> list[tuple[bool, list[str]]]:
    """Merges consecutive messages of one speaker.

    Args:
      messages: (is by the recommender, text).

    Returns:
      (is by the recommender, its messages); the speakers alternate.
    """
    turns: list[tuple[bool, list[str]]] = []
    for is_recommender, text in messages:
        if turns and turns[-1][0] == is_recommender:
            turns[-1][1].append(text)
        else:
            turns.append((is_recommender, [text]))
    return turns


def clean_text(text: str, problems: Problems) -> str:
    """Cleans a message: control characters and runs of white space become one space.

    Lone surrogates, which UTF-8 can't encode, become U+FFFD. Emoji and all scripts are kept.

    Args:
      text: the raw message.
      problems: counts unusual characters.

    Returns:
      The text without white space at its ends.
    """
    if not text.isascii() or not text.isprintable():
        text = "".join(_clean_character(character, problems) for character in text)
    return " ".join(text.split())


def _clean_character(character: str, problems: Problems) -> str:
    if character.isascii():
        if character.isprintable() or character in "\t\n\r":
            return character
        problems.add("control_characters")
        return " "
    category = unicodedata.category(character)
    if category == "Cs":
        problems.add("lone_surrogates")
        return "\ufffd"
    if category == "Cc":
        problems.add("control_characters")
        return " "
    problems.add("emoji" if category == "So" else "other_non_ascii")
    return character


def _parse(value: Any, where: str, problems: Problems) -> RawDialogue:
    if not isinstance(value, dict):
        raise ValueError(f"expected a JSON object, got {type(value).__name__}")
    for key in ("conversationId", "messages", *_ID_FIELDS):
        if key not in value:
            raise ValueError(f"expected the field {key!r}, found none")
    conversation_id, messages = value["conversationId"], value["messages"]
    if isinstance(conversation_id, bool) or not isinstance(conversation_id, str | int):
        raise ValueError(f"expected a conversationId, got {type(conversation_id).__name__}")
    if not isinstance(messages, list):
        raise ValueError(f"expected a list of messages, got {type(messages).__name__}")
    workers = [_worker(value[key], key) for key in _ID_FIELDS]
    parsed = []
    for index, message in enumerate(messages):
        if not isinstance(message, dict) or not isinstance(message.get("text"), str):
            raise ValueError(f"message {index}: expected an object with a text")
        if "senderWorkerId" not in message:
            raise ValueError(f"message {index}: expected a senderWorkerId")
        sender = _worker(message["senderWorkerId"], f"message {index}: senderWorkerId")
        if sender not in workers:
            problems.add("unknown_senders", f"{where}: message {index}, read as the seeker's")
        text = clean_text(message["text"], problems)
        if not text:
            problems.add("blank_messages")
        parsed.append((sender == workers[1], text))
    return RawDialogue(
        clean_text(str(conversation_id), Problems()), tuple(parsed), _titles(value, problems)
    )


def _worker(value: Any, field: str) -> int:
    # "1" and 1, or 1.0 and null, would make every message the seeker's or the recommender's.
    if type(value) is not int:
        raise ValueError(f"{field}: expected an integer, got {json.dumps(value)[:40]}")
    return value


def _titles(value: dict[str, Any], problems: Problems) -> dict[int, str]:
    mentions = value.get("movieMentions")
    if not isinstance(mentions, dict):  # ReDial writes an empty list where there are none
        return {}
    titles: dict[int, str] = {}
    for key, title in mentions.items():
        movie = mention_id(key) if key.isdecimal() else None
        if movie is not None and isinstance(title, str):
            titles[movie] = readable_title(clean_text(title, Problems()))
    return titles
