"""Reviews of movies, from RevCore's pickle or from JSON lines.

RevCore's file `movie2tokenreview_helpful.pkl` maps 2,711 movie ids to the first 20 tokens of a
helpful review; 18 of these are blank. A file of your own has one JSON object per line::

    {"movie_id": 111776, "text": "A quiet film about …", "rating": 8}

The rating, from 1 to 10, is optional. RevCore's paper retrieves reviews whose sentiment agrees with
the seeker's; nearly all movies that ReDial's seekers mention are ones they like, so reviews rated
below `LOWEST_RATING` are left out. The first review of a movie that is left is used.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Mapping
from typing import Any

from etils import epath

from conkd_jax.data.corpus import ItemTable
from conkd_jax.errors import UserError
from conkd_jax.io.files import numbered_lines, parse_json
from data_prep.pickles import load_plain
from data_prep.sources import RAW_DIR_VARIABLE, MissingDataError, raw_root

LOWEST_RATING = 6  # of 1 to 10
_FOLDERS = ("reviews", ".", "redial", "data")
# The tokens are those of NLTK's tokenizer, which splits "don't" and writes quotation marks anew.
_QUOTES = {"``": '"', "''": '"'}
_SPLIT_OFF = re.compile(r" (n't|'(?:s|re|ve|ll|d|m))\b", re.IGNORECASE)


class ReviewError(UserError, ValueError):
    """A file of reviews that can't be read."""


@dataclasses.dataclass(frozen=True)
class RawReviews:
    """The reviews of a file.

    Attributes:
      source: the name of the file, or "generated".
      texts: one review by movie id.
      low_ratings: number of reviews that were left out for their rating.
    """

    source: str
    texts: Mapping[int, str]
    low_ratings: int = 0

    def report(self, items: ItemTable, mentions: Mapping[int, int]) -> dict[str, Any]:
        """What the data report says of the reviews.

        Args:
          items: the candidate movies.
          mentions: how often training mentions each of them, by movie id.
        """
        candidates = set(items.item_ids.tolist())
        return {
            "source": self.source,
            "movies": len(candidates & self.texts.keys()),
            "candidates": len(candidates),
            "unknown_movies": len(self.texts.keys() - candidates),
            "low_ratings": self.low_ratings,
            "mentions_in_training": sum(mentions.values()),
            "mentions_with_review": sum(n for m, n in mentions.items() if m in self.texts),
        }


def coverage(report: Mapping[str, Any]) -> str:
    """Returns what `RawReviews.report` says, in one sentence."""
    share = report["movies"] / max(report["candidates"], 1)
    of_mentions = report["mentions_with_review"] / max(report["mentions_in_training"], 1)
    return (
        f"reviews ({report['source']}) of {report['movies']:,} of {report['candidates']:,} movies "
        f"({share:.1%}), to which {of_mentions:.1%} of the mentions in training belong"
    )


def find_reviews(name: str, raw_dir: epath.PathLike | None = None) -> epath.Path:
    """Finds a file of reviews.

    Args:
      name: a path, or the name of a file in the folder of the raw files.
      raw_dir: that folder; None uses `CONKD_RAW_DIR`, then the download cache.

    Raises:
      MissingDataError: there is no such file.
    """
    root = raw_root(raw_dir)
    root = root.parent if root.is_file() else root  # beside the official archive
    for path in (epath.Path(name).expanduser(), *(root / folder / name for folder in _FOLDERS)):
        if path.is_file():
            return path
    raise MissingDataError(
        f"config.corpus.reviews: expected a file of reviews, RevCore's .pkl or a .jsonl, found no "
        f"{name} here, in {os.fspath(root)} or in its folder reviews/. Give its path "
        f"(--config.corpus.reviews=FILE) or put it there ({RAW_DIR_VARIABLE})."
    )


def read_reviews(path: epath.PathLike) -> RawReviews:
    """Reads RevCore's pickle (.pkl) or JSON lines (.jsonl).

    Raises:
      UserError: the file is of another kind or damaged, or no review is left.
    """
    path = epath.Path(path)
    if path.suffix == ".pkl":
        found = RawReviews(path.name, _texts_of_pickle(load_plain(path), path))
    elif path.suffix == ".jsonl":
        found = _reviews_of_lines(path)
    else:
        raise ReviewError(f"{path}: expected reviews in a .pkl (RevCore's) or a .jsonl")
    if not found.texts:
        raise ReviewError(
            f"{path}: expected reviews, found none ({found.low_ratings:,} were left out, rated "
            f"below {LOWEST_RATING})"
        )
    return found


def _texts_of_pickle(table: Any, path: epath.Path) -> dict[int, str]:
    expected = "expected RevCore's reviews, a dict of movie ids and lists of tokens"
    if not isinstance(table, dict):
        raise ReviewError(f"{path}: {expected}; got a {type(table).__name__}")
    texts = {}
    for movie, words in table.items():
        if not str(movie).isdecimal() or not _is_tokens(words):
            raise ReviewError(f"{path}: {expected}; got an entry {movie!r}: {words!r:.60}")
        if text := _joined(words):
            texts[int(movie)] = text
    return texts


def _is_tokens(words: Any) -> bool:
    return isinstance(words, list) and all(isinstance(word, str) for word in words)


def _joined(words: list[str]) -> str:
    """Returns the text of NLTK's tokens.

    >>> print(_joined(["``", "Chucky", "''", "is", "n't", "Bob", "'s"]))
    " Chucky " isn't Bob's
    """
    return _SPLIT_OFF.sub(r"\1", " ".join(_QUOTES.get(word, word) for word in words)).strip()


def _reviews_of_lines(path: epath.Path) -> RawReviews:
    texts: dict[int, str] = {}
    low_ratings = 0
    with path.open("rb") as file:
        for number, line in numbered_lines(file):
            try:
                movie, text, rating = _fields(parse_json(line))
            except ValueError as error:
                raise ReviewError(
                    f'{path}, line {number}: expected {{"movie_id": 1, "text": "…"}}, optionally '
                    f'with "rating" from 1 to 10: {error}'
                ) from error
            if rating is not None and rating < LOWEST_RATING:
                low_ratings += 1
            elif text.strip():
                texts.setdefault(movie, text.strip())
    return RawReviews(path.name, texts, low_ratings)


def _fields(entry: Any) -> tuple[int, str, float | None]:
    """Movie id, text and rating of a line; ids may be written as text, as in RevCore's file."""
    if not isinstance(entry, dict):
        raise ValueError(f"got {entry!r:.60}")
    movie, text, rating = entry.get("movie_id"), entry.get("text"), entry.get("rating")
    if not isinstance(movie, int | str) or not str(movie).isdecimal():
        raise ValueError(f"got movie_id {movie!r:.60}")
    if not isinstance(text, str):
        raise ValueError(f"got text {text!r:.60}")
    is_number = isinstance(rating, int | float) and not isinstance(rating, bool)
    if rating is not None and not (is_number and 1 <= rating <= 10):
        raise ValueError(f"got rating {rating!r:.60}")
    return int(movie), text, rating
