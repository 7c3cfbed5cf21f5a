"""Marks the items that the texts of a folder name without a mark.

A name is found as `conkd_jax.data.title_links` finds it in what people type: in any case, with or
without the year, article or punctuation, the longest name first. Many names are everyday words
("Risk"), and without marks no count says how often a text means the item. How texts write it has to
do: a name of several words is taken to mean the item, and so is a name of one word that training
texts write with a capital at least as often as without. Every other name is listed as doubtful, for
a person to decide.
"""

from __future__ import annotations

import collections
import dataclasses
import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
from etils import epath
from jaxtyping import Int64

from conkd_jax.data.mentions import MARK, tokens
from conkd_jax.data.title_links import (
    RARE,
    Forms,
    TitleIndex,
    TitleUsage,
    Word,
    split_title,
    words_of,
)
from conkd_jax.io.files import write_whole
from data_prep.custom import schema
from data_prep.custom.build import labels_of, nodes_of, unproven_labels
from data_prep.custom.lines import Findings, OwnDataError, objects_of
from data_prep.custom.reader import files_of, read_own_data
from data_prep.custom.schema import Item, OwnDialogue
from data_prep.custom.template import expect_new_folder
from data_prep.linking import LabelMatcher


@dataclasses.dataclass
class LinkReport:
    """What was found in the texts of a folder.

    Attributes:
      num_messages: how many messages there are.
      marked_before: how many marks they had.
      marked: how many new marks each item got, by id.
      examples: a text that each of these items was found in, by id.
      doubtful: how often the names that were left as they are occur.
      nodes: how often names of graph nodes occur, by name; the corpus links them without marks.
    """

    num_messages: int = 0
    marked_before: int = 0
    marked: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    examples: dict[str, str] = dataclasses.field(default_factory=dict)
    doubtful: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    nodes: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)


class ItemFinder:
    """Finds the names and aliases of items in texts.

    Args:
      items: the items.
      texts: texts that say how names are written: those of training.
      accept: names that always mean the item.
      skip: names that are never looked for.
      misspelled: whether to look for misspelled names as well.
    """

    def __init__(
        self,
        items: Sequence[Item],
        texts: Sequence[str],
        *,
        accept: Collection[str] = (),
        skip: Collection[str] = (),
        misspelled: bool = False,
    ) -> None:
        skipped = {_key(name) for name in skip}
        named = [
            (name, item)
            for item in items
            for name in dict.fromkeys((item.name, *item.aliases))
            if _key(name) not in skipped
        ]
        self.items = [item for _, item in named]
        names = [name for name, _ in named]
        uses = evident_uses(names, texts, {_key(name) for name in accept})
        # A name may be misspelled where a word is rarer than `rare`.
        self.index = TitleIndex(names, uses, texts, rare=RARE if misspelled else 0)

    def find(self, text: str) -> list[tuple[int, int, Item]]:
        """The places (start, end) of items in a text, in order, without those marked already."""
        marks = [mark.span() for mark in MARK.finditer(text)]
        found = []
        for match in self.index.find(text):
            if not any(match.start < end and start < match.end for start, end in marks):
                item = self.items[match.item]
                found.append((match.start, _end_of(item, text, match.start, match.end), item))
        return found

    def doubtful(self, text: str) -> list[str]:
        """The names in a text that are left as they are, since they may be everyday words."""
        words, found = words_of(text), []
        places = self.find(text) + [(*m.span(), None) for m in MARK.finditer(text)]
        for first, word in enumerate(words):
            for last, key in self.index.forms.keys_from(words, first)[-1:]:
                end = words[last].end
                if not any(word.start < stop and start < end for start, stop, _ in places):
                    found.append(self.items[self.index.forms.items[key][0]].name)
        return found


def evident_uses(
    names: Sequence[str], texts: Sequence[str], accepted: Collection[str]
) -> Int64[np.ndarray, " M"]:
    """How often texts evidently mean the item of each name, in place of counts of tags.

    `TitleUsage.likelihood` compares it with how often the words are written at all.

    Args:
      names: [M] the names.
      texts: texts without marks.
      accepted: the keys of names that always count.
    """
    nobody = np.zeros(len(names), np.int64)
    forms = Forms(names, nobody)
    said = TitleUsage(nobody, forms, texts).said
    uses = nobody.copy()
    for key, of in forms.items.items():
        capital, lower = said[key, True], said[key, False]
        is_long = any(len(_words(names[row])) > 1 and _key(names[row]) == key for row in of)
        if key in accepted or is_long:
            uses[of] += capital + lower
        elif capital >= lower:
            uses[of] += capital
    return uses


