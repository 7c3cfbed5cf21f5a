"""Finds the places of marked names in texts, and which names may be linked anywhere.

OpenDialKG marks which entities a dialogue contains, not where. A film's or book's name becomes its
"@" id, as ReDial writes its movies, wherever a dialogue in which it is marked has it. Other
entities are linked by labels, which also link texts that nobody has marked.
"""

from __future__ import annotations

import collections
import re
from collections.abc import Iterable, Mapping

from conkd_jax.data.mentions import token_places, tokens
from data_prep.linking import Label, LabelMatcher
from data_prep.opendialkg.annotated import AnnotatedDialogue
from data_prep.raw_dialogues import RawDialogue

_QUALIFIER = re.compile(r"\s*\([^()]*\)$")


def label_of(name: str) -> Label:
    """Returns the tokens of a name, case-folded."""
    return tuple(tokens(name.casefold()))


def spoken(name: str) -> str:
    """Returns a name without the qualifier at its end.

    >>> spoken("Alpha (Horror Film)")
    'Alpha'
    """
    return _QUALIFIER.sub("", name) or name


def with_mentions(
    dialogue: AnnotatedDialogue, items: Mapping[str, int], *, has_qualifiers: bool = False
) -> RawDialogue:
    """Replaces the marked names of items in a dialogue by "@" and their ids.

    The longest name wins. A name of a single word ("Her", "Up") must be written as it is marked, if
    the dialogue has it so anywhere; others may differ in case.

    Args:
      dialogue: texts and marked names.
      items: the id of every item's name.
      has_qualifiers: whether marks are names of the graph, which may have a qualifier that texts
        lack: "Alpha (Horror Film)". Otherwise they are names as the texts have them.
    """
    marked = [name for name in dialogue.names if name in items and label_of(name)]
    if not marked:
        return RawDialogue(dialogue.conversation_id, dialogue.messages, {})
    spelled = spoken if has_qualifiers else str
    names: dict[Label, list[str]] = {}
    for form in (str, spelled):
        for name in marked:
            if name not in names.setdefault(label_of(form(name)), []):
                names[label_of(form(name))].append(name)
    texts = [text for _, text in dialogue.messages]
    written = {name for name in marked if any(spelled(name) in text for text in texts)}
    matcher = LabelMatcher(dict.fromkeys(names, 0))

    def meant(label: Label, text: str) -> str | None:
        exact = [name for name in names[label] if text in (name, spelled(name))]
        others = [name for name in names[label] if len(label) > 1 or name not in written]
        return next(iter([*exact, *others]), None)

    def replaced(text: str) -> str:
        places = token_places(text)
        parts, end = [], 0
        for start, label in matcher.spans([text[a:b] for a, b in places]):
            first, last = places[start][0], places[start + len(label) - 1][1]
            name = meant(label, text[first:last])
            if name is not None:
                parts += [text[end:first], f"@{items[name]}"]
                end = last
        return "".join([*parts, text[end:]])

    messages = tuple((role, replaced(text)) for role, text in dialogue.messages)
    return RawDialogue(dialogue.conversation_id, messages, {})


def entity_labels(
    train: Iterable[AnnotatedDialogue],
    texts: Iterable[RawDialogue],
    nodes: Mapping[str, int],
    degrees: Mapping[int, int],
) -> dict[Label, int]:
    """Chooses the labels by which entities other than items are linked, from training text.

    A name that occurs in training text is a label if it is marked in at least half of the dialogues
    that have it: "Tom Hanks" and "Basketball" are, "You" and "2012" are not. The last message of a
    dialogue doesn't count, since only what it recommends is marked. A name that doesn't occur is a
    label if it has two words or more. If entities share a label, the one that is marked most often
    wins, then the one with the most edges.

    Args:
      train: the training dialogues with their marks.
      texts: the same dialogues, items as "@" ids.
      nodes: the graph node of every entity that is no item.
      degrees: the number of edges of each node.

    Returns:
      The node of every label.
    """
    marked: collections.Counter[str] = collections.Counter()
    marked_labels: collections.Counter[Label] = collections.Counter()
    written: collections.Counter[Label] = collections.Counter()
    candidates: dict[Label, list[str]] = {}
    for name in nodes:
        if label := label_of(name):
            candidates.setdefault(label, []).append(name)
    matcher = LabelMatcher(dict.fromkeys(candidates, 0))
    for dialogue, raw in zip(train, texts, strict=True):
        marked.update(set(dialogue.names))
        before = [text for _, text in raw.messages[:-1]]
        has = {label for text in before for _, label in matcher.spans(tokens(text))}
        written.update(has)
        marked_labels.update(has & {label_of(name) for name in dialogue.names})
    return {
        label: nodes[max(names, key=lambda name: (marked[name], degrees.get(nodes[name], 0)))]
        for label, names in candidates.items()
        if (2 * marked_labels[label] >= written[label] if written[label] else _num_words(label) > 1)
    }


def _num_words(label: Label) -> int:
    return sum(token[0].isalnum() for token in label)
