"""What the fields of one prediction say about each other.

A fact that a line states twice is checked, so that no metric depends on which of the two is read,
and no field shrinks the denominator of another. The checks hold for every system: the evaluation
of this project writes its own files through them.
"""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from conkd_jax.data.mentions import replace_mentions, tokens

if TYPE_CHECKING:
    from conkd_jax.eval.predictions import Prediction


def mentioned_ids(text: str) -> tuple[int, ...]:
    """Returns the item ids that a text mentions, in order, with repeats.

    >>> mentioned_ids("@7 or @8? No, @7!")
    (7, 8, 7)
    """
    found: list[int] = []
    replace_mentions(text, found.append)
    return tuple(found)


def spell_apart(text: str, items: Sequence[int]) -> str:
    """Returns a text with a space inside each mention that is not one of its items.

    A language model can spell "@", "1", "2" with words. Such a text names no item, and reads
    "@ 12", so that the mentions of a generated text are its items.

    Args:
      text: a generated text.
      items: the items that were emitted as items, in order.

    >>> spell_apart("see @7 or @8", [8])
    'see @ 7 or @8'
    """
    rest = collections.deque(items)

    def written(item_id: int) -> str | None:
        if rest and rest[0] == item_id:
            rest.popleft()
            return None
        return f"@ {item_id}"

    return replace_mentions(text, written)


def disagreement(p: Prediction) -> str | None:
    """Returns what is wrong between the fields of a prediction, or None."""
    return next((problem for check in _CHECKS if (problem := check(p))), None)


def _rankings(p: Prediction) -> str | None:
    rankings = {f"item_steps[{i}].top": step.top for i, step in enumerate(p.item_steps or ())}
    rankings["recommender_top"] = p.recommender_top or ()
    for field, items in rankings.items():
        if len(set(items)) != len(items):
            return _said(field, "different items, best first", items)
    return None


def _item_steps(p: Prediction) -> str | None:
    if p.item_steps is None:
        return None
    emitted = tuple(step.item for step in p.item_steps)
    if emitted != p.generated_items:
        expected = f"the items {shown(p.generated_items)} of 'generated_items'"
        return _said("item_steps", expected, emitted)
    for place, step in enumerate(p.item_steps):
        if step.top[:1] != (step.item,):
            expected = f"the emitted item {step.item} first, then its rivals"
            return _said(f"item_steps[{place}].top", expected, step.top)
    steps = [step.step for step in p.item_steps]
    if steps != sorted(set(steps)):
        return _said("item_steps", "steps that ascend", steps)
    return None


def _generated(p: Prediction) -> str | None:
    """`generated`, `generated_items` and `generated_tokens` are one response."""
    named = mentioned_ids(p.generated)
    if named != p.generated_items:
        return _said(
            "generated_items",
            f"the items {shown(named)} that 'generated' mentions, in order, with repeats",
            p.generated_items,
        )
    words = tuple(tokens(p.generated))
    if words != p.generated_tokens:
        expected = f"the tokens {shown(words)} of 'generated', or no such field"
        return _said("generated_tokens", expected, p.generated_tokens)
    return None


def _reference(p: Prediction) -> str | None:
    """The items of the reference are those that its text mentions, known and unknown together."""
    named, unknown = mentioned_ids(p.reference), p.reference_items_out_of_vocabulary
    items = (*p.reference_items, *(unknown or ()))
    difference = _counts(items) - _counts(named)
    if unknown is not None:
        difference |= _counts(named) - _counts(items)
    if difference or not _is_part(p.reference_items, named):
        fields = "field 'reference_items'"
        if unknown is not None:
            fields += ", with those of 'reference_items_out_of_vocabulary'"
        got = f"{shown(p.reference_items)}" + (f" and {shown(unknown)}" if unknown else "")
        return f"{fields}: expected the items {shown(named)} that 'reference' mentions, got {got}"
    expected = "rec" if p.reference_items else "gen"
    if p.turn_type != expected:
        reason = "there are" if p.reference_items else "there are no"
        return _said("turn_type", f"{expected!r}, as {reason} 'reference_items'", p.turn_type)
    return None


def _mentioned(p: Prediction) -> str | None:
    """`mentioned_items` are those of `context`, as far as one line can tell.

    An id of the history may be missing: it can belong to no item. Not so if the same line has it
    as an item of the reference or of the response.
    """
    if p.mentioned_items is None:
        return None
    if len(set(p.mentioned_items)) != len(p.mentioned_items):
        return _said("mentioned_items", "each item once", p.mentioned_items)
    if not p.context:
        return None
    before = {item for turn in p.context for item in mentioned_ids(turn.text)}
    known = before & {*p.reference_items, *p.generated_items}
    wrong = (set(p.mentioned_items) - before) | (known - set(p.mentioned_items))
    if wrong:
        expected = f"the items that 'context' mentions, which differ in {shown(sorted(wrong))}"
        return _said("mentioned_items", expected, p.mentioned_items)
    return None


def _tokens(p: Prediction) -> str | None:
    for field in ("token_is_item", "token_nll_predprefix", "token_item_mass"):
        values = getattr(p, field)
        if values is None:
            continue
        if p.token_nll is None:
            return f"field {field!r}: expected 'token_nll' beside it, got no such field"
        if len(values) != len(p.token_nll):
            expected = f"one value for each of the {len(p.token_nll)} of 'token_nll'"
            return f"field {field!r}: expected {expected}, got {len(values)}"
    if p.token_is_item is not None and sum(p.token_is_item) > len(p.reference_items):
        expected = f"at most the {len(p.reference_items)} items of 'reference_items'"
        return f"field 'token_is_item': expected {expected}, got {sum(p.token_is_item)}"
    return None


def _ids(p: Prediction) -> str | None:
    ids = p.ids or {}
    if foreign := [number for number in ids if not number.isdecimal()]:
        return _said("ids", "numbers of items as its keys", foreign[0])
    if len({*ids.values()}) != len(ids):
        return _said("ids", "a different id for each item", ids)
    return None


_CHECKS: tuple[Callable[[Prediction], str | None], ...] = (
    _rankings,
    _item_steps,
    _generated,
    _reference,
    _mentioned,
    _tokens,
    _ids,
)


def shown(value: object) -> str:
    """Returns a value for a message, cut to 80 characters."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _said(field: str, expected: str, got: object) -> str:
    return f"field {field!r}: expected {expected}, got {shown(got)}"


def _counts(items: Iterable[int]) -> collections.Counter[int]:
    return collections.Counter(items)


def _is_part(items: Iterable[int], whole: Iterable[int]) -> bool:
    """Whether `items` is what is left of `whole` when some of it is left out."""
    rest = iter(whole)
    return all(item in rest for item in items)
