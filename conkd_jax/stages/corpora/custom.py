"""A corpus of your own, from a folder of plain text files (docs/howto/own_data.md)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from etils import epath

from conkd_jax.artifacts.fingerprint import digest_files, outside_fingerprint
from conkd_jax.config import Config, ConfigError
from data_prep.custom.build import NO_WORDS, build_custom
from data_prep.custom.lines import OwnDataError
from data_prep.custom.reader import files_of, has_test, has_word_graph, read_own_data


@dataclasses.dataclass(frozen=True)
class CustomSettings:
    """Settings of a corpus of one's own.

    Attributes:
      name: "custom".
      raw_files: SHA-256 of each file of the folder that the corpus is built from.
      use_test: whether there is a split `test`.
      raw_dir: the folder.
      min_relation_share: see `data_prep.custom.build.frequent`; None keeps every relation.
      version: of what is made of the files, increased when its meaning changes. From 2 on, items
        have their aliases. The version of the stage counts for all sources, this one for folders.
    """

    name: str
    raw_files: Mapping[str, Any]
    use_test: bool
    raw_dir: str = outside_fingerprint(because="the files enter by content, as raw_files")
    min_relation_share: float | None = None
    version: int = 2

    @classmethod
    def of(
        cls, config: Config, *, use_inferred_order: bool = False, use_test: bool = False
    ) -> CustomSettings:
        """The settings of a config; every turn order is as it is written.

        Raises:
          OwnDataError: the folder, or its dialogues for the split `test`, are missing.
          ConfigError: the recommender is to read a word graph that is not there.
        """
        part = config.corpus
        files = files_of(part.raw_dir, use_test=use_test)
        if use_test and not has_test(part.raw_dir):
            raise OwnDataError(
                f"expected dialogues for the split test in {part.raw_dir}, found no test.jsonl. "
                "Add the file, or score another split: --config.evaluation.split=valid "
                "(--split=valid when scoring a run)."
            )
        if config.rec_teacher.use_concepts and not has_word_graph(part.raw_dir):
            raise ConfigError(
                f"config.rec_teacher.use_concepts: expected False with {part.raw_dir}, since "
                f"{NO_WORDS}"
            )
        return cls(
            name=part.name,
            raw_files=digest_files(files),
            use_test=use_test,
            min_relation_share=part.min_relation_share or None,
            raw_dir=part.raw_dir,
        )

    def check_raw(self) -> None:
        """Reads every file of the folder, which takes seconds.

        Raises:
          OwnDataError: something can't be used; lists what is wrong.
        """
        read_own_data(self.raw_dir, use_test=self.use_test)

    def build(self, directory: epath.Path) -> dict[str, Any]:
        """Builds the corpus from the folder; returns its report."""
        return build_custom(
            self.raw_dir,
            directory,
            min_relation_share=self.min_relation_share or 0.0,
            use_test=self.use_test,
        )
