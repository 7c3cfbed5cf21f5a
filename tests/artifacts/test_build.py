import dataclasses
import itertools
import json
import os
import socket
import subprocess
import sys
import threading
import time

import jax
import numpy as np
import pytest
from etils import epath

from conkd_jax.artifacts import build, lock
from conkd_jax.artifacts.build import ensure, explain
from conkd_jax.artifacts.fingerprint import (
    ArtifactError,
    digest,
    digest_files,
    fingerprinted,
    merged,
    named_content,
    outside_fingerprint,
    with_added,
)
from conkd_jax.artifacts.manifest import TRIES, is_whole
from conkd_jax.artifacts.stage import Stage
from conkd_jax.io.integrity import DamagedError, sealed
from conkd_jax.training.checkpoint import CHECKPOINTS
from tests.fixtures.disks import FullDisk

A_LONG_TIME = 600  # seconds: what a thread may take on a busy machine


class Pipeline:
    """corpus -> teacher -> student -> evaluation, all of which read the corpus."""

    def __init__(self, rate=0.1, version=1):
        self.ran = []
        self.corpus = self.stage("corpus", {"sha256": {"train.jsonl": "aa"}})
        self.teacher = self.stage("teacher", {"seed": 0}, {"corpus": self.corpus}, version)
        self.student = self.stage(
            "student", {"seed": 3, "rate": rate}, {"corpus": self.corpus, "teacher": self.teacher}
        )
        self.evaluation = self.stage(
            "evaluation", {}, {"corpus": self.corpus, "student": self.student}
        )

    def stage(self, name, config_part, inputs=None, version=1):
        def run(settings, directory, context):
            self.ran.append(name)
            self.context = context
            (directory / "out.txt").write_text(name)
            return {"loss": np.float32(0.5), "counts": [1, 2]}

        return Stage(name, version, config_part, inputs or {}, run)


def log(root):
    return [json.loads(line) for line in (root / "log.jsonl").read_text().splitlines()]


# --- fingerprints ------------------------------------------------------------------------------


def test_fingerprints_are_pinned():
    """These values address artifacts on users' disks: only a new version may change them."""
    pipeline = Pipeline()
    assert pipeline.corpus.fingerprint == "f51052558c15bcc4"
    assert pipeline.student.fingerprint == "c4b301053bc3e363"
    assert (
        digest({"b": [1, 2.5, None], "a": "é"})
        == "d764fee2563da33e3d57334755404e635da33c995824b0adfabc4b6e1af4f608"
    )


def test_fingerprints_follow_everything_that_makes_an_artifact():
    first = Pipeline()
    same, other_rate, other_version = Pipeline(), Pipeline(rate=0.2), Pipeline(version=2)
    assert first.student.fingerprint == same.student.fingerprint
    assert first.student.fingerprint != other_rate.student.fingerprint
    assert first.teacher.fingerprint == other_rate.teacher.fingerprint
    assert first.teacher.fingerprint != other_version.teacher.fingerprint
    assert first.student.fingerprint != other_version.student.fingerprint  # through its input
    assert first.corpus.fingerprint == other_version.corpus.fingerprint
    renamed = Stage("tutor", 1, {"seed": 0}, {"corpus": first.corpus}, lambda *_: {})
    assert renamed.fingerprint != first.teacher.fingerprint


def test_digest_is_canonical():
    assert digest({"a": 1, "b": (1, 2)}) == digest({"b": [1, 2], "a": 1})
    assert digest({"a": 1}) != digest({"a": True})


@pytest.mark.parametrize("value", [float("nan"), {1, 2}, b"x", np.float32(1), object()])
def test_only_plain_json_has_a_fingerprint(value):
    stage = Stage("teacher", 1, {"field": value}, {}, lambda *_: {})
    with pytest.raises(ArtifactError, match="teacher: only plain JSON"):
        _ = stage.fingerprint


@dataclasses.dataclass(frozen=True)
class Inner:
    rate: float
    later: int | None = None


@dataclasses.dataclass(frozen=True)
class Outer:
    kept: Inner
    beside: Inner = merged()
    threads: int = outside_fingerprint(because="it changes speed only")
    fold: tuple[int, int] | None = None


