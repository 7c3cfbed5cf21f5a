"""The programs as a user calls them: plans, helpful refusals, and runs that are killed."""

import importlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from conkd_jax import evaluate, train, verify
from conkd_jax.cli import command_line
from conkd_jax.data.tokenizers.bpe import train_bpe
from conkd_jax.errors import UserError
from conkd_jax.stages import pipeline
from tests.data_prep.raw_files import simple, write_raw
from tests.fixtures.object_store import forget_clients
from tests.fixtures.programs import CONFIG, refused
from tests.fixtures.small_world import SmallWorld

ROOT = Path(__file__).resolve().parents[1]


def folders(world: SmallWorld, *arguments) -> list[str]:
    """Options that put artifacts and runs into a world."""
    return [
        f"--config.artifacts_dir={world.artifacts_dir}",
        f"--config.runs_dir={world.root / 'runs'}",
        *arguments,
    ]


@pytest.fixture
def world(tmp_path) -> SmallWorld:
    """An empty one."""
    return SmallWorld(tmp_path / "world")


@pytest.fixture
def spoilt(small_world, tmp_path) -> SmallWorld:
    """A copy of the finished one, to be damaged."""
    world = SmallWorld(tmp_path / "spoilt")
    shutil.copytree(small_world.artifacts_dir, world.artifacts_dir)
    return world


def directory(world: SmallWorld, name: str) -> Path:
    return Path(pipeline.build(world.config())[name].directory(world.artifacts_dir))


# --- plans and runs ----------------------------------------------------------------------------


def test_a_plan_runs_nothing(call, world):
    code, output, errors = call(train, CONFIG, *folders(world), "--plan")
    assert code == 0 and not errors
    for name in ("corpus", "rec_teacher", "dialogue_teacher", "teacher_outputs", "student"):
        assert name in output
    assert output.count("never built") == 8
    assert "Devices: 8 CPU devices; training on 1 device\n" in output
    assert not world.root.exists()


def test_a_plan_says_how_devices_share_the_work(call, world):
    options = ["--config.parallel.num_devices=8", "--config.parallel.kind=mesh", "--plan"]
    code, output, _ = call(train, CONFIG, *folders(world), *options)
    assert code == 0
    assert "training on 8 devices, which share parameters and optimizer state" in output
    assert "(parallel.kind=mesh)" in output


def test_a_plan_says_why(call, small_world):
    arguments = [*folders(small_world), "--config.distill.eta=.7", "--plan"]
    code, output, _ = call(train, CONFIG, *arguments)
    assert code == 0
    assert output.count("whole") == 6
    assert "config.distill.eta 0.04 -> 0.7" in output
    (row,) = [line for line in output.splitlines() if line.strip(" │").startswith("student ")]
    cost = r"\d+ s, [\d.]+ [MG]iB memory, [\d.]+ [KM]iB disk \(from \d+ earlier run"
    assert re.search(cost, " ".join(output.replace("│", " ").split())), row


def test_a_resumed_evaluation_uses_as_many_threads(call, small_world, monkeypatch):
    asked = []

    def pin(artifacts_dir, *lasts):
        asked.append((artifacts_dir, [stage.config_part["split"] for stage in lasts]))
        return "uses as many"

    monkeypatch.setattr(evaluate, "pin_threads", pin)
    monkeypatch.setattr(evaluate, "evaluate", lambda *_: sys.exit("before it is scored"))
    code, output, _ = call(evaluate, f"--workdir={small_world.folder}", "--split=dev")
    assert "uses as many" in output and code == "before it is scored"
    assert asked == [(str(small_world.artifacts_dir), ["dev"])]


def test_a_preset_is_said_behind_the_colon(call, small_world):
    arguments = [CONFIG, *folders(small_world), "--config.preset=mini", "--plan"]
    refused(call(train, *arguments), "config.preset", "PRESET[,backbone=NAME]", "mini")


def test_a_backbone_is_applied_before_other_fields(call, world):
    options = [*folders(world), "--config.distill.eta=.3", "--plan"]
    by_field = call(train, CONFIG, *options, "--config.backbone=kgsf")
    assert by_field == call(train, f"{CONFIG}:demo,backbone=kgsf", *options)
    assert by_field[0] == 0 and by_field[1] != call(train, CONFIG, *options)[1]
    refused(call(train, CONFIG, *options, "--config.backbone=kgfs"), "backbone=kgfs", "dialogpt")


