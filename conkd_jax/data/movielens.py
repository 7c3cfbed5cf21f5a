"""MovieLens ratings of a corpus' movies, which AutoRec is pretrained on.

The user brings the files `ratings.csv` and `movies.csv` of a MovieLens release. Its movies are
matched by title and year.
"""

from __future__ import annotations

import csv
import dataclasses
import re
import warnings
from collections.abc import Sequence

import numpy as np
from etils import epath

from conkd_jax.errors import UserError
from conkd_jax.io.files import read_csv

FILES = ("ratings.csv", "movies.csv")
LARGEST_ID = 100_000_000  # of a user or a movie; MovieLens has ids of six or seven digits
HIGHEST_RATING = 5.0  # stars; the lowest is half a star, .1 when scaled

_YEAR = re.compile(r"^(.*)\((\d{4})\)\s*$")
_ARTICLE = re.compile(r"^(.*), (the|a|an)$")
_OTHER_TITLES = re.compile(r"\([^()]*\)")


class MovieLensError(UserError, ValueError):
    """A folder that holds no MovieLens release."""


@dataclasses.dataclass(frozen=True)
class Ratings:
    """The ratings of N users.

    Attributes:
      items: for each user, the candidate indices of the rated movies, each once.
      ratings: for each user, the ratings, from 0 to 1.
      num_matched: how many candidates have ratings.
      num_movies: how many candidates there are.
    """

    items: list[np.ndarray]
    ratings: list[np.ndarray]
    num_matched: int
    num_movies: int


def find_movielens(folder: epath.PathLike) -> list[epath.Path]:
    """The two files of a MovieLens release.

    Raises:
      MovieLensError: one of them is missing.
    """
    paths = [epath.Path(folder) / name for name in FILES]
    if missing := [path.name for path in paths if not path.is_file()]:
        raise MovieLensError(
            f"expected a MovieLens release at {folder}, found no {', no '.join(missing)}. Give the "
            "folder of an unpacked ml-latest.zip or ml-latest-small.zip (grouplens.org/datasets)"
        )
    return paths


def _ratings(path: epath.Path) -> np.ndarray:
    """The rows (user, movie, stars) of ratings.csv."""
    expected = f"{path}: expected the columns userId, movieId, rating"
    try:
        with path.open("r") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of a file without rows
            table = np.loadtxt(file, delimiter=",", skiprows=1, usecols=(0, 1, 2), ndmin=2)
    except ValueError as error:
        raise MovieLensError(f"{expected}: {error}") from error
    if not len(table):
        raise MovieLensError(f"{expected} and a rating in every line below, found none")
    ids, stars = table[:, :2], table[:, 2]
    are_ids = (ids >= 0) & (ids <= LARGEST_ID)  # false for nan
    if not (are_ids.all() and ((stars >= 0) & (stars <= HIGHEST_RATING)).all()):
        raise MovieLensError(
            f"{expected}: ids up to {LARGEST_ID:,} and up to {HIGHEST_RATING} stars, got others"
        )
    return table


def read_movielens(folder: epath.PathLike, titles: Sequence[str]) -> Ratings:
    """Reads the ratings of a corpus' movies.

    Args:
      folder: the MovieLens release.
      titles: [M] "Name (year)" of every candidate.

    Raises:
      MovieLensError: a file is missing or of another format, or no movie matches.
    """
    ratings_path, movies_path = find_movielens(folder)
    candidates = {}
    for candidate, title in enumerate(titles):
        key = title_key(title)
        if key is not None:
            candidates.setdefault(key, candidate)
    candidate_of = {
        movie: candidates[key]
        for movie, title in _movies(movies_path)
        if (key := title_key(title)) in candidates
    }
    table = _ratings(ratings_path)
    largest = int(max(table[:, 1].max(initial=0), max(candidate_of, default=0)))
    lookup = np.full(largest + 1, -1, np.int64)
    lookup[list(candidate_of)] = list(candidate_of.values())
    items = lookup[table[:, 1].astype(np.int64)]
    users, stars = table[items >= 0, 0].astype(np.int64), table[items >= 0, 2]
    items = items[items >= 0]
    if not len(items):
        raise MovieLensError(
            f"{folder}: expected ratings of the corpus' movies, but no title and year matches"
        )
    order = np.lexsort((items, users))
    pairs = np.stack([users[order], items[order]], axis=1)
    # Two MovieLens movies may be one of ours: a user's first rating counts.
    is_first = np.ones(len(pairs), bool)
    is_first[1:] = (pairs[1:] != pairs[:-1]).any(axis=1)
    pairs, scaled = pairs[is_first], (stars[order][is_first] / HIGHEST_RATING).astype(np.float32)
    borders = np.flatnonzero(np.diff(pairs[:, 0])) + 1
    return Ratings(
        items=np.split(pairs[:, 1].astype(np.int32), borders),
        ratings=np.split(scaled, borders),
        num_matched=len(np.unique(pairs[:, 1])),
        num_movies=len(titles),
    )


def title_key(title: str) -> tuple[str, str] | None:
    """A title's words and its year, in the form in which releases agree; None without a year.

    >>> title_key("Matrix, The (1999)") == title_key("The Matrix (1999)")
    True
    >>> title_key("Seven (a.k.a. Se7en) (1995)")
    ('seven', '1995')
    """
    found = _YEAR.match(title.strip())
    if found is None:
        return None
    name = _OTHER_TITLES.sub(" ", found[1]).strip().casefold()
    if moved := _ARTICLE.match(name):
        name = f"{moved[2]} {moved[1]}"
    return " ".join(re.findall(r"\w+", name)), found[2]


def _movies(path: epath.Path) -> list[tuple[int, str]]:
    try:
        rows = [row for _, row in read_csv(path.read_bytes().decode("utf-8"))]
        movies = [(int(row[0]), row[1]) for row in rows[1:]]
    except (csv.Error, ValueError, IndexError) as error:
        raise MovieLensError(f"{path}: expected the columns movieId, title: {error}") from error
    for movie, _ in movies:
        if not 0 <= movie <= LARGEST_ID:
            raise MovieLensError(
                f"{path}: expected ids up to {LARGEST_ID:,}, got {str(movie)[:40]}"
            )
    return movies