def test_settings_enter_without_none_and_without_what_stays_outside():
    settings = Outer(Inner(0.1), Inner(0.2), fold=None, threads=4)
    assert fingerprinted(settings) == {"kept": {"rate": 0.1}, "rate": 0.2}
    settings = Outer(Inner(0.1, later=0), Inner(0.2), fold=(0, 2), threads=4)
    wanted = {"kept": {"rate": 0.1, "later": 0}, "rate": 0.2, "fold": [0, 2]}
    assert fingerprinted(settings) == wanted


@dataclasses.dataclass(frozen=True)
class Part:
    rate: float = 0.1
    is_newer: bool = False


@dataclasses.dataclass(frozen=True)
class WithAdded:
    part: Part = with_added("is_newer")


def test_an_added_field_enters_once_it_has_another_value():
    assert fingerprinted(WithAdded(Part())) == {"part": {"rate": 0.1}}
    assert fingerprinted(WithAdded(Part(0.2, True))) == {"part": {"rate": 0.2, "is_newer": True}}


def test_raw_files_enter_by_content(tmp_path):
    for folder, text in (("a", "one"), ("b", "one"), ("c", "two")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "train.jsonl").write_text(text)
    digests = [digest_files([tmp_path / f / "train.jsonl"]) for f in "abc"]
    assert digests[0] == digests[1] != digests[2]
    wanted = "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed"  # sha256sum
    assert digests[0] == {"train.jsonl": wanted}
    with pytest.raises(ArtifactError, match="two raw files are named 'train.jsonl'"):
        digest_files([tmp_path / f / "train.jsonl" for f in "ab"])


def test_a_local_path_enters_by_content_and_a_published_name_as_it_is(tmp_path):
    def named(path):
        return named_content(str(path), made_here="train")

    for folder, text in (("a", "one"), ("b", "one"), ("c", "two")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "words.json").write_text(text)
    folders = [tmp_path / folder for folder in "abc"]
    assert named(folders[0]) == named(folders[1]) != named(folders[2])
    files = [folder / "words.json" for folder in folders]
    assert named(files[0]) == named(files[1]) != named(files[2])
    assert named("microsoft/DialoGPT-small") == "microsoft/DialoGPT-small"


def test_a_keyword_is_not_taken_for_a_folder(tmp_path, monkeypatch):
    (tmp_path / "train").mkdir()
    monkeypatch.chdir(tmp_path)
    assert named_content("train", made_here="train") == "train"


# --- running -----------------------------------------------------------------------------------


def test_only_what_is_missing_runs(tmp_path):
    first = Pipeline()
    manifest = ensure(first.student, tmp_path)
    assert first.ran == ["corpus", "teacher", "student"]
    assert is_whole(first.student, tmp_path)
    again = Pipeline()
    assert ensure(again.student, tmp_path) == manifest
    assert again.ran == []
    ablation = Pipeline(rate=0.2)
    ensure(ablation.student, tmp_path)
    assert ablation.ran == ["student"]
    newer = Pipeline(version=2)
    ensure(newer.student, tmp_path)
    assert newer.ran == ["teacher", "student"]
    actions = [(line["stage"], line["action"]) for line in log(tmp_path)]
    assert actions[:4] == [
        ("corpus", "built"),
        ("teacher", "built"),
        ("student", "built"),
        ("corpus", "reused"),
    ]
    assert log(tmp_path)[2]["fingerprint"] == first.student.fingerprint


@pytest.mark.parametrize("is_in_bucket", [False, True])
def test_the_log_of_thousands_of_runs_stays_small(tmp_path, is_in_bucket, request, monkeypatch):
    root = epath.Path(tmp_path)
    if is_in_bucket:
        request.getfixturevalue("object_store")
        root = epath.Path("gs://bucket/artifacts")
    monkeypatch.setattr(build, "LOG_BYTES", 1_000)
    stage = Pipeline().corpus
    for _ in range(20):
        ensure(stage, root)
    texts = [(root / name).read_text() for name in (build.OLDER_LOG, build.LOG)]
    assert all(0 < len(text) < 1_300 for text in texts)
    actions = {json.loads(line)["action"] for text in texts for line in text.splitlines()}
    assert actions == {"reused"}  # the oldest lines are gone


