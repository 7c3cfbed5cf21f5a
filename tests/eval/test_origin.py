"""Results of two trainings never lie side by side as if they were of one."""

import itertools
import json
from http import HTTPStatus

import pytest
from etils import epath

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


@pytest.mark.parametrize("leftover", ["gate", "latency", "test", "inspired_test"])
def test_what_is_left_of_an_unknown_run_is_moved_too(tmp_path, leftover):
    results(tmp_path / leftover, {})
    assert origin.set_aside(tmp_path, FIRST).name == "unknown"
    assert not (tmp_path / leftover).exists()


def test_results_in_a_bucket_are_moved_aside(object_store):
    run = results(epath.Path("gs://bucket/run"), FIRST)
    results(run / "gate", FIRST, "gate.json")
    (run / "notes.txt").write_text("the user's own")
    aside = origin.set_aside(run, SECOND)
    assert aside == run / "earlier" / "eeee"
    assert object_store.names(run) == [
        "earlier/eeee/gate/gate.json",
        "earlier/eeee/metrics.json",
        "notes.txt",
    ]
    assert origin.origin_of(aside) == FIRST and origin.origin_of(run) == {}
    results(run, FIRST)
    assert origin.set_aside(run, SECOND).name == "eeee-2"


# --- moves that are interrupted ---------------------------------------------------------------

OLD_RUN = {  # two documents, one of them in a folder
    "metrics.json": json.dumps({"artifacts": FIRST}),
    "predictions.jsonl": "a response",
    "gate/gate.json": json.dumps({"artifacts": FIRST}),
    "gate/traces/a": "λ",
}


class Broken(Exception):
    """What ends a move."""


def fill(run):
    for name, text in OLD_RUN.items():
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        (run / name).write_text(text)


def files_below(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_text()
        for path in folder.rglob("*")
        if path.is_file()
    }


def check_is_whole_or_gone(names):
    """A folder with metrics.json has all that belongs to it."""
    assert "metrics.json" not in names or set(OLD_RUN) <= set(names)


def test_a_move_on_a_disk_is_completed_after_each_rename(tmp_path, monkeypatch):
    rename = origin.move

    def move_until(last):
        count = itertools.count(1)

        def move(path, target):
            rename(path, target)
            if next(count) == last:
                raise Broken

        return move

    for last in range(1, 4):  # of three files and folders
        run = tmp_path / str(last)
        fill(run)
        monkeypatch.setattr(origin, "move", move_until(last))
        with pytest.raises(Broken):
            origin.set_aside(run, SECOND)
        check_is_whole_or_gone(files_below(run))
        monkeypatch.setattr(origin, "move", rename)
        assert origin.set_aside(run, SECOND) == run / "earlier" / "eeee"
        assert files_below(run / "earlier") == {f"eeee/{k}": v for k, v in OLD_RUN.items()}
        assert [path.name for path in run.iterdir()] == ["earlier"]


@pytest.mark.parametrize(
    "last",
    # The first deletion, and those in a folder and of the record, as gcsfs makes requests today.
    [pytest.param(n, marks=() if n in (4, 14, 16) else pytest.mark.slow) for n in range(17)],
)
def test_a_move_in_a_bucket_is_completed_after_each_request(last, object_store):
    """From a request on nothing reaches the store any more, as if the process had died there."""
    folder, changes = "gs://bucket/run", itertools.count()
    fill(epath.Path(folder))

    def refused(method, path):
        is_change = method != "GET" and next(changes) >= last
        return HTTPStatus.FORBIDDEN if is_change else None

    object_store.before = refused
    with pytest.raises(OSError):
        origin.set_aside(folder, SECOND)
    object_store.before = lambda method, path: None
    check_is_whole_or_gone(object_store.names(folder))
    assert origin.set_aside(folder, SECOND) == epath.Path(folder) / "earlier" / "eeee"
    assert object_store.names(folder) == sorted(f"earlier/eeee/{name}" for name in OLD_RUN)
    for name, text in OLD_RUN.items():
        assert object_store.read(f"{folder}/earlier/eeee/{name}").decode() == text


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
