"""Links the words of a message to the graphs: movies by "@" id, the rest by labels.

A label is the readable name of a graph node, taken from the node's own URI. Titles of candidate
movies are no labels: ReDial's speakers tag the movies they mean, and half of all titles are
everyday words ("It", "Saw", "Cars"). This module must not know files or splits.
"""

import collections
import dataclasses
import math
import re
import urllib.parse
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from conkd_jax.data.corpus import RECOMMENDER, SEEKER, Dialogue, Turn
from data_prep.raw_dialogues import MENTION, TOKEN, RawDialogue, mention_id, merge_turns

_RESOURCE = "<http://dbpedia.org/resource/"
_QUALIFIER = re.compile(r"^(.*?)_\(([^()]*)\)$")
# DBpedia's helper nodes ("Avatar_(2009_film)__1") name no thing of their own.
_HELPER_NODE = re.compile(r"__\d+$")
_NAMESAKE = re.compile(r"\b(album|song|single|band|channel|network|magazine|soundtrack)\b")

_Label = tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class LinkedTurn:
    """What the words of a turn name.

    Attributes:
      items: indices of known movies, in order, repeats kept.
      unknown_items: "@" ids that the movie list does not have.
      entities: graph nodes in order of appearance.
      concepts: concept ids in order of appearance.
    """

    items: tuple[int, ...]
    unknown_items: tuple[int, ...]
    entities: tuple[int, ...]
    concepts: tuple[int, ...]


def uri_labels(
    ids: Mapping[str, int], movie_nodes: Collection[int], degrees: Mapping[int, int]
) -> dict[_Label, int]:
    """Reads labels off the URIs of graph nodes.

    The last part of the URI, underscores as spaces and the qualifier in parentheses dropped, is
    cut into case-folded tokens. Where nodes share a label, one without a qualifier wins, then a
    genre, then the one with most edges. Some qualifiers rule a node out, since its name is an
    everyday phrase more often than itself: any but "genre" on a single word ("War_(band)"), and
    records, songs, bands and channels on longer ones ("Get_Ready_(New_Order_album)").

    Args:
      ids: node of every URI.
      movie_nodes: nodes of candidate movies, which get no label.
      degrees: number of edges of each node.

    Returns:
      Node of every label.
    """
    movies = frozenset(movie_nodes)
    best: dict[_Label, tuple[tuple[bool, bool, int, int], int]] = {}
    for uri, node in ids.items():
        if node in movies or not uri.startswith(_RESOURCE) or not uri.endswith(">"):
            continue
        name = urllib.parse.unquote(uri[len(_RESOURCE) : -1])
        if _HELPER_NODE.search(name):
            continue
        match = _QUALIFIER.match(name)
        stem, qualifier = match.groups() if match else (name, "")
        label = tuple(TOKEN.findall(stem.replace("_", " ").casefold()))
        is_genre = "genre" in qualifier
        words = _num_words(label)
        if words == 0 or (words == 1 and qualifier and not is_genre):
            continue
        if _NAMESAKE.search(qualifier.replace("_", " ")):
            continue
        rank = (not qualifier, is_genre, degrees.get(node, 0), -node)
        if label not in best or rank > best[label][0]:
            best[label] = (rank, node)
    return {label: node for label, (_, node) in best.items()}


def misleading_labels(
    labels: Collection[_Label],
    dialogues: Iterable[Sequence[str]],
    *,
    min_lift: float = 2.0,
    min_deviations: float = 10.0,
) -> set[_Label]:
    """Finds labels that are everyday words, from training text alone.

    Suspect is every label of one word, and a longer one that is written in lower case more often
    than not. A suspect stays only if it says something about movies. Of its n(n-1)/2 pairs of
    dialogues, O movies are shared where E = n(n-1)/2 · (mean shared by any two dialogues) were
    expected; it stays if O ≥ min_lift · E and O - E ≥ min_deviations · √E. The second bound is
    high because pairs of the same few dialogues are not independent. So "comedy", "romantic
    comedy" and "pixar" stay; "friends", "actor", "history", "dvd" and "soundtrack" go.

    Args:
      labels: the candidates.
      dialogues: messages of each training dialogue.
      min_lift: how much more often than by chance movies must be shared.
      min_deviations: by how many Poisson standard deviations it must be more.

    Returns:
      The labels to leave out.
    """
    usage = _label_usage(labels, dialogues)
    by_chance = _shared_pairs(usage.movies) / max(_num_pairs(len(usage.movies)), 1)
    misleading = set()
    for label in labels:
        suspect = _num_words(label) == 1 or usage.lower[label] * 2 > usage.written[label]
        if not suspect:
            continue
        uses = usage.used_in.get(label, [])
        shared = _shared_pairs([usage.movies[number] for number in uses])
        expected = by_chance * _num_pairs(len(uses))
        excess = shared - expected
        if expected == 0 or shared < min_lift * expected:
            misleading.add(label)
        elif excess < min_deviations * math.sqrt(expected):
            misleading.add(label)
    return misleading


