"""Links the words of a message to the graphs: items by their "@" id, everything else by labels.

A label is the readable name of a graph node, taken from the node's URI. Titles of candidate items
are not labels: ReDial's speakers tag the items they mean, and half of all titles are everyday
words ("It", "Saw", "Cars"). This module is independent of files and splits.
"""

from __future__ import annotations

import collections
import dataclasses
import math
import re
import urllib.parse
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from conkd_jax.data.corpus import (
    RECOMMENDER,
    SEEKER,
    ConceptGraph,
    Corpus,
    Dialogue,
    ItemTable,
    Turn,
)
from conkd_jax.data.mentions import MENTION, mention_id, tokens
from data_prep.raw_dialogues import RawDialogue, merge_turns

_RESOURCE = "<http://dbpedia.org/resource/"
_QUALIFIER = re.compile(r"^(.*?)_\(([^()]*)\)$")
# DBpedia's helper nodes ("Avatar_(2009_film)__1") are not things of their own.
_HELPER_NODE = re.compile(r"__\d+$")
_NAMESAKE = re.compile(r"\b(album|song|single|band|channel|network|magazine|soundtrack)\b")

# Stands among a turn's unknown items for a mention with more digits than any id has.
NOT_AN_ID = -1

Label = tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class LinkedTurn:
    """What the words of a turn refer to.

    Attributes:
      items: candidate indices of known items, in order, with repeats.
      unknown_items: "@" ids that are not in the item list, or NOT_AN_ID.
      entities: graph nodes in order of appearance.
      concepts: concept ids in order of appearance.
    """

    items: tuple[int, ...]
    unknown_items: tuple[int, ...]
    entities: tuple[int, ...]
    concepts: tuple[int, ...]


def uri_labels(
    ids: Mapping[str, int], item_nodes: Collection[int], degrees: Mapping[int, int]
) -> dict[Label, int]:
    """Derives labels from the URIs of graph nodes.

    The label is the last part of the URI, case-folded and cut into tokens, with underscores as
    spaces and without the qualifier in parentheses. If nodes share a label, a node without a
    qualifier wins, then a genre, then the node with the most edges. Some qualifiers exclude a node
    because its name is mostly an everyday phrase: any but "genre" on a single word ("War_(band)"),
    and those of albums, songs, bands and channels on longer names ("Get_Ready_(New_Order_album)").

    Args:
      ids: the node of every URI.
      item_nodes: the nodes of candidate items, which get no label.
      degrees: the number of edges of each node.

    Returns:
      The node of every label.
    """
    items = frozenset(item_nodes)
    best: dict[Label, tuple[tuple[bool, bool, int, int], int]] = {}
    for uri, node in ids.items():
        if node in items or not uri.startswith(_RESOURCE) or not uri.endswith(">"):
            continue
        name = urllib.parse.unquote(uri[len(_RESOURCE) : -1])
        if _HELPER_NODE.search(name):
            continue
        match = _QUALIFIER.match(name)
        stem, qualifier = match.groups() if match else (name, "")
        label = tuple(tokens(stem.replace("_", " ").casefold()))
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
    labels: Collection[Label],
    dialogues: Iterable[Sequence[str]],
    *,
    min_lift: float = 2.0,
    min_deviations: float = 10.0,
) -> set[Label]:
    """Finds labels that are everyday words, from training text alone.

    A label is suspect if it is a single word, or if it is mostly written in lower case. A suspect
    label is kept only if dialogues that use it also talk about the same items. The n dialogues
    with the label form n(n-1)/2 pairs, which share O items in total, while E = n(n-1)/2 · (mean
    number shared by any two dialogues) are expected. The label is kept if O ≥ min_lift · E and
    O - E ≥ min_deviations · √E. The second bound is high because pairs of the same few dialogues
    are not independent. On ReDial "comedy", "romantic comedy" and "pixar" are kept; "friends",
    "actor", "history", "dvd" and "soundtrack" are not.

    Args:
      labels: the labels to judge.
      dialogues: the messages of each training dialogue.
      min_lift: how many times the expected number of items has to be shared.
      min_deviations: by how many Poisson standard deviations the number has to exceed it.

    Returns:
      The labels to leave out.
    """
    usage = _label_usage(labels, dialogues)
    by_chance = _shared_pairs(usage.items) / max(_num_pairs(len(usage.items)), 1)
    misleading = set()
    for label in labels:
        suspect = _num_words(label) == 1 or usage.lower[label] * 2 > usage.written[label]
        if not suspect:
            continue
        uses = usage.used_in.get(label, [])
        shared = _shared_pairs([usage.items[number] for number in uses])
        expected = by_chance * _num_pairs(len(uses))
        excess = shared - expected
        if expected == 0 or shared < min_lift * expected:
            misleading.add(label)
        elif excess < min_deviations * math.sqrt(expected):
            misleading.add(label)
    return misleading


