"""A flipped bit in any file of a trained run: found, named, and mended by the command that is told.

The files are those of the small world, copied.
"""

import json
import random
import re
import shlex
import shutil
from pathlib import Path

import pytest

from conkd_jax import evaluate, gate, train, verify
from conkd_jax.artifacts.verify import artifacts_below
from conkd_jax.artifacts.verify import verify as verify_artifact
from conkd_jax.chat import program as chat
from conkd_jax.runs.finished import Run
from conkd_jax.stages import pipeline
from tests.fixtures.contents import contents
from tests.fixtures.disks import flip, largest_file, take_hashes
from tests.fixtures.programs import CONFIG, refused
from tests.fixtures.small_world import STAGES, SmallWorld


@pytest.fixture
def world(small_world, tmp_path) -> SmallWorld:
    """A copy of the finished one, to be damaged."""
    copy = SmallWorld(tmp_path / "world")
    shutil.copytree(small_world.artifacts_dir, copy.artifacts_dir)
    return copy


def arguments(world: SmallWorld) -> list[str]:
    runs = world.root / "runs"
    return [CONFIG, f"--config.artifacts_dir={world.artifacts_dir}", f"--config.runs_dir={runs}"]


def folder_of(world: SmallWorld, name: str) -> Path:
    return Path(pipeline.build(world.config())[name].directory(world.artifacts_dir))


def mend(call, error: str) -> None:
    """Runs the command that an error names."""
    command = re.search(r"To mend it: (.*)\n", error)
    assert command, error
    python, dash_m, module, *options = shlex.split(command[1])
    assert (python, dash_m, module) == ("python", "-m", "conkd_jax.train")
    code, output, errors = call(train, *options)
    assert code == 0, output + errors


# --- found -------------------------------------------------------------------------------------


def test_a_flipped_bit_in_any_file_is_found(world):
    draw, num_files = random.Random(0), 0
    # Other tests may have left artifacts in part.
    found = [Path(artifact) for artifact in artifacts_below(world.artifacts_dir)]
    for artifact in (each for each in found if verify_artifact(each).state == "whole"):
        for path in sorted(path for path in artifact.rglob("*") if path.is_file()):
            if "tensorboard" in path.parts or not path.stat().st_size:
                continue
            bit = draw.randrange(8 * path.stat().st_size)
            flip(path, bit)
            verdict = verify_artifact(artifact)
            assert verdict.state == "damaged" and verdict.what.startswith(f"{path} is damaged"), bit
            flip(path, bit)
            num_files += 1
        assert verify_artifact(artifact).state == "whole"
    assert num_files > 60


