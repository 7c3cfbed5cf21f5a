"""Builds the two graphs: typed edges between entities, and words related by common sense.

Reads KGSF's files and ConceptNet; must not know dialogues.
"""

import collections
import csv
import dataclasses
import gzip
import io
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import numpy as np
from etils import epath
from jaxtyping import Int32

from conkd_jax.data.corpus import ConceptGraph, KnowledgeGraph
from conkd_jax.errors import UserError
from data_prep import pickles

# KBRD's and KGSF's code give every node a self loop of this relation, and skip the few DBpedia
# triples that have the same number.
SELF_LOOP = 185
# The same code hard-codes 64,368 nodes where the dictionary has 64,362 entries; the six spare
# nodes carry self loops, and the published edge counts include them.
_SPARE_NODES = 6
_MIN_COUNT = 1000
# How often the code counts every edge before it compares with 1,000: KGSF walks its loop twice.
_COUNTED = {"kgsf": 2, "kbrd": 1}
GRAPH_RULES = tuple(_COUNTED)
# The first columns of ReDial's movie list; the number of mentions, after them, is not read.
_MOVIE_COLUMNS = ["movieId", "movieName"]

_Triple = tuple[int, int, int]


class GraphError(UserError, ValueError):
    """A graph file does not hold what its name says."""


@dataclasses.dataclass(frozen=True)
class Entities:
    """The nodes of the knowledge graph.

    Attributes:
      num_entities: number of nodes, spare ones included.
      ids: node of every URI.
      movie_nodes: node of every movie id.
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

    A movie without a URI is a node of its own (a bare movie id is the key); one that the
    dictionaries don't have at all gets a new node.

    Args:
      entity_ids: `entity2entityId.pkl`, URI or bare movie id → node.
      movie_entities: `id2entity.pkl`, movie id → URI or None.
      movie_ids: the movie list.

    Returns:
      The nodes.

    Raises:
      GraphError: a file is no such dictionary.
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
      GraphError: the file is no such dictionary.
    """
    graph = pickles.load_plain(path)
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


def knowledge_graph(
    triples: Iterable[_Triple],
    num_entities: int,
    rule: str,
    relation_names: Mapping[int, str] | None = None,
) -> KnowledgeGraph:
    """Applies KBRD's or KGSF's rule to DBpedia triples.

    Every triple between two different nodes gives an edge and its reverse, of the same relation;
    every node gets a self loop. Relations that are counted 1,000 times or less are dropped. KGSF's
    code counts each edge twice, so there a relation needs 501 edges only.

    Args:
      triples: (head, relation, tail).
      num_entities: number of nodes.
      rule: "kgsf" or "kbrd".
      relation_names: names of relations, where known.

    Returns:
      The graph; relations renumbered from 0 in ascending order of their old number.

    Raises:
      ValueError: an unknown rule, or a node beyond `num_entities`.
    """
    if rule not in _COUNTED:
        raise ValueError(f"expected graph_rule to be one of {', '.join(_COUNTED)}; got {rule!r}")
    table = np.array([t for t in triples if t[0] != t[2] and t[1] != SELF_LOOP], np.int64).reshape(
        -1, 3
    )
    if table.size and (table[:, [0, 2]].max() >= num_entities or table.min() < 0):
        raise ValueError(
            f"the triples name node {table[:, [0, 2]].max()}, beyond the {num_entities} nodes of "
            "the entity dictionary: the two files do not belong together"
        )
    nodes = np.arange(num_entities)
    loops = np.stack([nodes, np.full_like(nodes, SELF_LOOP), nodes], axis=1)
    edges = np.concatenate([table, table[:, [2, 1, 0]], loops])
    relations, counts = np.unique(edges[:, 1], return_counts=True)
    kept = relations[counts * _COUNTED[rule] > _MIN_COUNT]
    return _graph(edges, kept, num_entities, rule, relation_names)


def whole_graph(
    triples: Iterable[_Triple], num_entities: int, relation_names: Mapping[int, str]
) -> KnowledgeGraph:
    """Builds a graph that keeps every relation: for corpora too small for the published rules.

    Args:
      triples: (head, relation, tail), relations below `SELF_LOOP`.
      num_entities: number of nodes.
      relation_names: name of every relation.

    Returns:
      The graph, with reverse edges and self loops; its rule is "all".
    """
    table = np.array(list(triples), np.int64).reshape(-1, 3)
    nodes = np.arange(num_entities)
    loops = np.stack([nodes, np.full_like(nodes, SELF_LOOP), nodes], axis=1)
    edges = np.concatenate([table, table[:, [2, 1, 0]], loops])
    return _graph(edges, np.unique(edges[:, 1]), num_entities, "all", relation_names)


