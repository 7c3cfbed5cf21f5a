"""The data report: what a corpus holds and what its raw files had that is odd.

Counts only, as plain JSON. It must not know where the dialogues came from.
"""

from collections.abc import Sequence
from typing import Any

from conkd_jax.data.corpus import (
    ConceptGraph,
    Dialogue,
    ItemTable,
    KnowledgeGraph,
    responses,
)
from data_prep.raw_dialogues import TOKEN

# Responses are trained on up to this many words; what lies past it is never a target.
MAX_RESPONSE_TOKENS = 30
_MAX_EXAMPLES = 20


def split_counts(
    dialogues: Sequence[Dialogue], num_utterances: int, items: ItemTable
) -> dict[str, Any]:
    """Counts one split.

    Args:
      dialogues: its dialogues, turns merged.
      num_utterances: its messages before merging.
      items: the candidate movies.

    Returns:
      `dialogues`; `utterances` (messages); `turns` (merged); `response_samples` (recommender turns
      with a history); `responses_with_item` (a known movie); `item_mentions` (known movies in
      responses); `rec_samples` (of these, linked to the knowledge graph); `mentions_repeated` (of
      these mentions, said in an earlier turn); `mean_response_tokens` (words of the whole
      response); and what is lost or odd: responses and mentions past the cut, unknown ids.
    """
    counts = dict.fromkeys(
        (
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
    num_tokens = 0
    examples: list[str] = []
    for dialogue in dialogues:
        answers = set(responses(dialogue))
        said: set[int] = set()
        for index, turn in enumerate(dialogue.turns):
            counts["turns"] += 1
            counts["blank_turns"] += not turn.text
            counts["unknown_movie_ids"] += len(turn.unknown_items)
            examples += [f"{dialogue.conversation_id}: @{i}" for i in turn.unknown_items]
            if index in answers:
                tokens = TOKEN.findall(turn.text)
                num_tokens += len(tokens)
                counts["response_samples"] += 1
                counts["responses_with_item"] += bool(turn.items)
                counts["item_mentions"] += len(turn.items)
                counts["rec_samples"] += sum(bool(items.is_linked[i]) for i in turn.items)
                counts["mentions_repeated"] += sum(i in said for i in turn.items)
                if len(tokens) > MAX_RESPONSE_TOKENS:
                    counts["responses_over_30_tokens"] += 1
                    counts["item_mentions_past_30_tokens"] += _past_cut(tokens, items)
            said.update(turn.items)
    mean = num_tokens / counts["response_samples"] if counts["response_samples"] else 0.0
    return {
        "dialogues": len(dialogues),
        "utterances": num_utterances,
        **counts,
        "mean_response_tokens": round(mean, 3),
        "unknown_movie_examples": examples[:_MAX_EXAMPLES],
    }


def linking_counts(dialogues: Sequence[Dialogue], items: ItemTable) -> dict[str, int]:
    """Counts what free text was linked to: entities that are no movies, and concepts.

    Args:
      dialogues: dialogues of a split.
      items: the candidate movies.

    Returns:
      `entity_mentions`, `entities` (distinct), `concept_mentions`, `concepts` (distinct).
    """
    movies = set(items.entity_ids.tolist())
    turns = [turn for dialogue in dialogues for turn in dialogue.turns]
    entities = [node for turn in turns for node in turn.entities if node not in movies]
    concepts = [concept for turn in turns for concept in turn.concepts]
    return {
        "entity_mentions": len(entities),
        "entities": len(set(entities)),
        "concept_mentions": len(concepts),
        "concepts": len(set(concepts)),
    }


def graph_counts(graph: KnowledgeGraph, items: ItemTable, concepts: ConceptGraph) -> dict[str, Any]:
    """Counts the two graphs as they are stored.

    Args:
      graph: the knowledge graph.
      items: the candidate movies.
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


def _past_cut(tokens: Sequence[str], items: ItemTable) -> int:
    known = {f"@{i}" for i in items.movie_ids.tolist()}
    return sum(token in known for token in tokens[MAX_RESPONSE_TOKENS:])
