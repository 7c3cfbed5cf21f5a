"""ReDial and KGSF's graphs to a corpus: `python -m data_prep.redial --help`.

The one place that knows how the raw files of ReDial fit together. What a record looks like is
`conkd_jax.data.corpus`'s business.
"""

import argparse
import dataclasses
import json
import sys
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from etils import epath

from conkd_jax.data.corpus import ConceptGraph, Dialogue, ItemTable, KnowledgeGraph, write_corpus
from data_prep import download, graphs, linking, report, sources, split_ids
from data_prep.raw_dialogues import PROBLEM_KINDS, TOKEN, Problems, RawDialogue, read_jsonl
from data_prep.stop_words import ENGLISH

DEFAULT_GRAPH_RULE = "kgsf"


@dataclasses.dataclass(frozen=True)
class _Read:
    """The raw dialogues of every split, and what was odd in each file."""

    splits: dict[str, list[RawDialogue]]
    problems: dict[str, Problems]
    held_out_of_train: int
    valid_source: str


def raw_fingerprint(
    raw_dir: epath.PathLike | None = None,
    *,
    use_inferred_order: bool = False,
    use_test: bool = True,
) -> dict[str, str]:
    """Hashes the raw files that a corpus would be made of.

    Args:
      raw_dir: as for `build`.
      use_inferred_order, use_test: as for `build`.

    Returns:
      SHA-256 by the file's own name, alike in every layout.
    """
    used = sources.find(raw_dir, use_inferred_order=use_inferred_order, use_test=use_test).used()
    return {file.name: file.sha256() for file in sorted(used.values(), key=lambda f: f.name)}


def build(
    raw_dir: epath.PathLike | None,
    out_dir: epath.PathLike | None,
    *,
    graph_rule: str = DEFAULT_GRAPH_RULE,
    use_inferred_order: bool = False,
    use_test: bool = True,
) -> dict[str, Any]:
    """Builds a corpus from ReDial's raw files.

    Args:
      raw_dir: folder or archive with the raw files; None looks at `CONKD_RAW_DIR` and the cache.
      out_dir: where the corpus goes; None writes nothing and only reports.
      graph_rule: which relations the knowledge graph keeps, "kgsf" or "kbrd".
      use_inferred_order: adds the split "inferred", dialogues whose turn order is inferred.
      use_test: adds the split "test" where its file is there. What is trained never reads it, so
        a corpus for training is built without: the file may come later and changes nothing.

    Returns:
      The data report, as `Corpus.report` has it.

    Raises:
      sources.MissingDataError: a raw file is not there.
      ValueError: a raw file does not hold what it should, or an unknown rule.
    """
    if graph_rule not in graphs.GRAPH_RULES:
        raise ValueError(
            f"expected graph_rule to be one of {', '.join(graphs.GRAPH_RULES)}; got {graph_rule!r}"
        )
    files = sources.find(raw_dir, use_inferred_order=use_inferred_order, use_test=use_test)
    raw = _read_dialogues(files)
    titles = _movie_titles(files, raw)
    entities = graphs.read_entities(files.entity_ids.path, files.movie_entities.path, titles)
    triples = graphs.read_triples(files.triples.path)
    graph = graphs.knowledge_graph(
        triples, entities.num_entities, graph_rule, {r: f"dbpedia_{r}" for _, r, _ in triples}
    )
    items = _item_table(titles, entities)
    stop_words = _stop_words(files)
    num_concept_edges, concepts = _concepts(files, raw, stop_words)
    labels = _labels(entities, graph, stop_words, raw.splits["train"])
    linker = linking.Linker(
        {int(movie): i for i, movie in enumerate(items.movie_ids)},
        items.entity_ids.tolist(),
        labels,
        {w: i for i, w in enumerate(concepts.words) if not concepts.is_stop_word[i]},
    )
    splits = {
        name: [linking.link_dialogue(dialogue, linker) for dialogue in dialogues]
        for name, dialogues in raw.splits.items()
    }
    summary = _report(files, raw, splits, items)
    summary["graph"] = report.graph_counts(graph, items, concepts) | {
        "triples": len(triples),
        "concept_edges": num_concept_edges,
        "labels": len(labels),
    }
    if out_dir is not None:
        write_corpus(
            out_dir,
            splits=splits,
            items=items,
            graph=graph,
            concept_graph=concepts,
            report=summary,
            entity_names=_entity_names(entities, items),
        )
    return summary