def test_a_config_file_that_ignores_its_argument_keeps_its_backbone(call, tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        "from conkd_jax import config as conkd\n"
        "def get_config(argument=''):\n    return conkd.from_argument('demo')\n"
    )
    refused(call(train, f"--config={file}", "--config.backbone=kgsf"), "from_argument", "dialogpt")


def test_a_sweep_over_what_is_not_read_is_refused(call, small_world):
    sweep = ["--config.sweep.field=distill.constant", "--config.sweep.over=(.1,.2)"]
    message = refused(call(train, CONFIG, *folders(small_world), *sweep), "config.sweep.field")
    assert "'distill.constant': this config does not read it" in message


def test_every_value_of_a_sweep_has_to_fit_the_devices(call, small_world):
    sweep = ["--config.sweep.field=student.batch_rows", "--config.sweep.over=(8,9)"]
    options = ["--config.parallel.num_devices=8", "--config.turn_classifier.batch_size=32"]
    refused(
        call(train, CONFIG, *folders(small_world), *sweep, *options),
        "config.student.batch_rows: expected a multiple of 8",
        "got 9",
    )


def test_a_finished_run_is_printed_again(call, small_world, tmp_path):
    workdir = tmp_path / "mine"
    code, output, errors = call(train, CONFIG, *folders(small_world), f"--workdir={workdir}")
    assert code == 0, errors
    assert "rec_ratio" in output and str(workdir) in output
    document = json.loads((workdir / "metrics.json").read_text())
    assert f"--workdir={workdir}" in document["command"]


def test_links_to_artifacts_need_a_place_beside_the_artifacts(call, world):
    workdir = f"--workdir={world.artifacts_dir.parent}"
    assert world.artifacts_dir.name == "artifacts"
    refused(call(train, CONFIG, *folders(world), workdir), "config.artifacts_dir", workdir)
    assert not world.root.exists()


def test_a_run_is_scored_on_another_split(call, small_world, tmp_path):
    shutil.copy(small_world.folder / "config.json", tmp_path)
    code, output, errors = call(evaluate, f"--workdir={tmp_path}", "--split=dev")
    assert code == 0, errors
    assert "on dev" in output
    assert json.loads((tmp_path / "dev" / "metrics.json").read_text())["split"] == "dev"


def test_a_store_that_was_deleted_is_made_again_only_for_a_student(call, spoilt, tmp_path):
    shutil.rmtree(directory(spoilt, "teacher_outputs"))
    arguments = [CONFIG, *folders(spoilt), f"--workdir={tmp_path}"]
    code, output, errors = call(train, *arguments, "--plan")
    assert code == 0, errors
    assert output.count("not needed") == 1 and output.count("missing") == 1  # in its reason
    code, output, errors = call(train, *arguments)
    assert code == 0, errors
    assert not directory(spoilt, "teacher_outputs").exists()
    document = json.loads((tmp_path / "metrics.json").read_text())
    assert document["metrics"]["ppl"] > 1 and "teacher_outputs" not in document["seconds"]
    code, output, errors = call(evaluate, f"--workdir={tmp_path}", "--split=dev")
    assert code == 0, errors
    assert json.loads((tmp_path / "dev" / "metrics.json").read_text())["split"] == "dev"
    code, output, errors = call(train, *arguments, "--config.distill.eta=.7", "--plan")
    assert code == 0, errors
    assert output.count("missing") == 3 and "not needed" not in output


