"""Trains and scores the system of a config; reuses whatever is already trained.

    python -m conkd_jax.train --config=configs/dialogpt_hard.py:demo

A stage runs only if its artifact is missing, and an interrupted stage is resumed. `--plan` prints
what would run, and why, without running it. `--verify` reads all artifacts of the run and says
which of them are damaged; `--rebuild=STAGE` removes one, and what was made from it, and makes them
anew. `--until=STAGE` stops once a stage is built, and `--jobs=2` builds stages that don't need each
other, such as the two teachers, at the same time. `--beam_options` has Apache Beam link and
write the dialogues of a large corpus.

Curves of every training are TensorBoard files: `tensorboard --logdir=artifacts` shows them while it
trains. `--tracker=wandb` or `--tracker=mlflow` also sends them, the config and the final metrics
there (docs/howto/track_experiments.md).
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import jax
import rich.table
import rich.text
from absl import flags
from etils import epath
from ml_collections import config_flags

from conkd_jax.artifacts.build import PlanRow, ensure, explain
from conkd_jax.artifacts.cost import in_words
from conkd_jax.artifacts.numerics import pin_threads
from conkd_jax.artifacts.rebuild import mended_by, option, remove
from conkd_jax.artifacts.side_by_side import ensure_side_by_side
from conkd_jax.artifacts.stage import Stage, chosen, in_order
from conkd_jax.artifacts.verify import verify
from conkd_jax.cli import command_line
from conkd_jax.cli.command_line import UsageError
from conkd_jax.config import (
    BACKBONES,
    PRESETS,
    Config,
    ConfigError,
    frozen,
    load_config_file,
)
from conkd_jax.config.presets import CORPUS_PRESETS
from conkd_jax.config.rules import runs_of_sweep, validate_config, validate_devices
from conkd_jax.data import beam_runner
from conkd_jax.eval import origin
from conkd_jax.eval.tables.summary import summary_table
from conkd_jax.eval.tables.sweeps import write_sweep
from conkd_jax.io.files import is_remote
from conkd_jax.runs.finished import paper_row_of
from conkd_jax.runs.folder import MOVED, config_name, default_folder, overrides_of
from conkd_jax.runs.planned import PlannedRun
from conkd_jax.runtime import cluster, parallel
from conkd_jax.training import layouts, trackers
from conkd_jax.verify import show_findings


def define_config(options: flags.FlagValues, argv: list[str] | None = None) -> None:
    """Defines --config and the fields of the config, --config.PART.FIELD.

    Args:
      options: gets them.
      argv: the command line that will be parsed; None for that of this process.
    """
    config_flags.DEFINE_config_file(
        "config",
        help_string="A config file, optionally followed by a preset, another backbone and another "
        f"corpus: configs/dialogpt_hard.py[:{'|'.join(PRESETS)}[,backbone={'|'.join(BACKBONES)}]"
        f"[,corpus={'|'.join(CORPUS_PRESETS)}]].",
        lock_config=True,
        flag_values=options,
        sys_argv=argv,
    )


OPTIONS = flags.FlagValues()
define_config(OPTIONS)
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
_VERIFY = flags.DEFINE_bool(
    "verify",
    False,
    "Read every file of the run's artifacts, compare it with the size and the SHA-256 that it had "
    "when it was written, and say what is wrong, without running anything.",
    flag_values=OPTIONS,
)
_REBUILD = flags.DEFINE_list(
    "rebuild",
    "",
    "Remove the artifact of this stage and all artifacts of the run that were made from it, then "
    "make them anew. Of several stages of one name, STAGE/FINGERPRINT chooses one. Several are "
    "separated by commas.",
    flag_values=OPTIONS,
)
_UNTIL = flags.DEFINE_string(
    "until",
    "",
    "Build this stage and what it is made from, and nothing else. Of several stages of one name, "
    "STAGE/FINGERPRINT chooses one.",
    flag_values=OPTIONS,
)
_JOBS = flags.DEFINE_integer(
    "jobs",
    1,
    "Processes at once, on CPUs: stages that don't need each other's artifacts, such as the two "
    "teachers, are built at the same time. The results are the same bits.",
    1,
    flag_values=OPTIONS,
)
_BEAM = flags.DEFINE_string("beam_options", "", beam_runner.HELP, flag_values=OPTIONS)
_TRACKER = flags.DEFINE_string(
    "tracker",
    "",
    "Also send curves, config and metrics of the run to wandb, to mlflow, or to a class of your "
    "own, package.module:name. A resumed run goes on there.",
    flag_values=OPTIONS,
)


def main(argv: list[str]) -> None:
    """Runs the stages of a config, then writes and prints the results."""
    config, name, own = read_config(OPTIONS)
    trackers.check(_TRACKER.value)
    check_devices(config)
    if _JOBS.value > 1:
        check_jobs(config)

    # --- plan: one run, or one for each value of a sweep -------------------------------------
    folder = default_folder(config, name, _WORKDIR.value, overrides_of(config, own))
    runs = {
        label: PlannedRun.of(each, name, own, folder / label)
        for label, each in runs_of_sweep(config).items()
    }
    expect_differences(config.sweep.field, [run.stages for run in runs.values()])
    lasts = [run.stages["evaluation"] for run in runs.values()]
    command_line.show(*device_lines(config))
    again = command_line.this_command(without=("plan", "verify", "rebuild"))
    with mended_by(again, lasts), beam_runner.using(_BEAM.value):
        if _VERIFY.value:
            folders = [each.directory(config.artifacts_dir) for each in in_order(*lasts)]
            show_findings(map(verify, folders), lambda bad: f"{again} {option(lasts, bad)}")
            return
        if _PLAN.value:
            for label, run in runs.items():
                rows = explain(run.stages["evaluation"], config.artifacts_dir)
                command_line.show(plan_table(rows, label))
                command_line.show(run.check_unbuilt())
            return
        for wanted in _REBUILD.value:
            remove(lasts, config.artifacts_dir, wanted)
        make(config, folder, runs)


def make(config: Config, folder: epath.Path, runs: Mapping[str, PlannedRun]) -> None:
    """Makes the runs of a config: one, or one for each value of its sweep.

    Args:
      config: the config.
      folder: the folder of the run's results, or that of the sweep.
      runs: the runs, by label.
    """
    # --- check all runs before any is trained ------------------------------------------------
    for run in runs.values():
        run.check_sources()
    lasts = [run.stages["evaluation"] for run in runs.values()]
    if _UNTIL.value:
        lasts = chosen(in_order(*lasts), _UNTIL.value, "until")
    if pinned := pin_threads(config.artifacts_dir, *lasts):
        command_line.show(pinned)
    for run in runs.values():
        run.check_data()

    # --- build what is missing, and write each run's folder ----------------------------------
    documents = {}
    command = command_line.this_command(without=("rebuild", "jobs"))
    command_line.show(f"Curves while it trains: tensorboard --logdir={config.artifacts_dir}")
    if _JOBS.value > 1:
        ensure_side_by_side(lasts, config.artifacts_dir, building, num_jobs=_JOBS.value)
    if _UNTIL.value:
        for last in lasts:
            ensure(last, config.artifacts_dir)
            command_line.show(f"{last.label}: {last.directory(config.artifacts_dir)}")
        return
    for label, run in runs.items():
        with trackers.tracked(_TRACKER.value, tracked_run(run, folder)) as finish:
            run.build()
            if parallel.is_first_process():
                if config.sweep.field and not documents:
                    make_room(folder, runs)
                documents[label] = run.write(command)
                finish(metrics_of(documents[label]))
                paper_row = paper_row_of(run.config, run.config.evaluation.split)
                command_line.show(label, summary_table(documents[label], paper_row))
    if config.sweep.field and parallel.is_first_process():
        command_line.show(write_sweep(folder, config.sweep.field, documents))
    command_line.show(f"Results of this run: {folder}")


def building(stage: Stage) -> list[str]:
    """The command line that builds one stage of this process's runs.

    Of an option that is given twice, the later one counts.
    """
    alone = ["--jobs=1", "--rebuild=", f"--until={stage.label}"]
    return [sys.executable, "-m", "conkd_jax.train", *sys.argv[1:], *alone]


def tracked_run(run: PlannedRun, folder: epath.Path) -> trackers.TrackedRun:
    """What a tracker is told about a run.

    Args:
      run: the run.
      folder: its folder, or that of the sweep that it belongs to.
    """
    is_swept = run.folder != folder
    return trackers.TrackedRun(
        key=run.stages["evaluation"].fingerprint,
        name=f"{folder.name}/{run.folder.name}" if is_swept else folder.name,
        group=folder.name if is_swept else "",
        config=run.config.flat(),
    )


def metrics_of(document: Mapping[str, Any]) -> dict[str, float]:
    """The metrics of a run's document, as a tracker gets them: by "SPLIT/NAME"."""
    return {f"{document['split']}/{name}": value for name, value in document["metrics"].items()}


