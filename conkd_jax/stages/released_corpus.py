"""The corpus of a release: titles and graphs without dialogues, and what linking counted in them.

A message is linked by how training texts use the words of titles, and by the labels that they
confirm. A release has these counts instead of the texts: which items are tagged how often, how
often the words of a title stand for something else, the words that are not rare, and the labels.
"""

from __future__ import annotations

import collections
import dataclasses
import io
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from etils import epath

from conkd_jax.data.corpus import Corpus, CorpusError, ItemTable
from conkd_jax.data.title_links import RARE, TitleIndex
from conkd_jax.io.files import read_json, write_json
from data_prep.linking import Label

COUNTS, INFO = "counts.json", "corpus.json"
TABLES = ("items.json", "items.npz", "graph.json", "graph.npz", "entities.json")
TABLES += ("concepts.json", "concepts.npz")


@dataclasses.dataclass(frozen=True)
class LinkingCounts:
    """What the linker of free text knows of the training dialogues.

    Attributes:
      mentions: [M] how often each item is tagged.
      said: how often the words of a title occur without a tag, by (words, written in capitals).
      frequent: the words that occur `RARE` times or more.
      labels: the node of every label, such as a person's name.
    """

    mentions: Sequence[int]
    said: Mapping[tuple[str, bool], int]
    frequent: Iterable[str]
    labels: dict[Label, int]

    @classmethod
    def of(cls, titles: TitleIndex, labels: Mapping[Label, int]) -> LinkingCounts:
        """The counts of an index of titles that has read the training dialogues."""
        usage = titles.usage
        frequent = sorted(word for word, count in usage.words.items() if count >= RARE)
        return cls(usage.mentions.tolist(), usage.said, frequent, dict(labels))

    def title_index(self, items: ItemTable) -> TitleIndex:
        """The index of titles, which finds the same as the one that has read the dialogues."""
        index = TitleIndex(items.titles, np.asarray(self.mentions), (), aliases=items.aliases)
        index.usage.said = collections.Counter(self.said)
        index.usage.words = collections.Counter(dict.fromkeys(self.frequent, RARE))
        return index


def write_released_corpus(corpus: Corpus, counts: LinkingCounts, folder: epath.Path) -> None:
    """Writes the folder that `Corpus.open` and `read_counts` open; no text of a dialogue is in it.

    Args:
      corpus: the corpus, without reviews, which are texts of users.
      counts: those of its training dialogues.
      folder: where to write; it exists.

    Raises:
      CorpusError: the corpus has reviews.
    """
    if corpus.reviews:
        raise CorpusError(
            f"{corpus.directory}: expected a corpus without reviews, which are texts of users and "
            "can't be part of a release"
        )
    for name in TABLES:
        if (corpus.directory / name).exists():
            content = (corpus.directory / name).read_bytes()
            (folder / name).write_bytes(
                _uncompressed(content) if name.endswith(".npz") else content
            )
    info = read_json(corpus.directory / INFO, CorpusError, "build the corpus again")
    write_json(folder / INFO, {**info, "splits": []})
    content = {
        "mentions": list(counts.mentions),
        "said": [[key, is_capital, n] for (key, is_capital), n in sorted(counts.said.items())],
        "frequent": list(counts.frequent),
        "labels": [[list(label), node] for label, node in counts.labels.items()],
    }
    write_json(folder / COUNTS, content, indent=None)


def _uncompressed(content: bytes) -> bytes:
    """The same arrays, stored such that the archive of the release compresses them better."""
    found = io.BytesIO()
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        np.savez(found, **arrays)
    return found.getvalue()


def read_counts(corpus: Corpus) -> LinkingCounts | None:
    """The counts of a release; None for a corpus with dialogues.

    Raises:
      CorpusError: the file is damaged.
    """
    path = corpus.directory / COUNTS
    if corpus.splits or not path.exists():
        return None
    content = read_json(path, CorpusError, "unpack the release again")
    try:
        return LinkingCounts(
            content["mentions"],
            {(key, is_capital): count for key, is_capital, count in content["said"]},
            content["frequent"],
            {tuple(label): node for label, node in content["labels"]},
        )
    except (KeyError, TypeError, ValueError) as error:
        raise CorpusError(f"{path} is damaged ({error}): unpack the release again.") from error
