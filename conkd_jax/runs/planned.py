"""A run before it exists: what it consists of, what can be checked about it, and how it is made.

`train` makes the runs of a config with it, `demo` its three. `conkd_jax.runs.finished` opens the
result. From Python, a run is two calls away (docs/from_python.md):

    run = PlannedRun.of_file("configs/dialogpt_hard.py:demo", {"distill.gamma": 0.2}).make()
"""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Mapping
from typing import Any

from etils import epath

from conkd_jax.artifacts.build import ensure, ensure_first
from conkd_jax.artifacts.stage import Stage
from conkd_jax.config import Config, frozen, load_config_file
from conkd_jax.config.rules import validate_config
from conkd_jax.runs.finished import Run
from conkd_jax.runs.folder import config_name, default_folder, overrides_of, write_run_folder
from conkd_jax.stages import checks, pipeline


@dataclasses.dataclass(frozen=True)
class PlannedRun:
    """A run that is planned.

    Attributes:
      config: its config, of a single run.
      name: the name of its config file, see `config_name`.
      overrides: what its config changes in its file, see `overrides_of`.
      folder: the folder of its results.
      stages: its stages by name.
      command: a command line that makes the same run; "" where it was not planned from a file.
    """

    config: Config
    name: str
    overrides: Mapping[str, Any]
    folder: epath.Path
    stages: Mapping[str, Stage]
    command: str = ""

    @classmethod
    def of_file(
        cls, filename: str, changes: Mapping[str, Any] | None = None, folder: str = ""
    ) -> PlannedRun:
        """Plans the run of a config file.

        Args:
          filename: the file and, after a colon, its argument, as --config has it.
          changes: values by dotted field, as --config.FIELD=VALUE has them.
          folder: the folder of its results; by default one under runs/, named after the run.

        Raises:
          ConfigError: the file, a field or a value is not known, or the settings are refused.
        """
        changes = changes or {}
        own = frozen(load_config_file(filename))
        config = validate_config(own.replace(changes))
        options = [f"--config={filename}", *(f"--config.{k}={v}" for k, v in changes.items())]
        options += [f"--workdir={folder}"] if folder else []
        command = shlex.join(["python", "-m", "conkd_jax.train", *options])
        where = epath.Path(folder) if folder else None
        planned = cls.of(config, config_name(filename), own, where)
        return dataclasses.replace(planned, command=command)

    @classmethod
    def of(
        cls, config: Config, name: str, own: Config, folder: epath.Path | None = None
    ) -> PlannedRun:
        """Plans the run of a config.

        Args:
          config: the config, checked.
          name: the name of its file.
          own: what the file makes, before any override.
          folder: the folder of its results; by default one under runs/, named after the run.
        """
        overrides = overrides_of(config, own)
        folder = folder or default_folder(config, name, overrides=overrides)
        return cls(config, name, overrides, folder, pipeline.build(config))

    def check_sources(self) -> None:
        """Checks folders, raw files and pretrained weights, which exist before any stage runs.

        Raises:
          UserError: a folder can't be written to, or a source is missing or damaged.
        """
        pipeline.check_folders(self.config, self.folder, self.stages)
        pipeline.check_sources(self.config, self.stages)

    def check_data(self) -> None:
        """Builds corpus and vocabulary, then checks what depends on them.

        Raises:
          UserError: as `checks.check_data`.
        """
        ensure_first(self.stages["evaluation"], self.config.artifacts_dir, checks.DATA_STAGES)
        # A corpus that nothing needs any more may have been deleted.
        if not checks.unbuilt(self.config, self.stages):
            checks.check_data(self.config, self.stages)

    def check_unbuilt(self) -> str:
        """Checks what can be checked without building anything; says what can't.

        Raises:
          UserError: as `check_data`, or a folder can't be written to, or a raw file is missing or
            damaged.
        """
        pipeline.check_folders(self.config, self.folder, self.stages)
        pipeline.check_raw_files(self.config, self.stages)
        missing = checks.unbuilt(self.config, self.stages)
        if not missing:
            checks.check_data(self.config, self.stages)
            later = " (of AutoRec and its sentiment model when they begin)"
            return (
                "Checked: folders, splits, and warm-ups against the steps of each training"
                f"{later if checks.is_checked_later(self.stages) else ''}."
            )
        return (
            f"Checked: folders and raw files. Not known before {' and '.join(missing)} are built: "
            f"whether the split {self.config.evaluation.split!r} has responses, and the number of "
            "steps, which a warm-up must not exceed. Both are checked then, before anything is "
            "trained."
        )

    def build(self) -> None:
        """Builds every stage that is missing."""
        ensure(self.stages["evaluation"], self.config.artifacts_dir)

    def make(self) -> Run:
        """Checks the run, builds every stage that is missing, and writes its folder.

        Returns:
          The finished run. What is already trained is reused.

        Raises:
          UserError: as `check_sources` and `check_data`.
        """
        self.check_sources()
        self.check_data()
        self.build()
        self.write(self.command)
        return Run.open(self.folder)

    def write(self, command: str) -> dict[str, Any]:
        """Writes the folder of the run, whose stages are built. Of several processes, one calls it.

        Args:
          command: the command line, which is recorded.

        Returns:
          The content of its `metrics.json`.
        """
        return write_run_folder(
            self.folder, self.config, self.name, self.stages, command, self.overrides
        )
