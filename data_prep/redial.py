"""Builds the ReDial corpus from raw files and KGSF's graphs: `python -m data_prep.redial --help`.

This module combines the raw files of ReDial; `conkd_jax.data.corpus` defines what is written.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from etils import epath

from conkd_jax.data.corpus import ConceptGraph, ItemTable, KnowledgeGraph
from conkd_jax.data.mentions import tokens
from conkd_jax.io.files import read_json
from data_prep.assembly import CorpusParts, assemble_corpus
from data_prep.command_line import PATH, CorpusParser, run_builder
from data_prep.download import CACHE_VARIABLE, fetch_everything
from data_prep.graphs import (
    Entities,
    GraphError,
    check_rule,
    concept_graph,
    graph_warnings,
    knowledge_graph,
    read_concept_dump,
    read_concept_edges,
    read_entities,
    read_movie_ids,
    read_movies,
    read_triples,
)
from data_prep.linking import Label, misleading_labels, uri_labels
from data_prep.raw_dialogues import (
    PROBLEM_KINDS,
    Problems,
    RawDialogue,
    expect_usable,
    read_jsonl,
)
from data_prep.report import content_warnings
from data_prep.reviews import read_reviews
from data_prep.sources import RawFile, Sources, find_sources
from data_prep.split_ids import VALID_IDS_SHA256, split_train, valid_ids
from data_prep.stop_words import ENGLISH

DEFAULT_GRAPH_RULE = "kgsf"


@dataclasses.dataclass(frozen=True)
class _Read:
    """The raw dialogues of every split, and the problems of every file.

    Attributes:
      splits: the dialogues by split.
      problems: the problems by file name.
      held_out_of_train: how many dialogues of the training file belong to validation or test.
      valid_source: the name of the file that the validation dialogues are from.
    """

    splits: dict[str, list[RawDialogue]]
    problems: dict[str, Problems]
    held_out_of_train: int
    valid_source: str


def redial_fingerprint(
    raw_dir: epath.PathLike | None = None,
    *,
    use_inferred_order: bool = False,
    use_test: bool = True,
) -> dict[str, str]:
    """Hashes the raw files that a corpus would be built from; the arguments are `build_redial`'s.

    Returns:
      The SHA-256 of each file by its own name, the same in every layout of the files.
    """
    used = find_sources(raw_dir, use_inferred_order=use_inferred_order, use_test=use_test).used()
    return {file.name: file.sha256() for file in sorted(used.values(), key=lambda f: f.name)}


def build_redial(
    raw_dir: epath.PathLike | None,
    out_dir: epath.PathLike | None,
    *,
    graph_rule: str = DEFAULT_GRAPH_RULE,
    use_inferred_order: bool = False,
    use_test: bool = True,
    reviews: epath.PathLike | None = None,
) -> dict[str, Any]:
    """Builds a corpus from ReDial's raw files.

    Args:
      raw_dir: folder or archive with the raw files; None uses `CONKD_RAW_DIR`, then the cache.
      out_dir: the folder of the corpus; None writes nothing and only reports.
      graph_rule: which relations the knowledge graph keeps: "kgsf" or "kbrd", made for KGSF's
        graph, or "all", for a small one.
      use_inferred_order: adds the split "inferred", dialogues with an inferred turn order.
      use_test: adds the split "test" if its file is there. Training never reads it, so a corpus for
        training is built without it: adding the file later then changes nothing.
      reviews: a file of reviews (`data_prep.reviews`), which the corpus then holds.

    Returns:
      The data report, the same as `Corpus.report`.

    Raises:
      MissingDataError: a raw file is missing.
      UserError: a raw file doesn't hold what it should, or the rule is unknown.
    """
    check_rule(graph_rule)
    files = find_sources(raw_dir, use_inferred_order=use_inferred_order, use_test=use_test)
    raw = _read_dialogues(files)
    titles = _movie_titles(files, raw)
    entities = read_entities(files.entity_ids.path, files.movie_entities.path, titles)
    triples = read_triples(files.triples.path)
    graph = knowledge_graph(
        triples, entities.num_entities, graph_rule, {r: f"dbpedia_{r}" for _, r, _ in triples}
    )
    items = _item_table(titles, entities)
    stop_words = _stop_words(files)
    num_concept_edges, concepts = _concepts(files, raw, stop_words)
    labels = _labels(entities, graph, stop_words, raw.splits["train"])
    parts = CorpusParts(
        raw_splits=raw.splits,
        items=items,
        graph=graph,
        concept_graph=concepts,
        labels=labels,
        entity_names=_entity_names(entities, items),
        source_counts={
            "triples": len(triples),
            "concept_edges": num_concept_edges,
            "labels": len(labels),
        },
        warnings=[*_file_warnings(raw), *graph_warnings(graph, triples)],
        reviews=None if reviews is None else read_reviews(reviews),
        content_warnings=functools.partial(
            content_warnings,
            item_list="movie list",
            link_files="id2entity.pkl and entity2entityId.pkl",
        ),
    )
    return assemble_corpus(parts, out_dir, functools.partial(_report, raw))


def _read_dialogues(files: Sources) -> _Read:
    problems: dict[str, Problems] = {}

    def read(file: RawFile | None) -> dict[str, RawDialogue]:
        if file is None:
            return {}
        problems[file.name] = Problems()
        found = list(read_jsonl(file.lines(), str(file), problems[file.name]))
        expect_usable(len(found), problems[file.name], str(file))
        return {dialogue.conversation_id: dialogue for dialogue in found}

    train, valid, test = read(files.train), read(files.valid), read(files.test)
    inferred = read(files.inferred)
    listed = valid_ids()
    valid_source = files.valid.name if files.valid else files.train.name
    if files.valid is None:
        valid = {i: train[i] for i in listed if i in train}
    held_out = set(listed) | set(valid) | set(test)
    train_ids, dev_ids, taken = split_train(list(train), held_out)
    splits = {
        "train": [train[i] for i in train_ids],
        "dev": [train[i] for i in dev_ids],
        "valid": list(valid.values()),
        "test": list(test.values()),
        "inferred": [d for i, d in inferred.items() if i not in held_out and i not in train],
    }
    splits = {name: found for name, found in splits.items() if found or name in ("train", "dev")}
    return _Read(splits, problems, len(taken), valid_source)


def _movie_titles(files: Sources, raw: _Read) -> dict[int, str]:
    """Returns the title of every movie id, ids ascending; without a movie list, the dialogues'."""
    if files.movies is not None:
        movies = read_movies(files.movies.read_bytes(), str(files.movies))
        return dict(sorted(movies.items()))
    said: dict[int, str] = {}
    for dialogue in (d for split in raw.splits.values() for d in split):
        said.update(dialogue.titles)
    ids = read_movie_ids(files.movie_entities.path)
    return {movie: said.get(movie, f"Movie {movie}") for movie in ids}


