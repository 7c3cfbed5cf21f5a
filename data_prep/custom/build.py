"""Builds a corpus from a folder of your own data, with or without its optional files.

Nodes of the graph are the items, in file order, then whatever triples and attributes name. Without
either, every node has a self loop only; without `words.tsv`, there are no concepts.
"""

from __future__ import annotations

import collections
import functools
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from etils import epath

from conkd_jax.data.corpus import ItemTable
from conkd_jax.data.mentions import tokens
from data_prep.assembly import CorpusParts, assemble_corpus
from data_prep.custom.reader import OwnData, Triple, read_own_data
from data_prep.graphs import concept_graph, knowledge_graph
from data_prep.linking import Label, misleading_labels

NO_GRAPH = (
    "there is neither a graph.tsv nor an attribute of an item, so an item has no neighbours in the "
    "graph: the recommender knows it only by the dialogues that mention it, and an item that no "
    "training dialogue mentions can't be told from any other. Attributes in items.jsonl are the "
    "cheapest graph."
)
NO_WORDS = (
    "there is no words.tsv, so the recommender reads the items and nodes that a context mentions, "
    "not its words: a context without them gives popularity. Train with the options "
    "--config.rec_teacher.use_concepts=False --config.rec_teacher.mim_epochs=0 "
    "--config.rec_teacher.mim_weight=0; the backbones kgsf and revcore need a word graph."
)


def build_custom(
    directory: epath.PathLike,
    out_dir: epath.PathLike | None,
    *,
    min_relation_share: float = 0.0,
    use_test: bool = True,
) -> dict[str, Any]:
    """Builds a corpus from a folder of your own data.

    Args:
      directory: the folder (`data_prep.custom.schema`).
      out_dir: the folder of the corpus; None writes nothing and only reports.
      min_relation_share: relations with a smaller share of the triples are left out.
      use_test: whether to read the dialogues of the split `test`. Training never does.

    Returns:
      The data report, the same as `Corpus.report`. `has_word_graph` says whether there is one.

    Raises:
      OwnDataError: the folder can't be used; lists what is wrong.
    """
    data = read_own_data(directory, use_test=use_test)
    nodes = nodes_of(data)
    triples, dropped = frequent(data.triples, min_relation_share)
    names = dict.fromkeys(relation for _, relation, _ in triples)
    relations = {name: number for number, name in enumerate(names)}
    numbered = [(nodes[h], relations[r], nodes[t]) for h, r, t in triples]
    linked = {nodes[node] for node in _joined(triples)}
    candidates = labels_of(data, nodes)
    misleading = unproven_labels(data, candidates)
    has_aliases = any(item.aliases for item in data.items)
    parts = CorpusParts(
        raw_splits=data.splits,
        items=ItemTable(
            item_ids=np.arange(1, len(data.items) + 1, dtype=np.int64),
            titles=[item.name for item in data.items],
            entity_ids=np.arange(len(data.items), dtype=np.int32),
            is_linked=np.array([node in linked for node in range(len(data.items))], np.bool_),
            keys=[item.id for item in data.items],
            aliases=[list(item.aliases) for item in data.items] if has_aliases else None,
        ),
        graph=knowledge_graph(numbered, len(nodes), "all", dict(enumerate(names))),
        concept_graph=concept_graph(data.word_pairs or [], data.stop_words),
        labels={
            label: nodes[node] for label, node in candidates.items() if label not in misleading
        },
        entity_names=names_of(data, nodes),
        source_counts={
            "triples": len(triples),
            "concept_edges": len(data.word_pairs or []),
            "labels": len(candidates) - len(misleading),
        },
        warnings=[*data.warnings, *_label_warnings(misleading), *_dropped_warnings(dropped)],
        content_warnings=functools.partial(own_warnings, data),
    )
    return assemble_corpus(
        parts, out_dir, lambda counts: counts | {"has_word_graph": data.word_pairs is not None}
    )


def nodes_of(data: OwnData) -> dict[str, int]:
    """The number of every node: items first, then those of triples in order of appearance."""
    ids = [item.id for item in data.items]
    ids += [node for head, _, tail in data.triples for node in (head, tail)]
    return {node: number for number, node in enumerate(dict.fromkeys(ids))}


def names_of(data: OwnData, nodes: Collection[str]) -> list[str]:
    """A readable name of every node, in their order."""
    items = {item.id: item.name for item in data.items}
    return [data.nodes[n].name if n in data.nodes else items.get(n, n) for n in nodes]


