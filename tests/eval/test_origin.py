"""Results of two trainings never lie side by side as if they were of one."""

import json
from typing import ClassVar

import pytest
from etils import epath
from etils.epath.backend import fsspec_backend
from fsspec.implementations.memory import MemoryFileSystem

from conkd_jax.eval import origin

FIRST = {"student": "aaaa", "corpus": "cccc", "evaluation": "eeee"}
SECOND = FIRST | {"student": "bbbb", "evaluation": "ffff"}


def results(folder, of, document="metrics.json"):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / document).write_text(json.dumps({"artifacts": of} if of else {}))
    return folder


def test_an_origin_is_read_from_the_document_or_the_links(tmp_path):
    assert origin.origin_of(tmp_path) == {}
    (tmp_path / "artifacts").mkdir()
    links = "student /disk/student/aaaa\ncorpus gs://b c/corpus/cccc\n"
    (tmp_path / "artifacts/artifacts.txt").write_text(links)
    (tmp_path / "metrics.json").write_text("{}")  # of an earlier version
    assert origin.origin_of(tmp_path) == {"student": "aaaa", "corpus": "cccc"}
    assert origin.origin_of(results(tmp_path, SECOND)) == SECOND
    assert origin.origin_of(results(tmp_path / "gate", FIRST, "gate.json")) == FIRST
    (tmp_path / "gate/gate.json").write_text("{")
    assert origin.origin_of(tmp_path / "gate") == {}


def test_what_is_foreign(tmp_path):
    run = results(tmp_path, SECOND)
    assert not origin.foreign(results(run / "test", SECOND | {"evaluation": "other"}), run)
    assert not origin.foreign(results(run / "latency", {}), run)  # nothing is known
    why = origin.foreign(results(run / "valid", FIRST), run)
    assert "student aaaa instead of bbbb" in why and "corpus" not in why


def test_results_of_another_training_are_moved_aside_whole(tmp_path):
    run = results(tmp_path / "run", FIRST)
    results(run / "gate", FIRST, "gate.json"), results(run / "test", FIRST)
    (run / "notes.txt").write_text("the user's own")
    assert origin.set_aside(run, FIRST) is None and (run / "gate").exists()
    aside = origin.set_aside(run, SECOND)
    assert aside is not None and aside.parent == run / "earlier" and aside.name == "eeee"
    assert {path.name for path in run.iterdir()} == {"notes.txt", "earlier"}
    assert origin.origin_of(aside) == FIRST and (aside / "gate/gate.json").exists()
    results(run, FIRST)
    assert origin.set_aside(run, SECOND).name == "eeee-2"
    assert origin.set_aside(run, SECOND) is None  # an empty folder


@pytest.mark.parametrize("leftover", ["gate", "latency", "test"])
def test_what_is_left_of_an_unknown_run_is_moved_too(tmp_path, leftover):
    results(tmp_path / leftover, {})
    assert origin.set_aside(tmp_path, FIRST).name == "unknown"
    assert not (tmp_path / leftover).exists()


class Bucket(MemoryFileSystem):
    """An object store: keys and no folders, so an empty one can't be made or found."""

    protocol = "gs"
    store: ClassVar[dict] = {}
    pseudo_dirs: ClassVar[list] = [""]
    cachable = False

    def mkdir(self, path, create_parents=True, **kwargs):
        """Does nothing, as in a bucket."""

    def makedirs(self, path, exist_ok=False):
        """Does nothing, as in a bucket."""


def test_results_in_a_bucket_are_moved_aside(monkeypatch):
    bucket = Bucket()
    monkeypatch.setattr(fsspec_backend, "_get_filesystem", lambda protocol: bucket)
    run = results(epath.Path("gs://bucket/run"), FIRST)
    results(run / "gate", FIRST, "gate.json")
    (run / "notes.txt").write_text("the user's own")
    aside = origin.set_aside(run, SECOND)
    assert aside == run / "earlier" / "eeee"
    assert sorted(name.rpartition("bucket/")[2] for name in bucket.find("gs://bucket")) == [
        "run/earlier/eeee/gate/gate.json",
        "run/earlier/eeee/metrics.json",
        "run/notes.txt",
    ]
    assert origin.origin_of(aside) == FIRST and origin.origin_of(run) == {}
    results(run, FIRST)
    assert origin.set_aside(run, SECOND).name == "eeee-2"


# --- sweeps ----------------------------------------------------------------------------------


def sweep(folder, *runs):
    for number, run in enumerate(runs):
        results(folder / run, FIRST | {"evaluation": f"e{number}"})
    for name in origin.SWEEP:
        (folder / name).write_text("")
    return folder


def test_a_run_moves_a_whole_sweep_aside(tmp_path):
    sweep(tmp_path, "eta=0.3", "eta=0.5")
    results(tmp_path / "mine+eta=0.3-demo-seed0", FIRST)  # a run of its own
    (tmp_path / "k=v").mkdir()  # the user's own
    aside = origin.set_aside(tmp_path, FIRST)
    assert {path.name for path in aside.iterdir()} == {"eta=0.3", "eta=0.5", *origin.SWEEP}
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"mine+eta=0.3-demo-seed0", "k=v", "earlier"}


def test_a_sweep_moves_a_run_aside(tmp_path):
    results(tmp_path, FIRST)
    results(tmp_path / "gate", FIRST, "gate.json")
    aside = origin.set_aside_before_sweep(tmp_path, ["eta=0.3"])
    assert aside.name == "eeee"
    assert {path.name for path in aside.iterdir()} == {"metrics.json", "gate"}
    assert {path.name for path in tmp_path.iterdir()} == {"earlier"}


def test_a_sweep_moves_runs_of_another_sweep_aside(tmp_path):
    sweep(tmp_path, "eta=0.3", "eta=0.5")
    runs = ["eta=0.3", "eta=0.5", "eta=0.7"]
    assert origin.set_aside_before_sweep(tmp_path, runs) is None
    aside = origin.set_aside_before_sweep(tmp_path, runs[::2])
    assert {path.name for path in aside.iterdir()} == {"eta=0.5", *origin.SWEEP}
    assert {path.name for path in tmp_path.iterdir()} == {"earlier", "eta=0.3"}
    assert origin.set_aside_before_sweep(tmp_path / "new", runs) is None


def test_a_store_of_artifacts_is_no_result(tmp_path):
    (tmp_path / "artifacts/student/aaaa").mkdir(parents=True)
    assert origin.set_aside(tmp_path, FIRST) is None
    assert origin.set_aside_before_sweep(tmp_path, []) is None
    (tmp_path / "artifacts/artifacts.txt").write_text("student /disk/student/aaaa")
    assert (origin.set_aside(tmp_path, FIRST) / "artifacts/student/aaaa").exists()
