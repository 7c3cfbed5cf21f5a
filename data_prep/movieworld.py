"""MovieWorld: a synthetic corpus with a graph that explains its recommendations.

`python -m data_prep.movieworld --help`. A seed gives a world (movies, people, genres, how words
relate), users with tastes on it, and dialogues. What is recommended follows from the graph: movies
that share people, then genre and decade, with what the seeker said. A recommender that reads the
graph can learn this from few dialogues; a language model alone would need every pair of movies.
It needs no data and no network, and must not know ReDial.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from etils import epath

from conkd_jax.data.corpus import ConceptGraph, Dialogue, ItemTable, write_corpus
from data_prep import graphs, linking, report, split_ids
from data_prep import movieworld_text as text
from data_prep.movieworld_dialogues import (
    DECADES,
    FIRST_MOVIE_ID,
    World,
    make_dialogues,
    make_world,
)
from data_prep.raw_dialogues import TOKEN, RawDialogue
from data_prep.stop_words import ENGLISH

DEFAULT_SEED = 0
DEFAULT_NUM_DIALOGUES = 500
DEFAULT_NUM_MOVIES = 120
_MIN_MOVIES, _MAX_MOVIES = 20, 5000
_MIN_DIALOGUES = 20
_RELATIONS = {0: "directed_by", 1: "starring", 2: "genre", 3: "decade"}


def build(
    out_dir: epath.PathLike | None,
    *,
    seed: int = DEFAULT_SEED,
    num_dialogues: int = DEFAULT_NUM_DIALOGUES,
    num_movies: int = DEFAULT_NUM_MOVIES,
) -> dict[str, Any]:
    """Builds a MovieWorld corpus; the same arguments give the same bytes.

    Args:
      out_dir: where the corpus goes; None writes nothing and only reports.
      seed: any integer.
      num_dialogues: how many dialogues; one in ten is "valid", one in ten "test".
      num_movies: how many movies.

    Returns:
      The data report, as `Corpus.report` has it.

    Raises:
      ValueError: too few dialogues or movies, or too many movies.
    """
    if num_dialogues < _MIN_DIALOGUES:
        raise ValueError(f"expected num_dialogues ≥ {_MIN_DIALOGUES}, got {num_dialogues}")
    if not _MIN_MOVIES <= num_movies <= _MAX_MOVIES:
        raise ValueError(
            f"expected num_movies between {_MIN_MOVIES} and {_MAX_MOVIES}, got {num_movies}"
        )
    world = make_world(seed, num_movies)
    nodes = _nodes(world)
    triples = _triples(world, nodes)
    graph = graphs.whole_graph(triples, len(nodes), _RELATIONS)
    items = ItemTable(
        movie_ids=np.arange(FIRST_MOVIE_ID, FIRST_MOVIE_ID + num_movies, dtype=np.int64),
        titles=[movie.title for movie in world.movies],
        entity_ids=np.arange(num_movies, dtype=np.int32),
        is_linked=np.array([movie.is_linked for movie in world.movies], np.bool_),
    )
    pairs = _concept_pairs()
    concepts = graphs.concept_graph(pairs, ENGLISH)
    linker = _linker(nodes, items, concepts)
    raw = _split(make_dialogues(world, seed, num_dialogues))
    splits = {
        name: [linking.link_dialogue(dialogue, linker) for dialogue in dialogues]
        for name, dialogues in raw.items()
    }
    summary = _report(raw, splits, items)
    summary["world"] = {"seed": seed, "num_movies": num_movies, "people": len(world.people)}
    summary["graph"] = report.graph_counts(graph, items, concepts) | {
        "triples": len(triples),
        "concept_edges": len(pairs),
    }
    if out_dir is not None:
        write_corpus(
            out_dir,
            splits=splits,
            items=items,
            graph=graph,
            concept_graph=concepts,
            report=summary,
            entity_names=list(nodes),
        )
    return summary


def _linker(nodes: Mapping[str, int], items: ItemTable, concepts: ConceptGraph) -> linking.Linker:
    """Links people, genres and decades by name; movies by their "@" id only."""
    labels = {
        tuple(TOKEN.findall(name.casefold())): node
        for name, node in nodes.items()
        if node >= len(items)
    }
    return linking.Linker(
        {int(movie): index for index, movie in enumerate(items.movie_ids)},
        items.entity_ids.tolist(),
        labels,
        {w: i for i, w in enumerate(concepts.words) if not concepts.is_stop_word[i]},
    )


def _nodes(world: World) -> dict[str, int]:
    """Node of every name: movies first, in item order, then people, genres and decades."""
    names = [movie.title for movie in world.movies]
    names += [*world.people, *text.GENRES, *DECADES]
    return {name: node for node, name in enumerate(names)}


def _triples(world: World, nodes: Mapping[str, int]) -> list[tuple[int, int, int]]:
    triples = []
    for node, movie in enumerate(world.movies):
        if movie.is_linked:
            triples.append((node, 0, nodes[movie.director]))
            triples += [(node, 1, nodes[person]) for person in movie.cast]
            triples.append((node, 2, nodes[movie.genre]))
            triples.append((node, 3, nodes[movie.decade]))
    return triples


def _concept_pairs() -> list[tuple[str, str]]:
    pairs = list(text.COMMON_CONCEPTS)
    for genre, themes in text.GENRES.items():
        genre_word = genre.split()[-1]
        pairs += [(genre_word, theme) for theme in themes]
        pairs += list(zip(themes, (*themes[1:], themes[0]), strict=True))
    return pairs


def _split(dialogues: Sequence[RawDialogue]) -> dict[str, list[RawDialogue]]:
    """Of every ten dialogues the ninth is "valid" and the tenth "test"; `dev` goes by hash."""
    splits: dict[str, list[RawDialogue]] = {"train": [], "dev": [], "valid": [], "test": []}
    for number, dialogue in enumerate(dialogues):
        name = {8: "valid", 9: "test"}.get(number % 10)
        if name is None:
            name = "dev" if split_ids.is_dev(dialogue.conversation_id) else "train"
        splits[name].append(dialogue)
    if not splits["dev"]:
        splits["dev"].append(splits["train"].pop())
    return splits


def _report(
    raw: Mapping[str, Sequence[RawDialogue]],
    splits: Mapping[str, Sequence[Dialogue]],
    items: ItemTable,
) -> dict[str, Any]:
    def count(*names: str) -> dict[str, Any]:
        utterances = sum(len(d.messages) for name in names for d in raw[name])
        return report.split_counts([d for n in names for d in splits[n]], utterances, items)

    return {
        "splits": {"train": count("train", "dev"), "valid": count("valid"), "test": count("test")},
        "dev": count("dev"),
        "linking": {name: report.linking_counts(found, items) for name, found in splits.items()},
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line.

    Args:
      argv: arguments without the program's name; None reads `sys.argv`.

    Returns:
      The exit code.
    """
    parser = argparse.ArgumentParser(
        prog="python -m data_prep.movieworld",
        description="Generates a synthetic corpus with its own knowledge graph; needs no data.",
    )
    parser.add_argument("--out_dir", help="where the corpus goes")
    parser.add_argument("--seed", type=int, default=DEFAULT_SEED, help="default: %(default)s")
    parser.add_argument(
        "--num_dialogues", type=int, default=DEFAULT_NUM_DIALOGUES, help="default: %(default)s"
    )
    parser.add_argument(
        "--num_movies", type=int, default=DEFAULT_NUM_MOVIES, help="default: %(default)s"
    )
    parser.add_argument(
        "--report", action="store_true", help="print the data report as one JSON object"
    )
    args = parser.parse_args(argv)
    if not args.report and not args.out_dir:
        parser.error("give --out_dir to build a corpus, or --report to look at one")
    try:
        summary = build(
            args.out_dir,
            seed=args.seed,
            num_dialogues=args.num_dialogues,
            num_movies=args.num_movies,
        )
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if args.report:
        print(json.dumps(summary, indent=2, ensure_ascii=False))
    if args.out_dir:
        print(f"Wrote the corpus to {args.out_dir}.", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
