"""Reviews of MovieWorld's movies, which tell what the graph knows of them."""

from __future__ import annotations

from data_prep.movieworld import words
from data_prep.movieworld.world import FIRST_MOVIE_ID, Dice, World
from data_prep.reviews import RawReviews

GENERATED = "generated"
_UNREVIEWED_EVERY = 4  # one movie in four has no review; of ReDial's movies three in five have none


def make_reviews(world: World, seed: int) -> RawReviews:
    """Draws a review of most movies from their people, genre, themes and decade.

    The draws are from a stream of their own, so that reviews change nothing else in the corpus.

    Args:
      world: the world of the movies.
      seed: any integer.
    """
    dice = Dice(seed * 1_000_003 + 2)
    texts = {}
    for number, movie in enumerate(world.movies):
        theme, other = dice.sample(words.GENRES[movie.genre], 2)
        text = dice.pick(words.REVIEWS).format(
            genre=movie.genre,
            theme=theme,
            other=other,
            director=movie.director,
            person=dice.pick(movie.cast),
            decade=movie.decade,
        )
        if number % _UNREVIEWED_EVERY:
            texts[FIRST_MOVIE_ID + number] = text
    return RawReviews(GENERATED, texts)
