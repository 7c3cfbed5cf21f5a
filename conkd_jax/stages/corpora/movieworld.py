"""MovieWorld as a corpus: generated from a seed, without raw files."""

from __future__ import annotations

import dataclasses
from typing import Any

from etils import epath

from conkd_jax.config import Config
from conkd_jax.stages.corpora.reviews import ReviewSettings
from data_prep.movieworld.build import build_movieworld


@dataclasses.dataclass(frozen=True)
class MovieWorldSettings:
    """Settings of a synthetic corpus."""

    name: str
    seed: int
    num_movies: int
    num_dialogues: int
    reviews: ReviewSettings | None = None

    @classmethod
    def of(
        cls, config: Config, *, use_inferred_order: bool = False, use_test: bool = False
    ) -> MovieWorldSettings:
        """The settings of a config; the corpus always has a split `test`, and no `inferred`."""
        part = config.corpus
        return cls(
            name=part.name,
            seed=part.movieworld_seed,
            num_movies=part.movieworld_num_movies,
            num_dialogues=part.movieworld_num_dialogues,
            reviews=ReviewSettings.of(config),
        )

    def check_raw(self) -> None:
        """There are no raw files."""

    def build(self, directory: epath.Path) -> dict[str, Any]:
        """Generates the corpus; returns its report."""
        return build_movieworld(
            directory,
            seed=self.seed,
            num_movies=self.num_movies,
            num_dialogues=self.num_dialogues,
            with_reviews=self.reviews is not None,
        )
