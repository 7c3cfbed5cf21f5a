"""Trains many rows of a table, several at a time, each with several seeds.

    python -m conkd_jax.rows table2 ladder --preset=mini --seeds=3 --jobs=2
    python -m conkd_jax.rows configs/kgsf.py:mini "configs/kgsf_hard.py:mini
        --config.distill.gamma=.7" --seeds=3
    python -m conkd_jax.rows all --preset=mini --backbone=dialogpt --dry_run

A ROW is a config file, as --config of conkd_jax.train takes it, or in quotes a config file and
fields of the config, or the name of a list: table2 (DialoGPT and KGSF, alone and with ConKD),
systems (the other systems of Tables 1 to 4), ladder (the rows of Tables 5 and 6), all (these and
more, what is most wanted first).

Seed s is a whole training: teachers, turn classifier and student are trained with it. Rows are
trained in the order given, all seeds of one before the next; all of them share artifacts, and what
is finished is not trained again, so the same command goes on after an interruption. A run that
fails does not stop the others; the exit code is 1 then. Each run's output goes into a file of its
own in logs/ beside the runs.
"""

from __future__ import annotations

import dataclasses
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from absl import flags
from etils import epath

from conkd_jax.cli import command_line
from conkd_jax.cli.command_line import UsageError
from conkd_jax.config import BACKBONES, PRESETS
from conkd_jax.errors import UserError
from conkd_jax.eval.tables.sections import printed_number
from conkd_jax.io.files import is_remote, parse_json
from conkd_jax.runs.finished import METRICS
from conkd_jax.runs.folder import default_folder, overrides_of
from conkd_jax.runtime.jobs import Job, Outcome, run_jobs
from conkd_jax.train import define_config, read_config
from conkd_jax.training import trackers

PAPERS_BACKBONES = ("dialogpt", "kgsf")  # those that the paper distils into
TABLE_2 = (
    *(f"configs/dialogpt{gate}.py:PRESET,backbone=dialogpt" for gate in ("", "_hard", "_soft")),
    *(f"configs/kgsf{gate}.py:PRESET,backbone=kgsf" for gate in ("", "_hard", "_soft")),
)
SYSTEMS = tuple(
    f"configs/{name}.py:PRESET,backbone={name}"
    for name in ("redial", "kbrd", "revcore", "recindial")
)


def _ablations(*names: str, backbones: Sequence[str] = PAPERS_BACKBONES) -> tuple[str, ...]:
    return tuple(
        f"configs/ablations/{name}.py:PRESET,backbone={backbone}"
        for backbone in backbones
        for name in names
    )


LADDER = (  # its last step, (+) D&R&ST, is the hard gate of Table 2
    *_ablations("vanilla", "dialogue_teacher", "rec_teacher", "both_teachers", "constant_gate"),
    *(f"configs/{backbone}_hard.py:PRESET,backbone={backbone}" for backbone in PAPERS_BACKBONES),
)
FIRST = (  # what stands above the gate on DialoGPT, and the gate that is fitted to its teacher
    *TABLE_2[:3],
    *_ablations("rec_teacher", "constant_gate", "fitted_threshold", backbones=("dialogpt",)),
)
LISTS: Mapping[str, tuple[str, ...]] = {
    "table2": TABLE_2,
    "systems": SYSTEMS,
    "ladder": LADDER,
    "all": (*FIRST, *TABLE_2[3:], *SYSTEMS, *LADDER, *_ablations("vanilla_special_tokens")),
}
HEADLINE = ("f1@10", "f1@10_novel", "rec_ratio", "ppl", "tf_hit@50")