@dataclasses.dataclass(frozen=True)
class _LabelUsage:
    """How training text uses labels, and the items of each dialogue.

    Attributes:
      written: how often each label occurs.
      lower: how often it occurs all in lower case.
      used_in: the numbers of the dialogues that use it.
      items: the mentions of each dialogue, as "@123".
    """

    written: collections.Counter[Label]
    lower: collections.Counter[Label]
    used_in: dict[Label, list[int]]
    items: list[frozenset[str]]


def _label_usage(labels: Collection[Label], dialogues: Iterable[Sequence[str]]) -> _LabelUsage:
    matcher = LabelMatcher(dict.fromkeys(labels, 0))
    usage = _LabelUsage(collections.Counter(), collections.Counter(), {}, [])
    for number, messages in enumerate(dialogues):
        mentioned = set()
        for message in messages:
            words = tokens(message)
            mentioned.update(word for word in words if MENTION.fullmatch(word))
            for start, label in matcher.spans(words):
                usage.written[label] += 1
                usage.lower[label] += all(
                    word == word.casefold() for word in words[start : start + len(label)]
                )
                uses = usage.used_in.setdefault(label, [])
                if not uses or uses[-1] != number:
                    uses.append(number)
        usage.items.append(frozenset(mentioned))
    return usage


def _num_words(label: Label) -> int:
    return sum(token[0].isalnum() for token in label)


def _num_pairs(number: int) -> int:
    return number * (number - 1) // 2


def _shared_pairs(dialogues: Sequence[Collection[str]]) -> int:
    """Counts the items that pairs of dialogues share, summed over all pairs."""
    counts = collections.Counter(item for items in dialogues for item in items)
    return sum(_num_pairs(number) for number in counts.values())


