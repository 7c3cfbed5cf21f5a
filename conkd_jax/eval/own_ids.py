"""The ids of items whose ids are texts ("catan"), beside the numbers that the program uses.

A corpus of your own numbers its items. Predictions, saved chats and the API carry these numbers,
and beside them the ids, if they are texts. This module is the one place that maps one to the other.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec

from conkd_jax.data.corpus import ItemTable
from conkd_jax.data.mentions import MARK, marks_as_mentions
from conkd_jax.eval.prediction_checks import shown
from conkd_jax.eval.predictions import Prediction, PredictionError

LISTS = ("generated_items", "recommender_top")  # of items, in what a system fills in


class OwnIds:
    """The text ids of the items of a corpus; false where ids are numbers anyway.

    Without text ids, `of` is None for every item, and the other methods change nothing.

    Args:
      items: the items of the corpus.
    """

    def __init__(self, items: ItemTable) -> None:
        self._id_of: dict[int, str] = {}
        if items.keys:
            self._id_of = dict(zip(items.item_ids.tolist(), items.keys, strict=True))
        self._number_of = {own: number for number, own in self._id_of.items()}

    def __bool__(self) -> bool:
        return bool(self._id_of)

    def of(self, item: int | None) -> str | None:
        """The id of an item, by its number; None for no item."""
        return None if item is None else self._id_of.get(item)

    def number(self, own: str) -> int | None:
        """The number of an item, by its id; None for an id of no item."""
        return self._number_of.get(own)

    def beside(self, prediction: Prediction) -> Prediction:
        """The prediction with `ids`: those of all items in its fields."""
        if not self:
            return prediction
        numbers = sorted({*_numbers_in(prediction)} & self._id_of.keys())
        ids = {str(number): self._id_of[number] for number in numbers}
        return msgspec.structs.replace(prediction, ids=ids)

    def numbered(self, record: Mapping[str, Any], where: str) -> Mapping[str, Any]:
        """A line of a predictions.jsonl with numbers where a person wrote ids.

        Ids may stand in what a system fills in: as "@[id]" in `generated`, and for the numbers in
        `generated_items`, `item_steps` and `recommender_top`.

        Args:
          record: the line, not checked yet.
          where: file and line, for the message.

        Raises:
          PredictionError: an id is that of no item.
        """
        if not self:
            return record
        filled: dict[str, Any] = {
            name: self._list(record[name], f"{where}: field {name!r}")
            for name in LISTS
            if isinstance(record.get(name), list)
        }
        if isinstance(text := record.get("generated"), str):
            field = f"{where}: field 'generated'"
            filled["generated"] = marks_as_mentions(text, lambda own: self._number(own, field))
        if isinstance(steps := record.get("item_steps"), list):
            filled["item_steps"] = [
                self._step(step, f"{where}: field 'item_steps'") for step in steps
            ]
        return {**record, **filled}

    def _step(self, step: Any, field: str) -> Any:
        if not isinstance(step, Mapping):
            return step
        (item,) = self._list([step.get("item")], field)
        top = step.get("top")
        named = {"item": item} if "item" in step else {}
        return {
            **step,
            **named,
            **({"top": self._list(top, field)} if isinstance(top, list) else {}),
        }

    def _list(self, items: list[Any], field: str) -> list[Any]:
        return [self._number(one, field) if isinstance(one, str) else one for one in items]

    def _number(self, own: str, field: str) -> int:
        if own not in self._number_of:
            alike = difflib.get_close_matches(own[:200], self._number_of, n=1)
            meant = f". Did you mean {alike[0]!r}?" if alike else ""
            raise PredictionError(
                f"{field}: expected ids or numbers of items of the corpus, got {shown(own)}{meant}"
            )
        return self._number_of[own]


def expect_no_ids(predictions: Iterable[Prediction], where: object) -> Iterator[Prediction]:
    """Yields predictions that were read without a corpus.

    Raises:
      PredictionError: one has an id where only a corpus knows the number.
    """
    for prediction in predictions:
        if prediction.ids is not None and (mark := MARK.search(prediction.generated)):
            raise PredictionError(
                f"{where}, response {prediction.key}: field 'generated': expected items as @ and "
                f"their number, got {shown(mark[0])}. Ids are read with the corpus: --graph=RUN"
            )
        yield prediction


def _numbers_in(prediction: Prediction) -> Iterator[int]:
    for items in (
        prediction.mentioned_items,
        prediction.reference_items,
        prediction.reference_items_out_of_vocabulary,
        prediction.generated_items,
        prediction.recommender_top,
        *(step.top for step in prediction.item_steps or ()),
    ):
        yield from items or ()
