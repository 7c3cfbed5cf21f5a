"""The counts of a data report, as plain JSON, for dialogues of any origin."""

from __future__ import annotations

import collections
import itertools
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


def corpus_counts(
    raw_splits: Mapping[str, Sequence[RawDialogue]],
    splits: Mapping[str, Iterable[Dialogue]],
    items: ItemTable,
) -> dict[str, Any]:
    """Counts every split of a corpus.

    Args:
      raw_splits: the raw dialogues of every split, messages not merged.
      splits: the same dialogues, merged and linked.
      items: the candidate items.

    Returns:
      `splits`, the counts of each split, where "train" includes "dev" as in the official files;
      `dev`, the counts of "dev" alone; `linking`, the counts of linked text.
    """

    def count(*names: str) -> dict[str, Any]:
        num_utterances = sum(len(raw.messages) for name in names for raw in raw_splits[name])
        dialogues = itertools.chain.from_iterable(splits[name] for name in names)
        return split_counts(dialogues, num_utterances, items)

    others = [name for name in splits if name not in ("train", "dev")]
    return {
        "splits": {"train": count("train", "dev")} | {name: count(name) for name in others},
        "dev": count("dev"),
        "linking": {name: linking_counts(found, items) for name, found in splits.items()},
    }


def split_summary(splits: Mapping[str, Mapping[str, Any]]) -> str:
    """Says in one line how many dialogues and responses each split of a report has."""
    return "; ".join(
        f"{name} {counts['dialogues']:,} dialogues with {counts['response_samples']:,} responses"
        for name, counts in splits.items()
    )


def content_warnings(report: Mapping[str, Any]) -> list[str]:
    """Says, a sentence each, which parts of a corpus its dialogues make no use of.

    Args:
      report: a data report with `splits`, `linking` and `graph`.
    """
    splits, graph = report["splits"].values(), report["graph"]
    warnings = []
    known = sum(counts["item_mentions"] for counts in splits)
    unknown = sum(counts["unknown_movie_ids"] for counts in splits)
    if known <= unknown:
        warnings.append(
            f"the responses mention movies of the list {known:,} times, and the dialogues mention "
            f"ids that are not in it {unknown:,} times. Check that the movie list belongs to them."
        )
    if not graph["items_linked"]:
        warnings.append(
            f"none of the {graph['items']:,} movies is linked to the knowledge graph. Check that "
            "id2entity.pkl and entity2entityId.pkl belong to the movie list."
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


def split_counts(
    dialogues: Iterable[Dialogue], num_utterances: int, items: ItemTable
) -> dict[str, Any]:
    """Counts one split.

    Args:
      dialogues: its dialogues, turns merged.
      num_utterances: the number of its messages, before merging.
      items: the candidate items.

    Returns:
      `dialogues`; `utterances` (messages); `turns` (merged); `response_samples` (responses, that
      is, recommender turns with a history); `responses_with_item` (those with a known item);
      `item_mentions` (known items in responses); `rec_samples` (those of them that are linked to
      the knowledge graph); `mentions_repeated` (those mentioned in an earlier turn);
      `mean_response_tokens` (words of an uncut response); and what training doesn't see: responses
      and mentions past the cut, blank turns and unknown ids.
    """
    counts = dict.fromkeys(
        (
            "dialogues",
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
        ),
        0,
    )
    known = {f"@{item}" for item in items.item_ids.tolist()}
    num_tokens = 0
    examples: list[str] = []
    for dialogue in dialogues:
        counts["dialogues"] += 1
        answers = set(responses(dialogue))
        said: set[int] = set()
        for index, turn in enumerate(dialogue.turns):
            counts["turns"] += 1
            counts["blank_turns"] += not turn.text
            counts["unknown_movie_ids"] += len(turn.unknown_items)
            if len(examples) < _MAX_EXAMPLES:
                examples += [f"{dialogue.conversation_id}: @{i}" for i in turn.unknown_items]
            if index in answers:
                words = tokens(turn.text)
                num_tokens += len(words)
                counts["response_samples"] += 1
                counts["responses_with_item"] += bool(turn.items)
                counts["item_mentions"] += len(turn.items)
                counts["rec_samples"] += sum(bool(items.is_linked[i]) for i in turn.items)
                counts["mentions_repeated"] += sum(i in said for i in turn.items)
                if len(words) > MAX_RESPONSE_TOKENS:
                    counts["responses_over_30_tokens"] += 1
                    past_cut = words[MAX_RESPONSE_TOKENS:]
                    counts["item_mentions_past_30_tokens"] += sum(w in known for w in past_cut)
            said.update(turn.items)
    mean = num_tokens / counts["response_samples"] if counts["response_samples"] else 0.0
    return {
        "dialogues": counts.pop("dialogues"),
        "utterances": num_utterances,
        **counts,
        "mean_response_tokens": round(mean, 3),
        "unknown_movie_examples": examples[:_MAX_EXAMPLES],
    }


def linking_counts(dialogues: Iterable[Dialogue], items: ItemTable) -> dict[str, int]:
    """Counts what free text was linked to: entities other than items, and concepts.

    Args:
      dialogues: the dialogues of a split.
      items: the candidate items.

    Returns:
      `entity_mentions`, `entities` (distinct), `concept_mentions`, `concepts` (distinct).
    """
    item_nodes = set(items.entity_ids.tolist())
    entities, concepts = collections.Counter[int](), collections.Counter[int]()
    for dialogue in dialogues:
        for turn in dialogue.turns:
            entities.update(node for node in turn.entities if node not in item_nodes)
            concepts.update(turn.concepts)
    return {
        "entity_mentions": entities.total(),
        "entities": len(entities),
        "concept_mentions": concepts.total(),
        "concepts": len(concepts),
    }


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