class LabelMatcher:
    """Finds labels in a list of tokens from left to right; the longest label wins.

    Args:
      labels: the node of every label, case-folded.
    """

    def __init__(self, labels: Mapping[Label, int]) -> None:
        self._labels = dict(labels)
        # The lengths of the labels that begin with each token: few begin with the same one, so a
        # text is matched in about one look-up per token.
        self._lengths: dict[str, list[int]] = {}
        for label in labels:
            lengths = self._lengths.setdefault(label[0], [])
            if len(label) not in lengths:
                lengths.append(len(label))
        for lengths in self._lengths.values():
            lengths.sort(reverse=True)

    def node(self, label: Label) -> int:
        """Returns the node of a label."""
        return self._labels[label]

    def spans(self, tokens: Sequence[str]) -> Iterator[tuple[int, Label]]:
        """Yields (start, label) of each label that is found; labels never overlap."""
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
      item_index: the candidate index of every item id.
      item_nodes: the graph node of every candidate.
      labels: the graph node of every label, without misleading ones.
      concept_index: the concept id of every lower-cased word that is not a stop word.
    """

    def __init__(
        self,
        item_index: Mapping[int, int],
        item_nodes: Sequence[int],
        labels: Mapping[Label, int],
        concept_index: Mapping[str, int],
    ) -> None:
        self._item_index = item_index
        self._item_nodes = item_nodes
        self._matcher = LabelMatcher(labels)
        self._concept_index = concept_index

    @classmethod
    def for_corpus(
        cls, items: ItemTable, concepts: ConceptGraph, labels: Mapping[Label, int]
    ) -> Linker:
        """Returns the linker of a corpus.

        Args:
          items: the candidate items.
          concepts: the concept graph.
          labels: the graph node of every label; empty links items and concepts only.
        """
        return cls(
            {item: index for index, item in enumerate(items.item_ids.tolist())},
            items.entity_ids.tolist(),
            labels,
            {w: i for i, w in enumerate(concepts.words) if not concepts.is_stop_word[i]},
        )

    def link(self, messages: Iterable[str]) -> LinkedTurn:
        """Links the messages of one merged turn; a label never spans two messages."""
        items: list[int] = []
        unknown: list[int] = []
        entities: list[int] = []
        concepts: list[int] = []
        for message in messages:
            words = tokens(message)
            found = {
                start: self._matcher.node(label) for start, label in self._matcher.spans(words)
            }
            for position, word in enumerate(words):
                mention = MENTION.fullmatch(word)
                if mention is None:
                    concept = self._concept_index.get(word.casefold())
                    if concept is not None:
                        concepts.append(concept)
                    if position in found:
                        entities.append(found[position])
                    continue
                item_id = mention_id(mention[1])
                item = None if item_id is None else self._item_index.get(item_id)
                if item is None:
                    unknown.append(NOT_AN_ID if item_id is None else item_id)
                else:
                    items.append(item)
                    entities.append(self._item_nodes[item])
        return LinkedTurn(tuple(items), tuple(unknown), tuple(entities), tuple(concepts))


def link_dialogue(dialogue: RawDialogue, linker: Linker) -> Dialogue:
    """Merges the messages of a raw dialogue into turns and links their words.

    Args:
      dialogue: cleaned messages in order.
      linker: the linker of the corpus.

    Returns:
      The dialogue in the form in which it is stored.
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


def labels_of_corpus(corpus: Corpus) -> dict[Label, int]:
    """Finds the labels by which the text of a corpus was linked, from the corpus alone.

    A corpus has the names of its nodes and the links of its turns, but no list of labels. Its
    candidates are those of `uri_labels`. A candidate that occurs in the training text is a label if
    the text was linked to its node wherever it occurs. One that doesn't occur is a label if it has
    two words or more, since ReDial's single words need evidence (`misleading_labels`); where all
    that occur are labels, as in MovieWorld, one word is enough.

    Args:
      corpus: a corpus of any source.

    Returns:
      The node of every label, for `Linker.for_corpus`.
    """
    item_nodes = set(corpus.items.entity_ids.tolist())
    nodes = {
        f"{_RESOURCE}{name.replace(' ', '_')}>": node
        for node, name in enumerate(corpus.entity_names)
        if name and "://" not in name and node not in item_nodes
    }
    degrees = collections.Counter(corpus.graph.edges[:, 0].tolist())
    candidates = uri_labels(nodes, item_nodes, degrees)
    matcher = LabelMatcher(candidates)
    written: collections.Counter[Label] = collections.Counter()
    linked: collections.Counter[Label] = collections.Counter()
    for dialogue in corpus.dialogues("train"):
        for turn in dialogue.turns:
            for _, label in matcher.spans(tokens(turn.text)):
                written[label] += 1
                linked[label] += matcher.node(label) in turn.entities
    kept = {label for label, count in written.items() if linked[label] * 2 > count}
    least = 2 if any(_num_words(label) == 1 for label in written.keys() - kept) else 1
    return {
        label: node
        for label, node in candidates.items()
        if label in kept or (label not in written and _num_words(label) >= least)
    }
