"""Writes the folder of a corpus, which `Corpus.open` opens.

This module is independent of where dialogues and graphs come from.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from etils import epath

from conkd_jax.data.corpus import (
    DIALOGUES,
    FORMAT_VERSION,
    INFO,
    REPORT,
    REVIEWS,
    SPLITS,
    ConceptGraph,
    ItemTable,
    KnowledgeGraph,
    Review,
)
from conkd_jax.data.dialogues import Dialogue, dialogue_features, dialogue_to_record
from conkd_jax.data.shards.layout import SUFFIX
from conkd_jax.data.shards.writer import write_dataset
from conkd_jax.io.files import whole_file, write_json

STAGED = "staged_dialogues"  # the folder of what workers read while a corpus is built


def write_corpus(
    directory: epath.PathLike, *, splits: Mapping[str, Sequence[Dialogue]], **tables: Any
) -> None:
    """Writes a corpus folder: the dialogues of each split, and everything else.

    Args:
      directory: the folder; it is created.
      splits: the dialogues of each split; the names are some of `SPLITS`.
      **tables: further arguments of `write_tables`.

    Raises:
      ValueError: an unknown split name.
    """
    directory = begin_corpus(directory, splits)
    write_dialogues(directory, splits)
    write_tables(directory, splits=splits, **tables)


def begin_corpus(directory: epath.PathLike, splits: Iterable[str]) -> epath.Path:
    """Creates the folder of a corpus, or marks the one that is there as unfinished.

    Raises:
      ValueError: an unknown split name.
    """
    foreign = sorted(set(splits) - set(SPLITS))
    if foreign:
        raise ValueError(f"expected splits of {', '.join(SPLITS)}; got {', '.join(foreign)}")
    directory = epath.Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    (directory / INFO).unlink(missing_ok=True)
    # What is left of a build that was cut short, or of one with more shards.
    (directory / STAGED).rmtree(missing_ok=True)
    for shard in (directory / DIALOGUES).glob(f"{DIALOGUES}-*.{SUFFIX}-*"):
        shard.unlink()
    (directory / f"{REVIEWS}.json").unlink(missing_ok=True)
    return directory


def write_dialogues(directory: epath.Path, splits: Mapping[str, Iterable[Dialogue]]) -> None:
    """Writes the dialogues of each split into the folder, one shard a split."""
    records = {name: map(dialogue_to_record, splits[name]) for name in SPLITS if name in splits}
    write_dataset(directory / DIALOGUES, dialogue_features(), records, name=DIALOGUES)


def write_tables(
    directory: epath.Path,
    *,
    splits: Collection[str],
    items: ItemTable,
    graph: KnowledgeGraph,
    concept_graph: ConceptGraph,
    report: Mapping[str, Any],
    entity_names: Sequence[str] = (),
    reviews: Mapping[int, Review] | None = None,
) -> None:
    """Writes everything but the dialogues; `corpus.json`, written last, marks it as finished.

    Args:
      directory: the folder, which has the dialogues.
      splits: the names of the splits.
      items: the candidate items.
      graph: the knowledge graph.
      concept_graph: the concept graph.
      report: the data report, plain JSON.
      entity_names: a readable name of each node, or nothing.
      reviews: reviews of items by item, or nothing.
    """
    _write_table(
        directory,
        "items",
        {
            "movie_ids": items.item_ids,
            "entity_ids": items.entity_ids,
            "is_linked": items.is_linked,
        },
        {"titles": list(items.titles)}
        | ({} if items.keys is None else {"keys": items.keys})
        | ({} if items.aliases is None else {"aliases": items.aliases}),
    )
    _write_table(
        directory,
        "graph",
        {"edges": graph.edges},
        {
            "num_entities": graph.num_entities,
            "relation_names": list(graph.relation_names),
            "rule": graph.rule,
        },
    )
    _write_table(directory, "entities", {}, {"names": list(entity_names)})
    _write_table(
        directory,
        "concepts",
        {"edges": concept_graph.edges, "is_stop_word": concept_graph.is_stop_word},
        {"words": list(concept_graph.words)},
    )
    if reviews:
        _write_table(directory, REVIEWS, {}, _columns(reviews))
    write_json(directory / REPORT, dict(report))
    order = [name for name in SPLITS if name in splits]
    write_json(directory / INFO, {"format_version": FORMAT_VERSION, "splits": order})


def _columns(reviews: Mapping[int, Review]) -> dict[str, Any]:
    """The table that `Corpus.reviews` reads."""
    return {
        "items": list(reviews),
        "texts": [review.text for review in reviews.values()],
        "concepts": [review.concepts for review in reviews.values()],
    }


def _write_table(
    directory: epath.Path, name: str, arrays: Mapping[str, np.ndarray], lists: Mapping[str, Any]
) -> None:
    if arrays:
        with whole_file(directory / f"{name}.npz", "wb") as file:
            np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
    write_json(directory / f"{name}.json", dict(lists), indent=None)
