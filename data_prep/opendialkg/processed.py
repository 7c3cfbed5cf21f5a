"""Reads OpenDialKG as iEvaLM-CRS prepared it: one recommending response a line.

A line holds the response and its whole context. The lines of one dialogue are therefore one
another's beginnings, and the longest one is the dialogue, as far as its last recommendation.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from conkd_jax.io.files import numbered_lines, parse_json
from data_prep.opendialkg.annotated import (
    REMEDY,
    Annotated,
    AnnotatedDialogue,
    KnowledgeBase,
    OpenDialKGError,
)
from data_prep.opendialkg.files import PROCESSED
from data_prep.raw_dialogues import Problems, clean_text
from data_prep.sources import RawFile

# The files number the relations without naming them. These are the names of the official release,
# by the attributes that `id2info.json` gives to the same films.
RELATIONS = {
    0: "release_year",
    1: "starred_actors",
    2: "directed_by",
    3: "has_genre",
    4: "in_language",
    5: "written_by",
}
_FIELDS: Mapping[str, type] = {
    "dialog_id": int,
    "turn_id": int,
    "context": list,
    "entity": list,
    "rec": list,
    "resp": str,
}


@dataclasses.dataclass(frozen=True)
class _Line:
    """A line of a file of dialogues; `where` is its place."""

    where: str
    texts: tuple[str, ...]
    names: tuple[str, ...]
    recommended: tuple[str, ...]


def read_processed(files: Mapping[str, RawFile]) -> Annotated:
    """Reads the files of iEvaLM-CRS.

    The published split is one of responses: about half of the dialogues of valid are also in train,
    many of them with later turns, which contain the responses to be predicted. Here every dialogue
    belongs to one split. Dialogues of valid leave train. Dialogues of test that are in train or
    valid leave test, since training must not depend on whether the test file is there.

    Args:
      files: the files by role, as `find_files` returns them.

    Raises:
      OpenDialKGError: a file doesn't hold what it should; names the line.
    """
    problems: dict[str, Problems] = {}
    splits: dict[str, dict[str, AnnotatedDialogue]] = {}
    for split in ("train", "valid", "test"):
        if split in files:
            problems[files[split].name] = Problems()
            splits[split] = _dialogues(files[split], problems[files[split].name])
    train, valid, test = (splits.get(name, {}) for name in ("train", "valid", "test"))
    left_out = {
        "train_in_valid": len(train.keys() & valid.keys()),
        "test_in_train_or_valid": len(test.keys() & (train.keys() | valid.keys())),
    }
    kept = {
        "train": [d for i, d in train.items() if i not in valid],
        "valid": list(valid.values()),
        "test": [d for i, d in test.items() if i not in train and i not in valid],
    }
    return Annotated(
        layout=PROCESSED,
        splits={name: found for name, found in kept.items() if name in splits},
        knowledge=_knowledge(files),
        problems=problems,
        left_out=left_out,
        ends_with_recommendation=True,
    )


def _dialogues(file: RawFile, problems: Problems) -> dict[str, AnnotatedDialogue]:
    """The dialogues of a file, by number, in the order of their first lines."""
    lines: dict[str, list[_Line]] = {}
    for conversation, line in _lines(file, problems):
        lines.setdefault(conversation, []).append(line)
    if not lines:
        raise OpenDialKGError(f"{file}: expected a response on each line, got an empty file")
    return {conversation: _dialogue(conversation, found) for conversation, found in lines.items()}


def _lines(file: RawFile, problems: Problems) -> Iterator[tuple[str, _Line]]:
    for number, content in numbered_lines(file.lines()):
        where = f"{file}, line {number}"
        try:
            value = parse_json(content.decode("utf-8"))
            yield str(_checked(value)["dialog_id"]), _line(value, where, problems)
        except ValueError as error:
            raise OpenDialKGError(f"{where}: {error}. {REMEDY}.") from error


def _checked(value: Any) -> dict[str, Any]:
    """Returns a line that has all fields; raises `ValueError` for any other value."""
    if not isinstance(value, dict):
        raise ValueError(f"expected a JSON object, got {type(value).__name__}")
    for field, kind in _FIELDS.items():
        if type(value.get(field)) is not kind:
            got = type(value[field]).__name__ if field in value else "none"
            raise ValueError(f"{field}: expected {kind.__name__}, got {got}")
    for field in ("context", "entity", "rec"):
        if not all(isinstance(text, str) for text in value[field]):
            raise ValueError(f"{field}: expected a list of texts")
    if not any(name.strip() for name in value["rec"]):
        raise ValueError("rec: expected at least one recommended name, got none")
    if not value["context"] or len(value["context"]) != value["turn_id"]:
        raise ValueError(
            f"turn_id: expected the number of texts in the context, which is at least 1; got "
            f"{value['turn_id']} and {len(value['context'])} texts"
        )
    return value


def _line(value: Mapping[str, Any], where: str, problems: Problems) -> _Line:
    texts = tuple(clean_text(text, problems) for text in (*value["context"], value["resp"]))
    names, recommended = (tuple(filter(str.strip, value[field])) for field in ("entity", "rec"))
    return _Line(where, texts, names, recommended)


def _dialogue(conversation: str, lines: list[_Line]) -> AnnotatedDialogue:
    """Joins the lines of one dialogue: the longest one has the texts of all others.

    Speakers alternate, and the last text of every line is the recommender's.
    """
    longest = max(lines, key=lambda line: len(line.texts))
    recommended: list[tuple[str, ...]] = [()] * len(longest.texts)
    names: collections.Counter[str] = collections.Counter(longest.names)
    for line in lines:
        turn = len(line.texts) - 1
        if line.texts != longest.texts[: turn + 1] or (len(longest.texts) - 1 - turn) % 2:
            raise OpenDialKGError(
                f"{line.where}: expected the beginning of the same dialogue as in {longest.where}, "
                f"dialog_id {conversation}, with the same speakers; got other texts. {REMEDY}."
            )
        if recommended[turn]:
            raise OpenDialKGError(
                f"{line.where}: expected every turn of a dialogue once, got turn {turn} of "
                f"dialog_id {conversation} twice. {REMEDY}."
            )
        recommended[turn] = line.recommended
        names.update(name for name in line.recommended if line is longest or name not in names)
    last = len(longest.texts) - 1
    messages = tuple(((last - i) % 2 == 0, text) for i, text in enumerate(longest.texts))
    return AnnotatedDialogue(conversation, messages, names, tuple(recommended))


def _knowledge(files: Mapping[str, RawFile]) -> KnowledgeBase:
    nodes = _json(files["entities"], dict)
    numbers = list(nodes.values())
    if sorted(n for n in numbers if type(n) is int) != list(range(len(nodes))):
        raise OpenDialKGError(
            f"{files['entities']}: expected names with the numbers from 0 to {len(nodes) - 1}, "
            f"each once. {REMEDY}."
        )
    items = _json(files["items"], list)
    foreign = [item for item in items if type(item) is not int or not 0 <= item < len(nodes)]
    if foreign or not items or len(set(items)) < len(items):
        got = f"got {foreign[0]!r}" if foreign else "got none, or one twice"
        raise OpenDialKGError(
            f"{files['items']}: expected different numbers of entities from 0 to "
            f"{len(nodes) - 1}, {got}. {REMEDY}."
        )
    return KnowledgeBase(
        nodes=nodes,
        items=tuple(sorted(items)),
        triples=list(_triples(files["graph"], len(nodes))),
        relation_names=RELATIONS,
    )


def _triples(file: RawFile, num_entities: int) -> Iterator[tuple[int, int, int]]:
    for head, pairs in _json(file, dict).items():
        for pair in pairs if isinstance(pairs, list) else [pairs]:
            is_pair = isinstance(pair, list) and len(pair) == 2
            triple = (int(head), *pair) if head.isdecimal() and is_pair else ()
            if (
                not all(type(number) is int for number in triple)
                or len(triple) != 3
                or not 0 <= triple[1]
                or not all(0 <= node < num_entities for node in (triple[0], triple[2]))
            ):
                raise OpenDialKGError(
                    f"{file}: expected {{head: [[relation, tail], …]}} with numbers of entities "
                    f"below {num_entities}; got {pair!r} under {head!r}. {REMEDY}."
                )
            yield triple


def _json(file: RawFile, kind: type) -> Any:
    try:
        value = parse_json(file.read_bytes())
    except ValueError as error:
        raise OpenDialKGError(f"{file}: {error}. {REMEDY}.") from error
    if not isinstance(value, kind):
        raise OpenDialKGError(
            f"{file}: expected a JSON {'object' if kind is dict else 'list'}, got "
            f"{type(value).__name__}. {REMEDY}."
        )
    return value
