"""MovieWorld's movies and people, drawn from a seed; `build` makes a graph of them."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Sequence
from typing import TypeVar

from data_prep.movieworld import words

FIRST_MOVIE_ID = 100_001
DECADES = ("sixties", "seventies", "eighties", "nineties")
# One movie in 25 has no place in the graph; of ReDial's movies about one in nine has none.
_UNLINKED_EVERY = 25

_T = TypeVar("_T")


class Dice:
    """Random choices from one seeded stream.

    It uses `random()` only, because Python promises the same numbers for it in every version.
    """

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def chance(self, probability: float) -> bool:
        """Returns True with a probability."""
        return self._random.random() < probability

    def pick(self, options: Sequence[_T]) -> _T:
        """Returns one of the options, all equally likely."""
        return options[int(self._random.random() * len(options))]

    def weighted(self, options: Sequence[_T], weights: Sequence[float]) -> _T:
        """Returns one of the options, each with a probability proportional to its weight."""
        left = self._random.random() * sum(weights)
        for option, weight in zip(options, weights, strict=True):
            left -= weight
            if left < 0:
                return option
        return options[-1]

    def sample(self, options: Sequence[_T], number: int) -> list[_T]:
        """Returns some of the options, none of them twice."""
        rest = list(options)
        return [rest.pop(int(self._random.random() * len(rest))) for _ in range(number)]


@dataclasses.dataclass(frozen=True)
class Movie:
    """A movie of the world; `is_linked` says whether it has triples in the graph."""

    title: str
    genre: str
    director: str
    cast: tuple[str, ...]
    decade: str
    is_linked: bool

    @property
    def people(self) -> frozenset[str]:
        """The director and the cast."""
        return frozenset((self.director, *self.cast))


@dataclasses.dataclass(frozen=True)
class World:
    """The movies in item order, and all people."""

    movies: tuple[Movie, ...]
    people: tuple[str, ...]


def make_world(seed: int, num_movies: int) -> World:
    """Draws the movies and people of a world.

    Each person works in two genres only, so that the graph has neighbourhoods.

    Args:
      seed: any integer.
      num_movies: number of movies.
    """
    dice = Dice(seed)
    names = [f"{first} {last}" for first in words.FIRST_NAMES for last in words.LAST_NAMES]
    num_people = min(len(names), max(20, num_movies * 2 // 3))
    people = dice.sample(names, num_people)
    genres = list(words.GENRES)
    homes = {person: dice.sample(genres, 2) for person in people}
    troupes = {g: [p for p in people if g in homes[p]] or people for g in genres}
    movies: list[Movie] = []
    taken: set[str] = set()
    for number in range(num_movies):
        genre = genres[number % len(genres)]
        troupe = troupes[genre]
        decade = dice.pick(DECADES)
        year = 1960 + 10 * DECADES.index(decade) + int(dice.pick("0123456789"))
        title = _title(dice, genre, year)
        while title in taken:
            year += 1
            title = f"{title.rsplit(' (', 1)[0]} ({year})"
        taken.add(title)
        movies.append(
            Movie(
                title=title,
                genre=genre,
                director=dice.pick(troupe),
                cast=tuple(dice.sample(troupe, min(len(troupe), 2 + dice.chance(0.5)))),
                decade=decade,
                is_linked=number % _UNLINKED_EVERY != _UNLINKED_EVERY - 1,
            )
        )
    return World(tuple(movies), tuple(people))


def _title(dice: Dice, genre: str, year: int) -> str:
    noun, other = (word.capitalize() for word in dice.sample(words.GENRES[genre], 2))
    name = dice.pick(words.TITLE_PATTERNS).format(
        adjective=dice.pick(words.TITLE_ADJECTIVES),
        noun=noun,
        other=other,
        place=dice.pick(words.PLACES),
    )
    return f"{name} ({year})"
