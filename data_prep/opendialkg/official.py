"""Reads OpenDialKG's official files: dialogues with paths in a graph, entities, and triples.

`opendialkg.csv` has a dialogue in each row: a JSON list of messages in the column Messages, with
the paths of the graph that the speakers chose between them. There are no official splits.
"""

from __future__ import annotations

import collections
import csv
from collections.abc import Iterator, Mapping
from typing import Any

from conkd_jax.io.files import by_hash, numbered_lines, parse_json, read_csv
from data_prep.opendialkg.annotated import (
    REMEDY,
    Annotated,
    AnnotatedDialogue,
    KnowledgeBase,
    OpenDialKGError,
)
from data_prep.opendialkg.files import OFFICIAL
from data_prep.raw_dialogues import Problems, clean_text
from data_prep.sources import RawFile

# Subjects of these relations are films and books.
ITEM_RELATIONS = ("release_year", "starred_actors", "directed_by", "written_by")
# Parts of 10,000 dialogues, by the hash of their number: 15 % each, as papers split at random.
_TEST, _VALID = 1500, 3000
_LONGEST_CELL = 10_000_000  # characters; a cell is a dialogue
_MESSAGES = "Messages"
_REVERSE = "~"

_Triple = tuple[str, str, str]


def read_official(files: Mapping[str, RawFile]) -> Annotated:
    """Reads the official files.

    Items are the films and books of the graph that a chosen path of any dialogue contains. The
    graph is what touches an item; a relation and its reverse ("~directed_by") are one.

    Args:
      files: the files by role, as `find_files` returns them.

    Raises:
      OpenDialKGError: a file doesn't hold what it should; names the line.
    """
    problems = Problems()
    dialogues = list(_dialogues(files["dialogues"], problems))
    named = {name for dialogue in dialogues for name in dialogue.names}
    splits: dict[str, list[AnnotatedDialogue]] = {"train": [], "valid": [], "test": []}
    for dialogue in dialogues:
        part = by_hash(dialogue.conversation_id, 10_000)
        splits["test" if part < _TEST else "valid" if part < _VALID else "train"].append(dialogue)
    return Annotated(
        layout=OFFICIAL,
        splits=splits,
        knowledge=_knowledge(files, named),
        problems={files["dialogues"].name: problems},
        left_out={},
        ends_with_recommendation=False,
    )


def _dialogues(file: RawFile, problems: Problems) -> Iterator[AnnotatedDialogue]:
    before = csv.field_size_limit(_LONGEST_CELL)  # that of the whole process
    try:
        rows = read_csv(file.read_bytes().decode("utf-8"), may_be_shorter=True)
        header = [name.strip() for name in next(rows, (1, []))[1]]
        if _MESSAGES not in header:
            found = ", ".join(header[:5]) or "none"
            raise csv.Error(f"line 1: expected a column {_MESSAGES}, found {found}")
        column = header.index(_MESSAGES)
        count = 0
        for line, row in rows:
            try:
                yield _dialogue(str(count), parse_json(row[column]), problems)
            except ValueError as error:
                raise csv.Error(f"line {line}: {error}") from error
            count += 1
        if not count:
            raise csv.Error("line 2: expected dialogues, found none")
    except (csv.Error, UnicodeDecodeError) as error:
        raise OpenDialKGError(f"{file}, {error}. {REMEDY}.") from error
    finally:
        csv.field_size_limit(before)


def _dialogue(conversation: str, messages: Any, problems: Problems) -> AnnotatedDialogue:
    """Returns the dialogue of a row; raises `ValueError` for any other value."""
    if not isinstance(messages, list):
        raise ValueError(f"expected a list of messages, got {type(messages).__name__}")
    texts: list[tuple[bool, str]] = []
    recommended: list[tuple[str, ...]] = []
    names: collections.Counter[str] = collections.Counter()
    chosen: list[str] = []
    for number, message in enumerate(messages, start=1):
        if not isinstance(message, dict) or message.get("sender") not in ("user", "assistant"):
            raise ValueError(f"message {number}: expected an object with sender user or assistant")
        if isinstance(message.get("message"), str):
            is_recommender = message["sender"] == "assistant"
            texts.append((is_recommender, clean_text(message["message"], problems)))
            recommended.append(tuple(chosen) if is_recommender else ())
            chosen = []
        elif "path" in _metadata(message):
            chosen = _names(message["metadata"]["path"], number)
            names.update(chosen)
    return AnnotatedDialogue(conversation, tuple(texts), names, tuple(recommended))


def _metadata(message: Mapping[str, Any]) -> Mapping[str, Any]:
    found = message.get("metadata")
    return found if isinstance(found, dict) else {}


def _names(path: Any, number: int) -> list[str]:
    """The names of a chosen path: [score, [[subject, relation, object], …], sentence]."""
    triples = path[1] if isinstance(path, list) and len(path) > 1 else None
    if not isinstance(triples, list) or not all(
        isinstance(triple, list) and len(triple) == 3 and all(isinstance(x, str) for x in triple)
        for triple in triples
    ):
        raise ValueError(
            f"message {number}: path: expected a score and a list of [subject, relation, object]"
        )
    return list(dict.fromkeys(name for head, _, tail in triples for name in (head, tail)))


def _knowledge(files: Mapping[str, RawFile], named: set[str]) -> KnowledgeBase:
    known = dict.fromkeys(name for _, name in _lines(files["entities"]))
    triples = list(dict.fromkeys(_triples(files["triples"], known)))
    things = {head for head, relation, _ in triples if relation in ITEM_RELATIONS}
    items = things & named
    if not items:
        raise OpenDialKGError(
            f"{files['triples']}: expected films or books, subjects of {', '.join(ITEM_RELATIONS)},"
            f" that a path in {files['dialogues'].name} contains; found none. The files may not "
            "belong together: get them from their official source again."
        )
    triples = [triple for triple in triples if triple[0] in items or triple[2] in items]
    used = items.union(*({head, tail} for head, _, tail in triples), named & known.keys())
    nodes = {name: node for node, name in enumerate(name for name in known if name in used)}
    relations = {name: number for number, name in enumerate(sorted({t[1] for t in triples}))}
    return KnowledgeBase(
        nodes=nodes,
        items=tuple(sorted(nodes[name] for name in items)),
        triples=[(nodes[head], relations[name], nodes[tail]) for head, name, tail in triples],
        relation_names={number: name for name, number in relations.items()},
    )


def _triples(file: RawFile, known: Mapping[str, Any]) -> Iterator[_Triple]:
    """The triples of the file, a reverse relation turned around."""
    for number, line in _lines(file):
        parts = line.split("\t")
        unknown = [part for part in parts[::2] if part not in known]
        if len(parts) != 3 or unknown:
            got = f"the unknown entity {unknown[0]!r}" if unknown else f"{len(parts)} column(s)"
            raise OpenDialKGError(
                f"{file}, line {number}: expected two entities of opendialkg_entities.txt and "
                f"their relation between them, separated by tabs; got {got}. {REMEDY}."
            )
        head, relation, tail = parts
        if relation.startswith(_REVERSE):
            head, relation, tail = tail, relation.removeprefix(_REVERSE), head
        yield head, relation, tail


def _lines(file: RawFile) -> Iterator[tuple[int, str]]:
    for number, content in numbered_lines(file.lines()):
        try:
            yield number, content.decode("utf-8").strip("\r\n")
        except UnicodeDecodeError as error:
            raise OpenDialKGError(
                f"{file}, line {number}: expected UTF-8 text: {error.reason}. {REMEDY}."
            ) from error