OPTIONS = flags.FlagValues()
_PRESET = flags.DEFINE_enum(
    "preset", None, PRESETS, "The preset of the rows of lists.", flag_values=OPTIONS
)
_BACKBONE = flags.DEFINE_enum(
    "backbone",
    None,
    BACKBONES,
    "Of lists, only the rows with this backbone.",
    flag_values=OPTIONS,
)
_SEEDS = flags.DEFINE_integer(
    "seeds", 1, "Trainings of each row, with seeds 0, 1, …", 1, flag_values=OPTIONS
)
_JOBS = flags.DEFINE_integer(
    "jobs",
    1,
    "Processes at once. Each gets its own part of the cores and of a GPU's memory.",
    1,
    flag_values=OPTIONS,
)
_OVERRIDE = flags.DEFINE_multi_string(
    "override",
    [],
    "A field of the config of every row, as FIELD=VALUE: --override=artifacts_dir=DIR. Can be "
    "given several times.",
    flag_values=OPTIONS,
)
_LOGS = flags.DEFINE_string(
    "logs",
    "",
    "The folder of the log files. If not given: logs/ beside the runs.",
    flag_values=OPTIONS,
)
_TRACKER = flags.DEFINE_string(
    "tracker",
    "",
    "The tracker of every training, as conkd_jax.train takes it.",
    flag_values=OPTIONS,
)
_DRY_RUN = flags.DEFINE_bool(
    "dry_run", False, "Print the commands in their order, and run none.", flag_values=OPTIONS
)


@dataclasses.dataclass(frozen=True)
class Training:
    """One training of one row.

    Attributes:
      command: the command line that trains and scores it.
      folder: the folder of its results.
    """

    command: tuple[str, ...]
    folder: epath.Path

    def job(self, logs: Path) -> Job:
        """The process that trains it, with its log in a folder."""
        return Job(self.folder.name, self.command, logs / f"{self.folder.name}.log")


def main(argv: list[str]) -> None:
    """Trains rows, or prints how.

    Raises:
      UserError: a row is not known, or its config is invalid; nothing has been started then.
    """
    if not argv[1:]:
        raise UsageError(f"expected rows: config files, or some of {', '.join(LISTS)}.")
    rows = expand(argv[1:], preset=_PRESET.value, backbone=_BACKBONE.value)
    trainings = list_trainings(
        rows, num_seeds=_SEEDS.value, overrides=_OVERRIDE.value, tracker=_TRACKER.value
    )
    if _DRY_RUN.value:
        command_line.show(*(shlex.join(training.command) for training in trainings))
        return
    logs = _LOGS.value or trainings[0].folder.parent / "logs"
    if is_remote(logs):
        raise UsageError(f"--logs: expected a folder of this machine, got {logs}.")
    if failed := train_all(trainings, Path(logs), num_jobs=_JOBS.value):
        command_line.show(f"{len(failed)} of {len(trainings)} failed:")
        for outcome in failed:
            command_line.show(
                f"  {outcome.job.name}: exit code {outcome.exit_code}, {outcome.last_line}",
                f"    {outcome.job.log}",
            )
        raise SystemExit(1)
    command_line.show(f"All {len(trainings)} are done.")


def train_all(trainings: Sequence[Training], logs: Path, *, num_jobs: int) -> list[Outcome]:
    """Runs trainings, prints a line for each that ends, and returns those that failed."""
    by_name = {training.folder.name: training for training in trainings}
    command_line.show(f"{len(trainings)} trainings, {num_jobs} at once; logs in {logs}")
    failed = []
    outcomes = run_jobs([training.job(logs) for training in trainings], at_once=num_jobs)
    for count, outcome in enumerate(outcomes, start=1):
        name, minutes = outcome.job.name, f"{outcome.seconds / 60:.1f} min"
        if outcome.exit_code:
            failed.append(outcome)
            text = f"FAILED after {minutes}: {outcome.last_line}"
        else:
            text = f"{minutes}{headline(by_name[name].folder)}"
        command_line.show(f"[{count}/{len(trainings)}] {name}: {text}")
    return failed


def headline(folder: epath.Path) -> str:
    """The most wanted metrics of a run's folder in words; empty for a sweep, which has a table."""
    file = folder / METRICS
    if not file.exists():
        return ""
    metrics = parse_json(file.read_text())["metrics"]
    found = [
        f"{name} {printed_number(name, metrics[name])}" for name in HEADLINE if name in metrics
    ]
    return "; " + ", ".join(found)