def _item_table(titles: Mapping[int, str], entities: Entities) -> ItemTable:
    movies = list(titles)
    return ItemTable(
        item_ids=np.array(movies, np.int64),
        titles=[titles[movie] for movie in movies],
        entity_ids=np.array([entities.movie_nodes[movie] for movie in movies], np.int32),
        is_linked=np.array([movie in entities.linked for movie in movies], np.bool_),
    )


def _labels(
    entities: Entities,
    graph: KnowledgeGraph,
    stop_words: Collection[str],
    train: Iterable[RawDialogue],
) -> dict[Label, int]:
    """Returns the node of every label that links free text."""
    degrees = np.bincount(graph.edges[:, 0], minlength=entities.num_entities)
    labels = uri_labels(
        entities.ids, set(entities.movie_nodes.values()), dict(enumerate(degrees.tolist()))
    )
    labels = {k: node for k, node in labels.items() if not all(w in stop_words for w in k)}
    training_text = ([text for _, text in dialogue.messages] for dialogue in train)
    misleading = misleading_labels(labels, training_text)
    return {label: node for label, node in labels.items() if label not in misleading}


def _stop_words(files: Sources) -> frozenset[str]:
    if files.stop_words is None:
        return ENGLISH
    listed = files.stop_words.read_bytes().decode("utf-8", "replace")
    return frozenset(word.casefold() for word in listed.split())


def _concepts(files: Sources, raw: _Read, stop_words: Iterable[str]) -> tuple[int, ConceptGraph]:
    if files.concept_edges is not None:
        pairs = read_concept_edges(files.concept_edges.lines(), str(files.concept_edges))
    elif files.concept_dump is not None:
        pairs = read_concept_dump(files.concept_dump.path, _vocabulary(files, raw))
    else:
        pairs = []
    return len(pairs), concept_graph(pairs, frozenset(stop_words))


def _vocabulary(files: Sources, raw: _Read) -> set[str]:
    """Returns the lower-cased words of the training text, and of KGSF's vocabulary if present."""
    words = {
        word.casefold()
        for dialogue in raw.splits["train"]
        for _, text in dialogue.messages
        for word in tokens(text)
        if word[0].isalpha()
    }
    if files.vocabulary is not None:
        listed = read_json(files.vocabulary.path, GraphError, "fetch KGSF's files again")
        words |= {word.casefold() for word in listed if word[:1].isalpha()}
    return words