def frequent(triples: Sequence[Triple], min_share: float) -> tuple[list[Triple], dict[str, int]]:
    """The triples of relations with at least a share of all of them, and what is left out.

    A relation r is kept where count(r) ≥ min_share · (number of triples), so that the threshold
    grows with the graph.

    Returns:
      The triples that are kept, and the counts of the relations that are not.
    """
    counts = collections.Counter(relation for _, relation, _ in triples)
    dropped = {r: n for r, n in counts.items() if n < min_share * len(triples)}
    return [triple for triple in triples if triple[1] not in dropped], dropped


def labels_of(data: OwnData, nodes: Mapping[str, int]) -> dict[Label, str]:
    """The node of every name and alias that links free text; items are linked by their marks.

    Of nodes with the same name, the one with the most triples wins. Names of stop words only, and
    addresses, are no labels.
    """
    degrees = collections.Counter(node for head, _, tail in data.triples for node in (head, tail))
    items = {item.id for item in data.items}
    best: dict[Label, tuple[int, int, str]] = {}
    for node in nodes:
        if node in items:
            continue
        named = data.nodes.get(node)
        for name in (named.name, *named.aliases) if named else (node,):
            label = tuple(tokens(name.casefold()))
            if "://" in name or all(w in data.stop_words or not w[0].isalnum() for w in label):
                continue
            best[label] = max(best.get(label, (0, 0, "")), (degrees[node], -nodes[node], node))
    return {label: node for label, (_, _, node) in best.items()}


def unproven_labels(data: OwnData, labels: Mapping[Label, str]) -> set[Label]:
    """The labels that are probably everyday words (`linking.misleading_labels`).

    Values of attributes are exempt, as a person chose them one by one.
    """
    judged = [label for label, node in labels.items() if node not in data.attribute_nodes]
    texts = ([text for _, text in dialogue.messages] for dialogue in data.splits["train"])
    return misleading_labels(judged, texts)


def own_warnings(data: OwnData, report: Mapping[str, Any]) -> list[str]:
    """Says what the corpus lacks and what that costs, a sentence each."""
    warnings = []
    if not report["splits"]["train"]["item_mentions"]:
        warnings.append(
            "no training response marks an item: write its id as @[id] in the text, or let "
            "`conkd-data link` find the names."
        )
    joined = _joined(data.triples)
    unlinked = [item.id for item in data.items if item.id not in joined]
    if not data.triples:
        warnings.append(NO_GRAPH)
    elif unlinked:
        warnings.append(
            f"{len(unlinked):,} of {len(data.items):,} items are in no triple and have no "
            f"attribute, for example {unlinked[0]!r}: the recommender knows them only by the "
            "dialogues that mention them."
        )
    if data.word_pairs is None:
        warnings.append(NO_WORDS)
    elif not any(counts["concept_mentions"] for counts in report["linking"].values()):
        warnings.append(
            "no word of words.tsv occurs in the dialogues: are they in the same language?"
        )
    said = {
        word
        for dialogue in data.splits["train"]
        for _, text in dialogue.messages
        for word in tokens(text)
        if word.startswith("@")
    }
    silent = [item.id for n, item in enumerate(data.items, start=1) if f"@{n}" not in said]
    if silent and len(silent) < len(data.items):
        warnings.append(
            f"{len(silent):,} of {len(data.items):,} items are mentioned in no training dialogue, "
            f"for example {silent[0]!r}: only the graph and the distillation teach them."
        )
    return warnings


def _joined(triples: Iterable[Triple]) -> set[str]:
    """The nodes that a triple joins with another one."""
    return {node for head, _, tail in triples if head != tail for node in (head, tail)}


def _label_warnings(misleading: Collection[Label]) -> list[str]:
    if not misleading:
        return []
    example = " ".join(min(misleading, key=lambda label: (len(label), label)))
    return [
        f"{len(misleading):,} names of nodes are not looked for in texts, for example {example!r}: "
        "they may be everyday words, since dialogues that use them don't talk about the same "
        "items. A node that is the value of an attribute is always looked for."
    ]


def _dropped_warnings(dropped: Mapping[str, int]) -> list[str]:
    if not dropped:
        return []
    name, count = max(dropped.items(), key=lambda entry: entry[1])
    return [
        f"corpus.min_relation_share leaves out {len(dropped):,} relations, of which {name!r} has "
        f"the most triples, {count:,}."
    ]
