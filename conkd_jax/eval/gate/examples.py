"""Texts along which the paper shows the gate."""

from __future__ import annotations

from typing import NamedTuple

from conkd_jax.data.corpus import ItemTable
from conkd_jax.errors import UserError

GREETING = "Hi! I am looking for a good movie to watch."  # what the seeker says by default


class ExampleError(UserError):
    """An example about a movie that the corpus does not have."""


class Example(NamedTuple):
    """Continuations of one opening; "{}" stands for the movie."""

    movie: str
    opening: str
    continuations: tuple[str, ...]


EXAMPLES = {  # of the paper's Appendix C
    "titanic": Example(
        movie="Titanic (1997)",
        opening="If you like romance movies, I would recommend ",
        continuations=("{}", "you {}", "some romantic comedies"),
    )
}


def example_texts(name: str, items: ItemTable) -> list[str]:
    """The texts of an example, with the movie written by its id in the corpus.

    Args:
      name: one of `EXAMPLES`.
      items: of the corpus.

    Raises:
      ExampleError: the corpus has no movie of that title.
    """
    example = EXAMPLES[name]
    titles = [" ".join(title.split()).casefold() for title in items.titles]
    if example.movie.casefold() not in titles:
        raise ExampleError(
            f"--example={name}: expected a corpus that has {example.movie!r}, as ReDial has; found "
            f"{len(items):,} others. Name a movie of this corpus instead: "
            f'--text="{example.opening}@{items.movie_ids[0]}" recommends {items.titles[0]}.'
        )
    movie = f"@{items.movie_ids[titles.index(example.movie.casefold())]}"
    return [example.opening + text.format(movie) for text in example.continuations]