# --- command lines that can't work ---------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments, words",
    [
        ([], ["--config is missing", "configs/dialogpt_hard.py:demo"]),
        (["--config=no_such_row.py"], ["no_such_row.py", "no such file"]),
        (["--config=configs/dialogpt_hard.py:demmo"], ["'demmo'", "paper, small, mini, demo"]),
        (
            [CONFIG, "--config.distill.etta=.3"],
            ['config.distill has no field "etta"', 'did you mean "eta"?'],
        ),
        (["--config.distill.gama=.3"], ['no field "gama"', 'did you mean "gamma"?']),
        (["--config.distill.gamma=.3"], ["expected the config file before its fields"]),
        ([CONFIG, "--config.distill.eta=high"], ["config.distill.eta", "high"]),
        ([CONFIG, "--config.distill.eta=1.3"], ["config.distill.eta", "from 0 to 1", "got 1.3"]),
        ([CONFIG, "--config.distill.gate=no.such:gate"], ["config.distill.gate", "no.such:gate"]),
        ([CONFIG, "--config.dialogue_teacher.num_heads=3"], ["a multiple of", "num_heads (3)"]),
        ([CONFIG, "--config.parallel.num_devices=3"], ["batch_size", "multiple of 3", "got 32"]),
        (
            [CONFIG, "--config.parallel.kind=mesh", "--config.parallel.num_devices=3"],
            ["batch_size", "multiple of 3", "got 32"],
        ),
        ([CONFIG, "--config.parallel.num_devices=64"], ["config.parallel.num_devices", "at most"]),
        ([CONFIG, "--plam"], ["plam"]),
        ([CONFIG, "demo"], ["unknown argument 'demo'"]),
    ],
    ids=lambda value: value[-1] if value else "nothing",
)
def test_a_command_line_that_can_t_work(call, world, monkeypatch, arguments, words):
    monkeypatch.chdir(ROOT)
    if CONFIG in arguments:
        arguments = [CONFIG, *folders(world), *arguments[1:]]
    refused(call(train, *arguments), *words)
    assert not world.root.exists()


@pytest.mark.parametrize(
    "arguments, words",
    [
        ([], ["--workdir=", "expected one of --workdir=RUN, a folder written by"]),
        (["--workdir=nowhere"], ["nowhere: ", "config.json", "found none"]),
        (["--workdir=nowhere", "--split=train"], ["--split", "dev|valid|test", "got 'train'"]),
    ],
    ids=str,
)
def test_an_evaluation_of_no_run(call, arguments, words):
    refused(call(evaluate, *arguments), *words)


@pytest.mark.parametrize(
    "spoil, word",
    [
        (lambda record: record["settings"]["distill"].pop("eta"), "lacks distill.eta"),
        (lambda record: record["settings"]["distill"].update(tau=2.0), "tau"),
        (lambda record: record["settings"]["distill"].update(eta=2.0), "config.distill.eta"),
        (lambda record: record.pop("settings"), "settings"),
    ],
    ids=["missing", "unknown", "impossible", "foreign"],
)
def test_an_evaluation_of_another_version_s_run(call, small_world, tmp_path, spoil, word):
    record = json.loads((small_world.folder / "config.json").read_text())
    spoil(record)
    (tmp_path / "config.json").write_text(json.dumps(record))
    refused(call(evaluate, f"--workdir={tmp_path}"), word)


def test_an_evaluation_trains_nothing(call, small_world, tmp_path):
    record = json.loads((small_world.folder / "config.json").read_text())
    record["settings"]["artifacts_dir"] = str(tmp_path / "elsewhere")
    (tmp_path / "config.json").write_text(json.dumps(record))
    message = refused(call(evaluate, f"--workdir={tmp_path}"), "Run conkd_jax.train")
    assert "rec_teacher, dialogue_teacher, turn_classifier, student can't be found" in message
    assert not (tmp_path / "elsewhere").exists()


# --- data and weights that are not there ---------------------------------------------------------


def test_missing_data_names_every_way_out(call, world):
    arguments = [f"--config={ROOT}/configs/dialogpt_hard.py:mini", *folders(world)]
    for more in ([], ["--plan"], [f"--config.corpus.raw_dir={world.root}/raw"]):
        refused(
            call(train, *arguments, *more),
            "--config.corpus.raw_dir",
            "CONKD_RAW_DIR",
            "configs/dialogpt_hard.py:demo",
        )
    assert not world.root.exists()


