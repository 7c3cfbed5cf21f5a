"""The settings of a corpus' reviews, which sources of corpora share."""

from __future__ import annotations

import dataclasses
import os

from conkd_jax.artifacts.fingerprint import digest_files, outside_fingerprint
from conkd_jax.config import Config
from data_prep.movieworld.reviews import GENERATED
from data_prep.reviews import find_reviews


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
