"""Links and writes the dialogues of a corpus on Apache Beam, with several processes or machines.

`conkd_jax.data.beam_runner` knows the runner, which `--beam_options` of a program names. The raw
dialogues are staged in files of `PER_SHARD` dialogues in the corpus' folder, which all workers must
reach. A worker links and counts the dialogues of one file and writes them as one shard, so order,
content and counts are those of a build without Beam, and so are the bytes of a split that fits one
shard. Reading the raw files and choosing labels stay with the program that was started.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import importlib
import logging
import pickle
import sys
from collections.abc import Iterator, Mapping, Sequence

from etils import epath

from conkd_jax.data.beam_runner import BeamError, options
from conkd_jax.data.corpus import DIALOGUES, SPLITS, ItemTable
from conkd_jax.data.corpus_writing import STAGED
from conkd_jax.data.dialogues import Dialogue, dialogue_features, dialogue_to_record
from conkd_jax.data.shards.layout import shard_path
from conkd_jax.data.shards.writer import open_shard, write_metadata
from conkd_jax.io.files import write_whole
from data_prep.linking import Linker, link_dialogue
from data_prep.raw_dialogues import RawDialogue
from data_prep.report import Tally

PER_SHARD = 10_000  # dialogues; a corpus of ReDial's size has one shard per split, as without Beam


@dataclasses.dataclass(frozen=True)
class Piece:
    """The dialogues that become one shard.

    Attributes:
      directory: the folder of the corpus.
      tools: the file of the corpus' linker and items.
      split: their split.
      shard: the number of the shard.
      num_shards: the number of shards of the split.
    """

    directory: str
    tools: str
    split: str
    shard: int
    num_shards: int

    def _staged(self, what: str) -> epath.Path:
        name = f"{self.split}-{self.shard:05d}-of-{self.num_shards:05d}.{what}.pickle"
        return epath.Path(self.tools).parent / name

    @property
    def raw(self) -> epath.Path:
        """The file of the raw dialogues."""
        return self._staged("raw")

    @property
    def tally(self) -> epath.Path:
        """The file of what was counted of them."""
        return self._staged("tally")

    @property
    def target(self) -> epath.Path:
        """The shard."""
        folder = epath.Path(self.directory) / DIALOGUES
        return shard_path(folder, self.split, self.shard, self.num_shards, name=DIALOGUES)


def link_and_write(
    directory: epath.Path,
    raw_splits: Mapping[str, Sequence[RawDialogue]],
    linker: Linker,
    items: ItemTable,
) -> dict[str, Tally]:
    """Links the dialogues of every split on the block's runner and writes their shards.

    Args:
      directory: the folder of the corpus, on a disk or store that all workers reach.
      raw_splits: the raw dialogues.
      linker: the linker of the corpus.
      items: its items.

    Returns:
      What was counted of every split.

    Raises:
      BeamError: the runner lacks an option.
    """
    tools = pickle.dumps((linker, items))
    # A worker keeps the tools that it has read, and one that was given up may still write.
    staged = directory / STAGED / hashlib.sha256(tools).hexdigest()[:16]
    staged.mkdir(parents=True, exist_ok=True)
    try:
        write_whole(staged / "tools.pickle", tools)
        pieces: dict[str, list[Piece]] = {}
        lengths: dict[str, list[int]] = {}
        for split in raw_splits:
            starts = range(0, max(len(raw_splits[split]), 1), PER_SHARD)
            parts = [raw_splits[split][start : start + PER_SHARD] for start in starts]
            lengths[split] = [len(part) for part in parts]
            pieces[split] = [
                Piece(str(directory), str(staged / "tools.pickle"), split, shard, len(parts))
                for shard in range(len(parts))
            ]
            for piece, part in zip(pieces[split], parts, strict=True):
                write_whole(piece.raw, pickle.dumps(list(part)))
        _run([piece for of_split in pieces.values() for piece in of_split])
        ordered = {split: lengths[split] for split in SPLITS if split in lengths}
        write_metadata(directory / DIALOGUES, dialogue_features(), ordered, name=DIALOGUES)
        return {
            split: Tally.total(pickle.loads(piece.tally.read_bytes()) for piece in of_split)
            for split, of_split in pieces.items()
        }
    finally:
        (directory / STAGED).rmtree()
        _tools.cache_clear()


def _run(pieces: Sequence[Piece]) -> None:
    """Has the block's runner write the shards of all pieces."""
    apache_beam = importlib.import_module("apache_beam")
    # A worker's error is raised here as well; logged, it would stand above the message that counts.
    logging.getLogger("apache_beam").setLevel(logging.ERROR)
    runner = options().get_all_options()["runner"]
    say = f"Linking on Beam's {runner}: {len(pieces):,} files of up to {PER_SHARD:,} dialogues"
    print(say, file=sys.stderr, flush=True)  # standard output may be a data report
    try:
        pipeline = apache_beam.Pipeline(options=options())
    except ValueError as error:  # an option that this runner needs
        raise BeamError(f"--beam_options: {str(error).replace(chr(10), ' ')}") from error
    with pipeline:
        work = pipeline | "pieces" >> apache_beam.Create(pieces) | apache_beam.Reshuffle()
        _ = work | "link and write" >> apache_beam.Map(write_piece)


def write_piece(piece: Piece) -> None:
    """Links and counts the dialogues of a piece and writes its shard; may be called again."""
    linker, items = _tools(piece.tools)

    def linked() -> Iterator[Dialogue]:
        with open_shard(piece.target, dialogue_features()) as writer:
            for raw in pickle.loads(piece.raw.read_bytes()):
                dialogue = link_dialogue(raw, linker)
                writer.write(dialogue_to_record(dialogue))
                yield dialogue

    write_whole(piece.tally, pickle.dumps(Tally.of(linked(), items)))


@functools.lru_cache(maxsize=1)
def _tools(path: str) -> tuple[Linker, ItemTable]:
    """The linker and the items of a corpus, read once by each worker."""
    return pickle.loads(epath.Path(path).read_bytes())