def _file_warnings(raw: _Read) -> list[str]:
    """Says, a sentence each, what is left out of the raw dialogues or missing from them."""
    warnings = [
        f"{problems.unusable_lines:,} lines of {name} were left out, for example "
        f"{problems.first_unusable_line}."
        for name, problems in raw.problems.items()
        if problems.unusable_lines
    ]
    listed, found = len(valid_ids()), _num_valid_found(raw)
    if found < listed:
        warnings.append(
            f"{found:,} of the {listed:,} published validation dialogues were found (in "
            f"{raw.valid_source}): numbers on valid can't be compared with those of others."
        )
    return warnings


def _num_valid_found(raw: _Read) -> int:
    listed = set(valid_ids())
    return sum(d.conversation_id in listed for d in raw.splits.get("valid", ()))


def _report(raw: _Read, counts: dict[str, Any]) -> dict[str, Any]:
    """Adds to the counts of the dialogues where they are from and what was wrong in the files."""
    files_read = {name: problems.as_json() for name, problems in raw.problems.items()}
    totals = {kind: sum(found[kind] for found in files_read.values()) for kind in PROBLEM_KINDS}
    for kind in ("unknown_movie_ids", "responses_over_30_tokens"):
        totals[kind] = sum(split[kind] for split in counts["splits"].values())
    return {
        "splits": counts["splits"],
        "dev": counts["dev"] | {"rule": "5 % of train by SHA-256 of the conversation id"},
        "valid_ids": {
            "sha256": VALID_IDS_SHA256,
            "listed": len(valid_ids()),
            "found": _num_valid_found(raw),
            "read_from": raw.valid_source,
            "held_out_of_train": raw.held_out_of_train,
        },
        "linking": counts["linking"],
        "problems": totals | {"files": files_read},
    }


def _entity_names(entities: Entities, items: ItemTable) -> list[str]:
    names = [""] * entities.num_entities
    for uri, node in entities.ids.items():
        names[node] = uri.strip("<>").rsplit("/resource/", 1)[-1].replace("_", " ")
    for node, title in zip(items.entity_ids.tolist(), items.titles, strict=True):
        names[node] = title
    return names


def _parser() -> CorpusParser:
    parser = CorpusParser(
        "data_prep.redial",
        description="Builds the ReDial corpus that training reads, or reports on the raw files.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=(
            "examples:\n"
            "  python -m data_prep.redial --raw_dir=DIR --report\n"
            "  python -m data_prep.redial --raw_dir=DIR --out_dir=corpus/redial\n"
            "  python -m data_prep.redial --download --out_dir=corpus/redial\n\n"
            "DIR holds train_data.jsonl, movies_with_mentions.csv, subkg.pkl, entity2entityId.pkl,"
            "\nid2entity.pkl and ConceptNet edges, side by side or in redial/ and kg/. The official"
            "\nredial_dataset.zip can take the place of ReDial's files. valid_data.jsonl and"
            "\ntest_data.jsonl are used if they are there."
        ),
    )
    parser.add_raw_files(
        DEFAULT_GRAPH_RULE,
        ": kgsf 46 and kbrd 35 on the published graph, all in a graph of your own",
    )
    parser.add_argument(
        "--use_inferred_order",
        action="store_true",
        help="add train_inferred_order.jsonl as the split 'inferred'",
    )
    parser.add_argument(
        "--download", action="store_true", help="fetch the official files first, into --cache_dir"
    )
    parser.add_argument(
        "--cache_dir",
        type=PATH,
        help=f"where downloads are kept; default ${CACHE_VARIABLE}, then ~/.cache/conkd_jax",
    )
    parser.add_argument(
        "--accept_sha256",
        action="append",
        default=[],
        metavar="HASH",
        help="accept a downloaded file with this checksum in place of the expected one",
    )
    return parser


def _build(options: argparse.Namespace) -> dict[str, Any]:
    raw_dir = options.raw_dir
    if options.download:
        cache = Path(options.cache_dir) if options.cache_dir else None
        raw_dir = fetch_everything(cache, accept_sha256=tuple(options.accept_sha256))
    return build_redial(
        raw_dir,
        options.out_dir,
        graph_rule=options.graph_rule,
        use_inferred_order=options.use_inferred_order,
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line and returns the exit code."""
    return run_builder(_parser(), _build, argv)


if __name__ == "__main__":
    sys.exit(main())
