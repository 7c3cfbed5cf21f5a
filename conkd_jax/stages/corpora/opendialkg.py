"""OpenDialKG as a corpus, from iEvaLM-CRS's files or the official ones."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from etils import epath

from conkd_jax.artifacts.fingerprint import outside_fingerprint
from conkd_jax.config import Config
from data_prep.opendialkg.build import build_opendialkg, opendialkg_fingerprint, read_raw
from data_prep.opendialkg.files import expect_test


@dataclasses.dataclass(frozen=True)
class OpenDialKGSettings:
    """Settings of OpenDialKG from raw files.

    Attributes:
      name: "opendialkg".
      raw_files: SHA-256 of each file.
      graph_rule: which relations the knowledge graph keeps.
      use_test: whether there is a split `test`.
      raw_dir: the folder of the files; empty for $CONKD_RAW_DIR.
    """

    name: str
    raw_files: Mapping[str, Any]
    graph_rule: str
    use_test: bool
    raw_dir: str = outside_fingerprint(because="the files enter by content, as raw_files")

    @classmethod
    def of(
        cls, config: Config, *, use_inferred_order: bool = False, use_test: bool = False
    ) -> OpenDialKGSettings:
        """The settings of a config; there are no dialogues with an inferred order.

        Raises:
          data_prep.sources.MissingDataError: raw files are missing.
        """
        part = config.corpus
        if use_test:
            expect_test(part.raw_dir or None)
        return cls(
            name=part.name,
            raw_files=opendialkg_fingerprint(part.raw_dir or None, use_test=use_test),
            graph_rule=part.graph_rule,
            use_test=use_test,
            raw_dir=part.raw_dir,
        )

    def check_raw(self) -> None:
        """Reads the dialogues and the graph, which takes a second.

        Raises:
          UserError: a file is missing or damaged.
        """
        read_raw(self.raw_dir or None, use_test=self.use_test)

    def build(self, directory: epath.Path) -> dict[str, Any]:
        """Builds the corpus from the raw files; returns its report."""
        return build_opendialkg(
            self.raw_dir or None,
            directory,
            graph_rule=self.graph_rule,
            use_test=self.use_test,
        )
