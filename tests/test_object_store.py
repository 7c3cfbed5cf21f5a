"""`gs://` paths through the real clients, which talk to a stand-in for the store."""

import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath

from conkd_jax.io import files
from conkd_jax.training import checkpoint
from conkd_jax.training.checkpoint import Checkpoints
from tests.fixtures.training import assert_same

FOLDER = "gs://bucket/folder"


def test_files_are_written_read_listed_and_deleted(object_store):
    folder = epath.Path(FOLDER)
    files.write_whole(folder / "a.txt", "λ\r\n")
    files.write_whole(folder / "deep" / "b", b"\x00\xff")
    assert (folder / "a.txt").read_bytes() == object_store.read(f"{FOLDER}/a.txt")
    assert object_store.read(f"{FOLDER}/a.txt").decode() == "λ\r\n"
    assert sorted(path.name for path in folder.iterdir()) == ["a.txt", "deep"]
    assert files.sha256_of_file(folder / "deep" / "b") == files.sha256(b"\x00\xff")
    folder.rmtree()
    assert object_store.names() == [] and not folder.exists()


def test_more_files_than_one_answer_lists(object_store):
    for number in range(250):
        object_store.write(f"{FOLDER}/{number:03}/a", b"")
    assert [path.name for path in sorted(epath.Path(FOLDER).iterdir())] == [
        f"{number:03}" for number in range(250)
    ]


def test_a_file_appears_once_it_is_whole(object_store):
    path = epath.Path(FOLDER) / "a"
    files.write_whole(path, "old")
    with pytest.raises(RuntimeError), files.whole_file(path) as file:
        file.write("half")
        raise RuntimeError
    assert path.read_text() == "old" and object_store.names(FOLDER) == ["a"]


def test_what_another_process_writes_and_deletes_is_seen(object_store):
    folder = epath.Path(FOLDER)
    files.write_whole(folder / "a", "1")
    assert [path.name for path in folder.iterdir()] == ["a"] and not (folder / "b").exists()
    object_store.write(f"{FOLDER}/b", b"2")
    object_store.delete(f"{FOLDER}/a")
    assert [path.name for path in folder.iterdir()] == ["b"] and not (folder / "a").exists()
    assert (folder / "b").read_text() == "2"
    object_store.write(f"{FOLDER}/b", b"three")
    assert (folder / "b").read_text() == "three"


# --- parameters and checkpoints ------------------------------------------------------------------

PROGRESS = {"history": [], "best_step": 0}


def state(value: float) -> dict:
    return {"kernel": np.full((300, 5), value, np.float32), "half": np.ones(3, jnp.bfloat16)}


def save_two(folder: epath.PathLike) -> None:
    with Checkpoints(folder) as checkpoints:
        for step in (1, 2):
            checkpoints.save(step, state(step), PROGRESS, best=state(-step))


def restored(folder: epath.PathLike) -> checkpoint.Restored | None:
    with Checkpoints(folder) as checkpoints:
        return checkpoints.restore(state(0), state(0))


def copy(source: epath.PathLike, target: epath.PathLike) -> None:
    """What `gcloud storage cp -r` does."""
    for path in epath.Path(source).iterdir():
        goal = epath.Path(target) / path.name
        if path.is_dir():
            copy(path, goal)
        else:
            goal.parent.mkdir(parents=True, exist_ok=True)
            goal.write_bytes(path.read_bytes())


def test_parameters_come_back(object_store, tmp_path):
    checkpoint.save(f"{FOLDER}/params", state(3))
    assert_same(checkpoint.load(f"{FOLDER}/params"), state(3))
    checkpoint.save(f"{FOLDER}/params", state(4))  # replaces them
    assert_same(checkpoint.load(f"{FOLDER}/params"), state(4))
    copy(f"{FOLDER}/params", tmp_path / "params")
    copy(tmp_path / "params", "gs://other/params")
    assert_same(checkpoint.load(tmp_path / "params"), state(4))
    assert_same(checkpoint.load("gs://other/params"), state(4))


def test_nothing_of_an_artifact_is_renamed(object_store):
    """A rename there is a copy and a deletion, between which a process can die."""
    for value in (3, 4):
        checkpoint.save(f"{FOLDER}/params", state(value))
        files.write_whole(f"{FOLDER}/manifest.json", "{}")
    save_two(f"{FOLDER}/checkpoints")
    words = ("/copyTo/", "/rewriteTo/", "/moveTo/", "/compose")
    assert not [each for each in object_store.requests if any(word in each for word in words)]


def test_parameters_that_were_saved_on_a_disk(object_store, tmp_path):
    checkpoint.save(tmp_path / "params", state(3))
    copy(tmp_path / "params", f"{FOLDER}/params")
    assert_same(checkpoint.load(f"{FOLDER}/params"), state(3))


def test_checkpoints_come_back_and_older_ones_go(object_store):
    assert restored(FOLDER) is None
    save_two(FOLDER)
    with Checkpoints(FOLDER) as checkpoints:
        checkpoints.save(3, state(3), PROGRESS)
    assert {name.partition("/")[0] for name in object_store.names(FOLDER)} >= {"2", "3"}
    assert not any(name.startswith("1/") for name in object_store.names(FOLDER))
    found = restored(FOLDER)
    assert found is not None and found.step == 3 and found.best is None
    assert_same(found.state, state(3))


def test_a_checkpoint_that_was_not_finished_is_cleaned_away(object_store):
    save_two(FOLDER)
    object_store.delete(f"{FOLDER}/2/commit_success.txt")
    object_store.delete(f"{FOLDER}/2/files.json")
    object_store.delete(f"{FOLDER}/2/_CHECKPOINT_METADATA")
    found = restored(FOLDER)
    assert found is not None and found.step == 1
    assert not any(name.startswith("2/") for name in object_store.names(FOLDER))


def test_a_damaged_checkpoint_gives_way_to_the_one_before_it(object_store, capsys):
    save_two(FOLDER)
    largest = max(
        object_store.names(f"{FOLDER}/2"),
        key=lambda name: len(object_store.read(f"{FOLDER}/2/{name}")),
    )
    object_store.flip(f"{FOLDER}/2/{largest}", 1000)
    found = restored(FOLDER)
    assert found is not None and found.step == 1
    assert f"{FOLDER}/2/{largest} is damaged" in capsys.readouterr().out


@pytest.mark.parametrize("is_listed", [True, False])
def test_checkpoints_copied_to_a_bucket_are_not_taken_for_unfinished_ones(
    object_store, tmp_path, is_listed
):
    save_two(tmp_path / "run")
    if not is_listed:  # an earlier version wrote them
        for step in (1, 2):
            (tmp_path / "run" / str(step) / "files.json").unlink()
    copy(tmp_path / "run", FOLDER)
    found = restored(FOLDER)
    assert found is not None and found.step == 2
    assert_same(found.state, state(2))
    assert_same(found.best, state(-2))
    with Checkpoints(FOLDER) as checkpoints:
        checkpoints.save(3, state(3), PROGRESS)
    copy(FOLDER, tmp_path / "back")
    again = restored(tmp_path / "back")
    assert again is not None and again.step == 3
    assert_same(again.state, state(3))


def test_a_copy_that_was_cut_short_gives_way_to_the_checkpoint_before_it(object_store, tmp_path):
    save_two(tmp_path / "run")
    copy(tmp_path / "run", FOLDER)
    object_store.delete(f"{FOLDER}/2/state/manifest.ocdbt")
    found = restored(FOLDER)
    assert found is not None and found.step == 1
    assert_same(found.state, state(1))
