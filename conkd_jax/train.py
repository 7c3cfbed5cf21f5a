"""Trains, or finds, everything that a config asks for, scores it, and prints the result.

    python -m conkd_jax.train --config=configs/dialogpt_hard.py:demo

Stages run only where their artifact is missing; a stage that was stopped goes on where it stopped.
`--plan` says what would run, and why, and runs nothing.
"""

from __future__ import annotations

import sys

import rich.console
import rich.table
from absl import flags
from etils import epath
from ml_collections import ConfigDict, config_flags

from conkd_jax import command_line, parallel
from conkd_jax import config as conkd
from conkd_jax.eval.report import summary_table
from conkd_jax.stages import artifacts, pipeline, run_folder

_CONFIG = config_flags.DEFINE_config_file(
    "config",
    help_string="A file in configs/ and a preset: configs/dialogpt_hard.py[:paper|mini|demo]. "
    "Any field is an option too, for example --config.distill.eta=.3",
    lock_config=True,
)
flags.declare_key_flag("workdir")
_PLAN = flags.DEFINE_bool("plan", False, "Print what would run, and why, and stop.")


def main(argv: list[str]) -> None:
    """Config, stages, results: the whole program."""
    console = rich.console.Console(quiet=not parallel.is_first_process())
    config, name = read_config()

    # --- what is to be made ------------------------------------------------------------------
    stages = pipeline.build(config)
    wanted = stages["evaluation"]
    if _PLAN.value:
        console.print(plan_table(artifacts.explain(wanted, config.artifacts_dir)))
        return

    # --- make what is missing ----------------------------------------------------------------
    pipeline.check_sources(config, stages)
    artifacts.ensure(wanted, config.artifacts_dir)

    # --- leave it to be read -----------------------------------------------------------------
    folder = run_folder.default(config, name, command_line.WORKDIR.value)
    if parallel.is_first_process():
        document = run_folder.write(folder, config, name, stages, command=" ".join(sys.argv))
        console.print(summary_table(document, run_folder.paper(config, name)))
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
    config = conkd.validate(_CONFIG.value)
    try:
        num_devices = parallel.num_devices(config.parallel.num_devices)
    except ValueError as error:
        raise conkd.ConfigError(f"config.{error}") from error
    conkd.validate_devices(config, num_devices)
    return config, run_folder.config_name(filename)


def plan_table(rows: list[artifacts.PlanRow]) -> rich.table.Table:
    """What `--plan` prints."""
    table = rich.table.Table(title="What would run")
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
