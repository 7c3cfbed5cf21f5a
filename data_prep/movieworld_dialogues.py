"""MovieWorld's movies and people, and the conversations they are talked about in.

What is recommended follows from who is in a movie, then its genre and decade. This module draws
worlds and raw dialogues from a seed; it must not know graphs or files.
"""

import dataclasses
import math
import random
from collections.abc import Callable, Sequence
from typing import TypeVar

from data_prep import movieworld_text as text
from data_prep.raw_dialogues import RawDialogue

FIRST_MOVIE_ID = 100_001
DECADES = ("sixties", "seventies", "eighties", "nineties")
# One movie in 25 has no place in the graph, as about one in nine of ReDial's has none.
_UNLINKED_EVERY = 25
_SLOTS = ("movie", "other", "person", "genre", "theme", "decade")

_T = TypeVar("_T")


class _Dice:
    """Choices from one seeded stream; uses `random()` alone, which Python keeps stable."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def chance(self, probability: float) -> bool:
        return self._random.random() < probability

    def pick(self, options: Sequence[_T]) -> _T:
        return options[int(self._random.random() * len(options))]

    def weighted(self, options: Sequence[_T], weights: Sequence[float]) -> _T:
        left = self._random.random() * sum(weights)
        for option, weight in zip(options, weights, strict=True):
            left -= weight
            if left < 0:
                return option
        return options[-1]

    def sample(self, options: Sequence[_T], number: int) -> list[_T]:
        rest = list(options)
        return [rest.pop(int(self._random.random() * len(rest))) for _ in range(number)]


@dataclasses.dataclass(frozen=True)
class Movie:
    """One movie of the world; `is_linked` says whether the graph knows it."""

    title: str
    genre: str
    director: str
    cast: tuple[str, ...]
    decade: str
    is_linked: bool

    @property
    def people(self) -> frozenset[str]:
        """Director and cast."""
        return frozenset((self.director, *self.cast))


@dataclasses.dataclass(frozen=True)
class World:
    """Movies in item order, and everybody in them."""

    movies: tuple[Movie, ...]
    people: tuple[str, ...]


def make_world(seed: int, num_movies: int) -> World:
    """Draws the movies and people of a world.

    People stay within two genres, so that the graph has neighbourhoods.

    Args:
      seed: any integer.
      num_movies: how many movies.

    Returns:
      The world.
    """
    dice = _Dice(seed)
    names = [f"{first} {last}" for first in text.FIRST_NAMES for last in text.LAST_NAMES]
    num_people = min(len(names), max(20, num_movies * 2 // 3))
    people = dice.sample(names, num_people)
    genres = list(text.GENRES)
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


def make_dialogues(world: World, seed: int, num_dialogues: int) -> list[RawDialogue]:
    """Lets users with tastes talk to a recommender that reads the graph.

    Args:
      world: the world they talk about.
      seed: any integer.
      num_dialogues: how many dialogues.

    Returns:
      Raw dialogues, ids "mw00000" and up.
    """
    dice = _Dice(seed * 1_000_003 + 1)
    return [
        RawDialogue(f"mw{number:05d}", tuple(_Conversation(world, dice).run()), {})
        for number in range(num_dialogues)
    ]


class _Conversation:
    """One dialogue: what the seeker revealed so far decides what comes next."""

    def __init__(self, world: World, dice: _Dice) -> None:
        self._world, self._dice = world, dice
        self._messages: list[tuple[bool, str]] = []
        self._mentioned: list[int] = []
        self._liked: list[int] = []
        self._people: set[str] = set()
        self._genres: set[str] = set()
        self._decades: set[str] = set()
        favorite = dice.pick(range(len(world.movies)))
        self._taste_genre = world.movies[favorite].genre
        self._taste_person = dice.pick(sorted(world.movies[favorite].people))

    def run(self) -> list[tuple[bool, str]]:
        """Plays the dialogue and returns its messages."""
        dice = self._dice
        if dice.chance(0.3):
            self._say(True, text.GREET_RECOMMENDER)
        else:
            self._say(False, text.GREET_SEEKER)
            self._say(True, text.GREET_RECOMMENDER)
        self._reveal()
        if dice.chance(0.5):
            self._ask()
        for round_number in range(1 + int(dice.pick("0112"))):
            if round_number:
                self._say(False, text.MORE)
            self._recommend()
        if dice.chance(0.8):
            self._say(True, text.BYE_RECOMMENDER)
        if dice.chance(0.4):
            self._say(False, text.BYE_SEEKER)
        return self._messages

    def _say(self, is_recommender: bool, templates: Sequence[str], **words: str) -> None:
        fitting = [t for t in templates if all(f"{{{w}}}" not in t or w in words for w in _SLOTS)]
        message = self._dice.pick(fitting).format(**words)
        self._messages.append((is_recommender, message[0].upper() + message[1:]))

    def _mention(self, movie: int) -> str:
        self._mentioned.append(movie)
        return f"@{FIRST_MOVIE_ID + movie}"

    def _reveal(self) -> None:
        dice, kind = self._dice, self._dice.pick(("one", "one", "two", "person", "genre", "theme"))
        if kind in ("one", "two"):
            first = self._choose(self._taste, sharpness=2.0)
            self._like(first)
            words = {"movie": self._mention(first)}
            if kind == "two":
                second = self._choose(self._taste, sharpness=2.0)
                self._like(second)
                words["other"] = self._mention(second)
            self._say(False, text.LIKE_TWO if kind == "two" else text.LIKE_ONE, **words)
        if kind == "person" or dice.chance(0.25):
            self._people.add(self._taste_person)
            self._say(False, text.LIKE_PERSON, person=self._taste_person)
        themes = text.GENRES[self._taste_genre]
        theme, other = dice.sample(themes, 2)
        if kind == "genre":
            self._genres.add(self._taste_genre)
            self._say(False, text.LIKE_GENRE, genre=self._taste_genre, theme=theme)
        elif kind == "theme":
            self._genres.add(self._taste_genre)
            self._say(False, text.LIKE_THEME, theme=theme, other=other)

    def _ask(self) -> None:
        """The recommender asks back, and the answer reveals a little more."""
        kind = self._dice.pick(("decade", "theme", "person"))
        if kind == "decade":
            decade = self._dice.pick(DECADES)
            self._decades.add(decade)
            self._say(True, text.ASK_DECADE)
            self._say(False, text.ANSWER_DECADE, decade=decade)
        elif kind == "theme":
            self._genres.add(self._taste_genre)
            theme = self._dice.pick(text.GENRES[self._taste_genre])
            self._say(True, text.ASK_THEME)
            self._say(False, text.ANSWER_THEME, theme=theme)
        else:
            self._people.add(self._taste_person)
            self._say(True, text.ASK_PERSON)
            self._say(False, text.LIKE_PERSON, person=self._taste_person)

    def _recommend(self) -> None:
        dice = self._dice
        movie = self._choose(self._fit, sharpness=4.0)
        words = self._about(movie) | {"movie": self._mention(movie)}
        if dice.chance(0.12):
            words["other"] = self._mention(self._choose(self._fit, sharpness=4.0))
            self._say(True, text.RECOMMEND_TWO, **words)
        else:
            self._say(True, text.RECOMMEND, **words)
        if dice.chance(0.3):
            self._say(False, text.SEEN_IT)
            self._like(movie)
            another = self._choose(self._fit, sharpness=4.0)
            words = self._about(another) | {"movie": self._mention(another)}
            self._say(True, text.RECOMMEND, **words)
            movie = another
        if dice.chance(0.5):
            self._explain(movie)
        self._say(False, text.ACCEPT)

    def _explain(self, movie: int) -> None:
        facts = self._world.movies[movie]
        theme, other = self._dice.sample(text.GENRES[facts.genre], 2)
        question, answers = self._dice.pick(text.QUESTIONS)
        self._say(False, (question,))
        self._say(
            True,
            answers,
            person=facts.director if "directed" in question else self._dice.pick(facts.cast),
            genre=facts.genre,
            theme=theme,
            other=other,
            decade=facts.decade,
        )

    def _about(self, movie: int) -> dict[str, str]:
        """Words about a movie; the person is one the seeker cares for, if any is in it."""
        facts = self._world.movies[movie]
        known = self._people.union(*(self._world.movies[m].people for m in self._liked))
        shared = sorted(facts.people & known) or sorted(facts.people)
        return {
            "genre": facts.genre,
            "person": self._dice.pick(shared),
            "decade": facts.decade,
            "theme": self._dice.pick(text.GENRES[facts.genre]),
        }

    def _like(self, movie: int) -> None:
        self._liked.append(movie)

    def _taste(self, movie: Movie) -> float:
        return 1.5 * (self._taste_person in movie.people) + (movie.genre == self._taste_genre)

    def _fit(self, movie: Movie) -> float:
        """How well a movie fits what the seeker revealed: shared people count most."""
        liked = [self._world.movies[m] for m in self._liked]
        people = self._people.union(*(other.people for other in liked))
        genres = self._genres.union(other.genre for other in liked)
        return (
            1.0 * min(2, len(movie.people & people))
            + 0.7 * (movie.genre in genres)
            + 0.3 * (movie.decade in self._decades)
        )

    def _choose(self, score: Callable[[Movie], float], sharpness: float) -> int:
        movies = self._world.movies
        options = [i for i in range(len(movies)) if i not in self._mentioned]
        return self._dice.weighted(
            options, [math.exp(sharpness * score(movies[i])) for i in options]
        )


def _title(dice: _Dice, genre: str, year: int) -> str:
    noun, other = (word.capitalize() for word in dice.sample(text.GENRES[genre], 2))
    name = dice.pick(text.TITLE_PATTERNS).format(
        adjective=dice.pick(text.TITLE_ADJECTIVES),
        noun=noun,
        other=other,
        place=dice.pick(text.PLACES),
    )
    return f"{name} ({year})"
