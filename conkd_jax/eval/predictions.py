"""`predictions.jsonl`: the one file from which every response-level number can be computed again.

One line is one response of one system, with the history it answered, the reference, what was
generated and how the reference was scored. This module is the schema: who writes the file and who
reads it go through here, so a file either has its fields as said below or is refused by line and
field. Six fields are required; the others are what a system may not have, and a metric that needs
one of them is then not measured. docs/metrics.md shows the file to who writes one from another
toolkit. It knows no model, no vocabulary and no metric. Items are ReDial movie ids everywhere; in
every text an item reads `@id`.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from etils import epath

from conkd_jax.errors import UserError

TOP_ITEMS = 50  # length of `top` and `recommender_top`, where the catalogue holds as many
ROLES = ("seeker", "recommender")
TURN_TYPES = ("rec", "gen")
_WORDS = re.compile(r"@\d+|\w+|[^\w\s]")


class PredictionError(UserError, ValueError):
    """A line that is not a prediction; the message names file, line, field, expected and got."""


@dataclasses.dataclass(frozen=True, slots=True)
class ContextTurn:
    """One merged turn of the history: who spoke ("seeker" or "recommender"), and what was said."""

    role: str
    text: str


@dataclasses.dataclass(frozen=True, slots=True)
class ItemStep:
    """A step of the generated response at which an item was emitted.

    Attributes:
      step: index of the step among the tokens the system generated, from 0.
      item: the item emitted there.
      top: the min(50, |I|) most probable items at that step, best first.
    """

    step: int
    item: int
    top: tuple[int, ...]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """One response of one system: a line of `predictions.jsonl`, field by field.

    None stands for a field that the system's file does not have; all lines of a file have the same
    fields. `turn_type`, `generated_tokens` and `context` may be left out of a file as well: the
    first two follow from the rest, the third is for reading.

    Attributes:
      conversation_id, turn: which response; `turn` is the merged-turn index, from 0.
      turn_type: "rec" where the whole gold turn holds an item of the vocabulary, else "gen".
      predicted_turn_type: the turn classifier's answer; None for a system without a turn prefix.
      context: the whole history.
      mentioned_items: items said in the history.
      reference: the gold response, uncut.
      reference_items: its items that are in the item vocabulary, in order, repeats kept.
      reference_items_out_of_vocabulary: its other items, likewise.
      generated: the decoded response, without prefix and end token.
      generated_tokens: `word_tokens` of it.
      generated_items: the items of the decoded response, in order.
      item_steps: the steps that emitted those items, with the distribution's best items there.
      recommender_top: the 50 best items of the recommender for this turn; empty where there is
        none.
      token_nll: teacher-forced negative log-likelihood of each gold token, in nats, end token
        included and turn prefix excluded, under the gold prefix; empty where it was not measured.
      token_is_item: whether that gold token is an item.
      token_nll_predprefix: `token_nll` under the predicted prefix.
      token_item_mass: what the system gave to all items together where it was asked for that gold
        token, Σ_{y'∈I} P(y'|y_<t, x), under the gold prefix.
    """

    conversation_id: str
    turn: int
    turn_type: str
    predicted_turn_type: str | None = None
    context: tuple[ContextTurn, ...] = ()
    mentioned_items: tuple[int, ...] | None = None
    reference: str
    reference_items: tuple[int, ...]
    reference_items_out_of_vocabulary: tuple[int, ...] | None = None
    generated: str
    generated_tokens: tuple[str, ...]
    generated_items: tuple[int, ...]
    item_steps: tuple[ItemStep, ...] | None = None
    recommender_top: tuple[int, ...] | None = None
    token_nll: tuple[float, ...] | None = None
    token_is_item: tuple[bool, ...] | None = None
    token_nll_predprefix: tuple[float, ...] | None = None
    token_item_mass: tuple[float, ...] | None = None

    @property
    def key(self) -> tuple[str, int]:
        """What tells a response from every other: (conversation_id, turn)."""
        return self.conversation_id, self.turn


def word_tokens(text: str) -> list[str]:
    """Words, punctuation marks and items of a text, the same for every backbone:
    `@\\d+|\\w+|[^\\w\\s]`.

    >>> word_tokens("Have you seen @123? It's great!")
    ['Have', 'you', 'seen', '@123', '?', 'It', "'", 's', 'great', '!']
    """
    return _WORDS.findall(text)


def to_record(prediction: Prediction) -> dict:
    """The plain form of a prediction, which `json.dumps` takes as it is."""
    record = dataclasses.asdict(prediction)
    return {name: v for name, v in record.items() if v is not None or name == _NULLABLE}


def from_record(record: object, *, where: str = "prediction") -> Prediction:
    """Checks a decoded JSON value and makes it a prediction.

    Args:
      record: what `json.loads` gave for one line.
      where: file and line, for the message.

    Raises:
      PredictionError: naming the first field that is missing, unknown or of another kind, or that
        does not go with another.
    """
    if not isinstance(record, Mapping):
        raise PredictionError(f"{where}: expected a JSON object, got {_shown(record)}")
    try:
        _require_fields(record, REQUIRED, tuple(_FIELDS), "")
        found = {name: read for name, read in _FIELDS.items() if name in record}
        values = {name: read(record[name], name) for name, read in found.items()}
        _require_agreement(values)
    except _Unexpected as unexpected:
        raise PredictionError(f"{where}: {unexpected}") from None
    values.setdefault("turn_type", "rec" if values["reference_items"] else "gen")
    values.setdefault("generated_tokens", tuple(word_tokens(values["generated"])))
    return Prediction(**values)


def write_predictions(path: epath.PathLike, predictions: Iterable[Prediction]) -> int:
    """Writes predictions as they come; the file takes its name only once it is whole.

    Returns:
      How many were written.

    Raises:
      PredictionError: if a prediction is one that `read_predictions` would refuse.
    """
    path = epath.Path(path)
    partial = path.parent / (path.name + ".partial")
    whole = _Whole()
    try:
        with partial.open("w") as file:
            for prediction in predictions:
                record = to_record(prediction)
                where = f"{path} (writing response {prediction.key})"
                whole.add(record, from_record(record, where=where).key, where)
                file.write(json.dumps(record) + "\n")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return whole.count


def read_predictions(path: epath.PathLike) -> Iterator[Prediction]:
    """Reads predictions one line at a time, in the order of the file.

    Raises:
      PredictionError: there is no such file; or naming file, line and field, at the first line that
        is not a prediction, repeats a response, or has other fields than the first.
    """
    path, whole = epath.Path(path), _Whole()
    if not path.is_file():
        raise PredictionError(
            f"{path}: expected a predictions.jsonl, found no such file. docs/metrics.md says what "
            "it holds"
        )
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            where = f"{path}, line {number}"
            try:
                record = json.loads(line.decode("utf-8"))
            except UnicodeDecodeError as error:
                raise PredictionError(f"{where}: expected UTF-8 text, got {error}") from None
            except json.JSONDecodeError as error:
                raise PredictionError(
                    f"{where}: expected one JSON object on the line, got {_shown(line)} ({error}). "
                    "A file cut short has to be written again: run the evaluation anew"
                ) from None
            prediction = from_record(record, where=where)
            whole.add(record, prediction.key, where)
            yield prediction


class _Whole:
    """What holds between lines: each response once, and the same fields everywhere."""

    def __init__(self) -> None:
        self.count = 0
        self._turns: dict[str, set[int]] = {}
        self._fields: frozenset[str] = frozenset()

    def add(self, record: Mapping, key: tuple[str, int], where: str) -> None:
        turns = self._turns.setdefault(key[0], set())
        if key[1] in turns:
            raise PredictionError(
                f"{where}: fields 'conversation_id' and 'turn': expected each response once, "
                f"got {key} again"
            )
        turns.add(key[1])
        self._fields = self._fields if self.count else frozenset(record)
        if different := sorted(self._fields ^ set(record)):
            raise PredictionError(
                f"{where}: field {different[0]!r}: expected it on every line or on none, got a "
                f"line {'with' if different[0] in record else 'without'} it"
            )
        self.count += 1


class _Unexpected(Exception):
    def __init__(self, field: str, expected: str, got: object):
        super().__init__(f"field {field!r}: expected {expected}, got {_shown(got)}")


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _require_fields(
    record: Mapping, required: Sequence[str], known: Sequence[str], inside: str
) -> None:
    for name in required:
        if name not in record:
            raise _Unexpected(inside + name, "a value", "no such field")
    for name in record:
        if name not in known:
            raise _Unexpected(inside + str(name), f"only the fields {', '.join(known)}", name)


def _require_agreement(values: Mapping[str, Any]) -> None:
    """Fields that say the same thing twice, or one thing for each of another's."""
    if "item_steps" in values:
        emitted = tuple(step.item for step in values["item_steps"])
        if emitted != values["generated_items"]:
            raise _Unexpected("item_steps", f"the items {values['generated_items']}", emitted)
    nll = values.get("token_nll")
    for name in ("token_is_item", "token_nll_predprefix", "token_item_mass"):
        if name in values:
            if nll is None:
                raise _Unexpected(name, "'token_nll' beside it", "no such field")
            if len(values[name]) != len(nll):
                expected = f"one value for each of the {len(nll)} of 'token_nll'"
                raise _Unexpected(name, expected, len(values[name]))