def link_folder(
    directory: epath.PathLike,
    out_dir: epath.PathLike | None,
    *,
    accept: Collection[str] = (),
    skip: Collection[str] = (),
    misspelled: bool = False,
) -> LinkReport:
    """Writes a copy of a folder whose texts mark the items that they name.

    Args:
      directory: the folder.
      out_dir: a new folder; None only reports.
      accept: names that always mean the item.
      skip: names that are never looked for.
      misspelled: whether to look for misspelled names as well.

    Raises:
      OwnDataError: the folder can't be used, or a name to accept or skip is that of no item.
    """
    data = read_own_data(directory)
    known = {_key(name) for item in data.items for name in (item.name, *item.aliases)}
    for name in (*accept, *skip):
        if _key(name) not in known:
            raise OwnDataError(f"{name!r} is neither a name nor an alias of an item")
    if out_dir is not None:
        expect_new_folder(out_dir)
    files = {path.name: path for path in files_of(directory, use_test=True)}
    trained = {d.conversation_id for name in ("train", "dev") for d in data.splits[name]}
    dialogues = {
        name: [dialogue for _, dialogue in objects_of(files[name], OwnDialogue, Findings())]
        for name in (schema.DIALOGUES, *schema.SPLIT_FILES.values())
        if name in files
    }
    texts = [
        MARK.sub(" ", message.text)
        for dialogue in (one for of in dialogues.values() for one in of)
        if dialogue.id in trained
        for message in dialogue.messages
    ]
    finder = ItemFinder(data.items, texts, accept=accept, skip=skip, misspelled=misspelled)
    nodes = nodes_of(data)
    labels = labels_of(data, nodes)
    misleading = unproven_labels(data, labels)
    kept = {label: node for label, node in labels.items() if label not in misleading}
    report = LinkReport()
    written = {
        name: "".join(_line(_marked(dialogue, finder, kept, report)) for dialogue in of)
        for name, of in dialogues.items()
    }
    if out_dir is not None:
        _write(out_dir, files, written)
    return report


def _marked(
    dialogue: OwnDialogue,
    finder: ItemFinder,
    labels: Mapping[tuple[str, ...], str],
    report: LinkReport,
) -> OwnDialogue:
    """The dialogue with marks; counts what it finds."""
    matcher = LabelMatcher(dict.fromkeys(labels, 0))
    messages = []
    for message in dialogue.messages:
        text, written, end = message.text, "", 0
        report.num_messages += 1
        report.marked_before += len(MARK.findall(text))
        report.doubtful.update(finder.doubtful(text))
        report.nodes.update(labels[label] for _, label in matcher.spans(tokens(text)))
        for start, stop, item in finder.find(text):
            written += f"{text[end:start]}@[{item.id}]"
            end = stop
            report.marked[item.id] += 1
            report.examples.setdefault(item.id, text)
        messages.append(msgspec.structs.replace(message, text=written + text[end:]))
    return msgspec.structs.replace(dialogue, messages=tuple(messages))


def _line(dialogue: OwnDialogue) -> str:
    value: Any = msgspec.to_builtins(dialogue)
    return json.dumps(value, ensure_ascii=False) + "\n"


def _write(
    out_dir: epath.PathLike, files: Mapping[str, epath.Path], written: Mapping[str, str]
) -> None:
    folder = epath.Path(out_dir).expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    for name, path in files.items():
        write_whole(folder / name, written.get(name) or path.read_bytes())


def _end_of(item: Item, text: str, start: int, end: int) -> int:
    """Where the name of an item ends in a text, with punctuation that is part of it: "Clank!"."""
    names = (split_title(name)[0] for name in (item.name, *item.aliases))
    return max([end, *(start + len(name) for name in names if text.startswith(name, start))])


def _key(name: str) -> str:
    """A name, without its year, as `title_links` compares it."""
    return "".join(word.key for word in _words(name))


def _words(name: str) -> list[Word]:
    return words_of(split_title(name)[0])