def _read_dialogues(files: sources.Sources) -> _Read:
    problems: dict[str, Problems] = {}

    def read(file: sources.RawFile | None) -> dict[str, RawDialogue]:
        if file is None:
            return {}
        problems[file.name] = Problems()
        found = read_jsonl(file.lines(), str(file), problems[file.name])
        return {dialogue.conversation_id: dialogue for dialogue in found}

    train, valid, test = read(files.train), read(files.valid), read(files.test)
    inferred = read(files.inferred)
    listed = split_ids.valid_ids()
    valid_source = files.valid.name if files.valid else files.train.name
    if files.valid is None:
        valid = {i: train[i] for i in listed if i in train}
    held_out = set(listed) | set(valid) | set(test)
    train_ids, dev_ids, taken = split_ids.split_train(list(train), held_out)
    splits = {
        "train": [train[i] for i in train_ids],
        "dev": [train[i] for i in dev_ids],
        "valid": list(valid.values()),
        "test": list(test.values()),
        "inferred": [d for i, d in inferred.items() if i not in held_out and i not in train],
    }
    splits = {name: found for name, found in splits.items() if found or name in ("train", "dev")}
    return _Read(splits, problems, len(taken), valid_source)


def _movie_titles(files: sources.Sources, raw: _Read) -> dict[int, str]:
    """Title by movie id, ids ascending; without a movie list, from the dialogues themselves."""
    if files.movies is not None:
        movies = graphs.read_movies(files.movies.read_bytes(), str(files.movies))
        return dict(sorted(movies.items()))
    said: dict[int, str] = {}
    for dialogue in (d for split in raw.splits.values() for d in split):
        said.update(dialogue.titles)
    ids = graphs.read_movie_ids(files.movie_entities.path)
    return {movie: said.get(movie, f"Movie {movie}") for movie in ids}


def _item_table(titles: Mapping[int, str], entities: graphs.Entities) -> ItemTable:
    movies = list(titles)
    return ItemTable(
        movie_ids=np.array(movies, np.int64),
        titles=[titles[movie] for movie in movies],
        entity_ids=np.array([entities.movie_nodes[movie] for movie in movies], np.int32),
        is_linked=np.array([movie in entities.linked for movie in movies], np.bool_),
    )


def _labels(
    entities: graphs.Entities,
    graph: KnowledgeGraph,
    stop_words: Collection[str],
    train: Iterable[RawDialogue],
) -> dict[tuple[str, ...], int]:
    """Node of every label that free text is linked by."""
    degrees = np.bincount(graph.edges[:, 0], minlength=entities.num_entities)
    labels = linking.uri_labels(
        entities.ids, set(entities.movie_nodes.values()), dict(enumerate(degrees.tolist()))
    )
    labels = {k: node for k, node in labels.items() if not all(w in stop_words for w in k)}
    training_text = ([text for _, text in dialogue.messages] for dialogue in train)
    misleading = linking.misleading_labels(labels, training_text)
    return {label: node for label, node in labels.items() if label not in misleading}


def _stop_words(files: sources.Sources) -> frozenset[str]:
    if files.stop_words is None:
        return ENGLISH
    listed = files.stop_words.read_bytes().decode("utf-8", "replace")
    return frozenset(word.casefold() for word in listed.split())


def _concepts(
    files: sources.Sources, raw: _Read, stop_words: Iterable[str]
) -> tuple[int, ConceptGraph]:
    if files.concept_edges is not None:
        pairs = graphs.read_concept_edges(files.concept_edges.lines())
    elif files.concept_dump is not None:
        pairs = graphs.read_concept_dump(files.concept_dump.path, _vocabulary(files, raw))
    else:
        pairs = []
    return len(pairs), graphs.concept_graph(pairs, frozenset(stop_words))


def _vocabulary(files: sources.Sources, raw: _Read) -> set[str]:
    """Lower-cased words of the training text, and of KGSF's vocabulary where it is there."""
    words = {
        token.casefold()
        for dialogue in raw.splits["train"]
        for _, text in dialogue.messages
        for token in TOKEN.findall(text)
        if token[0].isalpha()
    }
    if files.vocabulary is not None:
        listed = json.loads(files.vocabulary.read_bytes())
        words |= {word.casefold() for word in listed if word[:1].isalpha()}
    return words