def make_room(folder: epath.Path, runs: Collection[str]) -> None:
    """Moves what is not of the runs of a sweep, by label, out of its folder, and says so."""
    if aside := origin.set_aside_before_sweep(folder, runs):
        command_line.show(MOVED.format(folder=folder, aside=aside))


def read_config(options: flags.FlagValues) -> tuple[Config, str, Config]:
    """Returns the config of a command line, checked, its name, and the config file's own.

    `--config.backbone=NAME` means the same as `backbone=NAME` after the colon of --config.

    Args:
      options: what the command line was parsed into, with those of `define_config`.

    Raises:
      UserError: the file is missing, or its settings are invalid.
    """
    if options["config"].value is None:
        raise UsageError(
            "--config is missing: expected a config file. For example " + command_line.EXAMPLE
        )
    filename = config_flags.get_config_filename(options["config"])
    command_line.expect_config_file(filename)
    overridden = config_flags.get_override_values(options["config"])
    config = frozen(options["config"].value)
    if "preset" in overridden:
        raise UsageError(
            "--config.preset: it determines other fields, so it is given after the colon of "
            "--config. Expected --config=FILE.py:PRESET[,backbone=NAME], got preset = "
            f"{overridden['preset']!r}"
        )
    if "backbone" in overridden:  # determines other fields as well, so it goes before them
        path, _, argument = filename.partition(":")
        filename = f"{path}:{argument or config.preset},backbone={config.backbone}"
        fields = {name: value for name, value in overridden.items() if name != "backbone"}
        config, backbone = frozen(load_config_file(filename)).replace(fields), config.backbone
        if config.backbone != backbone:
            raise UsageError(
                f"--config.backbone={backbone}: expected a config file that passes its argument on "
                f"to from_argument, as --config={filename} has another backbone, {config.backbone}"
            )
    return validate_config(config), config_name(filename), frozen(load_config_file(filename))


