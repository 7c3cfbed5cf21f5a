"""What both layouts of OpenDialKG are read into: dialogues, and the names that they contain.

Neither layout marks where in a text a name is; `data_prep.opendialkg.names` finds the places. This
module is independent of files.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Mapping

from conkd_jax.errors import UserError
from data_prep.raw_dialogues import Problems

REMEDY = "Get the file from its official source again, or correct the line"


class OpenDialKGError(UserError, ValueError):
    """A file of OpenDialKG doesn't hold what it should."""


@dataclasses.dataclass(frozen=True)
class AnnotatedDialogue:
    """A dialogue, and the entities that somebody marked in it.

    Attributes:
      conversation_id: the dialogue's number in its file.
      messages: (is by the recommender, text), in order; texts are clean.
      names: the names of entities in its texts, as often as they are marked.
      recommended: for each message, the names that it recommends, or nothing.
    """

    conversation_id: str
    messages: tuple[tuple[bool, str], ...]
    names: collections.Counter[str]
    recommended: tuple[tuple[str, ...], ...]


@dataclasses.dataclass(frozen=True)
class KnowledgeBase:
    """The entities and triples of OpenDialKG.

    Attributes:
      nodes: the graph node of every entity's name.
      items: the nodes of films and books, ascending.
      triples: (head, relation, tail), as often as they are in the file.
      relation_names: the name of every relation.
    """

    nodes: Mapping[str, int]
    items: tuple[int, ...]
    triples: list[tuple[int, int, int]]
    relation_names: Mapping[int, str]


@dataclasses.dataclass(frozen=True)
class Annotated:
    """Everything that is read of one layout.

    Attributes:
      layout: "processed" (iEvaLM's files) or "official".
      splits: the dialogues of "train", "valid" and, where there is one, "test"; "dev" is not yet
        taken out of "train".
      knowledge: entities and triples.
      problems: unusual characters, by file.
      left_out: how many dialogues of a split were left out, by what they also belong to.
      ends_with_recommendation: whether every dialogue was cut after a recommendation.
    """

    layout: str
    splits: Mapping[str, list[AnnotatedDialogue]]
    knowledge: KnowledgeBase
    problems: Mapping[str, Problems]
    left_out: Mapping[str, int]
    ends_with_recommendation: bool
