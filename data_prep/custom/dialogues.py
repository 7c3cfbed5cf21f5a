"""Reads the dialogues of a folder of your own data: their splits, and the items that texts mark.

Item n of `items.jsonl`, from 1, is mentioned as "@n" in every text, which is how the rest of the
program writes items. An "@" that a person typed before a digit gets a space after it, since it
mentions nothing.
"""

from __future__ import annotations

import collections
import difflib
import re
from collections.abc import Mapping

from etils import epath

from conkd_jax.data.mentions import MARK, marks_as_mentions
from conkd_jax.io.files import by_hash
from data_prep.custom import schema
from data_prep.custom.lines import LISTED, Findings, objects_of, unclean
from data_prep.custom.schema import OwnDialogue, Shares
from data_prep.raw_dialogues import Problems, RawDialogue, clean_text
from data_prep.split_ids import is_dev

_NOT_A_MENTION = re.compile(r"@(?=[0-9])")
_TYPED = re.compile(r"@([^\s\[\]@]*[^\W_])")  # "@catan", without brackets
_PARTS = 10_000


class ItemMarks:
    """The marks of items in texts, "@[id]".

    Args:
      numbers: the number of every item, by id.
      is_complete: whether every item could be read. If not, ids that are unknown may be those of
        the others, and are not told.
      findings: where what is wrong is noted.
    """

    def __init__(self, numbers: Mapping[str, int], findings: Findings, *, is_complete: bool = True):
        self._numbers, self._findings, self._is_complete = numbers, findings, is_complete
        self._unknown: set[str] = set()
        self._typed: collections.Counter[str] = collections.Counter()
        self._first_typed = ""

    def numbered(self, text: str, where: str) -> str:
        """The text with items as "@n" instead of "@[id]"."""
        text = clean_text(text, Problems())
        if text.count("@[") != len(MARK.findall(text)):
            self._findings.error(where, "an @[ is not closed", 'Mark an item as "@[id]"')
        for typed in _TYPED.findall(text):
            if typed in self._numbers:
                self._typed[typed] += 1
                self._first_typed = self._first_typed or where

        def number(item: str) -> int | None:
            if item not in self._numbers:
                self._tell_unknown(item, where)
            return self._numbers.get(item)

        return marks_as_mentions(_NOT_A_MENTION.sub("@ ", text), number)

    def warn(self) -> None:
        """Warns of ids after an "@" that are not in brackets, as nothing is marked by them."""
        if self._typed:
            item, _ = self._typed.most_common(1)[0]
            self._findings.warnings.append(
                f"{self._typed.total():,} times a text has an id without brackets, such as "
                f"{'@' + item!r}, for example in {self._first_typed}. It marks no item: write "
                f"'@[{item}]'."
            )

    def _tell_unknown(self, item: str, where: str) -> None:
        """Notes an id that is that of no item, once."""
        if item in self._unknown or not self._is_complete:
            return
        self._unknown.add(item)
        is_told = len(self._findings.errors) < LISTED and len(item) <= schema.LONGEST_NAME
        alike = difflib.get_close_matches(item, self._numbers, n=1) if is_told else []
        meant = f"Did you mean @[{alike[0]}]? " if alike else ""
        what = f"@[{item}] names no item of {schema.ITEMS}"
        self._findings.error(where, what, f"{meant}Correct the id or add the item")


def read_splits(
    paths: Mapping[str, epath.Path],
    shares: Shares,
    marks: ItemMarks,
    findings: Findings,
) -> dict[str, list[RawDialogue]]:
    """Reads the dialogues of each split; "dev" is taken from train where it has no file.

    Args:
      paths: the files that are there, by name.
      shares: of the splits, where one file has all dialogues.
      marks: of items in texts.
      findings: where what is wrong is noted.
    """
    splits: dict[str, list[RawDialogue]] = {"train": [], "dev": [], "valid": [], "test": []}
    places: dict[str, str] = {}
    files = {name: file for name, file in schema.SPLIT_FILES.items() if file in paths}
    if schema.DIALOGUES in paths:
        files = {}  # both are an error, which is told once
        for dialogue in _dialogues(paths[schema.DIALOGUES], marks, places, findings):
            splits[split_by_hash(dialogue.conversation_id, shares)].append(dialogue)
    for name, file in files.items():
        for dialogue in _dialogues(paths[file], marks, places, findings):
            is_held = name == "train" and "dev" not in files and is_dev(dialogue.conversation_id)
            splits["dev" if is_held else name].append(dialogue)
    if not splits["dev"] and len(splits["train"]) > 1:
        splits["dev"].append(splits["train"].pop())
    if not findings.num_errors:
        _check_splits(splits, findings)
    return {name: found for name, found in splits.items() if found or name in ("train", "dev")}


def split_by_hash(conversation_id: str, shares: Shares) -> str:
    """The split of a dialogue of `dialogues.jsonl`, which depends on its id alone."""
    place = by_hash(conversation_id, _PARTS)
    for name in ("test", "valid", "dev"):
        place -= round(getattr(shares, name) * _PARTS)
        if place < 0:
            return name
    return "train"


def _dialogues(
    path: epath.Path, marks: ItemMarks, places: dict[str, str], findings: Findings
) -> list[RawDialogue]:
    found = []
    for where, dialogue in objects_of(path, OwnDialogue, findings):
        if why := unclean(dialogue.id):
            findings.error(where, f"the id {dialogue.id!r} {why}", "Choose a plain id")
            continue
        if dialogue.id in places:
            what = f"the id {dialogue.id!r} is that of {places[dialogue.id]} as well"
            findings.error(where, what, "Give every dialogue an id of its own, in one split")
            continue
        places[dialogue.id] = where
        messages = tuple(
            (message.role == "recommender", marks.numbered(message.text, where))
            for message in dialogue.messages
        )
        found.append(RawDialogue(dialogue.id, messages, {}))
    return found


def _check_splits(splits: Mapping[str, list[RawDialogue]], findings: Findings) -> None:
    """What is wrong with the dialogues of splits, taken together."""
    for name, found in splits.items():
        silent = [d.conversation_id for d in found if not _has_response(d)]
        if not found and name in ("train", "dev"):
            what = f"there is no dialogue in the split {name!r}"
            findings.error("dialogues", what, "Write more dialogues: some are held out by hash")
        elif found and len(silent) == len(found):
            what = f"no dialogue of the split {name!r} has a turn of the recommender after one of "
            findings.error("dialogues", f"{what}the seeker", "Check the roles of the messages")
        elif silent:
            findings.warnings.append(
                f"{len(silent):,} of {len(found):,} dialogues of {name} have no turn of the "
                f"recommender after one of the seeker, for example {silent[0]!r}."
            )
    if not splits["valid"]:
        findings.warnings.append(
            f"there is no dialogue in valid: nothing can be scored on it. Write "
            f"{schema.SPLIT_FILES['valid']}, or score on dev, on which models are chosen."
        )
    known = {d.messages: d.conversation_id for d in (*splits["train"], *splits["dev"])}
    for name in ("valid", "test"):
        twice = [d for d in splits[name] if d.messages in known]
        if twice:
            other = known[twice[0].messages]
            findings.warnings.append(
                f"{len(twice):,} dialogues of {name} have the same text as one that is trained on, "
                f"for example {twice[0].conversation_id!r} and {other!r}: scores are too good."
            )


def _has_response(dialogue: RawDialogue) -> bool:
    roles = [is_recommender for is_recommender, text in dialogue.messages if text]
    return False in roles and True in roles[roles.index(False) :]