def test_what_a_killed_process_leaves_in_a_finished_artifact_is_removed(tmp_path):
    """The manifest is written before checkpoints are removed, so a kill between leaves them."""
    pipeline = Pipeline()
    manifest = ensure(pipeline.student, tmp_path)
    left = pipeline.teacher.directory(tmp_path) / CHECKPOINTS
    (left / "40").mkdir(parents=True)
    (left.parent / TRIES).write_text("{}")
    with lock.locked(pipeline.teacher, epath.Path(tmp_path)):  # another run is at it
        assert ensure(pipeline.student, tmp_path) == manifest
        assert left.exists()
    assert ensure(pipeline.student, tmp_path) == manifest
    assert not left.exists() and not (left.parent / TRIES).exists()
    assert is_whole(pipeline.teacher, tmp_path)


def test_a_stage_finds_its_inputs(tmp_path):
    pipeline = Pipeline()
    ensure(pipeline.student, tmp_path)
    context = pipeline.context
    assert (context.inputs["teacher"] / "out.txt").read_text() == "teacher"
    assert context.manifests["corpus"]["fingerprint"] == pipeline.corpus.fingerprint
    assert not context.is_resumed


def test_a_manifest_records_what_made_the_artifact(tmp_path):
    pipeline = Pipeline()
    manifest = ensure(pipeline.student, tmp_path)
    path = pipeline.student.directory(tmp_path) / "manifest.json"
    assert json.loads(path.read_text()) == manifest
    assert manifest["stage"] == "student" and manifest["version"] == 1
    assert manifest["config"] == {"seed": 3, "rate": 0.1} and manifest["seed"] == 3
    assert manifest["inputs"] == pipeline.student.input_fingerprints
    assert manifest["metrics"] == {"loss": 0.5, "counts": [1, 2]}
    assert manifest["machine"]["devices"] == f"8 x {jax.devices()[0].device_kind}"
    assert manifest["wall_seconds"] >= 0 and manifest["tries"] == 1
    assert manifest["finished_at"] and manifest["git"]
    assert sorted(p.name for p in path.parent.iterdir()) == ["manifest.json", "out.txt"]


def test_a_stopped_stage_resumes_in_its_folder(tmp_path):
    pipeline = Pipeline()
    kept = []

    def run(settings, directory, context):
        kept.append((context.is_resumed, (directory / "half.txt").exists()))
        (directory / "half.txt").write_text("half")
        if not context.is_resumed:
            raise RuntimeError("the disk is full")
        return {}

    teacher = Stage("teacher", 1, {"seed": 0}, {"corpus": pipeline.corpus}, run)
    with pytest.raises(RuntimeError, match="the disk is full"):
        ensure(teacher, tmp_path)
    assert not is_whole(teacher, tmp_path)
    assert [row.state for row in explain(teacher, tmp_path)] == ["whole", "partial"]
    ensure(teacher, tmp_path)
    assert kept == [(False, False), (True, True)]
    assert is_whole(teacher, tmp_path)
    assert log(tmp_path)[-1]["action"] == "resumed"


def test_the_seconds_of_a_stopped_stage_include_all_tries(tmp_path):
    """A stopped try lasts until the last file that it wrote."""
    began, lasted = time.time(), [100, 50]

    def run(settings, directory, context):
        if lasted:
            (directory / "checkpoint").write_text("half")
            written = time.time() + lasted.pop(0)
            os.utime(directory / "checkpoint", (written, written))
            raise RuntimeError("the disk is full")
        return {}

    stage = Stage("teacher", 1, {}, {}, run)
    for _ in range(2):
        with pytest.raises(RuntimeError, match="the disk is full"):
            ensure(stage, tmp_path)
    manifest = ensure(stage, tmp_path)
    assert manifest["tries"] == 3
    assert 147 < manifest["wall_seconds"] < 150 + time.time() - began
    assert {path.name for path in stage.directory(tmp_path).iterdir()} == {
        "checkpoint",
        "manifest.json",
    }


