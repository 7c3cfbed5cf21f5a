"""`predictions.jsonl`: the file from which every response-level number can be computed again.

One line is one response of one system: the history it answered, the reference, what was generated
and how the reference was scored. This module is the schema. The file is written and read only here,
so its fields are either as documented below or refused with the line and the field. Six fields are
required; the others may be absent, and a metric that needs an absent field is not measured.
docs/metrics.md documents the format for other toolkits. Items are numbers everywhere, in ReDial its
movie ids; in every text an item reads `@id`.
"""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Annotated, Any

import msgspec
from etils import epath
from msgspec import Meta

from conkd_jax.data.corpus import SPLITS
from conkd_jax.data.mentions import tokens
from conkd_jax.errors import UserError
from conkd_jax.eval.prediction_checks import disagreement, shown
from conkd_jax.io.files import numbered_lines, parse_json, whole_file

TOP_ITEMS = 50  # length of `top` and `recommender_top`, where the catalogue has as many items
REQUIRED = (
    "conversation_id",
    "turn",
    "reference",
    "reference_items",
    "generated",
    "generated_items",
)
_NULLABLE = "predicted_turn_type"  # the one field in which null is a value: "no turn prefix"

Count = Annotated[int, Meta(ge=0)]
ItemId = Annotated[int, Meta(ge=0)]
Ranking = Annotated[tuple[ItemId, ...], Meta(max_length=TOP_ITEMS)]  # distinct, best first
Role = Annotated[str, Meta(pattern=r"\A(?:seeker|recommender)\Z")]
Split = Annotated[str, Meta(pattern=rf"\A(?:{'|'.join(SPLITS)})\Z")]
TurnType = Annotated[str, Meta(pattern=r"\A(?:rec|gen)\Z")]
Probability = Annotated[float, Meta(ge=0, le=1)]
Finite = Annotated[
    float, Meta(ge=-sys.float_info.max, le=sys.float_info.max)
]  # neither inf nor nan

_ITEMS = ("generated_items", "item_steps", "recommender_top")  # what a system fills in
_EXPECTED = {  # instead of a pattern, in messages
    "role": "'seeker' or 'recommender'",
    "split": f"one of {', '.join(SPLITS)}",
    "turn_type": "'rec' or 'gen'",
    "predicted_turn_type": "'rec' or 'gen' or null",
}


class PredictionError(UserError, ValueError):
    """A line that is not a prediction; the message names file, line, field, expected and got."""


