"""The paper's example texts for the gate."""

from __future__ import annotations

from typing import NamedTuple

from conkd_jax.data.corpus import ItemTable
from conkd_jax.errors import UserError

GREETING = "Hi! I am looking for a good movie to watch."  # the seeker's turn by default


class ExampleError(UserError):
    """An example with a movie that is not in the corpus."""


class Example(NamedTuple):
    """Several continuations of one opening; "{}" stands for the movie."""

    movie: str
    opening: str
    continuations: tuple[str, ...]


EXAMPLES = {  # from the paper's Appendix C
    "titanic": Example(
        movie="Titanic (1997)",
        opening="If you like romance movies, I would recommend ",
        continuations=("{}", "you {}", "some romantic comedies"),
    )
}


def example_texts(name: str, items: ItemTable) -> list[str]:
    """The texts of an example, with the movie as "@" and its id in the corpus.

    Args:
      name: one of `EXAMPLES`.
      items: the items of the corpus.

    Raises:
      ExampleError: the corpus has no movie of that title.
    """
    example = EXAMPLES[name]
    titles = [" ".join(title.split()).casefold() for title in items.titles]
    if example.movie.casefold() not in titles:
        raise ExampleError(
            f"--example={name}: expected a corpus with {example.movie!r}, such as ReDial; found "
            f"{len(items):,} other movies. Use one of them instead: "
            f'--text="{example.opening}@{items.movie_ids[0]}" recommends {items.titles[0]}.'
        )
    movie = f"@{items.movie_ids[titles.index(example.movie.casefold())]}"
    return [example.opening + text.format(movie) for text in example.continuations]
