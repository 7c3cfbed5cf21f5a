"""The corpus as every later stage reads it: dialogues, items, knowledge graph, concept graph.

One folder holds a TFDS dataset of dialogues (array_record) beside a few tables. `data_prep` writes
it with `corpus_writing`; the stages read it with `Corpus.open`. This module is independent of where
a corpus comes from (ReDial, MovieWorld, your own) and of tokenizers and models.
"""

import dataclasses
import functools
import io
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from etils import epath
from jaxtyping import Bool, Int32, Int64

from conkd_jax.data.dialogues import (
    RECOMMENDER,
    SEEKER,
    Dialogue,
    Turn,
    dialogue_features,
    dialogue_from_record,
    responses,
)
from conkd_jax.data.shards.reader import RecordReader
from conkd_jax.errors import UserError
from conkd_jax.io.files import read_json

__all__ = [
    "RECOMMENDER",
    "SEEKER",
    "SPLITS",
    "TRANSFER_SPLITS",
    "ConceptGraph",
    "Corpus",
    "CorpusError",
    "Dialogue",
    "ItemTable",
    "KnowledgeGraph",
    "Review",
    "Turn",
    "responses",
]

FORMAT_VERSION = 1
# Dialogues of another source, which a trained system answers: INSPIRED, by its own split.
TRANSFER_SPLITS = ("inspired_dev", "inspired_test")
SPLITS = ("train", "dev", "valid", "test", "inferred", *TRANSFER_SPLITS)

DIALOGUES = "dialogues"  # the folder and the name of the dataset
REVIEWS = "reviews"
INFO, REPORT = "corpus.json", "report.json"
_REMEDY = "the folder is damaged, build the corpus again"


class CorpusError(UserError, ValueError):
    """A corpus folder is missing, unfinished, or of another format."""


@dataclasses.dataclass(frozen=True)
class ItemTable:
    """The M candidate items; an item index is a row here.

    Attributes:
      item_ids: the ids, ascending (ReDial's "@" ids).
      titles: "Name (year)".
      entity_ids: each item's node in the knowledge graph.
      is_linked: whether that node is a DBpedia entity; other items are nodes without triples.
      keys: the ids of a source whose ids are texts, such as "catan"; None for other sources.
      aliases: further names of each item, by which people may mean it; None if there are none.
    """

    item_ids: Int64[np.ndarray, " M"]
    titles: list[str]
    entity_ids: Int32[np.ndarray, " M"]
    is_linked: Bool[np.ndarray, " M"]
    keys: list[str] | None = None
    aliases: list[list[str]] | None = None

    def __len__(self) -> int:
        return len(self.item_ids)


@dataclasses.dataclass(frozen=True)
class KnowledgeGraph:
    """Typed edges between entities, as an R-GCN reads them.

    Attributes:
      num_entities: number of nodes.
      num_relations: number of relations that the rule kept, self loops included.
      relation_names: one name per relation.
      edges: (source, relation, destination), unique and sorted; a reverse edge has the id of its
        relation, and self loops are edges of a relation of their own.
      rule: the rule that selected the relations: "kgsf", "kbrd" or "all".
    """

    num_entities: int
    num_relations: int
    relation_names: list[str]
    edges: Int32[np.ndarray, "E 3"]
    rule: str


@dataclasses.dataclass(frozen=True)
class ConceptGraph:
    """A commonsense graph over words.

    Attributes:
      num_concepts: number of words.
      edges: undirected, each pair once (smaller id first), sorted; stop words have no edges.
      words: the word of each concept id.
      is_stop_word: whether the word is a stop word, which never becomes a concept of a turn.
    """

    num_concepts: int
    edges: Int32[np.ndarray, "Ec 2"]
    words: list[str]
    is_stop_word: Bool[np.ndarray, " C"]


@dataclasses.dataclass(frozen=True)
class Review:
    """A review of an item.

    Attributes:
      text: the review.
      concepts: concept ids of its words, in order of appearance, with repeats.
    """

    text: str
    concepts: tuple[int, ...] = ()