@pytest.mark.parametrize(
    ("name", "pattern", "reader"),
    [
        ("corpus", "items.npz", "evaluation"),
        ("corpus", "dialogues/*.array_record-*", "evaluation"),
        ("vocabulary", "tokenizer.json", "evaluation"),
        ("rec_teacher", "params/**/d/*", "evaluation"),
        ("dialogue_teacher", "params/**/d/*", "evaluation"),
        ("turn_classifier", "params/**/d/*", "evaluation"),
        ("student", "params/**/d/*", "evaluation"),
        ("student", "model.json", "evaluation"),
        ("student", "manifest.json", "evaluation"),
        ("teacher_outputs", "*.array_record-*", "student"),
        ("teacher_outputs", "heads.npz", "student"),
        ("evaluation", "predictions.jsonl", ""),
        ("evaluation", "tokens.npz", ""),
        ("evaluation", "scores.json", ""),
        ("student", "history.jsonl", ""),
    ],
)
def test_a_flipped_bit_is_found_by_what_reads_the_file(call, world, name, pattern, reader):
    """The reader, a stage or else the folder of the run, does not begin."""
    path = largest_file(folder_of(world, name), pattern)
    flip(path, 8 * (path.stat().st_size // 2))
    if reader:
        shutil.rmtree(folder_of(world, reader))
    error = refused(call(train, *arguments(world)), f"{path} is damaged: ", f"--rebuild={name}\n")
    assert error.count("\n") == 1
    if reader:
        assert not (folder_of(world, reader) / "manifest.json").exists()
    assert not (world.root / "runs").exists() or not list((world.root / "runs").rglob("metrics*"))


def test_a_run_that_is_opened_names_the_command_that_made_it(small_world, world, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(small_world.folder, folder, symlinks=True)
    record = json.loads((folder / "config.json").read_text())
    record["settings"]["artifacts_dir"] = str(world.artifacts_dir)
    (folder / "config.json").write_text(json.dumps(record))
    student = folder_of(world, "student")
    path = largest_file(student, "params/**/d/*")
    flip(path, 0)
    with pytest.raises(verify.DamagedError) as caught:
        Run.open(folder).system.model  # noqa: B018
    expected = f"To mend it: a test --rebuild=student/{student.name}"
    assert str(path) in str(caught.value) and str(caught.value).endswith(expected)


# --- mended ------------------------------------------------------------------------------------


def test_a_cut_artifact_leaves_the_run_as_it_was_and_is_mended(call, world):
    assert call(train, *arguments(world))[0] == 0
    run = next((world.root / "runs").iterdir())
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    predictions = folder_of(world, "evaluation") / "predictions.jsonl"
    whole = predictions.read_bytes()
    predictions.write_bytes(b"".join(whole.splitlines(keepends=True)[:-3]))
    error = refused(call(train, *arguments(world)), f"{predictions} is damaged: expected ")
    assert {path: path.read_bytes() for path in before} == before
    mend(call, error)
    assert predictions.read_bytes() == whole
    metrics = run / "metrics.json"
    got, wanted = (json.loads(each)["metrics"] for each in (metrics.read_bytes(), before[metrics]))
    assert got == wanted


def test_a_cut_artifact_without_hashes_leaves_the_run_as_it_was(call, world):
    folder = folder_of(world, "evaluation")
    take_hashes(folder)
    assert call(train, *arguments(world))[0] == 0
    run = next((world.root / "runs").iterdir())
    whole = (run / "predictions.jsonl").read_bytes()
    (folder / "predictions.jsonl").write_bytes(b"".join(whole.splitlines(keepends=True)[:-3]))
    refused(call(train, *arguments(world)), f"{folder}/predictions.jsonl is damaged: expected ")
    assert (run / "predictions.jsonl").read_bytes() == whole


@pytest.mark.slow
def test_an_evaluation_of_another_split_is_mended_by_the_program_that_made_it(call, world):
    assert call(train, *arguments(world))[0] == 0
    run = next((world.root / "runs").iterdir())
    option = f"--workdir={run}", "--split=dev"
    before = set((world.artifacts_dir / "evaluation").glob("*/manifest.json"))
    assert call(evaluate, *option)[0] == 0
    (dev,) = set((world.artifacts_dir / "evaluation").glob("*/manifest.json")) - before
    flip(dev.parent / "scores.json", 9)
    command = f"python -m conkd_jax.evaluate {option[0]} {option[1]} --rebuild"
    error = refused(call(evaluate, *option), f"{dev.parent}/scores.json is damaged")
    assert error.endswith(f"To mend it: {command}\n")
    assert call(evaluate, *option, "--rebuild")[0] == 0
    assert call(evaluate, *option)[0] == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", STAGES)
def test_every_stage_is_mended(call, world, name):
    """All later stages are removed, so that the damaged one is read."""
    straight = (folder_of(world, "evaluation") / "scores.json").read_bytes()
    files = [path for path in folder_of(world, name).rglob("*") if path.is_file()]
    files = [path for path in files if "tensorboard" not in path.parts and path.stat().st_size]
    path = random.Random(name).choice(files)
    flip(path, random.Random(name).randrange(8 * path.stat().st_size))
    for later in STAGES[STAGES.index(name) + 1 :]:
        shutil.rmtree(folder_of(world, later))
    mend(call, refused(call(train, *arguments(world)), str(path), f"--rebuild={name}\n"))
    assert (folder_of(world, "evaluation") / "scores.json").read_bytes() == straight


@pytest.mark.slow
@pytest.mark.parametrize(
    ("program", "name", "pattern"),
    [(chat, "student", "params/**/d/*"), (gate, "evaluation", "tokens.npz")],
)
def test_what_an_opened_run_tells_mends_it(call, world, program, name, pattern):
    assert call(train, *arguments(world))[0] == 0
    (run,) = (world.root / "runs").iterdir()
    folder = folder_of(world, name)
    whole, path = contents(folder), largest_file(folder, pattern)
    flip(path, 8 * (path.stat().st_size // 2))
    told = f"--rebuild={name}/{folder.name}\n"
    mend(call, refused(call(program, f"--workdir={run}"), f"{path} is damaged", told))
    assert contents(folder) == whole
    opened = Run.open(run)
    assert opened.system.model and opened.tokens


# --- the program -------------------------------------------------------------------------------


def test_whole_runs_and_artifacts(call, small_world):
    for folder in (small_world.folder, small_world.artifacts_dir):
        code, output, errors = call(verify, folder)
        assert code == 0 and not errors
        assert output.count(" whole ") >= len(STAGES) and "damaged" not in output
    code, output, _ = call(train, *arguments(small_world), "--verify")
    assert code == 0 and output.count(" whole ") == len(STAGES)


def test_damaged_and_older_artifacts_are_told(call, world):
    student, corpus = folder_of(world, "student"), folder_of(world, "corpus")
    flip(student / "model.json", 1)
    (corpus / "items.json").unlink()
    take_hashes(folder_of(world, "vocabulary"))
    wrong = (f"{student}/model.json is damaged", f"{corpus}/items.json is missing")
    refused(call(verify, world.artifacts_dir), *wrong)
    code, output, errors = call(train, *arguments(world), "--verify")
    refused((code, output, errors), *wrong, "--rebuild=corpus,student\n")
    assert "1 of 8 artifacts carry no hashes" in output
    assert (corpus / "manifest.json").exists(), "nothing is changed"


def test_a_damaged_copy_of_the_predictions_is_told(call, small_world, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(small_world.folder, folder, symlinks=True)
    flip(folder / "predictions.jsonl", 40)
    refused(call(verify, folder), f"{folder}/predictions.jsonl is damaged")


@pytest.mark.parametrize("name", ["", "empty", "nothing"])
def test_a_folder_of_nothing(call, tmp_path, name):
    (tmp_path / "empty").mkdir()
    refused(call(verify, *([tmp_path / name] if name else [])), "expected ")
