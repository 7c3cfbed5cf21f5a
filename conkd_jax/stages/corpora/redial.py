"""ReDial as a corpus, from its raw files and KGSF's graphs."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping
from typing import Any

from etils import epath

from conkd_jax.artifacts.fingerprint import outside_fingerprint
from conkd_jax.config import Config
from conkd_jax.stages.corpora.reviews import ReviewSettings
from data_prep.graphs import read_movies
from data_prep.pickles import load_plain
from data_prep.raw_dialogues import Problems, expect_usable, read_jsonl
from data_prep.redial import build_redial, redial_fingerprint
from data_prep.reviews import read_reviews
from data_prep.sources import MissingDataError, find_sources

RULE_VERSIONS = {"kbrd": 2}  # at first, it left out the triples of the self loops' relation
LINES_LOOKED_AT = 20  # of each file of dialogues, before a corpus is built


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

    @classmethod
    def of(
        cls, config: Config, *, use_inferred_order: bool = False, use_test: bool = False
    ) -> ReDialSettings:
        """The settings of a config.

        Raises:
          data_prep.sources.MissingDataError: raw files, or the reviews, are missing.
        """
        part, reviews = config.corpus, ReviewSettings.of(config)
        raw_dir = part.raw_dir or None
        if use_test and find_sources(raw_dir).test is None:
            raise MissingDataError(
                f"expected the test split, but there is no test_data.jsonl in "
                f"{raw_dir or 'CONKD_RAW_DIR'}. Put the official file beside the training file, or "
                "score another split: --config.evaluation.split=valid (--split=valid when scoring "
                "a run)."
            )
        return cls(
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

    def check_raw(self) -> None:
        """Looks into the raw files: the first lines of dialogues, whole pickles.

        Raises:
          UserError: a file is missing or damaged.
        """
        files = find_sources(
            self.raw_dir or None,
            use_inferred_order=self.use_inferred_order,
            use_test=self.use_test,
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
        if self.reviews is not None:
            read_reviews(self.reviews.source)

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
