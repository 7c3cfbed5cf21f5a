"""Trains and scores the system of a config; reuses whatever is already trained.

    python -m conkd_jax.train --config=configs/dialogpt_hard.py:demo

A stage runs only if its artifact is missing, and an interrupted stage is resumed. `--plan` prints
what would run, and why, without running it.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping, Sequence

import rich.table
import rich.text
from absl import flags
from etils import epath
from ml_collections import config_flags

from conkd_jax import command_line, parallel
from conkd_jax.artifacts.build import PlanRow, ensure, ensure_first, explain
from conkd_jax.artifacts.stage import Stage
from conkd_jax.command_line import UsageError
from conkd_jax.config import ARGUMENT_FIELDS, Config, ConfigError, frozen, load_config_file
from conkd_jax.config.rules import runs_of_sweep, validate_config, validate_devices
from conkd_jax.eval import origin
from conkd_jax.eval.tables.summary import summary_table
from conkd_jax.eval.tables.sweeps import write_sweep
from conkd_jax.run import paper_row_of
from conkd_jax.run_folder import (
    MOVED,
    config_name,
    default_folder,
    overrides_of,
    write_run_folder,
)
from conkd_jax.stages import checks, pipeline

OPTIONS = flags.FlagValues()
_CONFIG = config_flags.DEFINE_config_file(
    "config",
    help_string="A config file, optionally followed by a preset and another backbone: "
    "configs/dialogpt_hard.py[:paper|mini|demo[,backbone=dialogpt|kgsf]].",
    lock_config=True,
    flag_values=OPTIONS,
)
_WORKDIR = flags.DEFINE_string(
    "workdir",
    "",
    "The folder for the run's results. If not given: "
    "runs/<config>[+<changed fields>]-<preset>-seed<seed>.",
    flag_values=OPTIONS,
)
_PLAN = flags.DEFINE_bool(
    "plan", False, "Print what would run, and why, without running it.", flag_values=OPTIONS
)


def main(argv: list[str]) -> None:
    """Runs the stages of a config, then writes and prints the results."""
    config, name, own = read_config()

    # --- plan: one run, or one for each value of a sweep -------------------------------------
    runs = {label: (each, pipeline.build(each)) for label, each in runs_of_sweep(config).items()}
    expect_differences(config.sweep.field, [stages for _, stages in runs.values()])
    folder = default_folder(config, name, _WORKDIR.value, overrides_of(config, own))
    if _PLAN.value:
        for label, (each, stages) in runs.items():
            rows = explain(stages["evaluation"], each.artifacts_dir)
            command_line.show(plan_table(rows, label))
            command_line.show(check_plan(each, stages, folder / label))
        return

    # --- check all runs before any is trained ------------------------------------------------
    for label, (each, stages) in runs.items():
        pipeline.check_folders(each, folder / label)
        pipeline.check_sources(each, stages)
    for each, stages in runs.values():
        ensure_first(stages["evaluation"], each.artifacts_dir, checks.DATA_STAGES)
        if not checks.unbuilt(each, stages):  # a corpus that nothing needs may have been deleted
            checks.check_data(each, stages)

    documents = {}
    for label, (each, stages) in runs.items():
        # --- build what is missing -----------------------------------------------------------
        ensure(stages["evaluation"], each.artifacts_dir)

        # --- write the run's folder ----------------------------------------------------------
        if parallel.is_first_process():
            if config.sweep.field and not documents:
                make_room(folder, runs)
            documents[label] = write_run_folder(
                folder / label, each, name, stages, " ".join(sys.argv), overrides_of(each, own)
            )
            command_line.show(label, summary_table(documents[label], paper_row_of(each)))
    if config.sweep.field and parallel.is_first_process():
        command_line.show(write_sweep(folder, config.sweep.field, documents))
    command_line.show(f"Results of this run: {folder}")


def make_room(folder: epath.Path, runs: Collection[str]) -> None:
    """Moves what is not of the runs of a sweep, by label, out of its folder, and says so."""
    if aside := origin.set_aside_before_sweep(folder, runs):
        command_line.show(MOVED.format(folder=folder, aside=aside))


def read_config() -> tuple[Config, str, Config]:
    """Returns the config of the command line, checked, its name, and the config file's own.

    Raises:
      UserError: the file is missing, or its settings are invalid or don't fit the devices.
    """
    example = f"For example {command_line.EXAMPLE}"
    if _CONFIG.value is None:
        raise UsageError(f"--config is missing: expected a config file. {example}")
    filename = config_flags.get_config_filename(OPTIONS["config"])
    if not epath.Path(filename.split(":")[0]).is_file():
        raise UsageError(
            f"--config={filename}: expected a config file and, after a colon, a preset; found no "
            f"such file. {example}"
        )
    overridden = config_flags.get_override_values(OPTIONS["config"])
    for field in ARGUMENT_FIELDS:
        if field in overridden:
            raise UsageError(
                f"--config.{field}: it determines other fields, so it is given after the colon of "
                f"--config. Expected --config=FILE.py:PRESET[,backbone=NAME], got {field} = "
                f"{overridden[field]!r}"
            )
    config = validate_config(frozen(_CONFIG.value))
    for each in runs_of_sweep(config).values():
        try:
            num_devices = parallel.num_devices(each.parallel.num_devices)
        except ValueError as error:
            raise ConfigError(f"config.{error}") from error
        validate_devices(each, num_devices)
    return config, config_name(filename), frozen(load_config_file(filename))


def expect_differences(field: str, runs: Sequence[Mapping[str, Stage]]) -> None:
    """Refuses a sweep over a field that the system does not read.

    Raises:
      ConfigError: two values lead to the same artifacts.
    """
    if len({stages["evaluation"].fingerprint for stages in runs}) < len(runs):
        raise ConfigError(
            f"config.sweep.field: expected a field that changes the run with each value, got "
            f"{field!r}: this config does not read it"
        )


def check_plan(config: Config, stages: Mapping[str, Stage], folder: epath.PathLike) -> str:
    """Checks what can be checked without building anything; says what can't.

    Args:
      config: the config of a run.
      stages: its stages by name.
      folder: the folder of its results.

    Raises:
      UserError: a folder can't be written to, a raw file is missing or damaged, the split to score
        has no responses, or a learning rate schedule doesn't suit the number of training steps.
    """
    pipeline.check_folders(config, folder)
    pipeline.check_raw_files(config, stages)
    missing = checks.unbuilt(config, stages)
    if not missing:
        checks.check_data(config, stages)
        return "Checked: folders, splits, and warm-ups against the steps of each training."
    return (
        f"Checked: folders and raw files. Not known before {' and '.join(missing)} are built: "
        f"whether the split {config.evaluation.split!r} has responses, and the number of steps, "
        "which a warm-up must not exceed. Both are checked then, before anything is trained."
    )


def plan_table(rows: list[PlanRow], label: str = "") -> rich.table.Table:
    """The table that `--plan` prints for a run."""
    table = rich.table.Table(title=f"What would run {label}".rstrip())
    for column in ("stage", "artifact", "state", "why"):
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*map(rich.text.Text, row))
    return table


def run() -> None:
    """Runs the command line."""
    command_line.run(main, OPTIONS, joins_processes=True)


if __name__ == "__main__":
    run()