def check_devices(config: Config) -> None:
    """Checks a config, and each run of its sweep, against the devices that there are.

    Raises:
      ConfigError: there are fewer devices, or a batch can't be split over them.
    """
    for each in runs_of_sweep(config).values():
        try:
            num_devices = parallel.num_devices(each.parallel.num_devices)
        except ValueError as error:
            raise ConfigError(f"config.{error}") from error
        validate_devices(each, num_devices)


def check_jobs(config: Config) -> None:
    """Checks that stages can be built side by side.

    Raises:
      UsageError: they can't, and why.
    """
    why = ""
    if jax.default_backend() != "cpu" or jax.process_count() > 1:
        why = "an accelerator or several processes, all of which each stage uses by itself"
    elif is_remote(config.artifacts_dir):
        why = f"artifacts_dir={config.artifacts_dir}, an object store, which has no locks"
    elif _TRACKER.value:
        why = f"--tracker={_TRACKER.value}, which is told about the stages of this process alone"
    if why:
        raise UsageError(f"--jobs={_JOBS.value}: expected --jobs=1 with {why}.")


def device_lines(config: Config) -> list[str]:
    """The devices, what this run does with them, and a line for everything unexpected."""
    words, doubts = cluster.devices_in_words()
    part = config.parallel
    use = layouts.in_words(part.kind, parallel.num_devices(part.num_devices))
    return [f"Devices: {words}; {use}", *(f"warning: {doubt}" for doubt in doubts)]


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
    for column in ("stage", "artifact", "state", "why", "expected cost"):
        table.add_column(column, overflow="fold")
    for row in rows:
        would_run = row.state in ("partial", "missing")
        table.add_row(*map(rich.text.Text, (*row[:4], in_words(row.cost) if would_run else "")))
    return table


def run() -> None:
    """Runs the command line."""
    command_line.run(main, OPTIONS, joins_processes=True)


if __name__ == "__main__":
    run()
