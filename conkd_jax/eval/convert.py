"""Responses that other toolkits wrote, as a `predictions.jsonl`.

The files hold a response and its label per line, and neither ids nor gold items. Those come from
the corpus: responses are in the order of the split, and every label is compared with the reference
that it must be.

UniCRS' `infer_conv.py` writes `save/DATASET/MODEL_SPLIT.jsonl`: `{"pred": "System: … <movie> …",
"label": …}`, with `<movie>` for every item (`process_mask.py`) or with titles (`process.py`). It
does not write which item a slot stands for, nor its recommender's rankings.

CRSLab writes no responses: its evaluators print means. `conv_evaluate` of every system has both
texts at hand, tokens with a space between, and docs/metrics.md has the two lines that write them as
`{"pred": …, "label": …}`. An item is the tokens "@" and its id.
"""

from __future__ import annotations

import html
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec
from etils import epath

from conkd_jax.data.corpus import Corpus
from conkd_jax.data.mentions import replace_mentions, tokens
from conkd_jax.errors import UserError
from conkd_jax.eval.metrics.refilling import slot_rankings
from conkd_jax.eval.prediction_checks import mentioned_ids, shown
from conkd_jax.eval.predictions import TOP_ITEMS, ItemStep, Prediction
from conkd_jax.eval.template import empty_responses
from conkd_jax.io.files import numbered_lines, parse_json

FORMATS = ("unicrs", "crslab")
SLOT = "<movie>"  # UniCRS
_SPEAKER = "System:"  # what UniCRS puts before every response
_UNKNOWN = re.compile(r"<movie>|\[ITEM\]|<http\S*>|__unk__|\[UNK\]|<unk>|\bunk\b")
_END = re.compile(r"__(?:start|end|pad)__|\[PAD\]|<pad>|<\|endoftext\|>")
_YEAR = re.compile(r"\(\s*\d{4}\s*\)")  # how a title ends
_LONGEST_TITLE = 120  # characters before the year


class ConversionError(UserError, ValueError):
    """A file of another toolkit that can't become a predictions.jsonl."""


def convert(
    path: epath.PathLike,
    toolkit: str,
    corpus: Corpus,
    split: str,
    rankings: epath.PathLike | None = None,
) -> Iterator[Prediction]:
    """Yields the responses of a file of another toolkit, in the order of the split.

    Args:
      path: the file, one JSON object with "pred" and "label" on each line.
      toolkit: one of `FORMATS`.
      corpus: the corpus with the responses of the split and the titles of its items.
      split: the split that the file is of.
      rankings: a file with the recommender's best items of every response, best first: on each line
        a JSON list of item ids or titles. They become `recommender_top` and fill UniCRS' slots:
        the i-th slot gets the i-th item.

    Raises:
      ConversionError: a line has another format, its label is not the reference of its response,
        lines are missing or too many, or a slot has no item.
      CorpusError: the corpus has no such split.
    """
    title_of = dict(zip(corpus.items.item_ids.tolist(), corpus.items.titles, strict=True))
    titles = _TitleIds(title_of)
    expected = list(empty_responses(corpus, split))
    answers = list(_answers(path))
    if len(answers) != len(expected):
        wrong = _first_difference(expected, answers, title_of)
        raise ConversionError(
            f"{path}: expected the {len(expected)} responses of the split {split!r} of "
            f"{corpus.directory}, one on each line and in that order, got {len(answers)}{wrong}"
        )
    ranked = list(_rankings(rankings, titles)) if rankings else None
    if ranked is not None and len(ranked) != len(expected):
        raise ConversionError(
            f"{rankings}: expected one ranking for each of the {len(expected)} responses, got "
            f"{len(ranked)}"
        )
    for place, (gold, (where, pred, label)) in enumerate(zip(expected, answers, strict=True)):
        if not _is_label_of(label, gold.reference, title_of):
            raise ConversionError(
                f"{where}: field 'label': expected the reference {shown(gold.reference)} of "
                f"response {gold.key}, got {shown(label)}. The file must hold the responses of the "
                f"split {split!r} in the order of the corpus"
            )
        text = _plain(pred, toolkit, titles)
        top = () if ranked is None else ranked[place]
        yield _filled(gold, text, top, has_rankings=ranked is not None, where=where)


def is_label_of(label: str, reference: str) -> bool:
    """Whether a toolkit's label is a reference, as far as its text shows.

    Letters and digits are compared. A label may be cut, and what the toolkit has no word for
    (items, unknown words) stands for anything.

    >>> is_label_of("System: Try <movie> !", "Try @12!")
    True
    >>> is_label_of("ca n't say __unk__", "Can't say anything")
    True
    >>> is_label_of("Hello", "Try @12!")
    False
    """
    text = _END.sub(" ", label).strip().removeprefix(_SPEAKER)
    pieces = [_letters(piece) for piece in _UNKNOWN.split(text)]
    pattern = ".*?".join(map(re.escape, pieces))
    return re.match(pattern, _letters(reference)) is not None


def _letters(text: str) -> str:
    return "".join(filter(str.isalnum, html.unescape(text).casefold()))


def _answers(path: epath.PathLike) -> Iterator[tuple[str, str, str]]:
    """(where, "pred", "label") of every line.

    Raises:
      ConversionError: there is no such file, or a line has another format.
    """
    for where, record in _json_lines(path):
        match record:
            case {"pred": str(pred), "label": str(label)}:
                yield where, pred, label
            case _:
                raise ConversionError(
                    f"{where}: expected a JSON object with the texts 'pred' and 'label', got "
                    f"{shown(record)}"
                )