@pytest.mark.parametrize("content", ["", "[]", '{"number": 1}'])
def test_a_damaged_note_of_earlier_tries_is_named(tmp_path, content):
    stage = Pipeline().corpus
    path = stage.directory(tmp_path) / "tries.json"
    path.parent.mkdir(parents=True)
    path.write_text(content)
    with pytest.raises(ArtifactError, match=r"tries.json is damaged .*Delete it"):
        ensure(stage, tmp_path)
    path.unlink()
    assert ensure(stage, tmp_path)["tries"] == 1


def test_earlier_artifacts_are_made_only_for_a_stage_that_runs(tmp_path):
    first = Pipeline()
    ensure(first.evaluation, tmp_path)
    first.teacher.directory(tmp_path).rmtree()
    again = Pipeline()
    rows = explain(again.evaluation, tmp_path)
    assert [row.state for row in rows] == ["whole", "not needed", "whole", "whole"]
    ensure(again.evaluation, tmp_path)
    assert again.ran == [] and not is_whole(again.teacher, tmp_path)
    ablation = Pipeline(rate=0.2)
    assert [row.state for row in explain(ablation.evaluation, tmp_path)][1] == "missing"
    ensure(ablation.evaluation, tmp_path)
    assert ablation.ran == ["teacher", "student", "evaluation"]


def test_a_plan_names_what_runs_for_any_missing_artifacts(tmp_path):
    names = ("corpus", "teacher", "student", "evaluation")
    for gone in itertools.chain(*(itertools.combinations(names, n) for n in range(5))):
        ensure(Pipeline().student, tmp_path)
        ensure(Pipeline().evaluation, tmp_path)
        for name in gone:
            getattr(Pipeline(), name).directory(tmp_path).rmtree()
        pipeline = Pipeline()
        rows = explain(pipeline.evaluation, tmp_path)
        ensure(pipeline.evaluation, tmp_path)
        assert pipeline.ran == [row.name for row in rows if row.state == "missing"], gone
        for wanted in (pipeline.corpus, pipeline.student, pipeline.evaluation):
            assert is_whole(wanted, tmp_path), gone


def test_a_plan_says_what_would_run_and_why(tmp_path):
    first = Pipeline()
    rows = explain(first.student, tmp_path)
    assert [(row.name, row.state, row.why) for row in rows] == [
        (name, "missing", "never built") for name in ("corpus", "teacher", "student")
    ]
    assert not list(tmp_path.iterdir()), "a plan changes nothing"
    ensure(first.student, tmp_path)
    corpus, teacher, student = explain(Pipeline(rate=0.2).student, tmp_path)
    assert corpus.state == teacher.state == "whole" and "finished 2" in corpus.why
    assert student.state == "missing"
    assert student.why == f"differs from {first.student.fingerprint} in config.rate 0.1 -> 0.2"
    _, teacher, student = explain(Pipeline(version=2).student, tmp_path)
    assert teacher.why.endswith("in version 1 -> 2")
    assert "in inputs.teacher" in student.why


# --- bad artifacts -----------------------------------------------------------------------------


@pytest.mark.parametrize("look", [ensure, explain, lambda s, root: is_whole(s, root)])
@pytest.mark.parametrize("content", ["", '{"stage": "corp', "null", "[]", "{}", "[" * 100_000])
def test_truncated_manifests_are_refused(tmp_path, look, content):
    stage = Pipeline().corpus
    ensure(stage, tmp_path)
    path = stage.directory(tmp_path) / "manifest.json"
    path.write_text(content)
    with pytest.raises(DamagedError, match=r"manifest.json is .*--rebuild=corpus/"):
        look(stage, tmp_path)


@pytest.mark.parametrize("field", ["stage", "version", "fingerprint"])
def test_foreign_artifacts_are_refused(tmp_path, field):
    stage = Pipeline().corpus
    manifest = ensure(stage, tmp_path)
    path = stage.directory(tmp_path) / "manifest.json"
    del manifest["sha256"]
    path.write_text(sealed(manifest | {field: "another"}))
    with pytest.raises(DamagedError, match="is of another artifact: .*'another'"):
        ensure(stage, tmp_path)


# --- two runs ----------------------------------------------------------------------------------


