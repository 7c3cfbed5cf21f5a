"""The sources of a corpus, a module each; `CORPORA` has the settings of each by `corpus.name`.

The settings of a corpus are a frozen dataclass: the fields that enter its fingerprint, and the
methods that use them. The stage `corpus` is the same for all of them. To add a source, write a
module here and its builder in `data_prep`, and enter its class in `CORPORA`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

from etils import epath

from conkd_jax.config import Config
from conkd_jax.stages.corpora.custom import CustomSettings
from conkd_jax.stages.corpora.movieworld import MovieWorldSettings
from conkd_jax.stages.corpora.opendialkg import OpenDialKGSettings
from conkd_jax.stages.corpora.redial import ReDialSettings


@runtime_checkable
class CorpusSettings(Protocol):
    """The settings of a corpus of one source; a frozen dataclass."""

    @property
    def name(self) -> str:
        """The source, as in `corpus.name`."""
        ...

    @classmethod
    def of(
        cls, config: Config, *, use_inferred_order: bool = False, use_test: bool = False
    ) -> CorpusSettings:
        """The settings of a config; the arguments are those of `corpus.stage`.

        Raises:
          UserError: the raw files, or the reviews, are missing.
        """
        ...

    def check_raw(self) -> None:
        """Looks into the raw files, for seconds; building the corpus checks every line.

        Raises:
          UserError: a file is missing or damaged.
        """
        ...

    def build(self, directory: epath.Path) -> dict[str, Any]:
        """Builds the corpus in a folder; returns its report.

        Raises:
          ValueError: a raw file doesn't hold what it should; names the file and the line.
        """
        ...


CORPORA: Mapping[str, type[CorpusSettings]] = {
    "redial": ReDialSettings,
    "movieworld": MovieWorldSettings,
    "custom": CustomSettings,
    "opendialkg": OpenDialKGSettings,
}
