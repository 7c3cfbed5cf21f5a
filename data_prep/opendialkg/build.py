"""Builds the corpus of OpenDialKG from either layout of its files.

This module joins what the readers of the layouts find; `conkd_jax.data.corpus` defines what is
written.
"""

from __future__ import annotations

import collections
import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from etils import epath

from conkd_jax.data.corpus import ConceptGraph, ItemTable
from conkd_jax.data.mentions import tokens
from data_prep.assembly import CorpusParts, assemble_corpus
from data_prep.graphs import (
    check_rule,
    concept_graph,
    graph_warnings,
    knowledge_graph,
    read_concept_dump,
    read_concept_edges,
)
from data_prep.opendialkg.annotated import Annotated, AnnotatedDialogue, KnowledgeBase
from data_prep.opendialkg.files import OFFICIAL, PROCESSED, find_files
from data_prep.opendialkg.names import entity_labels, with_mentions
from data_prep.opendialkg.official import read_official
from data_prep.opendialkg.processed import read_processed
from data_prep.raw_dialogues import RawDialogue
from data_prep.sources import RawFile
from data_prep.split_ids import is_dev
from data_prep.stop_words import ENGLISH

DEFAULT_GRAPH_RULE = "all"
_READERS = {PROCESSED: read_processed, OFFICIAL: read_official}
_YEAR = "release_year"

NO_REC_RATIO = (
    "Every dialogue of this corpus is cut after a response that recommends, so Rec Ratio says "
    "nothing about how often a recommender should recommend."
)


def opendialkg_fingerprint(
    raw_dir: epath.PathLike | None = None, *, use_test: bool = True
) -> dict[str, str]:
    """Hashes the raw files that a corpus would be built from, by their own names."""
    _, files = find_files(raw_dir, use_test=use_test)
    return {file.name: file.sha256() for file in sorted(files.values(), key=lambda f: f.name)}


def read_raw(
    raw_dir: epath.PathLike | None = None, *, use_test: bool = True
) -> tuple[dict[str, RawFile], Annotated]:
    """Finds and reads the raw files; the arguments are those of `find_files`.

    Returns:
      The files by role, and what they hold.

    Raises:
      MissingDataError: a raw file is missing.
      OpenDialKGError: a file doesn't hold what it should; names the line.
    """
    layout, files = find_files(raw_dir, use_test=use_test)
    return files, _READERS[layout](files)


def build_opendialkg(
    raw_dir: epath.PathLike | None,
    out_dir: epath.PathLike | None,
    *,
    graph_rule: str = DEFAULT_GRAPH_RULE,
    use_test: bool = True,
) -> dict[str, Any]:
    """Builds a corpus from the raw files of OpenDialKG.

    Args:
      raw_dir: the folder of the files (see `find_files`).
      out_dir: the folder of the corpus; None writes nothing and only reports.
      graph_rule: which relations the knowledge graph keeps: "all", or one of the rules that were
        made for ReDial's graph.
      use_test: adds the split "test" if there is one.

    Returns:
      The data report, the same as `Corpus.report`.

    Raises:
      MissingDataError: a raw file is missing.
      UserError: a raw file doesn't hold what it should, or the rule is unknown.
    """
    check_rule(graph_rule)
    files, read = read_raw(raw_dir, use_test=use_test)
    known = read.knowledge
    names = {node: name for name, node in known.nodes.items()}
    graph = knowledge_graph(known.triples, len(names), graph_rule, known.relation_names)
    splits = _with_dev(read.splits, use_test)
    item_ids = {names[node]: node for node in known.items}
    has_qualifiers = read.layout == OFFICIAL
    raw = {
        name: [with_mentions(d, item_ids, has_qualifiers=has_qualifiers) for d in found]
        for name, found in splits.items()
    }
    degrees = collections.Counter(graph.edges[:, 0].tolist())
    others = {name: node for name, node in known.nodes.items() if name not in item_ids}
    labels = entity_labels(splits["train"], raw["train"], others, degrees)
    stop_words = _stop_words(files)
    num_edges, concepts = _concepts(files, raw["train"], stop_words)
    parts = CorpusParts(
        raw_splits=raw,
        items=_item_table(known, names),
        graph=graph,
        concept_graph=concepts,
        labels={k: node for k, node in labels.items() if not all(w in stop_words for w in k)},
        entity_names=[names[node] for node in range(len(names))],
        source_counts={
            "triples": len(known.triples),
            "concept_edges": num_edges,
            "labels": len(labels),
        },
        warnings=[*_warnings(read), *graph_warnings(graph, known.triples)],
    )
    return assemble_corpus(parts, out_dir, functools.partial(_report, read, splits, raw))