def _json_lines(path: epath.PathLike) -> Iterator[tuple[str, Any]]:
    path = epath.Path(path)
    if not path.is_file():
        raise ConversionError(f"{path}: expected a file of a toolkit, found no such file")
    for number, line in numbered_lines(path.read_bytes().split(b"\n")):
        where = f"{path}, line {number}"
        try:
            yield where, parse_json(line)
        except ValueError as error:
            raise ConversionError(f"{where}: expected JSON, got {shown(line)} ({error})") from None


def _is_label_of(label: str, reference: str, title_of: Mapping[int, str]) -> bool:
    """`is_label_of`, with items as ids or as titles."""
    titled = replace_mentions(reference, title_of.get)
    return is_label_of(label, reference) or is_label_of(label, titled)


def _first_difference(
    expected: Sequence[Prediction], answers: Sequence[tuple], title_of: Mapping[int, str]
) -> str:
    """Where the file leaves the split, for a message."""
    for gold, (where, _, label) in zip(expected, answers, strict=False):
        if not _is_label_of(label, gold.reference, title_of):
            return (
                f". They differ first at {where}: label {shown(label)} for the reference "
                f"{shown(gold.reference)} of {gold.key}"
            )
    return ""


def _plain(pred: str, toolkit: str, titles: _TitleIds) -> str:
    """The response with items as `@id`, and without the toolkit's own marks."""
    text = html.unescape(_END.sub(" ", pred)).strip()
    if toolkit == "unicrs":
        text = text.removeprefix(_SPEAKER).strip()
    else:
        text = re.sub(r"@ (?=\d)", "@", text)
    text = " ".join(text.split())
    return titles.as_mentions(text)


def _filled(
    gold: Prediction, text: str, top: tuple[int, ...], *, has_rankings: bool, where: str
) -> Prediction:
    """The response with its text, and items in its slots.

    Raises:
      ConversionError: a slot has no item.
    """
    lost = _lost_slot(text)
    if lost and (lost != SLOT or text.count(SLOT) > len(top)):
        needed = "its toolkit does not write which item that is"
        if lost == SLOT:
            needed += (
                ": give the recommender's rankings as --rankings=FILE, a JSON list of at least "
                f"{text.count(SLOT)} item ids or titles for this response"
            )
        else:
            needed += " as ReDial's id; write @id in its place"
        raise ConversionError(f"{where}: the response {shown(text)} has {lost}, and {needed}")
    slots = itertools.count()
    parts = text.split(SLOT)
    text = parts[0] + "".join(f"@{top[next(slots)]} {part.lstrip()}" for part in parts[1:])
    text = re.sub(r"(@[0-9]+) (?=[.,!?;:]|$)", r"\1", text).strip() if len(parts) > 1 else text
    items, words = mentioned_ids(text), tokens(text)
    filled = {
        "generated": text,
        "generated_tokens": tuple(words),
        "generated_items": items,
        "recommender_top": top[:TOP_ITEMS] if has_rankings else None,
    }
    if has_rankings and len(parts) - 1 == len(items):  # every item is the recommender's
        steps = [
            place for place, word in enumerate(words) if word[0] == "@" and mentioned_ids(word)
        ]
        rankings = slot_rankings(top[:TOP_ITEMS], len(items), "in_order")
        filled["item_steps"] = tuple(map(ItemStep, steps, items, rankings))
    return msgspec.structs.replace(gold, **filled)


def _lost_slot(text: str) -> str:
    found = re.search(r"<movie>|\[ITEM\]|<http\S*>", text)
    return found[0] if found else ""


class _TitleIds:
    """Finds the titles of a catalogue in texts. Of items with one title, the first id counts."""

    def __init__(self, titles: Mapping[int, str]):
        self._ids: dict[str, int] = {}
        for item in sorted(titles):
            if _YEAR.search(titles[item]):
                self._ids.setdefault(_letters(titles[item]), item)

    def id_of(self, title: str) -> int | None:
        """The item with a title, or None."""
        return self._ids.get(_letters(title))

    def as_mentions(self, text: str) -> str:
        """The text with titles as `@id`: the longest one that ends in each "(year)"."""
        written, end = "", 0
        for year in _YEAR.finditer(text):
            before = text[max(end, year.start() - _LONGEST_TITLE) : year.start()]
            first = year.start() - len(before)
            for word in re.finditer(r"(?<!\w)\w", before):
                start = first + word.start()
                item = self.id_of(text[start : year.end()])
                if item is not None:
                    written += f"{text[end:start]}@{item}"
                    end = year.end()
                    break
        return written + text[end:]


def _rankings(path: epath.PathLike, titles: _TitleIds) -> Iterator[tuple[int, ...]]:
    """The item ids of every line.

    Raises:
      ConversionError: a line is no list of different items.
    """
    for where, record in _json_lines(path):
        ids: list[int] = []
        for one in record if isinstance(record, list) else [record]:
            item = titles.id_of(one) if isinstance(one, str) else one
            if not isinstance(record, list) or type(item) is not int or item in ids:
                raise ConversionError(
                    f"{where}: expected a JSON list of different item ids or titles of the "
                    f"corpus, got {shown(one)}"
                )
            ids.append(item)
        yield tuple(ids)
