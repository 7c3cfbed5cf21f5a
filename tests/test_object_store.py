"""`gs://` paths through the real clients, which talk to a stand-in for the store."""

import pytest
from etils import epath

from conkd_jax import files

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
