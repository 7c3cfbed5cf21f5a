"""Files appear whole or not at all; rows and lines know where they stand."""

import csv
import json
from pathlib import Path

import pytest

from conkd_jax import files


def test_a_file_that_is_being_written_is_not_there_yet(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    with files.whole_file(path) as file:
        file.write("half")
        assert not path.exists()
    assert path.read_text() == "half"
    assert list(tmp_path.iterdir()) == [path]


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError), files.whole_file(path) as file:
        file.write("new")
        raise RuntimeError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("content", ["é\r\nλ\n", b"\x00\xff\r\n"])
def test_content_is_written_as_it_is(tmp_path: Path, content: str | bytes) -> None:
    files.write_whole(tmp_path / "a", content)
    expected = content.encode() if isinstance(content, str) else content
    assert (tmp_path / "a").read_bytes() == expected


def test_json_refuses_what_json_has_not(tmp_path: Path) -> None:
    with pytest.raises(ValueError):
        files.write_json(tmp_path / "a.json", {"a": float("nan")})
    assert not list(tmp_path.iterdir())
    files.write_json(tmp_path / "a.json", {"λ": [1, 2.5]})
    assert json.loads((tmp_path / "a.json").read_text("utf-8")) == {"λ": [1, 2.5]}


def test_rows_know_their_lines() -> None:
    text = '\ufeffa,b\n\n1,"two\nlines"\n3,4\n'
    assert list(files.read_csv(text)) == [
        (1, ["a", "b"]),
        (4, ["1", "two\nlines"]),
        (5, ["3", "4"]),
    ]


def test_a_broken_row_is_named() -> None:
    with pytest.raises(csv.Error, match="line 2"):
        list(files.read_csv("a\n" + "x" * 200_000 + "\n"))


def test_hash_of_a_file_is_the_hash_of_its_content(tmp_path: Path) -> None:
    content = b"abc" * 700_000
    (tmp_path / "a").write_bytes(content)
    assert files.sha256_of_file(tmp_path / "a") == files.sha256(content)
