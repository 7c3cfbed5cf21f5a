"""MovieWorld's conversations, drawn from a seed.

What is recommended follows from the people in a movie, then from its genre and decade.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from data_prep.movieworld import words
from data_prep.movieworld.world import DECADES, FIRST_MOVIE_ID, Dice, Movie, World
from data_prep.raw_dialogues import RawDialogue

_SLOTS = ("movie", "other", "third", "person", "genre", "theme", "decade")


def make_dialogues(world: World, seed: int, num_dialogues: int) -> list[RawDialogue]:
    """Draws conversations of users with tastes and a recommender that reads the graph.

    Args:
      world: the world they talk about.
      seed: any integer.
      num_dialogues: number of dialogues.

    Returns:
      Raw dialogues with the ids "mw00000", "mw00001", ….
    """
    dice = Dice(seed * 1_000_003 + 1)
    return [
        RawDialogue(f"mw{number:05d}", tuple(_Conversation(world, dice).run()), {})
        for number in range(num_dialogues)
    ]


class _Conversation:
    """One dialogue; what comes next depends on what the seeker has revealed so far."""

    def __init__(self, world: World, dice: Dice) -> None:
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
        self._reveal()
        if dice.chance(0.2):
            self._ask()
        for round_number in range(1 + int(dice.pick("0112"))):
            if round_number:
                self._say(False, words.MORE)
            self._recommend()
        if dice.chance(0.3):
            self._say(True, words.BYE_RECOMMENDER)
        if dice.chance(0.3):
            self._say(False, words.BYE_SEEKER)
        return self._messages

    def _say(self, is_recommender: bool, templates: Sequence[str], **slots: str) -> None:
        fitting = [t for t in templates if all(f"{{{w}}}" not in t or w in slots for w in _SLOTS)]
        message = self._dice.pick(fitting).format(**slots)
        self._messages.append((is_recommender, message[0].upper() + message[1:]))

    def _mention(self, movie: int) -> str:
        self._mentioned.append(movie)
        return f"@{FIRST_MOVIE_ID + movie}"

    def _reveal(self) -> None:
        dice, kind = self._dice, self._dice.pick(("one", "one", "two", "person", "genre", "theme"))
        if kind in ("one", "two"):
            first = self._choose(self._taste, sharpness=2.0)
            self._like(first)
            slots = {"movie": self._mention(first)}
            if kind == "two":
                second = self._choose(self._taste, sharpness=2.0)
                self._like(second)
                slots["other"] = self._mention(second)
            self._say(False, words.LIKE_TWO if kind == "two" else words.LIKE_ONE, **slots)
        if kind == "person" or dice.chance(0.25):
            self._people.add(self._taste_person)
            self._say(False, words.LIKE_PERSON, person=self._taste_person)
        themes = words.GENRES[self._taste_genre]
        theme, other = dice.sample(themes, 2)
        if kind == "genre":
            self._genres.add(self._taste_genre)
            self._say(False, words.LIKE_GENRE, genre=self._taste_genre, theme=theme)
        elif kind == "theme":
            self._genres.add(self._taste_genre)
            self._say(False, words.LIKE_THEME, theme=theme, other=other)

    def _ask(self) -> None:
        """Lets the recommender ask a question; the answer reveals a little more."""
        kind = self._dice.pick(("decade", "theme", "person"))
        if kind == "decade":
            decade = self._dice.pick(DECADES)
            self._decades.add(decade)
            self._say(True, words.ASK_DECADE)
            self._say(False, words.ANSWER_DECADE, decade=decade)
        elif kind == "theme":
            self._genres.add(self._taste_genre)
            theme = self._dice.pick(words.GENRES[self._taste_genre])
            self._say(True, words.ASK_THEME)
            self._say(False, words.ANSWER_THEME, theme=theme)
        else:
            self._people.add(self._taste_person)
            self._say(True, words.ASK_PERSON)
            self._say(False, words.LIKE_PERSON, person=self._taste_person)

    def _recommend(self) -> None:
        dice = self._dice
        movie = self._choose(self._fit, sharpness=4.0)
        slots = self._about(movie) | {"movie": self._mention(movie)}
        number = dice.pick((1, 2, 2, 3, 3))
        for slot in ("other", "third")[: number - 1]:
            slots[slot] = self._mention(self._choose(self._fit, sharpness=4.0))
        templates = {1: words.RECOMMEND, 2: words.RECOMMEND_TWO, 3: words.RECOMMEND_THREE}
        self._say(True, templates[number], **slots)
        if dice.chance(0.3):
            self._say(False, words.SEEN_IT)
            self._like(movie)
            another = self._choose(self._fit, sharpness=4.0)
            slots = self._about(another) | {"movie": self._mention(another)}
            self._say(True, words.RECOMMEND, **slots)
            movie = another
        if dice.chance(0.2):
            self._explain(movie)
        self._say(False, words.ACCEPT)

    def _explain(self, movie: int) -> None:
        facts = self._world.movies[movie]
        theme, other = self._dice.sample(words.GENRES[facts.genre], 2)
        question, answers = self._dice.pick(words.QUESTIONS)
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
        """Returns words about a movie; the person is one the seeker likes, if the movie has any."""
        facts = self._world.movies[movie]
        known = self._people.union(*(self._world.movies[m].people for m in self._liked))
        shared = sorted(facts.people & known) or sorted(facts.people)
        return {
            "genre": facts.genre,
            "person": self._dice.pick(shared),
            "decade": facts.decade,
            "theme": self._dice.pick(words.GENRES[facts.genre]),
        }

    def _like(self, movie: int) -> None:
        self._liked.append(movie)

    def _taste(self, movie: Movie) -> float:
        return 1.5 * (self._taste_person in movie.people) + (movie.genre == self._taste_genre)

    def _fit(self, movie: Movie) -> float:
        """Scores how well a movie fits what the seeker revealed; shared people count most."""
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