# --- which trainings -----------------------------------------------------------------------------


def expand(
    rows: Sequence[str], *, preset: str | None = None, backbone: str | None = None
) -> list[str]:
    """Replaces names of lists by their rows; of a row that comes twice, the second is left out.

    Args:
      rows: rows and names of lists, in order.
      preset: the preset of the rows of lists.
      backbone: of lists, only the rows with this backbone; None for all.

    Raises:
      UsageError: a list is named without a preset.
    """
    found: list[str] = []
    for row in rows:
        if row not in LISTS:
            found.append(row)
            continue
        if preset is None:
            raise UsageError(
                f"{row}: expected the preset of its rows. Write --preset={'|'.join(PRESETS)}"
            )
        found += [
            each.replace("PRESET", preset)
            for each in LISTS[row]
            if backbone is None or each.endswith(f"backbone={backbone}")
        ]
    return list(dict.fromkeys(found))


def list_trainings(
    rows: Sequence[str], *, num_seeds: int, overrides: Sequence[str] = (), tracker: str = ""
) -> list[Training]:
    """The trainings of rows in their order: all seeds of a row, then the next row.

    Args:
      rows: config files, each with an argument and fields of the config, or without.
      num_seeds: trainings of each row, with seeds from 0 and teachers of their own.
      overrides: fields of the config of every row, as "FIELD=VALUE".
      tracker: the tracker of every training, as `conkd_jax.train` takes it.

    Raises:
      UserError: a row's config is invalid, two rows have one folder, or there is no such tracker.
    """
    for override in overrides:
        if re.match(r"(teacher_)?seed(=|$)", override):
            raise UsageError(f"--override={override}: --seeds sets the seeds of every row.")
    trackers.check(tracker)
    found: dict[str, Training] = {}
    for row in rows:
        file, *fields = _words_of(row)
        command_line.expect_config_file(file)
        fields += [f"--config.{override}" for override in overrides]
        for seed in range(num_seeds):
            arguments = [f"--config={file}", *fields]
            arguments += [f"--config.seed={seed}", f"--config.teacher_seed={seed}"]
            folder = _folder_of(row, arguments)
            if str(folder) in found:
                raise UsageError(f"{row!r}: another row has the same folder, {folder}.")
            arguments += [f"--tracker={tracker}"] if tracker else []
            command = (sys.executable, "-m", "conkd_jax.train", *arguments)
            found[str(folder)] = Training(command, folder)
    return list(found.values())


def _words_of(row: str) -> list[str]:
    """The config file of a row, and its fields.

    Raises:
      UsageError: it is empty or has an open quotation mark, or sets a seed.
    """
    try:
        words = shlex.split(row)
    except ValueError as error:
        raise UsageError(f"{row!r}: expected a config file and its fields: {error}") from error
    if not words or words[0].startswith("-"):
        raise UsageError(f"{row!r}: expected a config file before its fields.")
    for word in words[1:]:
        if re.match(r"--?config\.(teacher_)?seed(=|$)", word):
            raise UsageError(f"{row!r}: expected no {word}: --seeds sets the seeds of every row.")
    return words


def _folder_of(row: str, arguments: Sequence[str]) -> epath.Path:
    """The folder that `conkd_jax.train` gives a run.

    Raises:
      UserError: the arguments are invalid; names the row.
    """
    options, argv = flags.FlagValues(), [row, *arguments]
    define_config(options, argv)
    try:
        command_line.parse(argv, options)
        config, name, own = read_config(options)
    except UserError as error:
        raise UsageError(f"{row!r}: {error}") from error
    return default_folder(config, name, "", overrides_of(config, own))


def run() -> None:
    """Runs the command line."""
    command_line.run(main, OPTIONS, positional="ROW…")


if __name__ == "__main__":
    run()