def _report(
    files: sources.Sources, raw: _Read, splits: Mapping[str, Sequence[Dialogue]], items: ItemTable
) -> dict[str, Any]:
    def count(*names: str) -> dict[str, Any]:
        found = [d for name in names for d in splits.get(name, ())]
        utterances = sum(len(d.messages) for name in names for d in raw.splits.get(name, ()))
        return report.split_counts(found, utterances, items)

    counts = {"train": count("train", "dev")}
    counts |= {name: count(name) for name in ("valid", "test", "inferred") if name in splits}
    files_read = {name: problems.as_json() for name, problems in raw.problems.items()}
    totals = {kind: sum(found[kind] for found in files_read.values()) for kind in PROBLEM_KINDS}
    for kind in ("unknown_movie_ids", "responses_over_30_tokens"):
        totals[kind] = sum(split[kind] for split in counts.values())
    return {
        "splits": counts,
        "dev": count("dev") | {"rule": "5 % of train by SHA-256 of the conversation id"},
        "valid_ids": {
            "sha256": split_ids.VALID_IDS_SHA256,
            "listed": len(split_ids.valid_ids()),
            "found": sum(
                d.conversation_id in set(split_ids.valid_ids()) for d in splits.get("valid", ())
            ),
            "read_from": raw.valid_source,
            "held_out_of_train": raw.held_out_of_train,
        },
        "linking": {name: report.linking_counts(found, items) for name, found in splits.items()},
        "problems": totals | {"files": files_read},
    }


def _entity_names(entities: graphs.Entities, items: ItemTable) -> list[str]:
    names = [""] * entities.num_entities
    for uri, node in entities.ids.items():
        names[node] = uri.strip("<>").rsplit("/resource/", 1)[-1].replace("_", " ")
    for node, title in zip(items.entity_ids.tolist(), items.titles, strict=True):
        names[node] = title
    return names


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m data_prep.redial",
        description="Builds the ReDial corpus that training reads, or reports on the raw files.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=(
            "examples:\n"
            "  python -m data_prep.redial --raw_dir=DIR --report\n"
            "  python -m data_prep.redial --raw_dir=DIR --out_dir=corpus/redial\n"
            "  python -m data_prep.redial --download --out_dir=corpus/redial\n\n"
            "DIR holds train_data.jsonl, movies_with_mentions.csv, subkg.pkl, entity2entityId.pkl,"
            "\nid2entity.pkl and ConceptNet edges, side by side or in redial/ and kg/; the official"
            "\nredial_dataset.zip may stand for ReDial's. valid_data.jsonl and test_data.jsonl"
            "\nare taken where they are there."
        ),
    )
    parser.add_argument(
        "--raw_dir",
        help=f"raw files; default ${sources.ENVIRONMENT_VARIABLE}, then the download cache",
    )
    parser.add_argument("--out_dir", help="where the corpus goes")
    parser.add_argument(
        "--report",
        action="store_true",
        help="print the data report as one JSON object; builds only with --out_dir",
    )
    parser.add_argument(
        "--graph_rule",
        choices=graphs.GRAPH_RULES,
        default=DEFAULT_GRAPH_RULE,
        help="relations kept: kgsf 46, kbrd 35 on the published graph (default: %(default)s)",
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
        help="where downloads are kept; default "
        f"${download.CACHE_VARIABLE}, then ~/.cache/conkd_jax",
    )
    parser.add_argument(
        "--accept_sha256",
        action="append",
        default=[],
        metavar="HASH",
        help="take a downloaded file with this checksum though another is expected",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line.

    Args:
      argv: arguments without the program's name; None reads `sys.argv`.

    Returns:
      The exit code: 0, or 2 where the data can't be used.
    """
    parser = _parser()
    args = parser.parse_args(argv)
    if not args.report and not args.out_dir:
        parser.error("give --out_dir to build a corpus, or --report to look at the raw files")
    raw_dir = args.raw_dir
    started = time.monotonic()
    try:
        if args.download:
            cache = Path(args.cache_dir) if args.cache_dir else None
            raw_dir = download.fetch_all(cache, accept_sha256=tuple(args.accept_sha256))
        summary = build(
            raw_dir,
            args.out_dir,
            graph_rule=args.graph_rule,
            use_inferred_order=args.use_inferred_order,
        )
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if args.report:
        print(json.dumps(summary, indent=2, ensure_ascii=False))
    if args.out_dir:
        took = time.monotonic() - started
        print(f"Wrote the corpus to {args.out_dir} in {took:.0f} s.", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
