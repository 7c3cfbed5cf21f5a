"""The counts of a data report, as plain JSON, for dialogues of any origin."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from conkd_jax.data.corpus import (
    ConceptGraph,
    Dialogue,
    ItemTable,
    KnowledgeGraph,
    responses,
)
from conkd_jax.data.mentions import tokens
from data_prep.raw_dialogues import RawDialogue

# Models are trained on this many words of a response; the rest is never a target.
MAX_RESPONSE_TOKENS = 30
_MAX_EXAMPLES = 20
_SUMS = (
    "turns",
    "response_samples",
    "responses_with_item",
    "item_mentions",
    "rec_samples",
    "mentions_repeated",
    "responses_over_30_tokens",
    "item_mentions_past_30_tokens",
    "blank_turns",
    "unknown_movie_ids",
)


@dataclasses.dataclass
class Tally:
    """What is counted of some dialogues; tallies of parts can be added up.

    Attributes:
      counts: the counts of `split_counts` that are sums.
      num_tokens: words of uncut responses.
      unknown: the first unknown ids, with their conversations.
      entities: how often text was linked to each entity that is no item.
      concepts: how often it was linked to each concept.
      items: how often each item was mentioned, by its index.
    """

    counts: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    num_tokens: int = 0
    unknown: list[str] = dataclasses.field(default_factory=list)
    entities: collections.Counter[int] = dataclasses.field(default_factory=collections.Counter)
    concepts: collections.Counter[int] = dataclasses.field(default_factory=collections.Counter)
    items: collections.Counter[int] = dataclasses.field(default_factory=collections.Counter)

    @classmethod
    def of(cls, dialogues: Iterable[Dialogue], items: ItemTable) -> Tally:
        """Counts dialogues, turns merged."""
        tally, marks = cls(), {f"@{item}" for item in items.item_ids.tolist()}
        nodes = set(items.entity_ids.tolist())
        for dialogue in dialogues:
            tally._add(dialogue, items, marks, nodes)
        return tally

    @classmethod
    def total(cls, tallies: Iterable[Tally]) -> Tally:
        """The tally of all dialogues, from those of parts in their order."""
        total = cls()
        for each in tallies:
            total.num_tokens += each.num_tokens
            total.unknown = [*total.unknown, *each.unknown][:_MAX_EXAMPLES]
            for name in ("counts", "entities", "concepts", "items"):
                getattr(total, name).update(getattr(each, name))
        return total

    def _add(self, dialogue: Dialogue, items: ItemTable, marks: set[str], nodes: set[int]) -> None:
        counts, answers = self.counts, set(responses(dialogue))
        said: set[int] = set()
        counts["dialogues"] += 1
        for index, turn in enumerate(dialogue.turns):
            counts["turns"] += 1
            counts["blank_turns"] += not turn.text
            counts["unknown_movie_ids"] += len(turn.unknown_items)
            if len(self.unknown) < _MAX_EXAMPLES:
                self.unknown += [f"{dialogue.conversation_id}: @{i}" for i in turn.unknown_items]
            self.entities.update(node for node in turn.entities if node not in nodes)
            self.concepts.update(turn.concepts)
            self.items.update(turn.items)
            if index in answers:
                words = tokens(turn.text)
                past_cut = words[MAX_RESPONSE_TOKENS:]
                self.num_tokens += len(words)
                counts["response_samples"] += 1
                counts["responses_with_item"] += bool(turn.items)
                counts["item_mentions"] += len(turn.items)
                counts["rec_samples"] += sum(bool(items.is_linked[i]) for i in turn.items)
                counts["mentions_repeated"] += sum(i in said for i in turn.items)
                counts["responses_over_30_tokens"] += bool(past_cut)
                counts["item_mentions_past_30_tokens"] += sum(word in marks for word in past_cut)
            said.update(turn.items)

    def split_counts(self, num_utterances: int) -> dict[str, Any]:
        """The counts of a split.

        Args:
          num_utterances: the number of its messages, before merging.

        Returns:
          `dialogues`; `utterances` (messages); `turns` (merged); `response_samples` (responses,
          that is, recommender turns with a history); `responses_with_item` (those with a known
          item); `item_mentions` (known items in responses); `rec_samples` (those of them that are
          linked to the knowledge graph); `mentions_repeated` (those mentioned in an earlier turn);
          `mean_response_tokens` (words of an uncut response); and what training doesn't see:
          responses and mentions past the cut, blank turns and unknown ids.
        """
        num_responses = self.counts["response_samples"]
        mean = self.num_tokens / num_responses if num_responses else 0.0
        return {
            "dialogues": self.counts["dialogues"],
            "utterances": num_utterances,
            **{name: self.counts[name] for name in _SUMS},
            "mean_response_tokens": round(mean, 3),
            "unknown_movie_examples": self.unknown[:_MAX_EXAMPLES],
        }

    def linking_counts(self) -> dict[str, int]:
        """What free text was linked to: entities other than items, and concepts.

        Returns:
          `entity_mentions`, `entities` (distinct), `concept_mentions`, `concepts` (distinct).
        """
        return {
            "entity_mentions": self.entities.total(),
            "entities": len(self.entities),
            "concept_mentions": self.concepts.total(),
            "concepts": len(self.concepts),
        }


def corpus_counts(
    raw_splits: Mapping[str, Sequence[RawDialogue]], tallies: Mapping[str, Tally]
) -> dict[str, Any]:
    """The counts of every split of a corpus.

    Args:
      raw_splits: the raw dialogues of every split, messages not merged.
      tallies: what was counted of the same dialogues, merged and linked.

    Returns:
      `splits`, the counts of each split, where "train" includes "dev" as in the official files;
      `dev`, the counts of "dev" alone; `linking`, the counts of linked text.
    """

    def count(*names: str) -> dict[str, Any]:
        num_utterances = sum(len(raw.messages) for name in names for raw in raw_splits[name])
        return Tally.total(tallies[name] for name in names).split_counts(num_utterances)

    others = [name for name in tallies if name not in ("train", "dev")]
    return {
        "splits": {"train": count("train", "dev")} | {name: count(name) for name in others},
        "dev": count("dev"),
        "linking": {name: tally.linking_counts() for name, tally in tallies.items()},
    }


def split_summary(splits: Mapping[str, Mapping[str, Any]]) -> str:
    """Says in one line how many dialogues and responses each split of a report has."""
    return "; ".join(
        f"{name} {counts['dialogues']:,} dialogues with {counts['response_samples']:,} responses"
        for name, counts in splits.items()
    )


def content_warnings(
    report: Mapping[str, Any],
    item_list: str = "list of items",
    link_files: str = "the files of the graph",
) -> list[str]:
    """Says, a sentence each, which parts of a corpus its dialogues make no use of.

    Args:
      report: a data report with `splits`, `linking` and `graph`.
      item_list: what the corpus calls its list of items.
      link_files: the files that link items to the knowledge graph.
    """
    splits, graph = report["splits"].values(), report["graph"]
    warnings = []
    known = sum(counts["item_mentions"] for counts in splits)
    unknown = sum(counts["unknown_movie_ids"] for counts in splits)
    if known <= unknown:
        warnings.append(
            f"the responses mention items of the list {known:,} times, and the dialogues mention "
            f"ids that are not in it {unknown:,} times. Check that the {item_list} belongs to them."
        )
    if not graph["items_linked"]:
        warnings.append(
            f"none of the {graph['items']:,} items is linked to the knowledge graph. Check that "
            f"{link_files} belong to the {item_list}."
        )
    if not graph["concept_edges_kept"]:
        warnings.append(
            f"the concept graph has no edge: none of {graph['concept_edges']:,} ConceptNet edges "
            "that were read joins two words that are no stop words. Check the file of edges."
        )
    elif not any(counts["concept_mentions"] for counts in report["linking"].values()):
        warnings.append(
            f"none of the {graph['concepts']:,} words of the concept graph occurs in the "
            "dialogues. Check that the ConceptNet edges are in the dialogues' language."
        )
    return warnings


def graph_counts(graph: KnowledgeGraph, items: ItemTable, concepts: ConceptGraph) -> dict[str, Any]:
    """Counts nodes and edges of the two graphs as they are stored.

    Args:
      graph: the knowledge graph.
      items: the candidate items.
      concepts: the concept graph.

    Returns:
      `entities`, `edges` (reverse edges and self loops included), `relations`, `rule`, `items`,
      `items_linked`, `concepts`, `concept_edges_kept` (undirected, without stop words).
    """
    return {
        "entities": graph.num_entities,
        "edges": len(graph.edges),
        "relations": graph.num_relations,
        "rule": graph.rule,
        "items": len(items),
        "items_linked": int(items.is_linked.sum()),
        "concepts": concepts.num_concepts,
        "concept_edges_kept": len(concepts.edges),
    }
