"""Links and writes the dialogues of a corpus on Apache Beam, for corpora too large for one machine.

`conkd_jax.data.beam` knows the runner, which `--beam_options` of a program names. The raw dialogues
are staged in the corpus' folder, which all workers must reach, in files of `PER_SHARD`. A worker
links the dialogues of one file and writes them as one shard, so order and content are those of a
build without Beam, and so are the bytes of a split that fits one shard. Reading the raw files,
choosing labels and counting stay with the program that was started.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import importlib
import pickle
from collections.abc import Collection, Iterator, Mapping, Sequence

from etils import epath

from conkd_jax.data.beam import options
from conkd_jax.data.corpus import DIALOGUES, SPLITS
from conkd_jax.data.dialogues import (
    Dialogue,
    dialogue_features,
    dialogue_from_record,
    dialogue_to_record,
)
from conkd_jax.data.shards.layout import shard_path
from conkd_jax.data.shards.reader import RecordReader
from conkd_jax.data.shards.writer import open_shard, write_metadata
from conkd_jax.io import terminal
from conkd_jax.io.files import write_whole
from data_prep.linking import Linker, link_dialogue
from data_prep.raw_dialogues import RawDialogue

PER_SHARD = 10_000  # dialogues; a corpus of ReDial's size has one shard per split, as without Beam
_STAGED = "staged"


@dataclasses.dataclass(frozen=True)
class Piece:
    """The dialogues that become one shard.

    Attributes:
      directory: the folder of the corpus.
      linker: the file of the corpus' linker.
      split: their split.
      shard: the number of the shard.
      num_shards: those of the split.
    """

    directory: str
    linker: str
    split: str
    shard: int
    num_shards: int

    @property
    def staged(self) -> epath.Path:
        """The file of the raw dialogues."""
        name = f"{self.split}-{self.shard:05d}-of-{self.num_shards:05d}.pickle"
        return epath.Path(self.directory) / _STAGED / name

    @property
    def target(self) -> epath.Path:
        """The shard."""
        folder = epath.Path(self.directory) / DIALOGUES
        return shard_path(folder, self.split, self.shard, self.num_shards, name=DIALOGUES)


def write_dialogues(
    directory: epath.Path, raw_splits: Mapping[str, Sequence[RawDialogue]], linker: Linker
) -> dict[str, Collection[Dialogue]]:
    """Links the dialogues of every split on the block's runner and writes their shards.

    Args:
      directory: the folder of the corpus, on a disk or store that all workers reach.
      raw_splits: the raw dialogues.
      linker: the linker of the corpus.

    Returns:
      The linked dialogues of every split, which are read from the shards at each pass.
    """
    beam = importlib.import_module("apache_beam")
    lengths: dict[str, list[int]] = {}
    pieces: list[Piece] = []
    (directory / _STAGED).mkdir(parents=True, exist_ok=True)
    pickled = pickle.dumps(linker)
    # A worker keeps the linker that it has read, so another one has another name.
    linker_file = directory / _STAGED / f"linker-{hashlib.sha256(pickled).hexdigest()}.pickle"
    write_whole(linker_file, pickled)
    for split in [name for name in SPLITS if name in raw_splits]:
        raw = raw_splits[split]
        starts = range(0, max(len(raw), 1), PER_SHARD)
        parts = [raw[start : start + PER_SHARD] for start in starts]
        lengths[split] = [len(part) for part in parts]
        for shard, part in enumerate(parts):
            piece = Piece(str(directory), str(linker_file), split, shard, len(parts))
            write_whole(piece.staged, pickle.dumps(list(part)))
            pieces.append(piece)
    runner = options().get_all_options()["runner"]
    terminal.say(f"corpus: {sum(map(sum, lengths.values())):,} dialogues on Beam's {runner}")
    with beam.Pipeline(options=options()) as pipeline:
        work = pipeline | "pieces" >> beam.Create(pieces) | beam.Reshuffle()
        _ = work | "link and write" >> beam.Map(write_piece)
    write_metadata(directory / DIALOGUES, dialogue_features(), lengths, name=DIALOGUES)
    (directory / _STAGED).rmtree()
    return {split: _Stored(directory, split) for split in lengths}


def write_piece(piece: Piece) -> None:
    """Links the staged dialogues of a piece and writes its shard; may be called again."""
    linker = _linker(piece.linker)
    with open_shard(piece.target, dialogue_features()) as writer:
        for raw in pickle.loads(piece.staged.read_bytes()):
            writer.write(dialogue_to_record(link_dialogue(raw, linker)))


@functools.lru_cache(maxsize=1)
def _linker(path: str) -> Linker:
    """The linker of a corpus, read once by each worker."""
    return pickle.loads(epath.Path(path).read_bytes())


class _Stored(Collection[Dialogue]):
    """The dialogues of a split that was written; each pass reads them anew."""

    def __init__(self, directory: epath.Path, split: str):
        self._records = RecordReader(directory / DIALOGUES, split, expect=dialogue_features())

    def __len__(self) -> int:
        return len(self._records)

    def __iter__(self) -> Iterator[Dialogue]:
        return map(dialogue_from_record, self._records)

    def __contains__(self, dialogue: object) -> bool:
        return any(dialogue == each for each in self)