def _with_dev(
    splits: Mapping[str, Sequence[AnnotatedDialogue]], use_test: bool
) -> dict[str, list[AnnotatedDialogue]]:
    """Takes "dev" out of "train", by hash as for ReDial."""
    train = splits["train"]
    found = {
        "train": [d for d in train if not is_dev(d.conversation_id)],
        "dev": [d for d in train if is_dev(d.conversation_id)],
    }
    others = ("valid", "test") if use_test else ("valid",)
    return found | {name: list(splits[name]) for name in others if splits.get(name)}


def _item_table(known: KnowledgeBase, names: Mapping[int, str]) -> ItemTable:
    """The items: their ids are the numbers of their nodes; titles have a year that is known."""
    years = {node: set[str]() for node in known.items}
    for head, relation, tail in known.triples:
        if head in years and known.relation_names.get(relation) == _YEAR:
            years[head].add(names[tail])
    heads = {head for head, _, _ in known.triples} | {tail for _, _, tail in known.triples}
    return ItemTable(
        item_ids=np.array(known.items, np.int64),
        titles=[_title(names[node], years[node]) for node in known.items],
        entity_ids=np.array(known.items, np.int32),
        is_linked=np.array([node in heads for node in known.items], np.bool_),
    )


def _title(name: str, years: set[str]) -> str:
    if len(years) != 1 or name.endswith(")"):
        return name
    return f"{name} ({years.copy().pop()})"


def _stop_words(files: Mapping[str, RawFile]) -> frozenset[str]:
    if "stop_words" not in files:
        return ENGLISH
    listed = files["stop_words"].read_bytes().decode("utf-8", "replace")
    return frozenset(word.casefold() for word in listed.split())


def _concepts(
    files: Mapping[str, RawFile], train: Iterable[RawDialogue], stop_words: frozenset[str]
) -> tuple[int, ConceptGraph]:
    """ConceptNet's edges between words of the training text, and how many there are."""
    words = {
        word.casefold()
        for dialogue in train
        for _, text in dialogue.messages
        for word in tokens(text)
        if word[0].isalpha()
    }
    if "concept_edges" in files:
        file = files["concept_edges"]
        read = read_concept_edges(file.lines(), str(file))
        pairs = [pair for pair in read if pair[0] in words and pair[1] in words]
    else:
        pairs = read_concept_dump(files["concept_dump"].path, words)
    return len(pairs), concept_graph(pairs, stop_words)


def _warnings(read: Annotated) -> list[str]:
    found = []
    if count := read.left_out.get("train_in_valid"):
        found.append(
            f"{count:,} dialogues are in the files of train and valid: they belong to valid, as "
            "their responses there would otherwise be trained on."
        )
    if count := read.left_out.get("test_in_train_or_valid"):
        found.append(
            f"{count:,} dialogues of the test file are also in the files of train or valid: they "
            "are left out of test, as training has seen them."
        )
    if read.ends_with_recommendation:
        found.append(NO_REC_RATIO)
    return found


def _report(
    read: Annotated,
    splits: Mapping[str, Sequence[AnnotatedDialogue]],
    raw: Mapping[str, Sequence[RawDialogue]],
    counts: dict[str, Any],
) -> dict[str, Any]:
    """Adds to the counts of the dialogues how much of what was marked is found in the texts."""
    nodes, items = read.knowledge.nodes, set(read.knowledge.items)
    marked: dict[str, dict[str, int]] = {}
    for split, dialogues in splits.items():
        total: collections.Counter[str] = collections.Counter()
        for dialogue, texts in zip(dialogues, raw[split], strict=True):
            for (_, text), names in zip(texts.messages, dialogue.recommended, strict=True):
                found = [nodes.get(name, -1) for name in names]
                in_text = set(tokens(text))
                total["recommending_responses"] += bool(names)
                total["recommended"] += len(names)
                total["not_an_item"] += sum(node not in items for node in found)
                total["not_in_text"] += sum(
                    node in items and f"@{node}" not in in_text for node in found
                )
        marked[split] = dict(total)
    report = counts | {"layout": read.layout, "marked": marked, "left_out": dict(read.left_out)}
    report["problems"] = {name: problems.as_json() for name, problems in read.problems.items()}
    if read.ends_with_recommendation:
        report["without_meaning"] = {"rec_ratio": NO_REC_RATIO}
    return report