@dataclasses.dataclass(frozen=True)
class _LabelUsage:
    """How training text uses labels, and the movies of each dialogue."""

    written: collections.Counter[_Label]
    lower: collections.Counter[_Label]
    used_in: dict[_Label, list[int]]
    movies: list[frozenset[str]]


def _label_usage(labels: Collection[_Label], dialogues: Iterable[Sequence[str]]) -> _LabelUsage:
    matcher = LabelMatcher(dict.fromkeys(labels, 0))
    usage = _LabelUsage(collections.Counter(), collections.Counter(), {}, [])
    for number, messages in enumerate(dialogues):
        mentioned = set()
        for message in messages:
            tokens = TOKEN.findall(message)
            mentioned.update(token for token in tokens if MENTION.fullmatch(token))
            for start, label in matcher.spans(tokens):
                usage.written[label] += 1
                usage.lower[label] += all(
                    token == token.casefold() for token in tokens[start : start + len(label)]
                )
                uses = usage.used_in.setdefault(label, [])
                if not uses or uses[-1] != number:
                    uses.append(number)
        usage.movies.append(frozenset(mentioned))
    return usage


def _num_words(label: _Label) -> int:
    return sum(token[0].isalnum() for token in label)


def _num_pairs(number: int) -> int:
    return number * (number - 1) // 2


def _shared_pairs(dialogues: Sequence[Collection[str]]) -> int:
    """Number of (pair of dialogues, movie in both)."""
    counts = collections.Counter(movie for movies in dialogues for movie in movies)
    return sum(_num_pairs(number) for number in counts.values())


class LabelMatcher:
    """Finds labels in a token list, longest first, from left to right.

    Args:
      labels: node of every label, case-folded.
    """

    def __init__(self, labels: Mapping[_Label, int]) -> None:
        self._labels = dict(labels)
        self._lengths: dict[str, list[int]] = {}
        for label in labels:
            lengths = self._lengths.setdefault(label[0], [])
            if len(label) not in lengths:
                lengths.append(len(label))
        for lengths in self._lengths.values():
            lengths.sort(reverse=True)

    def node(self, label: _Label) -> int:
        """Returns the node of a label."""
        return self._labels[label]

    def spans(self, tokens: Sequence[str]) -> Iterator[tuple[int, _Label]]:
        """Yields (start, label) of the labels found; they never overlap."""
        folded = [token.casefold() for token in tokens]
        start = 0
        while start < len(folded):
            for length in self._lengths.get(folded[start], ()):
                label = tuple(folded[start : start + length])
                if label in self._labels:
                    yield start, label
                    start += length
                    break
            else:
                start += 1


class Linker:
    """Turns messages into items, entities and concepts.

    Args:
      item_index: candidate index of every movie id.
      item_nodes: graph node of every candidate.
      labels: graph node of every label, misleading ones left out.
      concept_index: concept id of every word that counts, lower-cased, no stop words.
    """

    def __init__(
        self,
        item_index: Mapping[int, int],
        item_nodes: Sequence[int],
        labels: Mapping[_Label, int],
        concept_index: Mapping[str, int],
    ) -> None:
        self._item_index = item_index
        self._item_nodes = item_nodes
        self._matcher = LabelMatcher(labels)
        self._concept_index = concept_index

    def link(self, messages: Iterable[str]) -> LinkedTurn:
        """Links the messages of one merged turn; no label runs over the end of a message."""
        items: list[int] = []
        unknown: list[int] = []
        entities: list[int] = []
        concepts: list[int] = []
        for message in messages:
            tokens = TOKEN.findall(message)
            found = {
                start: self._matcher.node(label) for start, label in self._matcher.spans(tokens)
            }
            for position, token in enumerate(tokens):
                mention = MENTION.fullmatch(token)
                if mention is None:
                    concept = self._concept_index.get(token.casefold())
                    if concept is not None:
                        concepts.append(concept)
                    if position in found:
                        entities.append(found[position])
                    continue
                movie = mention_id(mention.group(1))
                item = self._item_index.get(movie)
                if item is None:
                    unknown.append(movie)
                else:
                    items.append(item)
                    entities.append(self._item_nodes[item])
        return LinkedTurn(tuple(items), tuple(unknown), tuple(entities), tuple(concepts))


def link_dialogue(dialogue: RawDialogue, linker: Linker) -> Dialogue:
    """Merges the turns of a raw dialogue and links their words.

    Args:
      dialogue: cleaned messages in order.
      linker: the corpus' linker.

    Returns:
      The dialogue as it is stored.
    """
    turns = []
    for is_recommender, messages in merge_turns(dialogue.messages):
        linked = linker.link(messages)
        turns.append(
            Turn(
                role=RECOMMENDER if is_recommender else SEEKER,
                text=" ".join(text for text in messages if text),
                items=linked.items,
                unknown_items=linked.unknown_items,
                entities=linked.entities,
                concepts=linked.concepts,
            )
        )
    return Dialogue(dialogue.conversation_id, tuple(turns))