class ContextTurn(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One merged turn of the history: who spoke ("seeker" or "recommender"), and what was said."""

    role: Role
    text: str


class ItemStep(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A step of the generated response at which an item was emitted.

    Attributes:
      step: index of the step among the tokens the system generated, from 0.
      item: the item emitted there.
      top: the min(50, |I|) most probable items at that step, best first.
    """

    step: Count
    item: ItemId
    top: Ranking


class Prediction(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One response of one system: a line of `predictions.jsonl`, field by field.

    None stands for a field that the file does not have; all lines of a file have the same fields.
    `turn_type`, `generated_tokens` and `context` may be absent from a file as well: the first two
    follow from other fields, and nothing is computed from the third.

    Attributes:
      conversation_id: the dialogue.
      turn: merged-turn index of the response in the dialogue, from 0.
      turn_type: "rec" where the whole gold turn holds an item of the vocabulary, else "gen".
      predicted_turn_type: the turn classifier's answer; None for a system without a turn prefix.
      context: the whole history.
      mentioned_items: items mentioned in the history, the most recent last.
      reference: the gold response, not truncated.
      reference_items: its items that are in the item vocabulary, in order, repeats kept.
      reference_items_out_of_vocabulary: its other items, likewise.
      generated: the decoded response, without prefix and end token.
      generated_tokens: its words, marks and items (`data.mentions.tokens`).
      generated_items: the items of the decoded response, in order.
      item_steps: the steps that emitted those items, with the most probable items there.
      recommender_top: the 50 best items of the recommender for this turn; empty where there is
        none.
      token_nll: teacher-forced negative log-likelihood of each gold token, in nats, end token
        included and turn prefix excluded, under the gold prefix; empty where it was not measured.
      token_is_item: whether that gold token is an item.
      token_nll_predprefix: `token_nll` under the predicted prefix.
      token_item_mass: the probability of all items together at that gold token,
        Σ_{y'∈I} P(y'|y_<t, x), under the gold prefix.
      split: the split that the response is of, the same on every line.
      ids: the text ids of the items of this line, by number, if the corpus has such ids
        (`eval.own_ids`); nothing is computed from it.
    """

    conversation_id: str
    turn: Count
    turn_type: TurnType
    predicted_turn_type: TurnType | None = None
    context: tuple[ContextTurn, ...] = ()
    mentioned_items: tuple[ItemId, ...] | None = None
    reference: str
    reference_items: tuple[ItemId, ...]
    reference_items_out_of_vocabulary: tuple[ItemId, ...] | None = None
    generated: str
    generated_tokens: tuple[str, ...]
    generated_items: tuple[ItemId, ...]
    item_steps: tuple[ItemStep, ...] | None = None
    recommender_top: Ranking | None = None
    token_nll: tuple[Finite, ...] | None = None
    token_is_item: tuple[bool, ...] | None = None
    token_nll_predprefix: tuple[Finite, ...] | None = None
    token_item_mass: tuple[Probability, ...] | None = None
    split: Split | None = None
    ids: dict[str, str] | None = None

    @property
    def key(self) -> tuple[str, int]:
        """What identifies a response: (conversation_id, turn)."""
        return self.conversation_id, self.turn


FIELDS = Prediction.__struct_fields__


def to_record(prediction: Prediction) -> dict[str, Any]:
    """The prediction as plain JSON values, without the fields that are None."""
    record = msgspec.to_builtins(prediction)
    return {name: v for name, v in record.items() if v is not None or name == _NULLABLE}


def from_record(record: object, *, where: str = "prediction") -> Prediction:
    """Checks a decoded JSON value and makes a prediction of it.

    Types are strict: true is not a number, "1" is not one either, and NaN is not a score.

    Args:
      record: what `json.loads` returned for one line.
      where: file and line, for the message.

    Raises:
      PredictionError: naming a field that is missing, unknown or of another type, or that
        disagrees with another field.
    """
    if not isinstance(record, Mapping):
        raise PredictionError(f"{where}: expected a JSON object, got {shown(record)}")
    for name, value in record.items():
        if name not in FIELDS:
            raise PredictionError(
                f"{where}: field {name!r}: expected only the fields {', '.join(FIELDS)}, got this "
                "one too. A field that is not in this list can't be checked: leave it out"
            )
        if value is None and name != _NULLABLE:
            expected = _EXPECTED.get(name, "a value, or no such field")
            raise PredictionError(f"{where}: field {name!r}: expected {expected}, got null")
    derived: dict[str, Any] = {"turn_type": "rec" if record.get("reference_items") else "gen"}
    if "generated_tokens" not in record and isinstance(record.get("generated"), str):
        derived["generated_tokens"] = tokens(record["generated"])
    try:
        prediction = _converted({**derived, **record})
    except msgspec.ValidationError as error:
        raise PredictionError(f"{where}: {_explained(error, record)}") from None
    if problem := disagreement(prediction):
        raise PredictionError(f"{where}: {problem}")
    return prediction


def write_predictions(
    path: epath.PathLike, predictions: Iterable[Prediction], *, without: Collection[str] = ()
) -> int:
    """Writes predictions one at a time; the file gets its name only once it is complete.

    Args:
      path: the file.
      predictions: what to write.
      without: optional fields to leave out.

    Returns:
      How many were written.

    Raises:
      PredictionError: `read_predictions` would refuse one of the predictions.
    """
    path = epath.Path(path)
    lines = _LinesSoFar()
    with whole_file(path) as file:
        for prediction in predictions:
            record = {k: v for k, v in to_record(prediction).items() if k not in without}
            where = f"{path} (writing response {prediction.key})"
            lines.add(record, from_record(record, where=where).key, where)
            file.write(json.dumps(record) + "\n")
    return lines.count


def read_predictions(
    path: epath.PathLike, numbered: Callable[[Mapping, str], Mapping] | None = None
) -> Iterator[Prediction]:
    """Reads predictions one line at a time, in the order of the file.

    Args:
      path: the file.
      numbered: puts numbers for the text ids of a line (`OwnIds.numbered`); None where items are
        numbers already.

    Raises:
      PredictionError: there is no such file; or, naming file, line and field, for the first line
        that is not a prediction, repeats a response, or has other fields than the first line.
    """
    path, lines = epath.Path(path), _LinesSoFar()
    if not path.is_file():
        raise PredictionError(
            f"{path}: expected a predictions.jsonl, found no such file. docs/metrics.md describes "
            "the format"
        )
    with path.open("rb") as file:
        for number, line in numbered_lines(file):
            where = f"{path}, line {number}"
            try:
                # Not msgspec's own decoder: texts may hold lone surrogates, which it refuses.
                record = parse_json(line.decode("utf-8"))
            except UnicodeDecodeError as error:
                raise PredictionError(f"{where}: expected UTF-8 text, got {error}") from None
            except ValueError as error:
                raise PredictionError(
                    f"{where}: expected one JSON object on the line, got {shown(line)} ({error}). "
                    "If the file was cut short, write it again by another evaluation"
                ) from None
            if numbered is not None and isinstance(record, Mapping):
                record = numbered(record, where)
            prediction = from_record(record, where=where)
            lines.add(record, prediction.key, where)
            yield prediction


class _LinesSoFar:
    """Checks between lines: each response once, and the same fields on every line.

    "predicted_turn_type" is null on every line or on none, and "split" is the same on all.
    """

    def __init__(self) -> None:
        self.count = 0
        self._turns: dict[str, set[int]] = {}
        self._fields: frozenset[str] = frozenset()
        self._first: Mapping[str, Any] = {}

    def add(self, record: Mapping, key: tuple[str, int], where: str) -> None:
        turns = self._turns.setdefault(key[0], set())
        if key[1] in turns:
            raise PredictionError(
                f"{where}: fields 'conversation_id' and 'turn': expected each response once, "
                f"got {key} again"
            )
        turns.add(key[1])
        if not self.count:
            self._fields = frozenset(record)
            self._first = {name: record.get(name) for name in ("split", _NULLABLE)}
        if different := sorted(self._fields ^ set(record)):
            raise PredictionError(
                f"{where}: field {different[0]!r}: expected it on every line or on none, got a "
                f"line {'with' if different[0] in record else 'without'} it"
            )
        if record.get("split") != self._first["split"]:
            expected = f"{self._first['split']!r}, as on the first line"
            raise PredictionError(
                f"{where}: field 'split': expected {expected}, got {record['split']!r}"
            )
        if (record.get(_NULLABLE) is None) != (self._first[_NULLABLE] is None):
            raise PredictionError(
                f"{where}: field {_NULLABLE!r}: expected null on every line or on none, got "
                f"{record[_NULLABLE]!r}, unlike the first line"
            )
        self.count += 1


def _converted(record: Mapping) -> Prediction:
    """The record as a prediction; one type of error whatever is wrong.

    Raises:
      msgspec.ValidationError: naming the place of a value of another type.
    """
    try:
        return msgspec.convert(record, Prediction)
    except UnicodeEncodeError:
        # msgspec meets a lone surrogate where it expects no free text, and names no place. Without
        # the surrogates it does.
        text = json.dumps(record, ensure_ascii=False).encode("utf-8", "replace")
        msgspec.convert(json.loads(text), Prediction)
        raise


def _explained(error: Exception, record: Mapping) -> str:
    """The message of msgspec with the value that was found.

    "Expected `int` >= 0 - at `$.turn`" becomes "field 'turn': expected `int` >= 0, got -1".
    """
    # A name in the file may itself hold what msgspec writes before the path: the last one counts.
    message, separator, path = str(error).rpartition(" - at `$")
    if not separator:
        message, path = path, ""
    path = path.rstrip("`").removeprefix(".")
    if found := re.fullmatch(r"Object (missing required|contains unknown) field `(.*)`", message):
        kind, name = found.groups()
        field = f"{path}.{name}".removeprefix(".")
        if kind == "missing required":
            return f"field {field!r}: expected a value, got no such field"
        return f"field {field!r}: expected no such field. Leave it out"
    value: Any = record
    steps = re.findall(r"([a-z_]+)|\[(\d+)\]", path)
    for name, index in steps:
        value = value[int(index) if index else name]
    expected = _EXPECTED.get(steps[-1][0]) if steps else None
    if message == "Number out of range" or (isinstance(value, float) and not math.isfinite(value)):
        expected = "a finite number"
    if expected is None:
        expected = message.partition(", got ")[0].removeprefix("Expected ")
    hint = ""
    if isinstance(value, str) and steps and steps[0][0] in _ITEMS:
        hint = ". Ids that are texts are read with the corpus that has them: --graph=RUN"
    return f"field {path!r}: expected {expected}, got {shown(value)}{hint}"
