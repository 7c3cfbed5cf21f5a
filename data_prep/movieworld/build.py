"""Builds MovieWorld, a corpus that needs no data and no network.

A seed determines a world (movies, people, genres, related words), users with tastes, and dialogues.
Recommendations follow from the graph: a recommended movie shares people, then genre and decade,
with what the seeker mentioned. A recommender that reads the graph can learn this from few
dialogues; a language model alone would have to see every pair of movies.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from etils import epath

from conkd_jax.data.corpus import ItemTable
from conkd_jax.data.mentions import tokens
from conkd_jax.errors import UserError
from data_prep.assembly import CorpusParts, assemble_corpus
from data_prep.graphs import concept_graph, knowledge_graph
from data_prep.movieworld import words
from data_prep.movieworld.conversations import make_dialogues
from data_prep.movieworld.reviews import make_reviews
from data_prep.movieworld.world import DECADES, FIRST_MOVIE_ID, World, make_world
from data_prep.raw_dialogues import RawDialogue
from data_prep.split_ids import is_dev
from data_prep.stop_words import ENGLISH

DEFAULT_SEED = 0
DEFAULT_NUM_DIALOGUES = 500
DEFAULT_NUM_MOVIES = 120
_MIN_MOVIES, _MAX_MOVIES = 20, 5000
_MIN_DIALOGUES = 20
_RELATIONS = {0: "directed_by", 1: "starring", 2: "genre", 3: "decade"}


class MovieWorldError(UserError, ValueError):
    """A MovieWorld of the requested size can't be built."""


def build_movieworld(
    out_dir: epath.PathLike | None,
    *,
    seed: int = DEFAULT_SEED,
    num_dialogues: int = DEFAULT_NUM_DIALOGUES,
    num_movies: int = DEFAULT_NUM_MOVIES,
    with_reviews: bool = False,
) -> dict[str, Any]:
    """Builds a MovieWorld corpus; the same arguments give the same bytes.

    Args:
      out_dir: the folder of the corpus; None writes nothing and only reports.
      seed: any integer.
      num_dialogues: number of dialogues; one in ten is "valid", one in ten "test".
      num_movies: number of movies.
      with_reviews: whether the corpus has reviews; nothing else in it depends on them.

    Returns:
      The data report, the same as `Corpus.report`.

    Raises:
      MovieWorldError: too few dialogues or movies, or too many movies.
    """
    if num_dialogues < _MIN_DIALOGUES:
        raise MovieWorldError(f"expected num_dialogues ≥ {_MIN_DIALOGUES}, got {num_dialogues}")
    if not _MIN_MOVIES <= num_movies <= _MAX_MOVIES:
        raise MovieWorldError(
            f"expected num_movies between {_MIN_MOVIES} and {_MAX_MOVIES}, got {num_movies}"
        )
    world = make_world(seed, num_movies)
    nodes = _nodes(world)
    triples = _triples(world, nodes)
    pairs = _concept_pairs()
    parts = CorpusParts(
        raw_splits=_split(make_dialogues(world, seed, num_dialogues)),
        items=ItemTable(
            item_ids=np.arange(FIRST_MOVIE_ID, FIRST_MOVIE_ID + num_movies, dtype=np.int64),
            titles=[movie.title for movie in world.movies],
            entity_ids=np.arange(num_movies, dtype=np.int32),
            is_linked=np.array([movie.is_linked for movie in world.movies], np.bool_),
        ),
        graph=knowledge_graph(triples, len(nodes), "all", _RELATIONS),
        concept_graph=concept_graph(pairs, ENGLISH),
        # People, genres and decades are linked by name; movies by their "@" id only.
        labels={
            tuple(tokens(name.casefold())): node
            for name, node in nodes.items()
            if node >= num_movies
        },
        entity_names=list(nodes),
        source_counts={"triples": len(triples), "concept_edges": len(pairs)},
        reviews=make_reviews(world, seed) if with_reviews else None,
    )
    size = {"seed": seed, "num_movies": num_movies, "people": len(world.people)}
    return assemble_corpus(parts, out_dir, lambda counts: counts | {"world": size})


def _nodes(world: World) -> dict[str, int]:
    """Returns the node of every name: movies first, in item order, then people, genres, decades."""
    names = [movie.title for movie in world.movies]
    names += [*world.people, *words.GENRES, *DECADES]
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
    pairs = list(words.COMMON_CONCEPTS)
    for genre, themes in words.GENRES.items():
        genre_word = genre.split()[-1]
        pairs += [(genre_word, theme) for theme in themes]
        pairs += list(zip(themes, (*themes[1:], themes[0]), strict=True))
    return pairs


def _split(dialogues: Sequence[RawDialogue]) -> dict[str, list[RawDialogue]]:
    """Makes every ninth of ten dialogues "valid", every tenth "test"; "dev" is chosen by hash."""
    splits: dict[str, list[RawDialogue]] = {"train": [], "dev": [], "valid": [], "test": []}
    for number, dialogue in enumerate(dialogues):
        name = {8: "valid", 9: "test"}.get(number % 10)
        if name is None:
            name = "dev" if is_dev(dialogue.conversation_id) else "train"
        splits[name].append(dialogue)
    if not splits["dev"]:
        splits["dev"].append(splits["train"].pop())
    return splits
