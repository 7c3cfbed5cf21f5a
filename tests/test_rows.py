"""`python -m conkd_jax.rows`: which trainings, in which order, what fails, and what is resumed."""

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from conkd_jax import rows
from conkd_jax.cli.command_line import UsageError
from conkd_jax.config.presets import load_config_file
from conkd_jax.eval.tables.documents import read_documents
from tests.fixtures import small_world as config_file
from tests.fixtures.processes import started_after
from tests.fixtures.programs import refused

ROOT = Path(__file__).resolve().parents[1]
ROW = f"{config_file.__file__}:demo"


def folders(root: Path) -> list[str]:
    """Options that put artifacts and runs into a folder."""
    return [f"--override=artifacts_dir={root}/artifacts", f"--override=runs_dir={root}/runs"]


def arguments_of(output: str) -> list[list[str]]:
    """The arguments of conkd_jax.train of each printed command."""
    commands = [shlex.split(line) for line in output.splitlines()]
    for command in commands:
        assert command[:3] == [sys.executable, "-m", "conkd_jax.train"]
    return [command[3:] for command in commands]


# --- which trainings -----------------------------------------------------------------------------


def test_a_dry_run_prints_all_seeds_of_a_row_before_the_next_row(call, tmp_path):
    gamma = f"{ROW} --config.distill.gamma=.7 --config.student.epochs=3"
    code, output, errors = call(
        rows, gamma, ROW, "--seeds=2", "--dry_run", *folders(tmp_path / "new")
    )
    assert code == 0, errors
    found = arguments_of(output)
    assert [each[0] for each in found] == [f"--config={ROW}"] * 4
    more = ["--config.distill.gamma=.7", "--config.student.epochs=3"]
    assert [each[1:3] == more for each in found] == [True, True, False, False]
    assert [each[-2:] for each in found] == [
        [f"--config.seed={seed}", f"--config.teacher_seed={seed}"] for seed in (0, 1, 0, 1)
    ]
    assert all(f"--config.runs_dir={tmp_path}/new/runs" in each for each in found)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("name", rows.LISTS)
def test_lists_name_configs_that_exist(monkeypatch, name):
    monkeypatch.chdir(ROOT)
    found = rows.expand([name], preset="mini")
    assert len(set(found)) == len(found)
    for row in found:
        config = load_config_file(row)
        assert config.preset == "mini"
        assert row.endswith(f",backbone={config.backbone}")


SYSTEMS = ("redial", "kbrd", "revcore", "recindial")


def test_lists_hold_the_paper_s_rows():
    """Every row of Tables 1 to 6, and "all" holds the other lists."""
    configs = {name: {row.split(":")[0] for row in rows.LISTS[name]} for name in rows.LISTS}
    assert configs["table2"] == {
        f"configs/{backbone}{gate}.py"
        for backbone in ("dialogpt", "kgsf")
        for gate in ("", "_hard", "_soft")
    }
    for backbone in ("dialogpt", "kgsf"):
        ladder = rows.expand(["ladder"], preset="mini", backbone=backbone)
        assert len(ladder) == 6 and f"configs/{backbone}_hard.py" in ladder[-1]
    assert configs["systems"] == {f"configs/{name}.py" for name in SYSTEMS}
    assert all(set(rows.LISTS["all"]) >= set(of_list) for of_list in rows.LISTS.values())
    assert rows.LISTS["all"][0].startswith("configs/dialogpt.py")


def test_lists_and_rows_are_joined_without_repetition():
    found = rows.expand(["table2", "ladder", "mine.py"], preset="mini", backbone="kgsf")
    assert len(found) == 3 + 5 + 1  # the hard gate is in both
    assert found[-1] == "mine.py"


@pytest.mark.parametrize(
    "arguments, words",
    [
        ([], ["expected rows", "table2, systems, ladder, all"]),
        (["table2"], ["table2: expected the preset", "--preset=paper|small|mini"]),
        (["no_such_row.py"], ["--config=no_such_row.py", "no such file"]),
        ([f"{ROW} --config.distill.gama=.3"], ["small_world.py", 'did you mean "gamma"?']),
        ([f"{ROW} --config.distill.eta=2"], ["small_world.py", "config.distill.eta", "got 2"]),
        ([f"{ROW} --workdir=x"], ["there is no option --workdir"]),
        (["--config.seed=1"], ["no option --config.seed"]),
        ([ROW, ROW + " "], ["another row has the same folder"]),
        ([ROW, "--override=student.epoch=3"], ['did you mean "epochs"?']),
        ([ROW, "--seeds=0"], ["--seeds"]),
        ([" "], ["expected a config file before its fields"]),
        ([f"{ROW} --config.distill.gate='soft"], ["No closing quotation"]),
        ([f"{ROW} --config.seed=3"], ["--config.seed=3", "--seeds sets the seeds"]),
        ([ROW, "--override=teacher_seed=3"], ["teacher_seed=3", "--seeds sets the seeds"]),
    ],
    ids=str,
)
def test_what_can_t_work_is_refused_before_anything_runs(call, tmp_path, arguments, words):
    refused(call(rows, *arguments, *folders(tmp_path / "new")), *words)
    assert not (tmp_path / "new").exists()


