"""Files appear whole or not at all; rows and lines carry their line numbers."""

import csv
import json
import os
from pathlib import Path

import pytest

from conkd_jax.errors import UserError
from conkd_jax.io import files
from conkd_jax.io.writable import unwritable


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


def test_writers_of_one_file_do_not_disturb_each_other(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    with files.whole_file(path) as first:
        first.write("first")
        with files.whole_file(path) as second:
            second.write("second")
        assert path.read_text() == "second"
    assert path.read_text() == "first"
    assert list(tmp_path.iterdir()) == [path]


def test_a_library_writes_to_a_path_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    with files.whole_path(path) as partial:
        Path(partial).write_text("whole")
        assert not path.exists()
    assert path.read_text() == "whole"
    assert list(tmp_path.iterdir()) == [path]


def test_a_remote_file_is_uploaded_when_it_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "is_remote", lambda path: True)
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError), files.whole_file(path) as file:
        file.write("half")
        raise RuntimeError
    assert path.read_text() == "old"
    with files.whole_file(path, "wb") as file:
        file.write(b"new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("content", ["é\r\nλ\n", b"\x00\xff\r\n"])
def test_content_is_written_as_it_is(tmp_path: Path, content: str | bytes) -> None:
    files.write_whole(tmp_path / "a", content)
    expected = content.encode() if isinstance(content, str) else content
    assert (tmp_path / "a").read_bytes() == expected


def test_names_and_paths_that_the_disk_can_t_have_are_told(tmp_path: Path) -> None:
    longest = os.pathconf(tmp_path, "PC_NAME_MAX")
    assert unwritable(tmp_path / "runs" / ("n" * longest)) == ""
    assert "nnn… has 256 bytes" in unwritable(tmp_path / "runs" / ("n" * 256) / "below")
    assert "has 256 bytes" in unwritable(tmp_path / ("é" * 128))
    deep = tmp_path.joinpath(*["d" * 100] * 39)
    assert "bytes, the disk leaves room for 3,841" in unwritable(deep)
    assert not list(tmp_path.iterdir())


def test_json_refuses_what_json_has_not(tmp_path: Path) -> None:
    with pytest.raises(ValueError):
        files.write_json(tmp_path / "a.json", {"a": float("nan")})
    assert not list(tmp_path.iterdir())
    files.write_json(tmp_path / "a.json", {"λ": [1, 2.5]})
    assert json.loads((tmp_path / "a.json").read_text("utf-8")) == {"λ": [1, 2.5]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "is missing: fetch it again."),
        (b'{"a', "is not valid JSON .*: fetch it again."),
        (b"\xff\xfe{", "is not valid JSON .*: fetch it again."),
        (b"[1]", "expected a JSON object, got list: fetch it again."),
        (b'{"a":' * 100_000, r"is not valid JSON \(nested too deeply .*\): fetch it again."),
    ],
)
def test_json_that_cannot_be_used_is_explained(
    tmp_path: Path, content: bytes | None, message: str
) -> None:
    path = tmp_path / "a.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=f"a.json:? {message}"):
        files.read_json(path, UserError, "fetch it again")


def test_json_comes_back(tmp_path: Path) -> None:
    files.write_json(tmp_path / "a.json", {"λ": [1, None]}, indent=None)
    assert files.read_json(tmp_path / "a.json", UserError, "") == {"λ": [1, None]}


def test_lines_have_numbers_and_no_mark_of_their_encoding() -> None:
    lines = [b"\xef\xbb\xbfa\n", b" \n", b"b", b"\n"]
    assert list(files.numbered_lines(lines)) == [(1, b"a\n"), (3, b"b")]
    assert list(files.numbered_lines([b"\xef\xbb\xbf\n"])) == []


def test_rows_have_the_numbers_of_their_first_lines() -> None:
    text = '\ufeffa,b\n\n1,"two\nlines"\n3,4\n , \n'
    assert list(files.read_csv(text)) == [
        (1, ["a", "b"]),
        (3, ["1", "two\nlines"]),
        (5, ["3", "4"]),
    ]


def test_cells_that_a_spreadsheet_adds_do_not_count() -> None:
    assert list(files.read_csv("a,b,,\n1,2,,\n3,,\n")) == [
        (1, ["a", "b"]),
        (2, ["1", "2"]),
        (3, ["3", ""]),
    ]


def test_short_rows_are_filled_up_where_they_may_be() -> None:
    assert list(files.read_csv("a,b\n1\n", may_be_shorter=True))[1] == (2, ["1", ""])


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("x" * 200_000, "line 2: field larger"),
        ("1,2,0", "line 2: expected 2 cells as in the first row, got 3"),
        ("1", "line 2: expected 2 cells as in the first row, got 1"),
        ('1,"b\n3,4\n5,6', r'lines 2 to 4 \(is a quotation mark " not closed\?\)'),
        ('1,"b\n3,"d, e"\n5,6', r'lines 2 to 3 \(is a quotation mark " not closed\?\)'),
    ],
)
@pytest.mark.parametrize("header", ["a,b", "a,b,,"])
def test_a_broken_row_is_named(header: str, rows: str, message: str) -> None:
    with pytest.raises(csv.Error, match=message):
        list(files.read_csv(f"{header}\n{rows}\n"))


def test_hash_of_a_file_is_the_hash_of_its_content(tmp_path: Path) -> None:
    content = b"abc" * 700_000
    (tmp_path / "a").write_bytes(content)
    assert files.sha256_of_file(tmp_path / "a") == files.sha256(content)
