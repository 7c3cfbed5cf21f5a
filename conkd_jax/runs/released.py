"""Releases: small archives of whole systems that `Chat.open(NAME)` finds without a network.

A release is a run without its data: `conkd-export --release=NAME` writes it. It holds rounded
weights, titles, graphs and counts of words, and no text of a dialogue, so it answers but can't be
scored or trained further. It is unpacked into the folder of releases,

    tar -xf redial-mini.tar.xz -C ~/.cache/conkd_jax/releases

or `$CONKD_HOME/releases` where that variable is set. Its files are compared with their SHA-256 when
it is opened.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import re
from collections.abc import Mapping
from typing import Any

from etils import epath

from conkd_jax.artifacts.stage import Stage
from conkd_jax.io import integrity
from conkd_jax.io.integrity import DamagedError
from conkd_jax.runs.finished import Run, RunError
from conkd_jax.stages.systems.system import System

RELEASE, ARTIFACTS = "release.json", "artifacts"
VERSION = 1
HOME = "CONKD_HOME"
NAME = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")  # of a release, as on the Hugging Face hub


def folder_of_releases() -> epath.Path:
    """Where releases are looked for: `$CONKD_HOME/releases`, or the same in the user's cache."""
    home = os.environ.get(HOME) or "~/.cache/conkd_jax"
    return epath.Path(home).expanduser() / "releases"


def open_run(name: epath.PathLike) -> Run:
    """Opens the folder of a run or of a release, or a release by its name.

    Args:
      name: a folder, or a name such as "conkd/redial-mini"; a folder of that path comes first.

    Raises:
      RunError: there is neither.
      DamagedError: a file of the release is not what was written.
    """
    folder, text = epath.Path(name), os.fspath(name)
    if not folder.exists() and NAME.fullmatch(text):
        place = folder_of_releases() / text
        if (place / RELEASE).exists():
            folder = place
        elif not text.startswith("runs/"):
            raise RunError(
                f"{text}: expected the folder of a run, or a release in {place}; found neither. "
                f"Unpack the archive of the release: tar -xf {place.name}.tar.xz -C "
                f"{folder_of_releases()}"
            )
    if (folder / RELEASE).exists():
        return ReleasedRun.of_folder(folder)
    return Run.open(folder)


@dataclasses.dataclass(frozen=True)
class ReleasedRun(Run):
    """A release: the run that it was made from, as far as answers need it.

    Attributes:
      about: the content of its release.json.
    """

    about: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @classmethod
    def of_folder(cls, folder: epath.PathLike) -> ReleasedRun:
        """Opens the folder of a release, once all its files were checked.

        Raises:
          RunError: the release is of another version.
          DamagedError: a file is missing, or is not what was written.
        """
        folder = epath.Path(folder)
        try:
            about = integrity.unsealed((folder / RELEASE).read_text())
            if about.get("version") != VERSION:
                raise RunError(
                    f"{folder / RELEASE}: expected a release of version {VERSION}, got "
                    f"{about.get('version')!r}. Fetch the release of this version of conkd_jax."
                )
            for path, entry in about[integrity.FILES].items():
                if why := integrity.problem(folder / path, entry):
                    raise ValueError(why)
        except (OSError, ValueError, KeyError) as error:
            raise DamagedError(
                f"{folder}: the release is damaged or incomplete: {error}. Unpack its archive "
                "again."
            ) from error
        run = Run.open(folder)
        own = {field.name: getattr(run, field.name) for field in dataclasses.fields(Run)}
        return cls(**own, about=about)

    @property
    def stages(self) -> Mapping[str, Stage]:
        """A release has none.

        Raises:
          RunError: always.
        """
        raise RunError(
            f"{self.home}: this release answers (conkd-chat, conkd-serve, Chat.open), but has "
            "neither the data nor the stages of its run, so it can't be scored, analysed or "
            "trained. Train the run itself for that."
        )

    @property
    def title(self) -> str:
        """The name of the release, and what it is a release of."""
        return f"{self.about['name']}, {self.name} ({self.config.preset})"

    @property
    def fingerprint(self) -> str:
        """That of the run."""
        return self.about["fingerprint"]

    @property
    def eta(self) -> float | None:
        """As of the run."""
        return self.about["eta"]

    def directory(self, name: str) -> epath.Path:
        """The folder of an artifact that the release holds.

        Raises:
          RunError: it holds no such artifact.
        """
        if name not in self.about["artifacts"]:
            raise RunError(
                f"{self.home}: the release holds {', '.join(self.about['artifacts'])}, but no "
                f"{name}. Train the run itself to use it."
            )
        return self.home / ARTIFACTS / name

    def expect_trained(self) -> None:
        """A release always is."""

    @functools.cached_property
    def system(self) -> System:
        """The system; its models are loaded on first use."""
        return System.of_config(self.config, self.about["artifacts"], self.directory)