def test_a_malformed_raw_file_is_named(call, world, tmp_path):
    raw = write_raw(tmp_path / "raw", [simple(1), simple(2)], valid=[simple(3)])
    (raw / "kg" / "subkg.pkl").write_bytes(b"no pickle")
    arguments = ["--config.corpus.name=redial", f"--config.corpus.raw_dir={raw}"]
    for more in (["--plan"], []):
        refused(call(train, CONFIG, *folders(world), *arguments, *more), "subkg.pkl")


def test_a_test_split_that_is_not_there(call, world, tmp_path):
    raw = write_raw(tmp_path / "raw", [simple(1)], valid=[simple(2)])
    arguments = ["--config.corpus.name=redial", f"--config.corpus.raw_dir={raw}"]
    arguments += ["--config.evaluation.split=test"]
    refused(call(train, CONFIG, *folders(world), *arguments), "no test_data.jsonl", str(raw))
    assert not world.root.exists()


def test_weights_that_are_not_there(call, world, tmp_path):
    """Refused before the first stage: nothing is trained, nothing compiled, nothing written."""
    tokenizer = tmp_path / "tokenizer"
    tokenizer.mkdir()
    train_bpe(["hello there"], 300).save(str(tokenizer / "tokenizer.json"))
    tokens = f"--config.vocabulary.tokenizer={tokenizer}"
    arguments = [*folders(world), tokens]
    weights = tmp_path / "weights"
    given = f"--config.dialogue_teacher.weights={weights}"
    message = refused(call(train, CONFIG, *arguments, given), "config.dialogue_teacher.weights")
    assert str(weights) in message and ":demo" in message
    weights.mkdir()
    (weights / "config.json").write_text('{"n_layer": 1, "n_embd": 16, "n_head": 2}')
    refused(call(train, CONFIG, *arguments, given), "model.safetensors", str(weights))
    assert not world.root.exists()


def test_a_tokenizer_that_is_not_there(call, world, tmp_path):
    tokens = f"--config.vocabulary.tokenizer={tmp_path}/none"
    refused(call(train, CONFIG, *folders(world), tokens), "config.vocabulary.tokenizer", "none")
    assert not world.root.exists()


# --- trainings that can't work -------------------------------------------------------------------


def test_a_warm_up_longer_than_the_training(call, spoilt):
    longer = "--config.turn_classifier.optimizer.warmup_steps=1000"
    message = refused(
        call(train, CONFIG, *folders(spoilt), longer),
        "config.turn_classifier.optimizer.warmup_steps is 1000, but training has",
        "Lower warmup_steps or train longer",
    )
    assert message.count("\n") == 1


def test_a_student_s_warm_up_is_refused_before_its_teacher_is_trained(call, spoilt):
    before = sorted(directory(spoilt, "dialogue_teacher").parent.iterdir())
    longer = "--config.student.optimizer.warmup_steps=5000"
    refused(
        call(train, CONFIG, *folders(spoilt), longer, "--config.teacher_seed=1"),
        "config.student.optimizer.warmup_steps is 5000, but training has",
    )
    assert sorted(directory(spoilt, "dialogue_teacher").parent.iterdir()) == before


WARM_UPS = ("rec_teacher", "dialogue_teacher", "turn_classifier", "student")


def test_all_warm_ups_are_checked_before_anything_is_trained(call, world):
    longer = [f"--config.{name}.optimizer.warmup_steps=99999" for name in WARM_UPS]
    arguments = [CONFIG, *folders(world), *longer]
    code, output, _ = call(train, *arguments, "--plan")
    assert code == 0 and "Not known before corpus and vocabulary are built" in output
    fields = [f"config.{name}.optimizer.warmup_steps is 99999" for name in WARM_UPS]
    refused(call(train, *arguments), *fields)
    built = {path.name for path in world.artifacts_dir.iterdir()} - {"log.jsonl"}
    assert built == {"corpus", "vocabulary"}
    refused(call(train, *arguments, "--plan"), *fields)  # now it is known
    code, output, _ = call(train, CONFIG, *folders(world), "--plan")
    assert code == 0 and "Checked: folders, splits, and warm-ups" in output


def test_a_sweep_is_checked_whole_before_its_first_run(call, world):
    sweep = ["--config.sweep.field=student.optimizer.warmup_steps", "--config.sweep.over=(2,99999)"]
    refused(
        call(train, CONFIG, *folders(world), *sweep),
        "config.student.optimizer.warmup_steps is 99999",
    )
    assert not (world.artifacts_dir / "rec_teacher").exists()