def _text(value: Any, field: str) -> str:
    if type(value) is not str:
        raise _Unexpected(field, "a string", value)
    return value


def _count(value: Any, field: str) -> int:
    if type(value) is not int or value < 0:
        raise _Unexpected(field, "a whole number from 0", value)
    return value


def _nll(value: Any, field: str) -> float:
    if type(value) not in (int, float) or not math.isfinite(value):
        raise _Unexpected(field, "a finite number", value)
    return float(value)


def _probability(value: Any, field: str) -> float:
    if type(value) not in (int, float) or not 0 <= value <= 1:
        raise _Unexpected(field, "a number from 0 to 1", value)
    return float(value)


def _truth(value: Any, field: str) -> bool:
    if type(value) is not bool:
        raise _Unexpected(field, "true or false", value)
    return value


def _one_of(*choices: str | None) -> Callable[[Any, str], Any]:
    expected = " or ".join("null" if choice is None else repr(choice) for choice in choices)

    def read(value: Any, field: str):
        if not isinstance(value, str | None) or value not in choices:
            raise _Unexpected(field, expected, value)
        return value

    return read


def _list_of(read_one: Callable[[Any, str], Any]) -> Callable[[Any, str], tuple]:
    def read(value: Any, field: str) -> tuple:
        if not isinstance(value, list | tuple):
            raise _Unexpected(field, "a list", value)
        return tuple([read_one(one, f"{field}[{i}]") for i, one in enumerate(value)])

    return read


