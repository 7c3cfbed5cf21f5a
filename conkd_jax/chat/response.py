"""What a system answers: the text, its items, and what every token says about items."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

from conkd_jax.data.corpus import Turn


class Piece(NamedTuple):
    """What a step adds to the text while it is decoded; `item_id` where it adds a title."""

    text: str
    item_id: int | None


@dataclasses.dataclass(frozen=True)
class RankedItem:
    """An item in a ranking: item id, title, and P(item | y_<t, x)."""

    item_id: int
    title: str
    probability: float


@dataclasses.dataclass(frozen=True)
class RecommendedItem:
    """An item that a response names.

    Attributes:
      item_id: its id, as in "@123".
      title: its title.
      probability: P(item | y_<t, x) where it was chosen.
      token: its index among the tokens of the response.
      ranking: the most probable items there, best first. In an item-first response, "there" is
        where the item was picked.
    """

    item_id: int
    title: str
    probability: float
    token: int
    ranking: tuple[RankedItem, ...]


@dataclasses.dataclass(frozen=True)
class ResponseToken:
    """A token of a response's text.

    Attributes:
      text: what it adds to the text.
      item_id: of an item; None for a word.
      probability: of the token.
      item_mass: the probability of all items together, by the system itself.
      teacher_mass: the same by the dialogue teacher, λ_t of the soft gate; None for a run without a
        student.
    """

    text: str
    item_id: int | None
    probability: float
    item_mass: float
    teacher_mass: float | None = None


@dataclasses.dataclass(frozen=True)
class Response:
    """A complete response.

    Attributes:
      text: for people, items as titles.
      turn: for the next history, items as "@123".
      items: what it names, in order.
      tokens: its tokens, without the end token.
      tag: "rec" or "gen", as the turn classifier predicted; None for a system without one.
      seconds: the time from the history to all that is told here.
      first_seconds: the time to the first token.
      ended: whether the system ended it; False where it reached the limit.
      ids: every token id that was decoded, picks and end token included.
    """

    text: str
    turn: Turn
    items: tuple[RecommendedItem, ...]
    tokens: tuple[ResponseToken, ...]
    tag: str | None
    seconds: float
    first_seconds: float
    ended: bool
    ids: tuple[int, ...]
