"""Builds the knowledge graph of entities and the commonsense graph of words.

Reads KGSF's files, ReDial's movie list and ConceptNet; independent of dialogues.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import numpy as np
from etils import epath
from jaxtyping import Int32, Int64

from conkd_jax.data.corpus import ConceptGraph, KnowledgeGraph
from conkd_jax.data.titles import titles_from_csv
from conkd_jax.errors import UserError
from conkd_jax.io.files import numbered_lines
from data_prep.archives import gzip_lines
from data_prep.pickles import load_plain

# The code of KBRD and KGSF gives every node a self loop of this relation. A few DBpedia triples
# have a relation of the same number; KGSF's code skips them, KBRD's does not.
SELF_LOOP = 185
# The same code hard-codes 64,368 nodes, but the dictionary has 64,362 entries. The six spare nodes
# have self loops, which the published edge counts include.
_SPARE_NODES = 6
_MIN_COUNT = 1000
# How often the code counts each edge before it compares with 1,000: KGSF runs its loop twice.
_COUNTED = {"kgsf": 2, "kbrd": 1}
GRAPH_RULES = (*_COUNTED, "all")
# The first columns of ReDial's movie list; the number of mentions after them is not used.
_MOVIE_COLUMNS = ("movieId", "movieName")

_Triple = tuple[int, int, int]


class GraphError(UserError, ValueError):
    """A graph can't be built: a file doesn't hold what it should, or the rule is unknown."""


@dataclasses.dataclass(frozen=True)
class Entities:
    """The nodes of the knowledge graph.

    Attributes:
      num_entities: the number of nodes, spare ones included.
      ids: the node of every URI.
      movie_nodes: the node of every movie id.
      linked: the movie ids that have a URI.
    """

    num_entities: int
    ids: dict[str, int]
    movie_nodes: dict[int, int]
    linked: frozenset[int]


def read_entities(
    entity_ids: epath.PathLike, movie_entities: epath.PathLike, movie_ids: Collection[int]
) -> Entities:
    """Reads KGSF's dictionaries of nodes.

    A movie without a URI has a node of its own, whose key is the bare movie id. A movie that is in
    neither dictionary gets a new node.

    Args:
      entity_ids: `entity2entityId.pkl`, URI or bare movie id → node.
      movie_entities: `id2entity.pkl`, movie id → URI or None.
      movie_ids: the ids of the movie list.

    Returns:
      The nodes.

    Raises:
      GraphError: a file is not such a dictionary.
    """
    nodes = _mapping(entity_ids, (str, int), int)
    uris = _mapping(movie_entities, int, (str, type(None)))
    num_entities = max(nodes.values(), default=-1) + 1 + _SPARE_NODES
    movie_nodes: dict[int, int] = {}
    linked = set()
    for movie in sorted(movie_ids):
        uri = uris.get(movie)
        node = nodes.get(uri) if uri is not None else None
        if node is not None:
            linked.add(movie)
        else:
            node = nodes.get(movie)
        if node is None:
            node, num_entities = num_entities, num_entities + 1
        movie_nodes[movie] = node
    ids = {uri: node for uri, node in nodes.items() if isinstance(uri, str)}
    return Entities(num_entities, ids, movie_nodes, frozenset(linked))


def read_movie_ids(movie_entities: epath.PathLike) -> list[int]:
    """Returns the movie ids of `id2entity.pkl`, for a folder without a movie list."""
    return sorted(_mapping(movie_entities, int, (str, type(None))))


def read_triples(path: epath.PathLike) -> list[_Triple]:
    """Reads `subkg.pkl`: {head: [(relation, tail)]}.

    Args:
      path: the pickle.

    Returns:
      (head, relation, tail), in file order.

    Raises:
      GraphError: the file is not such a dictionary.
    """
    graph = load_plain(path)
    if not isinstance(graph, dict):
        raise GraphError(f"{path}: expected a dictionary, got {type(graph).__name__}.")
    triples = []
    for head, tails in graph.items():
        pairs = tails if isinstance(tails, list) else [tails]
        for pair in pairs:
            triple = (head, *pair) if isinstance(pair, tuple | list) else (head, pair)
            if len(triple) != 3 or not all(type(number) is int for number in triple):
                raise GraphError(
                    f"{path}: expected {{head: [(relation, tail)]}} with node numbers; "
                    f"got {pair!r} under {head!r}."
                )
            triples.append(triple)
    return triples


def check_rule(rule: str) -> None:
    """Refuses a graph rule that is not one of `GRAPH_RULES`, before any file is read.

    Raises:
      GraphError: it is unknown.
    """
    if rule not in GRAPH_RULES:
        raise GraphError(f"expected graph_rule to be one of {', '.join(GRAPH_RULES)}; got {rule!r}")


def knowledge_graph(
    triples: Iterable[_Triple],
    num_entities: int,
    rule: str,
    relation_names: Mapping[int, str] | None = None,
) -> KnowledgeGraph:
    """Selects the relations of a graph by KGSF's or KBRD's rule, or keeps all.

    Every triple between two different nodes gives an edge and its reverse, both of the same
    relation; every node gets a self loop. The published rules were made for one graph of 165,696
    triples: relations that are counted 1,000 times or fewer are dropped, self loops included.
    KGSF's code counts each edge twice, so a relation needs only 501 edges there. A smaller graph
    needs the rule "all", which drops no relation.

    Args:
      triples: (head, relation, tail).
      num_entities: the number of nodes.
      rule: "kgsf", "kbrd" or "all".
      relation_names: the names of relations, as far as they are known.

    Returns:
      The graph; relations are renumbered from 0 in ascending order of their old numbers. Self loops
      have the number `SELF_LOOP` by the published rules, and one of their own, the last, by "all".
      The triples with the relation `SELF_LOOP` are dropped by "kgsf" alone.

    Raises:
      GraphError: the rule is unknown, or a node or relation has a number that can't be.
    """
    check_rule(rule)
    table = np.array([t for t in triples if t[0] != t[2]], np.int64).reshape(-1, 3)
    names = collections.defaultdict(str, relation_names or {})
    if rule == "all":
        self_loop = int(table[:, 1].max(initial=-1)) + 1
        names[self_loop] = "self_loop"
    else:
        self_loop = SELF_LOOP
        if rule == "kgsf":
            table = table[table[:, 1] != SELF_LOOP]
        names[self_loop] = names[self_loop] or "self_loop"
    _check_numbers(table, num_entities)
    edges = _with_reverse_and_loops(table, num_entities, self_loop)
    kept, counts = np.unique(edges[:, 1], return_counts=True)
    if rule != "all":
        kept = kept[counts * _COUNTED[rule] > _MIN_COUNT]
    edges = edges[np.isin(edges[:, 1], kept)]
    edges[:, 1] = np.searchsorted(kept, edges[:, 1])
    unique: Int32[np.ndarray, "E 3"] = np.unique(edges, axis=0).astype(np.int32)
    return KnowledgeGraph(
        num_entities=num_entities,
        num_relations=len(kept),
        relation_names=[names[int(r)] or f"relation_{r}" for r in kept],
        edges=unique,
        rule=rule,
    )


def graph_warnings(graph: KnowledgeGraph, triples: Iterable[_Triple]) -> list[str]:
    """Says in a sentence what is wrong if a graph has lost most of its triples.

    Args:
      graph: the graph.
      triples: (head, relation, tail), from which it was selected.
    """
    joining = {triple for triple in triples if triple[0] != triple[2]}
    if not joining:
        return [
            "the knowledge graph has self loops only: no triple joins two nodes. Check subkg.pkl; "
            "the recommender learns nothing from such a graph."
        ]
    num_edges = int(np.sum(graph.edges[:, 0] != graph.edges[:, 2]))
    if graph.rule == "all" or num_edges >= len(joining):  # a triple is an edge and its reverse
        return []
    relations = {relation for _, relation, _ in joining}
    return [
        f"graph_rule={graph.rule} keeps {num_edges // 2:,} of {len(joining):,} triples and "
        f"{graph.num_relations:,} of {len(relations) + 1:,} relations (with self loops): it drops "
        f"relations with {_MIN_COUNT // _COUNTED[graph.rule]:,} edges or fewer. To keep every "
        "relation of a small graph, use --graph_rule=all (--config.corpus.graph_rule=all)."
    ]


def read_concept_edges(lines: Iterable[bytes], filename: str) -> list[tuple[str, str]]:
    """Reads ConceptNet edges: relation, word and word, separated by tabs.

    A word may be plain ("dog"), followed by its part of speech ("dog/n", as in KGSF's
    conceptnet_edges2nd.txt), or a URI ("/c/en/dog/n", as ConceptNet writes it). Edges of words in
    other languages are skipped, and further columns are ignored.

    Args:
      lines: the lines of the file.
      filename: its name, for messages.

    Returns:
      (word, word), lower-cased, in file order.

    Raises:
      GraphError: a line has fewer than three columns.
    """
    pairs = []
    for number, line in numbered_lines(lines):
        columns = line.decode("utf-8", errors="replace").rstrip("\r\n").split("\t")
        if len(columns) < 3:
            raise GraphError(
                f"{filename}, line {number}: expected relation, word and word, separated by tabs; "
                f"got {len(columns)} column(s). Use a ConceptNet file as KGSF publishes it, or "
                "ConceptNet's own dump (conceptnet-assertions-5.7.0.csv.gz)."
            )
        # In a line of the dump, the URI of the edge and that of the relation come first.
        start = 2 if columns[1].startswith("/r/") else 1
        ends = [_word(column) for column in columns[start : start + 2]]
        if all(ends):
            pairs.append((ends[0], ends[1]))
    return pairs


def read_concept_dump(path: epath.PathLike, vocabulary: Collection[str]) -> list[tuple[str, str]]:
    """Reads the English edges of the official ConceptNet dump with both ends in a vocabulary.

    Args:
      path: `conceptnet-assertions-….csv.gz`.
      vocabulary: lower-cased words.

    Returns:
      (word, word), in file order.

    Raises:
      ArchiveError: the file is truncated or not a gzip file.
    """
    words = frozenset(vocabulary)
    pairs = []
    for line in gzip_lines(path):
        if line.count(b"/c/en/") < 2:  # cheap, and true of nearly all 34 million lines
            continue
        columns = line.split(b"\t", 4)
        if len(columns) < 4:
            continue
        ends = _english(columns[2]), _english(columns[3])
        if ends[0] in words and ends[1] in words:
            pairs.append(ends)
    return pairs


def concept_graph(pairs: Iterable[tuple[str, str]], stop_words: Collection[str]) -> ConceptGraph:
    """Builds the concept graph from pairs of related words.

    The words are numbered in alphabetical order. A pair with a stop word, or of a word with itself,
    gives no edge.

    Args:
      pairs: related words.
      stop_words: words that carry no meaning of their own.
    """
    pairs = list(pairs)
    words = sorted({word for pair in pairs for word in pair})
    index = {word: i for i, word in enumerate(words)}
    stop = frozenset(stop_words)
    edges = {
        (min(index[a], index[b]), max(index[a], index[b]))
        for a, b in pairs
        if a != b and a not in stop and b not in stop
    }
    return ConceptGraph(
        num_concepts=len(words),
        edges=np.array(sorted(edges), np.int32).reshape(-1, 2),
        words=words,
        is_stop_word=np.array([word in stop for word in words], np.bool_),
    )


def read_movies(content: bytes, filename: str) -> dict[int, str]:
    """Reads the official movie list.

    Args:
      content: the CSV file, with the columns movieId, movieName (with year) and nbMentions.
      filename: its name, for messages.

    Returns:
      The title of every movie id, without URL escapes: the official list has "Why Him%3F (2016)".

    Raises:
      GraphError: the header has other columns, a row can't be read, or an id is listed twice.
    """
    remedy = "Use movies_with_mentions.csv of the official ReDial archive, or correct the line"
    return titles_from_csv(content, filename, GraphError, remedy, columns=_MOVIE_COLUMNS)


def _english(uri: bytes) -> str:
    """Returns the word of an English URI ("/c/en/dog/n/wn" → "dog"), "" for other languages."""
    parts = uri.decode("utf-8", errors="replace").split("/")
    return parts[3].casefold() if len(parts) > 3 and parts[1:3] == ["c", "en"] else ""


def _word(column: str) -> str:
    """Returns the word of a plain word, a word/pos or a URI; "" for URIs of other languages."""
    if column.startswith(("/", "http:", "https:")):
        return _english(column.encode())
    return column.split("/")[0].strip().casefold()


def _check_numbers(triples: Int64[np.ndarray, "T 3"], num_entities: int) -> None:
    nodes = triples[:, [0, 2]]
    if nodes.max(initial=-1) >= num_entities:
        raise GraphError(
            f"the triples name node {nodes.max()}, beyond the {num_entities} nodes of the entity "
            "dictionary: the two files don't belong together, fetch KGSF's files again"
        )
    if triples.min(initial=0) < 0:
        raise GraphError(
            f"expected triples of numbers from 0, got {triples.min()}: fetch KGSF's files again"
        )


def _with_reverse_and_loops(
    triples: Int64[np.ndarray, "T 3"], num_entities: int, self_loop: int
) -> Int64[np.ndarray, "E 3"]:
    nodes = np.arange(num_entities)
    loops = np.stack([nodes, np.full_like(nodes, self_loop), nodes], axis=1)
    return np.concatenate([triples, triples[:, [2, 1, 0]], loops])


def _mapping(path: epath.PathLike, key: Any, value: Any) -> dict[Any, Any]:
    loaded = load_plain(path)
    if not isinstance(loaded, dict):
        raise GraphError(f"{path}: expected a dictionary, got {type(loaded).__name__}.")
    for k, v in loaded.items():
        if not isinstance(k, key) or not isinstance(v, value):
            raise GraphError(f"{path}: expected {key} → {value}, got {k!r} → {v!r}.")
        if isinstance(v, int) and v < 0:
            raise GraphError(f"{path}: expected numbers of nodes from 0, got {k!r} → {v!r}.")
    if not loaded:
        raise GraphError(f"{path}: expected a dictionary of nodes, got an empty one.")
    return loaded
