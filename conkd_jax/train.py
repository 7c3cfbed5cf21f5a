"""Trains and scores the system of a config; reuses whatever is already trained.

    python -m conkd_jax.train --config=configs/dialogpt_hard.py:demo

A stage runs only if its artifact is missing, and an interrupted stage is resumed. `--plan` prints
what would run, and why, without running it.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

import rich.table
from absl import flags
from etils import epath
from ml_collections import config_flags

from conkd_jax import command_line, parallel
from conkd_jax.artifacts.build import PlanRow, ensure, explain
from conkd_jax.artifacts.stage import Stage
from conkd_jax.command_line import UsageError
from conkd_jax.config import ARGUMENT_FIELDS, Config, ConfigError, frozen, load_config_file
from conkd_jax.config.rules import runs_of_sweep, validate_config, validate_devices
from conkd_jax.eval.tables.formats import table_for_terminal
from conkd_jax.eval.tables.summary import summary_table
from conkd_jax.eval.tables.sweeps import write_sweep
from conkd_jax.run import paper_row_of
from conkd_jax.run_folder import config_name, default_folder, overrides_of, write_run_folder
from conkd_jax.stages import pipeline

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
    if _PLAN.value:
        for label, (each, stages) in runs.items():
            rows = explain(stages["evaluation"], each.artifacts_dir)
            command_line.show(plan_table(rows, label))
        return

    documents = {}
    folder = default_folder(config, name, _WORKDIR.value, overrides_of(config, own))
    for label, (each, stages) in runs.items():
        # --- build what is missing -----------------------------------------------------------
        pipeline.check_sources(each, stages)
        ensure(stages["evaluation"], each.artifacts_dir)

        # --- write the run's folder ----------------------------------------------------------
        if parallel.is_first_process():
            documents[label] = write_run_folder(
                folder / label, each, name, stages, " ".join(sys.argv), overrides_of(each, own)
            )
            command_line.show(label, summary_table(documents[label], paper_row_of(each)))
    if config.sweep.field and parallel.is_first_process():
        command_line.show(table_for_terminal(write_sweep(folder, config.sweep.field, documents)))
    command_line.show(f"Results of this run: {folder}")


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


def plan_table(rows: list[PlanRow], label: str = "") -> rich.table.Table:
    """The table that `--plan` prints for a run."""
    table = rich.table.Table(title=f"What would run {label}".rstrip())
    for column in ("stage", "artifact", "state", "why"):
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*row)
    return table


def run() -> None:
    """Runs the command line."""
    command_line.run(main, OPTIONS, joins_processes=True)


if __name__ == "__main__":
    run()