@pytest.mark.parametrize("more", [[], ["--plan"]])
def test_a_folder_that_can_t_be_written_to(call, world, tmp_path, more):
    (tmp_path / "file").write_text("")
    for option in ("config.artifacts_dir", "workdir"):
        refused(
            call(train, CONFIG, *folders(world), f"--{option}={tmp_path}/file/x/y", *more),
            f"{option}: expected a folder to write to",
            f"{tmp_path}/file is a file",
        )
        refused(
            call(train, CONFIG, *folders(world), f"--{option}={tmp_path}/{'n' * 300}", *more),
            f"{option}: expected a folder to write to",
            "has 300 bytes, the disk allows 255",
        )
    assert not (world.artifacts_dir / "corpus").exists()


@pytest.fixture
def without_clients(monkeypatch):
    """Hides the clients of object stores, as where the extra is not installed."""
    for name in ("gcsfs", "s3fs"):
        monkeypatch.setitem(sys.modules, name, None)
    known = importlib.import_module("fsspec.registry")._registry
    for scheme in ("gs", "gcs", "s3"):  # of an earlier test
        monkeypatch.delitem(known, scheme, raising=False)
    forget_clients()
    yield
    forget_clients()


def test_an_object_store_without_its_package(call, world, without_clients):
    for store, words in (("gs", "pip install 'conkd_jax[gcs]'"), ("s3", "pip install s3fs")):
        path = f"{store}://bucket/x"
        for option in ("config.artifacts_dir", "workdir"):
            refused(
                call(train, CONFIG, *folders(world), f"--{option}={path}"),
                f"{option}: expected a folder to write to, got {path}: {store}:// needs",
                words,
            )
        refused(call(verify, path), words)


@pytest.mark.parametrize("name", ["redial/train_data.jsonl", "redial/valid_data.jsonl"])
def test_a_split_without_dialogues_is_told_by_the_plan(call, world, tmp_path, name):
    raw = write_raw(tmp_path / "raw", [simple(1), simple(2)], valid=[simple(3)])
    (raw / name).write_bytes(b"no dialogue" * 30)
    arguments = ["--config.corpus.name=redial", f"--config.corpus.raw_dir={raw}"]
    for more in ([], ["--plan"]):
        refused(call(train, CONFIG, *folders(world), *arguments, *more))
    assert not (world.artifacts_dir / "rec_teacher").exists()


def test_a_training_that_goes_astray(call, spoilt):
    astray = "--config.turn_classifier.optimizer.learning_rate=1e38"
    refused(
        call(train, CONFIG, *folders(spoilt), astray),
        "turn_classifier: loss nan",
        "at step 1; expected finite numbers",
        "Rows of its batch: [",
        "lower --config.turn_classifier.optimizer.learning_rate",
    )


# --- damaged artifacts -------------------------------------------------------------------------


@pytest.mark.parametrize("content", ['{"stage": "stud', '{"stage": "student"}'])
def test_a_damaged_manifest(call, spoilt, content):
    path = directory(spoilt, "student") / "manifest.json"
    path.write_text(content)
    for more in ([], ["--plan"]):
        refused(call(train, CONFIG, *folders(spoilt), *more), str(path), "--rebuild=student\n")


def test_a_foreign_manifest(call, spoilt):
    other = directory(spoilt, "dialogue_teacher") / "manifest.json"
    shutil.copy(other, directory(spoilt, "student") / "manifest.json")
    refused(call(train, CONFIG, *folders(spoilt)), "is of another artifact", "student")


@pytest.mark.parametrize("keep", [0.5, 0.0])
def test_a_truncated_store(call, spoilt, keep):
    shutil.rmtree(directory(spoilt, "student"))
    shard = next(directory(spoilt, "teacher_outputs").glob("*responses*-00001-*"))
    shard.write_bytes(shard.read_bytes()[: int(keep * shard.stat().st_size)])
    refused(call(train, CONFIG, *folders(spoilt)), str(shard), "--rebuild=teacher_outputs\n")
    assert not (directory(spoilt, "student") / "manifest.json").exists()


