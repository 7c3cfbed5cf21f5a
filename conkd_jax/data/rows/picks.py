"""Item first: a response that lists its items before the text that names them.

With `vocabulary.max_picks` above 0, a response with items opens with its *picks*::

    ordinary      [REC] You should see @A and @B , or @A again . END
    item first    [REC] @A @B END You should see @A and @B , or @A again . END

    ordinary      [GEN] Hello ! END
    item first    [GEN] Hello ! END

The picks are the distinct items of the whole turn, in the order of their first mention, closed by
the end token. A turn without items has none, and its row is the ordinary one. Only tokens of
Y = V ∪ I can be predicted, and the length of the list has to be; the end token is the one special
token among them, and it means here what it means elsewhere, that what was opened is complete. No
vocabulary changes. Since a text names nothing but its picks, a response that begins with an item
begins with picks, so the tokens alone tell both parts apart (`split_picks`).

A recommender's response without tags, such as the dialogue teacher's, is opened by the end token.
Its first token is then the intent: an item opens picks, a word opens a text without items. After
that comes which items, then the words: one autoregressive model for the three decisions, in the
order of "Generative Conversational Recommender System" (arXiv 2605.21987). Items are single tokens
here and not sequences of semantic ids, and the intent of a system with tags is the turn
classifier's, as for every other student of this project.

`max_response_tokens` limits the text alone; picks are never cut. A past turn keeps its picks in the
rows of a decoder-only model, since they were targets of the same pass. What was *said* before a
response (`Rows.histories`) has none, so one turn classifier serves both formats.

Not in the paper. This module handles token ids only.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int32

from conkd_jax.data.vocabulary import Vocabulary
from conkd_jax.errors import UserError


class PickError(UserError, ValueError):
    """A turn with more items than a response may pick."""


def picks_of(ids: Sequence[int], vocabulary: Vocabulary, max_picks: int | None) -> list[int]:
    """Returns the tokens that precede a text: its distinct items in order, then the end token.

    Args:
      ids: the tokens of a whole turn.
      vocabulary: the token ids.
      max_picks: the most items; None for ordinary rows, which have no picks.

    Returns:
      Nothing for a turn without items.

    Raises:
      PickError: the turn has more items.
    """
    if max_picks is None:
        return []
    items = list(dict.fromkeys(token for token in ids if token >= vocabulary.num_words))
    if len(items) > max_picks:
        raise PickError(
            f"config.vocabulary.max_picks: expected at least {len(items)}, the different items of "
            f"the turn {vocabulary.decode(ids)!r}, got {max_picks}"
        )
    return [*items, vocabulary.end_id] if items else []


def pick_room(max_picks: int | None) -> int:
    """Returns the most tokens that precede a text: the picks and their end token."""
    return 0 if max_picks is None else max_picks + 1


def split_picks(
    tokens: Sequence[int], num_words: int, end_id: int
) -> tuple[Sequence[int], Sequence[int]]:
    """Returns the picked items and the text of an item-first response.

    Args:
      tokens: the response without its opening token.
      num_words: |V|, the id of the first item token.
      end_id: the end token.

    >>> split_picks([12, 13, 0, 5, 12, 6, 13, 0], num_words=10, end_id=0)
    ([12, 13], [5, 12, 6, 13, 0])
    >>> split_picks([5, 6, 0], num_words=10, end_id=0)
    ([], [5, 6, 0])
    """
    if not len(tokens) or tokens[0] < num_words:
        return tokens[:0], tokens
    ends = [place for place, token in enumerate(tokens) if token == end_id]
    end = ends[0] if ends else len(tokens)
    return tokens[:end], tokens[end + 1 :]


def charged_to_text(
    nll: Float[np.ndarray, " T"], targets: Int32[np.ndarray, " T"], pick_tokens: int, end_id: int
) -> Float[np.ndarray, " S"]:
    """Returns the NLL of a text's tokens, with that of its picks added where the text has them.

    A picked item is charged to the first mention of it, the end token of the picks to that of the
    text. For a text that is not cut, the sum is -log P(picks, text | x), the likelihood of the
    whole response. It bounds -log P(text | x) from above, since other picks could precede the same
    text; so a perplexity over the text's tokens is comparable with other systems', at most too
    high. What a cut text does not mention is not charged, as for every system.

    Args:
      nll: of all targets of a response.
      targets: the same tokens.
      pick_tokens: how many of them are picks, their end token included.
      end_id: the end token.

    >>> targets = np.array([12, 13, 0, 5, 13, 12, 12, 0], np.int32)
    >>> nll = np.array([4.0, 3.0, 0.5, 1.0, 0.25, 0.25, 0.25, 1.0])
    >>> charged_to_text(nll, targets, pick_tokens=3, end_id=0).tolist()
    [1.0, 3.25, 4.25, 0.25, 1.5]
    """
    picks, text = targets[:pick_tokens].tolist(), targets[pick_tokens:].tolist()
    charged = nll[pick_tokens:].copy()
    for place, token in enumerate(picks):
        if token == end_id and text[-1] == end_id:
            charged[-1] += nll[place]
        elif token != end_id and token in text:
            charged[text.index(token)] += nll[place]
    return charged
