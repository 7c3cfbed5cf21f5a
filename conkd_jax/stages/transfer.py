"""Stage `transfer`: dialogues of another source, as a split of the corpus that a system knows.

The result is a corpus with the items, the graphs and the training split of the system's own, and
one further split: the dialogues of INSPIRED, with those of its movies that are among the items. A
system then answers them as it answers its own test split. Nothing is trained.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from etils import epath

from conkd_jax.artifacts.fingerprint import outside_fingerprint
from conkd_jax.artifacts.stage import Context, Stage
from conkd_jax.config import Config
from conkd_jax.data.corpus import Corpus
from conkd_jax.data.corpus_writing import write_corpus
from conkd_jax.data.dialogues import responses
from conkd_jax.io import terminal
from conkd_jax.runtime import parallel
from data_prep.inspired import (
    InspiredError,
    MarkedDialogue,
    MovieMatcher,
    find_part,
    read_part,
    with_mentions,
)
from data_prep.linking import Linker, labels_of_corpus, link_dialogue
from data_prep.raw_dialogues import Problems
from data_prep.report import Tally

VERSION = 1
SOURCE = "INSPIRED"


@dataclasses.dataclass(frozen=True)
class TransferSettings:
    """Settings of a transfer split.

    Attributes:
      split: the split, such as "inspired_dev".
      file: SHA-256 of its file.
      raw_dir: the folder of the file; empty for $CONKD_RAW_DIR.
    """

    split: str
    file: str
    raw_dir: str = outside_fingerprint(because="the file enters by content")


def stage(config: Config, stages: Mapping[str, Stage], *, split: str) -> Stage:
    """The corpus with a transfer split that a config's system can answer.

    Raises:
      data_prep.sources.MissingDataError: the file of the split is missing.
    """
    raw_dir = config.corpus.raw_dir
    file = find_part(_part(split), raw_dir or None)
    settings = TransferSettings(split, file.sha256(), raw_dir)
    return Stage("transfer", VERSION, settings, {"corpus": stages["corpus"]}, run)


def run(settings: TransferSettings, directory: epath.Path, context: Context) -> dict[str, Any]:
    """Builds the corpus on the first process; returns what was found of the split's movies.

    Raises:
      InspiredError: the file doesn't hold what it should, or shares no movie with the corpus.
    """
    if parallel.is_first_process():
        own = Corpus.open(context.inputs["corpus"])
        file, problems = find_part(_part(settings.split), settings.raw_dir or None), Problems()
        _write(directory, own, read_part(file, problems), settings.split, problems)
    parallel.barrier("transfer split written")
    report = Corpus.open(directory).report
    if parallel.is_first_process():
        terminal.say(f"transfer: {report['transfer']['note']}")
    return report["transfer"]


def _part(split: str) -> str:
    """The part of INSPIRED that a split is, such as dev."""
    return split.rpartition("_")[2]


def _write(
    directory: epath.Path,
    own: Corpus,
    marked: Sequence[MarkedDialogue],
    split: str,
    problems: Problems,
) -> None:
    matcher, ids = MovieMatcher(own.items.titles), own.items.item_ids.tolist()
    titles = {title for d in marked for m in d.messages for title, _ in m.movies}
    found = {title: match for title in sorted(titles) if (match := matcher.find(title))}
    if not found:
        raise InspiredError(
            f"expected movies of {SOURCE} among the {len(ids):,} items of the corpus that the "
            f"system was trained on, found none of {len(titles):,}. Score a system that was "
            "trained on movies with titles like 'Name (year)', as ReDial's are."
        )
    linker = Linker.for_corpus(own.items, own.concept_graph, labels_of_corpus(own))
    items = {title: ids[item] for title, (item, _) in found.items()}
    pairs = [with_mentions(dialogue, items) for dialogue in marked]
    dialogues = [link_dialogue(raw, linker) for raw, _ in pairs]
    counts = Tally.of(dialogues, own.items).split_counts(sum(len(d.messages) for d in marked))
    report = {
        "splits": {split: counts},
        "transfer": _coverage(split, marked, [written for _, written in pairs], found),
        "problems": problems.as_json(),
        "warnings": [],
    }
    report["transfer"]["responses"] = sum(len(responses(d)) for d in dialogues)
    write_corpus(
        directory,
        # The training split says how popular each item is.
        splits={"train": own.dialogues("train"), split: dialogues},
        items=own.items,
        graph=own.graph,
        concept_graph=own.concept_graph,
        report=report,
        entity_names=own.entity_names,
        reviews=own.reviews,
    )


def _coverage(
    split: str,
    marked: Sequence[MarkedDialogue],
    written: Sequence[Sequence[Sequence[str]]],
    found: Mapping[str, tuple[int, str]],
) -> dict[str, Any]:
    """How many of the marked movies are items, and how many of those are found in the texts."""
    counts: collections.Counter[str] = collections.Counter()
    titles = set()
    for dialogue, of_dialogue in zip(marked, written, strict=True):
        for message, mentions in zip(dialogue.messages, of_dialogue, strict=True):
            role = "recommender" if message.is_recommender else "seeker"
            for title, _ in message.movies:
                titles.add(title)
                counts[f"{role}_marked"] += 1
                counts[f"{role}_in_catalogue"] += title in found
                counts[f"{role}_mentioned"] += title in mentions
    kinds = collections.Counter(kind for _, kind in found.values())
    return {
        "source": SOURCE,
        "split": split,
        "dialogues": len(marked),
        "movies": len(titles),
        "movies_matched": dict(sorted(kinds.items())),
        **dict(sorted(counts.items())),
        "note": _note(len(titles), len(found), counts),
    }


def _note(num_titles: int, num_found: int, counts: Mapping[str, int]) -> str:
    gold, known, said = (
        counts[f"recommender_{of}"] for of in ("marked", "in_catalogue", "mentioned")
    )
    return (
        f"Transfer: the system was not trained on {SOURCE}. {num_found:,} of the {num_titles:,} "
        f"movies that are marked in these dialogues ({num_found / num_titles:.0%}) are items of "
        f"the system. Of {gold:,} in turns of the recommender, {known:,} are such items, and the "
        f"texts of {said:,} name them: these are the gold items. The others stay words and are "
        "left out, as a system can't name what is not in its catalogue; counted as misses, they "
        f"would multiply recall and ReR by about {said / gold if gold else 0:.2f}."
    )
