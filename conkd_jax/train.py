"""Trains, or finds, everything that a config asks for, scores it, and prints the result.

    python -m conkd_jax.train --config=configs/dialogpt_hard.py:demo

Stages run only where their artifact is missing; a stage that was stopped goes on where it stopped.
`--plan` says what would run, and why, and runs nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

import rich.console
import rich.table
from absl import flags
from etils import epath
from ml_collections import ConfigDict, config_flags

from conkd_jax import command_line, config_rules, parallel, run_folder
from conkd_jax import config as conkd
from conkd_jax.artifacts import build as artifacts
from conkd_jax.eval.tables.formats import table_for_terminal
from conkd_jax.eval.tables.summary import summary_table
from conkd_jax.eval.tables.sweeps import write_sweep
from conkd_jax.stages import pipeline

_CONFIG = config_flags.DEFINE_config_file(
    "config",
    help_string="A file in configs/, a preset and, where it is not the file's own, a backbone: "
    "configs/dialogpt_hard.py[:paper|mini|demo[,backbone=dialogpt|kgsf]]. "
    "Any field is an option too, for example --config.distill.eta=.3",
    lock_config=True,
)
flags.declare_key_flag("workdir")
_PLAN = flags.DEFINE_bool("plan", False, "Print what would run, and why, and stop.")


def main(argv: list[str]) -> None:
    """Config, stages, results: the whole program."""
    console = rich.console.Console(quiet=not parallel.is_first_process())
    config, name = read_config()

    # --- what is to be made: one run, or one for each value of a sweep ------------------------
    runs = {
        label: (each, pipeline.build(each)) for label, each in config_rules.settings(config).items()
    }
    expect_differences(config.sweep.field, [stages for _, stages in runs.values()])
    if _PLAN.value:
        for label, (each, stages) in runs.items():
            rows = artifacts.explain(stages["evaluation"], each.artifacts_dir)
            console.print(plan_table(rows, label))
        return

    documents = {}
    folder = run_folder.default(config, name, command_line.WORKDIR.value)
    for label, (each, stages) in runs.items():
        # --- make what is missing ------------------------------------------------------------
        pipeline.check_sources(each, stages)
        artifacts.ensure(stages["evaluation"], each.artifacts_dir)

        # --- leave it to be read -------------------------------------------------------------
        if parallel.is_first_process():
            documents[label] = run_folder.write(
                folder / label, each, name, stages, command=" ".join(sys.argv)
            )
            console.print(label, summary_table(documents[label], run_folder.paper(each)))
    if config.sweep.field and parallel.is_first_process():
        console.print(table_for_terminal(write_sweep(folder, config.sweep.field, documents)))
    console.print(f"Everything of this run: {folder}", soft_wrap=True)


def read_config() -> tuple[ConfigDict, str]:
    """The config that the command line names, checked, and its name.

    Raises:
      ConfigError: there is no such file, or its settings can't work here.
    """
    example = "For example --config=configs/dialogpt_hard.py:demo"
    if _CONFIG.value is None:
        raise conkd.ConfigError(f"--config is missing: expected a config file. {example}")
    filename = config_flags.get_config_filename(flags.FLAGS["config"])
    if not epath.Path(filename.split(":")[0]).is_file():
        raise conkd.ConfigError(
            f"--config={filename}: expected a config file and, after a colon, a preset; found no "
            f"such file. {example}"
        )
    said = config_flags.get_override_values(flags.FLAGS["config"])
    for field in conkd.ARGUMENT_FIELDS:
        if field in said:
            raise conkd.ConfigError(
                f"--config.{field}: other settings follow from it, so it is said behind the colon. "
                f"Expected --config=FILE.py:PRESET[,backbone=NAME], got {field} = {said[field]!r}"
            )
    config = config_rules.validate(_CONFIG.value)
    for each in config_rules.settings(config).values():
        try:
            num_devices = parallel.num_devices(each.parallel.num_devices)
        except ValueError as error:
            raise conkd.ConfigError(f"config.{error}") from error
        config_rules.validate_devices(each, num_devices)
    return config, run_folder.config_name(filename)


def expect_differences(field: str, runs: Sequence[Mapping[str, artifacts.Stage]]) -> None:
    """Refuses a sweep over a field that this system does not read.

    Raises:
      ConfigError: two values would score the very same artifacts.
    """
    if len({stages["evaluation"].fingerprint for stages in runs}) < len(runs):
        raise conkd.ConfigError(
            f"config.sweep.field: expected a field that makes another run with each value, got "
            f"{field!r}: this config does not read it"
        )


def plan_table(rows: list[artifacts.PlanRow], label: str = "") -> rich.table.Table:
    """What `--plan` prints of a run."""
    table = rich.table.Table(title=f"What would run {label}".rstrip())
    for column in ("stage", "artifact", "state", "why"):
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*row)
    return table


def run() -> None:
    """The command line."""
    command_line.run(main)


if __name__ == "__main__":
    run()