# --- how an error ends -------------------------------------------------------------------------


@pytest.mark.parametrize("kind", UserError.__subclasses__())
def test_a_user_s_error_is_one_message(capsys, kind):
    with pytest.raises(SystemExit) as end, command_line.explained():
        raise kind.__new__(kind, "what to do")  # some take more than a message
    assert end.value.code == 2
    assert capsys.readouterr().err == "error: what to do\n"


@pytest.mark.parametrize("kind", [ValueError, KeyError, FileNotFoundError, AssertionError])
def test_a_defect_keeps_its_traceback(kind):
    with pytest.raises(kind), command_line.explained():
        raise kind("a defect")


def start(module: str, *arguments, **options) -> subprocess.Popen:
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONUNBUFFERED": "1", "COLUMNS": "200"}
    return subprocess.Popen(
        [sys.executable, "-m", module, *map(str, arguments)],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def test_a_process_ends_as_told():
    process = start("conkd_jax.train", "--config=configs/dialogpt_hard.py:demmo")
    output, errors = process.communicate()
    refused((process.returncode, output, errors), "'demmo'")


@pytest.mark.slow
@pytest.mark.parametrize(
    "module, words",
    [
        ("conkd_jax.train", ["--config", "--workdir", "plan", "paper|small|mini|demo", "configs/"]),
        ("conkd_jax.evaluate", ["--workdir", "--split", "dev|valid|test"]),
    ],
)
def test_help_helps(module, words):
    output, errors = start(module, "--help").communicate()
    assert not errors
    for word in words:
        assert word in output, output


# --- killed runs -------------------------------------------------------------------------------


def finish(*arguments) -> None:
    process = start("conkd_jax.train", *arguments)
    output, errors = process.communicate()
    assert process.returncode == 0, output + errors


def kill_when(happened, *arguments) -> None:
    """Starts a training and ends it by SIGKILL as soon as something has happened."""
    process = start("conkd_jax.train", *arguments)
    try:
        while not happened():
            assert process.poll() is None, "it ended before it could be killed"
            time.sleep(0.002)
    finally:
        process.kill()
        output, errors = process.communicate()
    assert process.returncode == -signal.SIGKILL, output + errors


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_killed_run_gives_the_numbers_of_a_straight_one(tmp_path):
    """SIGKILL in the middle of the teacher store and of the student, then the same command."""

    def command(world):
        options = ["--config.teacher_outputs.num_shards=8", f"--workdir={world.root / 'run'}"]
        return [CONFIG, *folders(world), *options]

    straight, killed = SmallWorld(tmp_path / "straight"), SmallWorld(tmp_path / "killed")
    finish(*command(straight))

    stages = pipeline.build(killed.config(teacher_outputs__num_shards=8))
    store = Path(stages["teacher_outputs"].directory(killed.artifacts_dir))
    student = Path(stages["student"].directory(killed.artifacts_dir))
    kill_when(lambda: any(store.glob("*responses*-00001-of-00008")), *command(killed))
    assert not (store / "store.json").exists() and not (store / "manifest.json").exists()
    kept = {path.name: path.read_bytes() for path in store.glob("*responses*-of-00008")}
    assert 1 < len(kept) < 8
    kill_when(lambda: any((student / "checkpoints").glob("[1-9]*")), *command(killed))
    assert not (student / "manifest.json").exists()
    finish(*command(killed))

    log = (killed.artifacts_dir / "log.jsonl").read_text().splitlines()
    seconds = {line["stage"]: line["seconds"] for line in map(json.loads, log)}
    resumed = [line["stage"] for line in map(json.loads, log) if line["action"] == "resumed"]
    assert resumed == ["teacher_outputs", "student"]
    told = json.loads((student / "manifest.json").read_text())
    assert told["tries"] == 2 and told["wall_seconds"] > seconds["student"] > 0
    assert all((store / name).read_bytes() == content for name, content in kept.items())
    found, wanted = (
        json.loads((world.root / "run" / "metrics.json").read_text())
        for world in (killed, straight)
    )
    for field in ("metrics", "counts", "intervals", "n_responses"):
        assert found[field] == wanted[field], field