def test_two_runs_build_one_artifact_once(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(lock, "SECONDS_BETWEEN_LOCK_TRIES", 0.02)
    is_inside, may_end, ran, results = threading.Event(), threading.Event(), [], {}

    def run(settings, directory, context):
        ran.append(threading.current_thread().name)
        is_inside.set()
        assert may_end.wait(A_LONG_TIME)
        return {}

    stage = Stage("teacher", 1, {}, {}, run)

    def work(name):
        results[name] = ensure(stage, tmp_path)

    threads = [threading.Thread(target=work, args=(n,), name=n) for n in ("first", "second")]
    threads[0].start()
    assert is_inside.wait(A_LONG_TIME)
    threads[1].start()
    told, deadline = "", time.monotonic() + A_LONG_TIME
    while "waiting for another run that builds it" not in told and time.monotonic() < deadline:
        told += capsys.readouterr().out
        time.sleep(0.02)
    may_end.set()
    for thread in threads:
        thread.join()
    assert "waiting for another run that builds it" in told
    assert ran == ["first"] and results["first"] == results["second"]
    assert [line["action"] for line in log(tmp_path)] == ["built", "reused"]


HOLDER = """
import sys, time
from conkd_jax.artifacts.build import ensure
from conkd_jax.artifacts.stage import Stage
def run(settings, directory, context):
    (directory / "half.txt").write_text("half")
    print("inside", flush=True)
    time.sleep(1000)
ensure(Stage("teacher", 1, {}, {}, run), sys.argv[1])
"""


@pytest.mark.slow
def test_a_killed_run_leaves_no_lock(tmp_path):
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        while "inside" not in process.stdout.readline():
            assert process.poll() is None
        process.kill()
    resumed = []
    stage = Stage(
        "teacher", 1, {}, {}, lambda settings, directory, c: resumed.append(c.is_resumed) or {}
    )
    assert ensure(stage, tmp_path)["tries"] == 2
    assert resumed == [True]


MEMBER = """
import sys
from pathlib import Path
import jax
from conkd_jax.runtime import cluster
from conkd_jax.artifacts.build import ensure
from conkd_jax.artifacts.stage import Stage
jax.config.update("jax_num_cpu_devices", 1)
cluster.join()
root, mode = Path(sys.argv[1]), sys.argv[2]
if mode == "apart":
    root = root / str(jax.process_index())
def run(settings, directory, context):
    (directory / f"{jax.process_index()}.txt").write_text("here")
    return {"processes": jax.process_count()}
stage = Stage("teacher", 1, {}, {}, run)
manifest = ensure(stage, root)
assert ensure(stage, root) == manifest
print("metrics", manifest["metrics"])
"""


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["shared", "apart"])
def test_two_processes_make_one_artifact(tmp_path, mode):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", MEMBER, str(tmp_path), mode],
            env=os.environ
            | {
                "CONKD_COORDINATOR": address,
                "CONKD_NUM_PROCESSES": "2",
                "CONKD_PROCESS_ID": str(index),
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for index in range(2)
    ]
    outputs = [process.communicate()[0] for process in processes]
    for process, output in zip(processes, outputs, strict=True):
        if mode == "shared":
            assert process.returncode == 0, output
            assert "metrics {'processes': 2}" in output
        else:
            assert process.returncode != 0
            assert "is not shared: a file of process 0 is not seen by all 2 processes" in output
    if mode == "shared":
        (manifest,) = tmp_path.glob("teacher/*/manifest.json")
        assert sorted(p.name for p in manifest.parent.glob("*.txt")) == ["0.txt", "1.txt"]
        assert [line["action"] for line in log(tmp_path)] == ["built", "reused"]


def test_a_full_disk_at_the_probe_of_a_shared_disk_is_told_by_what_has_to_be_written(
    tmp_path, monkeypatch
):
    """Finished artifacts can be read on a disk that is full."""
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    for name in ("broadcast", "any_process", "barrier"):
        monkeypatch.setattr(build.parallel, name, lambda value: value)
    build.check_is_shared(epath.Path(tmp_path))
    disk = FullDisk(tmp_path)
    with disk.filling():
        build.check_is_shared(epath.Path(tmp_path))
        with pytest.raises(OSError, match="File too large"):
            (tmp_path / "tries.json").write_text("{}")
    assert disk.hit == ["no /.shared"] and not list(tmp_path.glob(".shared-*"))
