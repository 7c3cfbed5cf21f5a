"""Stage `corpus`: builds dialogues and graphs from raw files or a seed, with `data_prep`."""

from __future__ import annotations

import dataclasses
import itertools
import os
from collections.abc import Mapping
from typing import Any

from etils import epath

from conkd_jax import parallel
from conkd_jax.artifacts.fingerprint import digest_files, outside_fingerprint
from conkd_jax.artifacts.stage import Context, Stage
from conkd_jax.config import Config
from conkd_jax.data.corpus import Corpus, CorpusError
from data_prep.graphs import read_movies
from data_prep.movieworld.build import build_movieworld
from data_prep.movieworld.reviews import GENERATED
from data_prep.pickles import load_plain
from data_prep.raw_dialogues import Problems, expect_usable, read_jsonl
from data_prep.redial import build_redial, redial_fingerprint
from data_prep.reviews import coverage, find_reviews, read_reviews
from data_prep.sources import MissingDataError, find_sources

VERSION = 2
RULE_VERSIONS = {"kbrd": 2}  # at first, it left out the triples of the self loops' relation
LINES_LOOKED_AT = 20  # of each file of dialogues, before a corpus is built


@dataclasses.dataclass(frozen=True)
class ReviewSettings:
    """Settings of the reviews of a corpus; a corpus without reviews has none.

    Attributes:
      content: "generated", or the hash of the file.
      source: "generated", or the path of the file.
    """

    content: str | dict[str, str]
    source: str = outside_fingerprint(because="its content enters")

    @classmethod
    def of(cls, config: Config) -> ReviewSettings | None:
        """The settings of a config.

        Raises:
          data_prep.sources.MissingDataError: there is no such file.
        """
        part = config.corpus
        if part.reviews in ("", GENERATED):
            return cls(GENERATED, GENERATED) if part.reviews else None
        path = find_reviews(part.reviews, part.raw_dir or None)
        return cls(digest_files([path]), os.fspath(path))


@dataclasses.dataclass(frozen=True)
class MovieWorldSettings:
    """Settings of a synthetic corpus."""

    name: str
    seed: int
    num_movies: int
    num_dialogues: int
    reviews: ReviewSettings | None = None

    def build(self, directory: epath.Path) -> dict[str, Any]:
        """Generates the corpus; returns its report."""
        return build_movieworld(
            directory,
            seed=self.seed,
            num_movies=self.num_movies,
            num_dialogues=self.num_dialogues,
            with_reviews=self.reviews is not None,
        )


@dataclasses.dataclass(frozen=True)
class ReDialSettings:
    """Settings of ReDial from raw files.

    Attributes:
      name: "redial".
      raw_files: SHA-256 of each file.
      graph_rule: which relations the knowledge graph keeps.
      use_inferred_order: whether there is a split `inferred`.
      use_test: whether there is a split `test`.
      raw_dir: the folder of the files; empty for $CONKD_RAW_DIR.
      rule_version: which edges the rule means; None for rules that never changed.
    """

    name: str
    raw_files: Mapping[str, Any]
    graph_rule: str
    use_inferred_order: bool
    use_test: bool
    raw_dir: str = outside_fingerprint(because="the files enter by content, as raw_files")
    reviews: ReviewSettings | None = None
    rule_version: int | None = None

    def build(self, directory: epath.Path) -> dict[str, Any]:
        """Builds the corpus from the raw files; returns its report."""
        return build_redial(
            self.raw_dir or None,
            directory,
            graph_rule=self.graph_rule,
            use_inferred_order=self.use_inferred_order,
            use_test=self.use_test,
            reviews=None if self.reviews is None else self.reviews.source,
        )


