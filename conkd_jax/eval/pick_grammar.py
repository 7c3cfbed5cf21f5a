"""The grammar of item-first responses while they are decoded: picks, their end, then the text.

What may come next depends on what the response has so far (`rows.picks` has the format)::

    phase   may come                                                       then
    START   an item, if the response may have picks;                       PICKS
            any word or the end token, if it may have none                 TEXT, DONE
    PICKS   another item, at most `max_picks` in all; the end token        PICKS, TEXT
    TEXT    any word; any pick, also again; the end token                  TEXT, DONE

[REC] obliges a response to pick at least one item, [GEN] allows none, and without tags the model
decides. A text may name only what was picked, but it need not name all of it: what it leaves out is
not said, and is no item of the response. Pure functions of arrays; the decoder calls them at every
step.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from conkd_jax.data.rows.picks import pick_room
from conkd_jax.typing import Array, Bool, Int

START, PICKS, TEXT, DONE = range(4)


@dataclasses.dataclass(frozen=True)
class PickRules:
    """What the picks of some responses may be.

    Attributes:
      max_picks: the most items.
      must_pick: for each response, True: at least one item; False: none; None: as the model likes.
    """

    max_picks: int
    must_pick: Sequence[bool | None]

    @property
    def room(self) -> int:
        """The most tokens that precede a text."""
        return pick_room(self.max_picks)

    def states(self, members: Sequence[int], batch_size: int, num_items: int) -> PickState:
        """The states of some responses before their first token; further rows fill the batch."""
        chosen = [self.must_pick[member] for member in members]
        may = np.zeros((2, batch_size), bool)
        may[0, : len(chosen)] = [must is not False for must in chosen]
        may[1, : len(chosen)] = [must is not True for must in chosen]
        return PickState(
            phase=np.full(batch_size, START, np.int32),
            is_picked=np.zeros((batch_size, num_items), bool),
            may_pick=may[0],
            may_not=may[1],
        )


class PickState(NamedTuple):
    """Where the responses of a batch are in the grammar.

    Attributes:
      phase: [B] START, PICKS, TEXT or DONE.
      is_picked: [B, I] the items picked so far.
      may_pick: [B] whether the response may have picks.
      may_not: [B] whether it may have none.
    """

    phase: Int[Array | np.ndarray, " B"]
    is_picked: Bool[Array | np.ndarray, "B I"]
    may_pick: Bool[Array | np.ndarray, " B"]
    may_not: Bool[Array | np.ndarray, " B"]


def allowed(state: PickState, *, num_words: int, end_id: int, max_picks: int) -> Bool[Array, "B Y"]:
    """Which tokens may come next.

    Args:
      state: of the responses.
      num_words: |V|, the id of the first item token.
      end_id: the end token.
      max_picks: the most picks.
    """
    phase, picked = jnp.asarray(state.phase), jnp.asarray(state.is_picked)
    has_room = picked.sum(axis=-1) < max_picks
    picks = jnp.where(phase == START, state.may_pick, (phase == PICKS) & has_room)[:, None]
    items = jnp.where((phase == TEXT)[:, None], picked, picks & ~picked)
    word = (phase == TEXT) | ((phase == START) & state.may_not)
    words = jnp.broadcast_to(word[:, None], (len(word), num_words))
    words = words.at[:, end_id].set(word | (phase == PICKS))
    return jnp.concatenate([words, items], axis=-1)


def after(state: PickState, token: Int[Array, " B"], *, num_words: int, end_id: int) -> PickState:
    """The states after one more token of each response."""
    phase, picked = jnp.asarray(state.phase), jnp.asarray(state.is_picked)
    picks = (token >= num_words) & (phase < TEXT)
    # a word has a negative index here, and one_hot makes a row of zeros of it
    item = jax.nn.one_hot(token - num_words, picked.shape[1], dtype=bool)
    following = jnp.where(picks, PICKS, TEXT)
    following = jnp.where((token == end_id) & (phase != PICKS), DONE, following)
    return state._replace(
        phase=jnp.where(phase == DONE, DONE, following).astype(jnp.int32),
        is_picked=picked | (item & picks[:, None]),
    )
