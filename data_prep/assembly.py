"""The last steps of building any corpus: linking its text, counting it, and writing it.

Dialogues are linked one after another, or on Apache Beam where a runner is named
(`beam_linking`). This module is independent of where dialogues and graphs come from.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from etils import epath

from conkd_jax.data import beam_runner
from conkd_jax.data.corpus import (
    ConceptGraph,
    Dialogue,
    ItemTable,
    KnowledgeGraph,
    Review,
)
from conkd_jax.data.corpus_writing import begin_corpus, write_dialogues, write_tables
from conkd_jax.errors import UserError
from data_prep.beam_linking import link_and_write
from data_prep.linking import Label, Linker, link_dialogue
from data_prep.raw_dialogues import RawDialogue
from data_prep.report import Tally, content_warnings, corpus_counts, graph_counts
from data_prep.reviews import RawReviews


class EmptyCorpusError(UserError, ValueError):
    """Dialogues without anything to train on or to score."""


@dataclasses.dataclass(frozen=True)
class CorpusParts:
    """Everything that a corpus is assembled from.

    Attributes:
      raw_splits: the raw dialogues of every split.
      items: the candidate items.
      graph: the knowledge graph.
      concept_graph: the concept graph.
      labels: the graph node of every label that links free text.
      entity_names: a readable name of every graph node.
      source_counts: counts of the raw graph files, for the report.
      warnings: what is wrong with the raw files, a sentence each.
      reviews: reviews of items, if the corpus has them.
      content_warnings: says, from the data report, which parts the dialogues make no use of.
    """

    raw_splits: Mapping[str, Sequence[RawDialogue]]
    items: ItemTable
    graph: KnowledgeGraph
    concept_graph: ConceptGraph
    labels: Mapping[Label, int]
    entity_names: Sequence[str]
    source_counts: Mapping[str, int]
    warnings: Sequence[str] = ()
    reviews: RawReviews | None = None
    content_warnings: Callable[[Mapping[str, Any]], list[str]] = content_warnings


def assemble_corpus(
    parts: CorpusParts,
    out_dir: epath.PathLike | None,
    complete_report: Callable[[dict[str, Any]], dict[str, Any]],
) -> dict[str, Any]:
    """Links the dialogues of a corpus, reports on them, and writes the corpus.

    A corpus that is refused leaves its folder as it was; on Beam, which writes while it links, an
    earlier corpus in the folder is lost.

    Args:
      parts: what the corpus is made of.
      out_dir: the folder of the corpus; None writes nothing.
      complete_report: adds to the counts of the dialogues what only the builder can say.

    Returns:
      The data report, the same as `Corpus.report`.

    Raises:
      EmptyCorpusError: a split has no response, or there is no dialogue to train on.
    """
    linker = Linker.for_corpus(parts.items, parts.concept_graph, parts.labels)
    directory = None if out_dir is None else epath.Path(out_dir)
    splits: Mapping[str, Sequence[Dialogue]] | None = None
    if directory is not None and beam_runner.options() is not None:
        begin_corpus(directory, parts.raw_splits)
        tallies = link_and_write(directory, parts.raw_splits, linker, parts.items)
    else:
        splits = {
            name: [link_dialogue(dialogue, linker) for dialogue in dialogues]
            for name, dialogues in parts.raw_splits.items()
        }
        tallies = {name: Tally.of(dialogues, parts.items) for name, dialogues in splits.items()}
    report = complete_report(corpus_counts(parts.raw_splits, tallies))
    graphs = graph_counts(parts.graph, parts.items, parts.concept_graph)
    report["graph"] = graphs | dict(parts.source_counts)
    if parts.reviews is not None:
        ids = parts.items.item_ids
        mentions = {int(ids[item]): count for item, count in tallies["train"].items.items()}
        report["reviews"] = parts.reviews.report(parts.items, mentions)
    _expect_responses(report["splits"])
    report["warnings"] = [*parts.warnings, *parts.content_warnings(report)]
    if directory is not None:
        if splits is not None:  # else Beam has written them
            begin_corpus(directory, splits)
            write_dialogues(directory, splits)
        write_tables(
            directory,
            splits=parts.raw_splits,
            items=parts.items,
            graph=parts.graph,
            concept_graph=parts.concept_graph,
            report=report,
            entity_names=parts.entity_names,
            reviews=_linked_reviews(parts, linker),
        )
    return report


def _linked_reviews(parts: CorpusParts, linker: Linker) -> dict[int, Review]:
    """Returns the reviews of the candidates, by item, with the concepts of their words."""
    if parts.reviews is None:
        return {}
    texts = parts.reviews.texts
    return {
        item: Review(texts[item_id], linker.link([texts[item_id]]).concepts)
        for item, item_id in enumerate(parts.items.item_ids.tolist())
        if item_id in texts
    }


def _expect_responses(splits: Mapping[str, Mapping[str, Any]]) -> None:
    if not splits["train"]["dialogues"]:
        raise EmptyCorpusError(
            "expected dialogues to train on, but every dialogue of the training file belongs to "
            "validation or test. Put further dialogues into train_data.jsonl."
        )
    for name, counts in splits.items():
        if counts["dialogues"] and not counts["response_samples"]:
            raise EmptyCorpusError(
                f"expected responses in the split {name}, but none of its {counts['dialogues']:,} "
                "dialogues has a turn of the recommender after one of the seeker. Check that each "
                "senderWorkerId is the dialogue's initiatorWorkerId (the seeker) or "
                "respondentWorkerId (the recommender)."
            )