def test_a_row_has_its_fields_behind_its_config():
    with pytest.raises(UsageError, match="expected a config file before its fields"):
        rows.list_trainings(["--config.distill.gamma=.3 configs/kgsf.py"], num_seeds=1)


# --- trainings -----------------------------------------------------------------------------------


def test_a_failing_row_is_named_and_a_finished_one_is_found(call, small_world):
    """The second row's artifacts exist: nothing is trained, and its results are told again."""
    manifest = next(small_world.artifacts_dir.glob("student/*/manifest.json"))
    before = manifest.stat().st_mtime_ns
    too_long = f"{ROW} --config.student.optimizer.warmup_steps=9999"
    code, output, errors = call(rows, too_long, ROW, *folders(small_world.root))
    assert code == 1, errors
    lines = output.splitlines()
    assert re.match(
        r"\[1/2\] .*warmup_steps=9999-demo-seed0: FAILED after .* min: error: ", lines[1]
    )
    assert re.match(r"\[2/2\] small_world-.*-demo-seed0: [\d.]+ min; f1@10 .*, ppl ", lines[2])
    assert lines[3] == "1 of 2 failed:"
    assert "exit code 2" in lines[4] and "config.student.optimizer.warmup_steps" in lines[4]
    log = Path(lines[5].strip())
    assert log.parent == small_world.root / "runs" / "logs"
    assert "warmup_steps is 9999" in log.read_text()
    assert manifest.stat().st_mtime_ns == before


def command(root: Path, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "conkd_jax.rows", ROW, *folders(root), *arguments]


@pytest.mark.slow
def test_two_at_once_train_whole_trainings_and_share_the_data(tmp_path):
    outcome = subprocess.run(
        command(tmp_path, "--seeds=2", "--jobs=2"), capture_output=True, text=True, cwd=ROOT
    )
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
    assert outcome.stdout.splitlines()[-1] == "All 2 are done."
    documents = read_documents([tmp_path / "runs"])
    assert sorted((d["seed"], d["teacher_seed"]) for d in documents) == [(0, 0), (1, 1)]
    built = {
        stage: len(list((tmp_path / "artifacts" / stage).glob("*/manifest.json")))
        for stage in ("corpus", "vocabulary", "rec_teacher", "dialogue_teacher", "student")
    }
    assert built == {
        "corpus": 1,
        "vocabulary": 1,
        "rec_teacher": 2,
        "dialogue_teacher": 2,
        "student": 2,
    }


@pytest.mark.slow
def test_what_was_stopped_goes_on_where_it_was(tmp_path):
    """Stopped in the dialogue teacher's training, which is resumed from its checkpoint."""
    longer = "--override=dialogue_teacher.epochs=60"
    log = tmp_path / "runs" / "logs" / "small_world"
    # SIGINT may be ignored here, in the background of a shell.
    heard = "import signal; signal.signal(signal.SIGINT, signal.SIG_DFL)"
    starting = started_after(heard, *command(tmp_path, longer))
    with subprocess.Popen(starting, cwd=ROOT, start_new_session=True) as parent:
        for _ in range(3000):
            if list((tmp_path / "artifacts").glob("dialogue_teacher/*/checkpoints/*")):
                break
            time.sleep(0.1)
        os.kill(parent.pid, signal.SIGINT)
        parent.wait(timeout=120)
    assert parent.returncode == 130
    (log,) = (tmp_path / "runs" / "logs").iterdir()
    assert "saved; the same command resumes it" in log.read_text()
    outcome = subprocess.run(command(tmp_path, longer), capture_output=True, text=True, cwd=ROOT)
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
    first, second = log.read_text().split("\n$ ")
    assert "rec_teacher: done" in first and "rec_teacher: done" not in second
    (document,) = read_documents([tmp_path / "runs"])
    assert document["seed"] == 0