def _ranking(value: Any, field: str) -> tuple[int, ...]:
    items = _list_of(_count)(value, field)
    if len(items) > TOP_ITEMS:
        raise _Unexpected(field, f"at most {TOP_ITEMS} items", f"{len(items)} of them")
    if len(set(items)) != len(items):
        raise _Unexpected(field, "different items, best first", value)
    return items


def _context_turn(value: Any, field: str) -> ContextTurn:
    if not isinstance(value, Mapping):
        raise _Unexpected(field, "an object with role and text", value)
    _require_fields(value, ("role", "text"), ("role", "text"), field + ".")
    role = _one_of(*ROLES)(value["role"], field + ".role")
    return ContextTurn(role, _text(value["text"], field + ".text"))


def _item_step(value: Any, field: str) -> ItemStep:
    if not isinstance(value, Mapping):
        raise _Unexpected(field, "an object with step, item and top", value)
    _require_fields(value, ("step", "item", "top"), ("step", "item", "top"), field + ".")
    return ItemStep(
        _count(value["step"], field + ".step"),
        _count(value["item"], field + ".item"),
        _ranking(value["top"], field + ".top"),
    )


_FIELDS: dict[str, Callable[[Any, str], Any]] = {
    "conversation_id": _text,
    "turn": _count,
    "turn_type": _one_of(*TURN_TYPES),
    "predicted_turn_type": _one_of(*TURN_TYPES, None),
    "context": _list_of(_context_turn),
    "mentioned_items": _list_of(_count),
    "reference": _text,
    "reference_items": _list_of(_count),
    "reference_items_out_of_vocabulary": _list_of(_count),
    "generated": _text,
    "generated_tokens": _list_of(_text),
    "generated_items": _list_of(_count),
    "item_steps": _list_of(_item_step),
    "recommender_top": _ranking,
    "token_nll": _list_of(_nll),
    "token_is_item": _list_of(_truth),
    "token_nll_predprefix": _list_of(_nll),
    "token_item_mass": _list_of(_probability),
}
REQUIRED = (
    "conversation_id",
    "turn",
    "reference",
    "reference_items",
    "generated",
    "generated_items",
)
_NULLABLE = "predicted_turn_type"  # null means "no prefix" there, which is told
