"""The files of a folder of your own data, version 1: their names and the fields of every line.

    data.json        {"version": 1}; with `dialogues.jsonl` also {"shares": {"valid": 0.1, …}}
    items.jsonl      an item a line: id, name, and optionally aliases and attributes
    dialogues.jsonl  a dialogue a line, divided by hashed id; or, divided by file, train.jsonl,
                     valid.jsonl and optionally dev.jsonl and test.jsonl
    graph.tsv        optional: head, relation, tail, separated by tabs
    nodes.jsonl      optional: readable names of graph nodes that are no items
    words.tsv        optional: relation, word, word: ConceptNet's edges, as KGSF publishes them
    stop_words.txt   optional: words without a meaning of their own; English ones by default

docs/howto/own_data.md explains them with examples. In texts, an item is marked by its id: "Have you
played @[catan]?". Every field is either as documented here or refused: a misspelt optional field
would silently be lost otherwise.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

VERSION = 1
ABOUT = "data.json"
ITEMS, NODES, GRAPH, WORDS = "items.jsonl", "nodes.jsonl", "graph.tsv", "words.tsv"
STOP_WORDS = "stop_words.txt"
DIALOGUES = "dialogues.jsonl"
SPLIT_FILES = {name: f"{name}.jsonl" for name in ("train", "dev", "valid", "test")}
FILES = (ABOUT, ITEMS, NODES, GRAPH, WORDS, STOP_WORDS, DIALOGUES, *SPLIT_FILES.values())
ROLES = ("seeker", "recommender")
LONGEST_NAME = 200  # characters of an id, a name or an alias

Name = Annotated[str, Meta(min_length=1, max_length=LONGEST_NAME)]
Share = Annotated[float, Meta(ge=0, le=0.5)]
Value = Name | int


class Shares(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The shares of the dialogues that are held out; the others are trained on."""

    dev: Share = 0.05
    valid: Share = 0.1
    test: Share = 0.1


class About(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`data.json`.

    Attributes:
      version: of this schema, 1.
      shares: of the splits of `dialogues.jsonl`.
    """

    version: int
    shares: Shares | None = None


class Item(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A line of `items.jsonl`.

    Attributes:
      id: the text by which dialogues and the graph refer to it.
      name: what people read in its place.
      aliases: further names that people use.
      attributes: its properties; each is a relation of the graph, and each of its values a node.
    """

    id: Name
    name: Name
    aliases: tuple[Name, ...] = ()
    attributes: dict[Name, Value | tuple[Value, ...]] = {}


class Node(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A line of `nodes.jsonl`: how people write a node of the graph that is no item."""

    id: Name
    name: Name
    aliases: tuple[Name, ...] = ()


class Message(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one side says at once."""

    role: Literal["seeker", "recommender"]  # `ROLES`
    text: str


class OwnDialogue(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A line of a file of dialogues: messages in order, items marked as "@[id]"."""

    id: Name
    messages: Annotated[tuple[Message, ...], Meta(min_length=1)]


EXAMPLES: dict[type, str] = {  # what a line looks like, for messages
    Item: '{"id": "catan", "name": "Catan", "attributes": {"designer": "K. Teuber"}}',
    Node: '{"id": "Q3", "name": "deck building", "aliases": ["deck builder"]}',
    OwnDialogue: '{"id": "d1", "messages": [{"role": "seeker", "text": "Like @[catan]?"}, '
    '{"role": "recommender", "text": "…"}]}',
}