def stage(
    config: Config,
    stages: Mapping[str, Stage],
    *,
    use_inferred_order: bool = False,
    use_test: bool = False,
) -> Stage:
    """The corpus of a config.

    Training uses a corpus without the test split, so adding the official test file later changes no
    trained model. Only an evaluation on the test split reads a corpus that includes it.

    Args:
      config: the whole config.
      stages: not used.
      use_inferred_order: include the split `inferred` (ReDial only).
      use_test: include the split `test` (ReDial; MovieWorld always has one).

    Raises:
      data_prep.sources.MissingDataError: the raw files, or the reviews, are missing.
    """
    part, reviews = config.corpus, ReviewSettings.of(config)
    if part.name == "movieworld":
        settings: MovieWorldSettings | ReDialSettings = MovieWorldSettings(
            name=part.name,
            seed=part.movieworld_seed,
            num_movies=part.movieworld_num_movies,
            num_dialogues=part.movieworld_num_dialogues,
            reviews=reviews,
        )
        return Stage("corpus", VERSION, settings, {}, run)
    raw_dir = part.raw_dir or None
    if use_test and find_sources(raw_dir).test is None:
        raise MissingDataError(
            f"expected the test split, but there is no test_data.jsonl in "
            f"{raw_dir or 'CONKD_RAW_DIR'}. Put the official file beside the training file, or "
            "score another split: --config.evaluation.split=valid (--split=valid when scoring "
            "a run)."
        )
    settings = ReDialSettings(
        name=part.name,
        raw_files=redial_fingerprint(
            raw_dir, use_inferred_order=use_inferred_order, use_test=use_test
        ),
        graph_rule=part.graph_rule,
        rule_version=RULE_VERSIONS.get(part.graph_rule),
        use_inferred_order=use_inferred_order,
        use_test=use_test,
        raw_dir=part.raw_dir,
        reviews=reviews,
    )
    return Stage("corpus", VERSION, settings, {}, run)


def check_raw_files(settings: MovieWorldSettings | ReDialSettings) -> None:
    """Looks into the raw files that a corpus will be built from: the first lines, whole pickles.

    Building the corpus checks every line; this takes seconds.

    Raises:
      UserError: a file is missing or damaged.
    """
    if isinstance(settings, MovieWorldSettings):
        return
    files = find_sources(
        settings.raw_dir or None,
        use_inferred_order=settings.use_inferred_order,
        use_test=settings.use_test,
    )
    for file in (files.train, files.valid, files.test, files.inferred):
        if file is not None:
            problems = Problems()
            lines = itertools.islice(file.lines(), LINES_LOOKED_AT)
            if not any(True for _ in read_jsonl(lines, str(file), problems)):
                expect_usable(0, problems, str(file))
    for file in (files.triples, files.entity_ids, files.movie_entities):
        load_plain(file.path)
    if files.movies is not None:
        read_movies(files.movies.read_bytes(), str(files.movies))
    if settings.reviews is not None:
        read_reviews(settings.reviews.source)


def run(
    settings: MovieWorldSettings | ReDialSettings, directory: epath.Path, context: Context
) -> dict[str, Any]:
    """Builds the corpus on the first process; returns the sizes of its splits and graph.

    Raises:
      CorpusError: the raw files can't be read, or the recommender could learn nothing.
    """
    try:
        report = settings.build(directory) if parallel.is_first_process() else {}
    except ValueError as error:  # from the readers of raw files, with file and line
        raise CorpusError(f"The corpus can't be built: {error}") from error
    parallel.barrier("corpus written")
    report = report or Corpus.open(directory).report
    if parallel.is_first_process():
        for warning in report["warnings"]:
            print(f"corpus: warning: {warning}", flush=True)
        if "reviews" in report:
            print(f"corpus: {coverage(report['reviews'])}", flush=True)
    expect_trainable(report)
    if getattr(settings, "use_inferred_order", False) and "inferred" not in report["splits"]:
        raise CorpusError(
            "use_inferred_order: expected dialogues in train_inferred_order.jsonl that are neither "
            "in the training file nor held out, found none"
        )
    return {"splits": report["splits"], "graph": report["graph"]}


def expect_trainable(report: Mapping[str, Any]) -> None:
    """Refuses a corpus from which the recommender would have nothing to learn.

    Args:
      report: the corpus' data report, whose warnings say why something is missing.

    Raises:
      CorpusError: no response mentions a movie, the knowledge graph has no relation, or no concept
        is mentioned in training.
    """
    if not report["splits"]["train"]["item_mentions"]:
        lacks = "no training response mentions a movie of the list"
    elif not report["graph"]["relations"]:
        lacks = "the knowledge graph has no relation"
    elif not report["linking"]["train"]["concept_mentions"]:
        lacks = "no training dialogue mentions a concept of the concept graph"
    else:
        return
    raise CorpusError(
        f"The recommender can't be trained: {lacks}. {' '.join(report['warnings'])}".rstrip()
    )
