"""The paper's example texts for the gate."""

from __future__ import annotations

from typing import NamedTuple

from conkd_jax.data.corpus import ItemTable
from conkd_jax.errors import UserError

# The seeker's turn by default.
CORPORA_OF_MOVIES = ("redial", "movieworld")
MOVIE_GREETING = "Hi! I am looking for a good movie to watch."
ANY_GREETING = "Hi! What can you recommend?"  # for items of any kind


class ExampleError(UserError):
    """An example with an item that is not in the corpus."""


class Example(NamedTuple):
    """Several continuations of one opening; "{}" stands for the item."""

    item: str
    opening: str
    continuations: tuple[str, ...]


EXAMPLES = {  # from the paper's Appendix C
    "titanic": Example(
        item="Titanic (1997)",
        opening="If you like romance movies, I would recommend ",
        continuations=("{}", "you {}", "some romantic comedies"),
    )
}


def greeting_for(corpus: str) -> str:
    """The seeker's turn by default, on the corpus of a name."""
    return MOVIE_GREETING if corpus in CORPORA_OF_MOVIES else ANY_GREETING


def example_texts(name: str, items: ItemTable) -> list[str]:
    """The texts of an example, with the item as "@" and its id in the corpus.

    Args:
      name: one of `EXAMPLES`.
      items: the items of the corpus.

    Raises:
      ExampleError: the corpus has no item of that title.
    """
    example = EXAMPLES[name]
    titles = [" ".join(title.split()).casefold() for title in items.titles]
    if example.item.casefold() not in titles:
        raise ExampleError(
            f"--example={name}: expected a corpus with {example.item!r}, such as ReDial; found "
            f"{len(items):,} other items. Use one of them instead: "
            f'--text="{example.opening}@{items.item_ids[0]}" recommends {items.titles[0]}.'
        )
    item = f"@{items.item_ids[titles.index(example.item.casefold())]}"
    return [example.opening + text.format(item) for text in example.continuations]
