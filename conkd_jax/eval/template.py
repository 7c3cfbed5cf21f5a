"""The responses of a corpus' split: a file for other systems to fill in, and a check of theirs.

A template is a `predictions.jsonl` whose `generated` and `generated_items` are empty. It holds what
a system reads (the context) and what it is measured against, so that every system answers the same
responses with the same gold. A filled file is checked against the split that it is of.
"""

from __future__ import annotations

import collections
from collections.abc import Iterable, Iterator

from etils import epath

from conkd_jax.data.corpus import Corpus, Dialogue, responses
from conkd_jax.data.mentioned_items import mentioned_before
from conkd_jax.eval.own_ids import OwnIds
from conkd_jax.eval.prediction_checks import shown
from conkd_jax.eval.predictions import ContextTurn, Prediction, PredictionError, write_predictions


def empty_response(
    dialogue: Dialogue,
    turn: int,
    item_ids: list[int],
    *,
    split: str,
    vocabulary: set[int] | None = None,
) -> Prediction:
    """Returns a response without an answer: its context, its reference and their items.

    Args:
      dialogue: the dialogue.
      turn: the turn that is the response.
      item_ids: the item id of every candidate.
      split: the split of the dialogue.
      vocabulary: the candidates that the system can generate; None for all.
    """
    gold = dialogue.turns[turn]
    known = [item for item in gold.items if vocabulary is None or item in vocabulary]
    unknown = [item for item in gold.items if vocabulary is not None and item not in vocabulary]
    return Prediction(
        conversation_id=dialogue.conversation_id,
        turn=turn,
        turn_type="rec" if known else "gen",
        context=tuple(ContextTurn(past.role, past.text) for past in dialogue.turns[:turn]),
        mentioned_items=tuple(item_ids[item] for item in mentioned_before(dialogue, turn)),
        reference=gold.text,
        reference_items=tuple(item_ids[item] for item in known),
        reference_items_out_of_vocabulary=(
            *(item_ids[item] for item in unknown),
            *gold.unknown_items,
        ),
        generated="",
        generated_tokens=(),
        generated_items=(),
        split=split,
    )


def empty_responses(corpus: Corpus, split: str) -> Iterator[Prediction]:
    """Yields every response of a split without an answer, in the order of the corpus.

    Raises:
      CorpusError: the corpus has no such split.
    """
    item_ids = corpus.items.item_ids.tolist()
    for dialogue in corpus.dialogues(split):
        for turn in responses(dialogue):
            yield empty_response(dialogue, turn, item_ids, split=split)


def write_template(path: epath.PathLike, corpus: Corpus, split: str) -> int:
    """Writes every response of a split for other systems to fill in; returns how many there are.

    `generated_tokens`, which follow from `generated`, and `predicted_turn_type` are left out. Text
    ids of a corpus that has them stand beside the numbers, and may be filled in (`eval.own_ids`).

    Raises:
      CorpusError: the corpus has no such split.
    """
    derived = ("generated_tokens", "predicted_turn_type")
    empty = map(OwnIds(corpus.items).beside, empty_responses(corpus, split))
    return write_predictions(path, empty, without=derived)


class SplitCheck:
    """Checks predictions against the split of a corpus that they are of."""

    def __init__(self, corpus: Corpus, split: str):
        """Reads the split.

        Raises:
          CorpusError: the corpus has no such split.
        """
        self._where = f"the split {split!r} of {corpus.directory}"
        self._catalogue = frozenset(corpus.items.item_ids.tolist())
        self._expected = {one.key: one for one in empty_responses(corpus, split)}
        self._missing = dict.fromkeys(self._expected)

    def checked(
        self, predictions: Iterable[Prediction], path: epath.PathLike
    ) -> Iterator[Prediction]:
        """Yields the predictions of a file one at a time.

        Raises:
          PredictionError: at the first one that is not of the split, or states another reference,
            other gold items or other mentioned items.
        """
        for number, prediction in enumerate(predictions, start=1):
            if problem := self._problem(prediction):
                raise PredictionError(
                    f"{path}, line {number}: {problem}. Fill in a file that --template writes"
                )
            self._missing.pop(prediction.key, None)
            yield prediction

    @property
    def num_responses(self) -> int:
        """The number of responses of the split."""
        return len(self._expected)

    @property
    def missing(self) -> tuple[tuple[str, int], ...]:
        """The responses of the split that have not been checked yet."""
        return tuple(self._missing)

    def _problem(self, p: Prediction) -> str | None:
        if p.key not in self._expected:
            return (
                f"fields 'conversation_id' and 'turn': expected a response of {self._where}, got "
                f"{p.key}"
            )
        expected = self._expected[p.key]
        if p.reference != expected.reference:
            return self._said("reference", expected.reference, p.reference)
        gold = collections.Counter(
            (*expected.reference_items, *(expected.reference_items_out_of_vocabulary or ()))
        )
        got = (*p.reference_items, *(p.reference_items_out_of_vocabulary or ()))
        is_whole = p.reference_items_out_of_vocabulary is not None
        if collections.Counter(got) - gold or (is_whole and gold - collections.Counter(got)):
            return self._said("reference_items", tuple(gold.elements()), got)
        if foreign := set(p.reference_items) - self._catalogue:
            return (
                f"field 'reference_items': expected items of the catalogue, got "
                f"{shown(sorted(foreign))}. Others are 'reference_items_out_of_vocabulary'"
            )
        before = expected.mentioned_items or ()
        if p.mentioned_items is not None and set(p.mentioned_items) != set(before):
            return self._said("mentioned_items", before, p.mentioned_items)
        return None

    def _said(self, field: str, expected: object, got: object) -> str:
        return f"field {field!r}: expected {shown(expected)}, as in {self._where}, got {shown(got)}"