def read_concept_edges(lines: Iterable[bytes]) -> list[tuple[str, str]]:
    """Reads ConceptNet edges as KGSF cuts them: relation, word, word, by tabs.

    Args:
      lines: the file's lines.

    Returns:
      (word, word), lower-cased, in file order.

    Raises:
      GraphError: a line has fewer than three columns.
    """
    pairs = []
    for number, line in enumerate(lines, start=1):
        columns = line.decode("utf-8", errors="replace").rstrip("\r\n").split("\t")
        if columns == [""]:
            continue
        if len(columns) < 3:
            raise GraphError(
                f"ConceptNet edges, line {number}: expected relation, word and word by tabs; "
                f"got {len(columns)} column(s)."
            )
        pairs.append((columns[1].casefold(), columns[2].casefold()))
    return pairs


def read_concept_dump(path: epath.PathLike, vocabulary: Collection[str]) -> list[tuple[str, str]]:
    """Reads the official ConceptNet dump: English edges with both ends in the vocabulary.

    Args:
      path: `conceptnet-assertions-….csv.gz`.
      vocabulary: lower-cased words.

    Returns:
      (word, word), in file order.

    Raises:
      GraphError: the file is truncated or no gzip file.
    """
    words = frozenset(vocabulary)
    pairs = []
    try:
        with epath.Path(path).open("rb") as file, gzip.open(file) as lines:
            for line in lines:
                if line.count(b"/c/en/") < 2:
                    continue
                columns = line.split(b"\t", 4)
                if len(columns) < 4:
                    continue
                ends = _english(columns[2]), _english(columns[3])
                if ends[0] in words and ends[1] in words:
                    pairs.append(ends)
    except (EOFError, OSError) as error:
        raise GraphError(
            f"{path} is truncated or no gzip file ({error}). Get ConceptNet's dump again."
        ) from error
    return pairs


def concept_graph(pairs: Iterable[tuple[str, str]], stop_words: Collection[str]) -> ConceptGraph:
    """Builds the concept graph from pairs of words.

    The words are numbered in alphabetical order; a pair with a stop word, or of one word with
    itself, gives no edge.

    Args:
      pairs: related words.
      stop_words: words that carry no meaning of their own.

    Returns:
      The graph.
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
      content: the CSV file, columns movieId, movieName (with year) and nbMentions.
      filename: its name, for messages.

    Returns:
      Title by movie id.

    Raises:
      GraphError: the header names other columns, or a row has no movie id and name.
    """
    rows = csv.reader(io.StringIO(content.decode("utf-8-sig", errors="replace"), newline=""))
    header = [name.strip() for name in next(rows, [])]
    if header[:2] != _MOVIE_COLUMNS:
        raise GraphError(
            f"{filename}:1: expected the columns {', '.join(_MOVIE_COLUMNS)}, …; found "
            f"{', '.join(header[:5]) or 'none'}. Use movies_with_mentions.csv of the official "
            "ReDial archive."
        )
    movies: dict[int, str] = {}
    for number, row in enumerate(rows, start=2):
        if not row:
            continue
        if len(row) < 2 or not row[0].strip().isdecimal():
            raise GraphError(
                f"{filename}:{number}: expected movieId, movieName, nbMentions; got {row!r}."
            )
        movies[int(row[0])] = " ".join(row[1].split())
    return movies


def _english(uri: bytes) -> str:
    """ "/c/en/dog/n/wn" → "dog"; "" for another language."""
    parts = uri.decode("utf-8", errors="replace").split("/")
    return parts[3].casefold() if len(parts) > 3 and parts[1:3] == ["c", "en"] else ""


def _graph(
    edges: np.ndarray,
    kept: np.ndarray,
    num_entities: int,
    rule: str,
    relation_names: Mapping[int, str] | None,
) -> KnowledgeGraph:
    edges = edges[np.isin(edges[:, 1], kept)]
    edges[:, 1] = np.searchsorted(kept, edges[:, 1])
    names = collections.defaultdict(str, relation_names or {})
    names[SELF_LOOP] = names[SELF_LOOP] or "self_loop"
    unique: Int32[np.ndarray, "E 3"] = np.unique(edges, axis=0).astype(np.int32)
    return KnowledgeGraph(
        num_entities=num_entities,
        num_relations=len(kept),
        relation_names=[names[int(r)] or f"relation_{r}" for r in kept],
        edges=unique,
        rule=rule,
    )


def _mapping(path: epath.PathLike, key: Any, value: Any) -> dict[Any, Any]:
    loaded = pickles.load_plain(path)
    if not isinstance(loaded, dict):
        raise GraphError(f"{path}: expected a dictionary, got {type(loaded).__name__}.")
    for k, v in loaded.items():
        if not isinstance(k, key) or not isinstance(v, value):
            raise GraphError(f"{path}: expected {key} → {value}, got {k!r} → {v!r}.")
    return loaded
