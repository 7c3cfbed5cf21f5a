"""A stage: one step of the pipeline, defined by everything that its artifact depends on."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, TypeVar

from etils import epath

from conkd_jax.artifacts.fingerprint import (
    FINGERPRINT_LENGTH,
    ArtifactError,
    digest,
    fingerprinted,
)

Settings = TypeVar("Settings")


@dataclasses.dataclass(frozen=True)
class Context:
    """The arguments of a stage's `run` besides its settings and its folder.

    Attributes:
      inputs: {input name: artifact folder}; all inputs are complete.
      manifests: {input name: manifest}.
      is_resumed: whether the folder holds files of an earlier attempt.
    """

    inputs: Mapping[str, epath.Path]
    manifests: Mapping[str, Mapping[str, Any]]
    is_resumed: bool

    @property
    def input_fingerprints(self) -> dict[str, str]:
        """{input name: fingerprint}."""
        return {name: manifest["fingerprint"] for name, manifest in self.manifests.items()}


@dataclasses.dataclass(frozen=True)
class Stage(Generic[Settings]):
    """One step of the pipeline, and everything that its artifact depends on.

    Attributes:
      name: the stage's name, which is also its folder under the artifacts' root.
      version: increased when the meaning of the output changes; a change of code alone retrains
        nothing.
      settings: a frozen dataclass with the options that the stage reads and no others. Raw files
        enter as `digest_files` of their content.
      inputs: the stages whose artifacts this one reads.
      run: fills the folder and returns metrics (plain JSON); called by every process. A
        module-level function, not a closure, so that it sees only its arguments.
    """

    name: str
    version: int
    settings: Settings
    inputs: Mapping[str, Stage]
    run: Callable[[Settings, epath.Path, Context], Mapping[str, Any]]

    @functools.cached_property
    def config_part(self) -> Mapping[str, Any]:
        """The settings that the output depends on, as plain JSON."""
        return fingerprinted(self.settings)

    @functools.cached_property
    def fingerprint(self) -> str:
        """First digits of SHA-256 over name, version, config part and the inputs' fingerprints."""
        identity = {
            "stage": self.name,
            "version": self.version,
            "config": self.config_part,
            "inputs": self.input_fingerprints,
        }
        return digest(identity, self.name)[:FINGERPRINT_LENGTH]

    @property
    def input_fingerprints(self) -> dict[str, str]:
        """{input name: fingerprint}."""
        return {name: stage.fingerprint for name, stage in self.inputs.items()}

    @property
    def label(self) -> str:
        """Name and fingerprint, as an option chooses one of several stages of a name."""
        return f"{self.name}/{self.fingerprint}"

    def directory(self, artifacts_dir: epath.PathLike) -> epath.Path:
        """The artifact's folder, whether or not it exists."""
        return epath.Path(artifacts_dir) / self.name / self.fingerprint


def in_order(*stages: Stage) -> list[Stage]:
    """Stages and everything they depend on, each once, inputs first."""
    order: dict[str, Stage] = {}

    def visit(each: Stage) -> None:
        for other in each.inputs.values():
            visit(other)
        order.setdefault(each.fingerprint, each)

    for stage in stages:
        visit(stage)
    return list(order.values())


def chosen(order: Sequence[Stage], wanted: str, option: str) -> list[Stage]:
    """The stages of a name, or the one of a label.

    Args:
      order: the stages to choose from.
      wanted: STAGE or STAGE/FINGERPRINT.
      option: the option that was given it, for the error.

    Raises:
      ArtifactError: there is no such stage.
    """
    if found := [each for each in order if wanted in (each.name, each.label)]:
        return found
    names = ", ".join(dict.fromkeys(each.name for each in order))
    raise ArtifactError(f"--{option}={wanted}: expected a stage of this run: {names}")