class Corpus:
    """A corpus; the dialogues of a split are read on first use and kept.

    Open one with `Corpus.open(folder)`.

    Attributes:
      directory: its folder.
      splits: its splits, some of `SPLITS`. "dev" is held out of "train"; "inferred" holds dialogues
        with an inferred turn order; those of `TRANSFER_SPLITS` are of another source.
    """

    def __init__(self, directory: epath.Path, info: Mapping[str, Any]) -> None:
        self.directory = directory
        self.splits: tuple[str, ...] = tuple(info["splits"])
        self._info = info
        self._dialogues: dict[str, list[Dialogue]] = {}

    @classmethod
    def open(cls, directory: epath.PathLike) -> "Corpus":
        """Opens a corpus folder.

        Args:
          directory: a folder that `write_corpus` finished.

        Returns:
          The corpus; its tables and dialogues are read on first use.

        Raises:
          CorpusError: the folder holds no finished corpus, or one of another format version.
        """
        directory = epath.Path(directory)
        path = directory / INFO
        if not path.exists():
            raise CorpusError(
                f"Expected a corpus at {directory}, found no {INFO}. Build one with `python -m "
                "data_prep.redial --raw_dir=DIR --out_dir=DIR` or `python -m data_prep.movieworld "
                "--out_dir=DIR`."
            )
        info = read_json(path, CorpusError, _REMEDY)
        if info.get("format_version") != FORMAT_VERSION:
            found = info.get("format_version")
            raise CorpusError(
                f"{path}: expected format version {FORMAT_VERSION}, found {found}. "
                "Build the corpus again with this version."
            )
        return cls(directory, info)

    def dialogues(self, split: str) -> list[Dialogue]:
        """Returns the dialogues of a split, in file order.

        Args:
          split: one of `splits`.

        Returns:
          The same list on every call; treat it as read-only.

        Raises:
          CorpusError: the corpus has no such split.
        """
        if split not in self.splits:
            hint = {
                "test": " Put the official test_data.jsonl beside the training file, build again.",
                "inferred": " Build the corpus with use_inferred_order to get it.",
            }.get(split, "")
            raise CorpusError(
                f"The corpus at {self.directory} has no split {split!r}; it has "
                f"{', '.join(self.splits)}.{hint}"
            )
        if split not in self._dialogues:
            reader = RecordReader(self.directory / DIALOGUES, split, expect=dialogue_features())
            self._dialogues[split] = [dialogue_from_record(record) for record in reader]
        return self._dialogues[split]

    def training_dialogues(self, *, use_inferred_order: bool) -> list[Dialogue]:
        """Returns the dialogues of train and, if wanted, those with an inferred turn order.

        Raises:
          CorpusError: the corpus has no split `inferred`.
        """
        splits = ["train", "inferred"] if use_inferred_order else ["train"]
        return [dialogue for split in splits for dialogue in self.dialogues(split)]

    def mention_counts(self, splits: Sequence[str] = ("train",)) -> Int64[np.ndarray, " M"]:
        """Returns how often the dialogues of some splits mention each candidate item.

        Args:
          splits: some of `splits`; repeats within a turn count.

        Raises:
          CorpusError: the corpus has no such split.
        """
        counts = np.zeros(len(self.items), np.int64)
        for split in splits:
            for dialogue in self.dialogues(split):
                for turn in dialogue.turns:
                    np.add.at(counts, list(turn.items), 1)  # unlike +=, counts repeats
        return counts

    @functools.cached_property
    def items(self) -> ItemTable:
        """The candidate items."""
        arrays, lists = self._table("items")
        return ItemTable(
            arrays["movie_ids"],
            lists["titles"],
            arrays["entity_ids"],
            arrays["is_linked"],
            lists.get("keys"),
            lists.get("aliases"),
        )

    @functools.cached_property
    def graph(self) -> KnowledgeGraph:
        """The knowledge graph."""
        arrays, lists = self._table("graph")
        return KnowledgeGraph(
            num_entities=lists["num_entities"],
            num_relations=len(lists["relation_names"]),
            relation_names=lists["relation_names"],
            edges=arrays["edges"],
            rule=lists["rule"],
        )

    @functools.cached_property
    def entity_names(self) -> list[str]:
        """A readable name of each graph node; "" for a node without one."""
        return self._table("entities")[1]["names"]

    @functools.cached_property
    def concept_graph(self) -> ConceptGraph:
        """The concept graph."""
        arrays, lists = self._table("concepts")
        return ConceptGraph(
            num_concepts=len(lists["words"]),
            edges=arrays["edges"],
            words=lists["words"],
            is_stop_word=arrays["is_stop_word"],
        )

    @functools.cached_property
    def reviews(self) -> dict[int, Review]:
        """One review of some candidate items, by item; none in a corpus built without reviews."""
        if not (self.directory / f"{REVIEWS}.json").exists():
            return {}
        table = self._table(REVIEWS)[1]
        columns = zip(table["items"], table["texts"], table["concepts"], strict=True)
        return {item: Review(text, tuple(concepts)) for item, text, concepts in columns}

    @functools.cached_property
    def report(self) -> dict[str, Any]:
        """What the corpus holds, and how often its raw files deviated from their format."""
        return read_json(self.directory / REPORT, CorpusError, _REMEDY)

    def _table(self, name: str) -> tuple[Any, dict[str, Any]]:
        path = self.directory / f"{name}.npz"
        loaded: Any = {}
        try:
            if path.exists():
                with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as archive:
                    loaded = {key: archive[key] for key in archive.files}
        except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise CorpusError(
                f"Cannot read {path} ({type(error).__name__}: {error}): {_REMEDY}."
            ) from error
        return loaded, read_json(self.directory / f"{name}.json", CorpusError, _REMEDY)
