"""Sheets go out blind and come back from any spreadsheet, or a message says what is wrong."""

import csv
import io
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conkd_jax.eval.human.sheets import (
    COLUMNS,
    MAX_CELL,
    MAX_PROBLEMS,
    SCALE_NAMES,
    read_sheets,
    sheet_csv,
)
from conkd_jax.eval.human.study import Shown, StudyError
from tests.eval import judged

STUDY = judged.study()


def written(folder, contents) -> list:
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"annotator_{n}.csv" for n in range(1, len(contents) + 1)]
    for file, content in zip(files, contents, strict=True):
        file.write_bytes(content)
    return files


def all_rows() -> list[list[dict[str, str]]]:
    return [judged.rows(STUDY, annotator) for annotator in (1, 2, 3)]


# --- out ------------------------------------------------------------------------------------


def test_a_sheet_shows_texts_and_asks_for_scores():
    text = sheet_csv(STUDY, 2, judged.shown(STUDY)).decode("utf-8")
    assert text.startswith("\ufeff")  # Excel knows UTF-8 by it
    rows = list(csv.DictReader(io.StringIO(text.removeprefix("\ufeff"), newline="")))
    assert [row["id"] for row in rows] == [entry.id for entry in STUDY.sheets[1]]
    assert text.count("\r\n") == text.count("\n") == len(rows) + 1  # a row is a line
    for row, entry in zip(rows, STUDY.sheets[1], strict=True):
        conversation, turn = STUDY.contexts[entry.context]
        number = 2 * int(conversation[1:]) + turn // 2
        assert row["context"].startswith(f"Seeker: question {number} =1+1 </script>")
        mark = ("first", "second")[entry.system]
        assert row["response"].startswith(f"Recommender: {mark} answer {number} =1+1")
        assert all(row[scale] == "" for scale in SCALE_NAMES)
        assert not any(cell.startswith(("=", "+", "-", "@", "\t", "\r")) for cell in row.values())


def test_a_sheet_is_blind():
    for annotator in (1, 2, 3):
        text = sheet_csv(STUDY, annotator, judged.shown(STUDY)).decode()
        for system in STUDY.systems:
            for told in (system.name, system.config, system.corpus, system.sha256):
                assert told not in text


def test_a_context_longer_than_a_cell_keeps_its_end():
    texts = [Shown((("seeker", "a" * 2 * MAX_CELL + "end"),), ("x", "y"))] * len(STUDY.contexts)
    row = sheet_csv(STUDY, 1, texts).decode("utf-8-sig").splitlines()[1]
    assert len(row) < 32_767 and "… aaa" in row and "aend,Recommender: " in row


def test_an_open_sheet_comes_back_as_a_list_of_open_scores(tmp_path):
    files = written(tmp_path, [sheet_csv(STUDY, 1, judged.shown(STUDY))])
    with pytest.raises(StudyError, match="the sheets have 10 problems") as caught:
        read_sheets(STUDY, files)
    first = f"{files[0]}, line 2, a1-c001-r01: expected 0, 1 or 2, got fluency (nothing), "
    assert first in str(caught.value)


# --- and back -------------------------------------------------------------------------------


@pytest.mark.parametrize("annotators", [(1, 2, 3), (3, 1), (2,)])
def test_judgements_come_back_where_they_belong(tmp_path, annotators):
    files = written(tmp_path, [judged.csv_bytes(judged.rows(STUDY, a)) for a in annotators])
    found = read_sheets(STUDY, files)
    assert found.annotators == tuple(sorted(annotators))
    expected = judged.scores(STUDY)[[a - 1 for a in sorted(annotators)]]
    np.testing.assert_array_equal(found.scores, expected)


def _edited(edit):
    return lambda rows: judged.csv_bytes([edit(dict(row)) for row in rows])


def _with_extra_columns(rows):
    for number, row in enumerate(rows):
        row |= {"comment": f"nr {number}; fine", "response": "=HYPERLINK()"}
    return judged.csv_bytes(rows, ("response", *reversed(COLUMNS), "comment"), delimiter=";")


SPREADSHEETS = {
    "Excel, UTF-8": lambda rows: judged.csv_bytes(rows, encoding="utf-8-sig"),
    "semicolons": lambda rows: judged.csv_bytes(rows, encoding="utf-8-sig", delimiter=";"),
    "Unicode text": lambda rows: judged.csv_bytes(rows, encoding="utf-16", delimiter="\t"),
    "all quoted": lambda rows: judged.csv_bytes(rows, quoting=csv.QUOTE_ALL),
    "LF": lambda rows: judged.csv_bytes(rows, lineterminator="\n"),
    "CR": lambda rows: judged.csv_bytes(rows, lineterminator="\r"),
    "no last line end": lambda rows: judged.csv_bytes(rows).rstrip(),
    "not UTF-8": lambda rows: judged.csv_bytes(
        [row | {"context": "café"} for row in rows], (*COLUMNS, "context"), "cp1252"
    ),
    "rows the other way": lambda rows: judged.csv_bytes(rows[::-1]),
    "other columns": _with_extra_columns,
    "decimals": _edited(lambda row: row | {"fluency": row["fluency"] + ".0"}),
    "decimal commas": _edited(lambda row: row | {"coherence": f" {row['coherence']},00 "}),
    "a head in capitals": lambda rows: judged.csv_bytes(rows).replace(b"study,id", b"Study, ID"),
    "empty rows": lambda rows: (
        b",,,,\r\n" + judged.csv_bytes(rows).replace(b"\r\n", b"\r\n\r\n,,,,\r\n")
    ),
}


@pytest.mark.parametrize("form", SPREADSHEETS)
def test_any_spreadsheet_will_do(tmp_path, form):
    found = read_sheets(STUDY, written(tmp_path, [SPREADSHEETS[form](rows) for rows in all_rows()]))
    np.testing.assert_array_equal(found.scores, judged.scores(STUDY))


@settings(deadline=None)  # it writes files
@given(order=st.permutations(range(30)), cuts=st.lists(st.integers(0, 30), max_size=4).map(sorted))
def test_no_order_of_rows_or_files_counts(tmp_path_factory, order, cuts):
    rows = [row for of_annotator in all_rows() for row in of_annotator]
    shuffled = [rows[place] for place in order]
    parts = [shuffled[a:b] for a, b in zip([0, *cuts], [*cuts, 30], strict=True) if a < b]
    files = written(tmp_path_factory.mktemp("sheets"), [judged.csv_bytes(part) for part in parts])
    found = read_sheets(STUDY, files[::-1])
    assert found.annotators == (1, 2, 3)
    np.testing.assert_array_equal(found.scores, judged.scores(STUDY))


# --- what is wrong --------------------------------------------------------------------------


def _changed(place, **cells):
    def change(sheets):
        sheets[0][place] |= cells

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            _changed(3, fluency=""),
            r"annotator_1.csv, line 5, a1-c002-r02: expected 0, 1 or 2, got fluency \(nothing\)",
        ),
        (
            _changed(0, coherence="3", informativeness="good"),
            r"line 2, a1-c001-r01: .* got informativeness \('good'\), coherence \('3'\)\. Ask",
        ),
        (_changed(0, fluency="1.5"), r"got fluency \('1.5'\)"),
        (_changed(0, fluency="-1"), r"got fluency \('-1'\)"),
        (
            lambda sheets: sheets[1].append(dict(sheets[0][4])),
            r"annotator_2.csv, line 12: expected each id once, got a1-c003-r01 again, first in "
            r".*annotator_1.csv, line 6\. Keep",
        ),
        (
            lambda sheets: sheets[0].append(sheets[0][4] | {"id": "a1-c003-r0I"}),
            r"line 12: expected an id of this study, such as a1-c001-r01, got 'a1-c003-r0I'",
        ),
        (
            lambda sheets: sheets[2].__delitem__(slice(4, 7)),
            r"annotator_3.csv: expected the 10 rows of annotator 3, 3 are missing, the first is "
            r"a3-c003-r01\.",
        ),
        (
            lambda sheets: sheets[1].clear(),
            r"annotator_2.csv: expected a filled sheet, found no row below its first\.",
        ),
        (
            lambda sheets: sheets.__setitem__(1, [dict(row) for row in sheets[0]]),
            r"annotator_2.csv, line 2: expected each id once, got a1-c001-r01 again, first in "
            r".*annotator_1.csv, line 2, and 9 more\. Keep the file",
        ),
        (lambda sheets: sheets.clear(), "at least one filled sheet, got none"),
    ],
)
def test_a_problem_is_told_with_file_line_and_remedy(tmp_path, change, message):
    sheets = all_rows()
    change(sheets)
    files = written(tmp_path, [judged.csv_bytes(rows) for rows in sheets])
    with pytest.raises(StudyError, match=message) as caught:
        read_sheets(STUDY, files)
    assert "\n" not in str(caught.value)  # it is the only one


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "its first line is ''"),
        (b"PK\x03\x04\x14\x00\x06\x00\xff\xfe\x00", "expected a CSV file with the columns"),
        (b"study,id,fluency,informativeness\r\n", "expected a CSV file with the columns"),
        (judged.csv_bytes(judged.rows(STUDY, 1)).replace(b"study,id", b"id,id"), "each once"),
        (
            b'study,id,fluency,informativeness,coherence\r\n"' + b"x" * 140_000,
            "line 2: field larger than",
        ),
        # A row of the scores 2, 2, 2, with decimal commas: not 2, 0, 2.
        (
            b"study,id,fluency,informativeness,coherence\r\ns0,a,2,0,2,0,2,0\r\n",
            "line 2: expected 5 cells .* got 8; .* Write scores as 0, 1 or 2, without decimals",
        ),
        (
            b"study,id,fluency,informativeness,coherence\r\ns0,a,2,2,2,a remark\r\n",
            "line 2: expected 5 cells .* got 6; .* give a column of remarks a title",
        ),
        (
            b'study,id,fluency,informativeness,coherence\r\ns0,"a,2,2,2\r\ns0,b,2,2,2\r\n',
            r'lines 2 to 3 \(is a quotation mark " not closed',
        ),
    ],
)
def test_what_is_no_sheet_gets_one_message(tmp_path, content, message):
    (file,) = written(tmp_path, [content])
    with pytest.raises(StudyError, match=message) as caught:
        read_sheets(STUDY, [file])
    assert str(caught.value).startswith(str(file))
    for missing in (tmp_path / "nowhere.csv", tmp_path):
        with pytest.raises(StudyError, match=f"^{missing}: expected a filled sheet, found no such"):
            read_sheets(STUDY, [missing])


def test_decimal_commas_without_quotes_are_refused(tmp_path):
    """2,0,2,0,2,0 is three scores of 2, and its first three cells are 2, 0 and 2."""
    row = f"{STUDY.id},{STUDY.sheets[0][0].id},2,0,2,0,2,0"
    for end in ("", ",,,"):
        (file,) = written(tmp_path, [f"{','.join(COLUMNS)}{end}\n{row}\n".encode()])
        with pytest.raises(StudyError, match="line 2: expected 5 cells .*, got 8.*without decim"):
            read_sheets(STUDY, [file])


def test_an_open_quotation_mark_is_named_with_the_rows_that_it_swallows(tmp_path):
    lines = judged.csv_bytes(judged.rows(STUDY, 1)).splitlines(keepends=True)
    lines[2] = b'"' + lines[2]
    (file,) = written(tmp_path, [b"".join(lines)])
    with pytest.raises(StudyError, match=r"lines 3 to 11 \(is a quotation mark"):
        read_sheets(STUDY, [file])


def test_all_problems_are_told_at_once_up_to_twenty_a_file(tmp_path):
    study = judged.study(num_contexts=12)
    sheets = [judged.rows(study, annotator) for annotator in (1, 2, 3)]
    for row in sheets[0] + sheets[1]:
        row["fluency"] = "9"
    sheets[2][0]["id"] = "unknown"
    files = written(tmp_path, [judged.csv_bytes(rows) for rows in sheets])
    with pytest.raises(StudyError) as caught:
        read_sheets(study, [*files, tmp_path / "nowhere.csv"])
    start, *told = re.split(r" \(\d+\) ", str(caught.value))
    assert start == "the sheets have 51 problems:"  # 2 · 24 scores, an id, a file, a row
    assert told[MAX_PROBLEMS] == told[2 * MAX_PROBLEMS + 1] == "and 4 more in this file."
    last = ("'unknown'", "no such file", "1 are missing")
    assert all(problem in each for each, problem in zip(told[-3:], last, strict=True))
    assert "\n" not in str(caught.value)


def test_a_row_of_another_study_is_told(tmp_path):
    sheets = all_rows()
    sheets[0][2]["study"] = "s0123456789a"
    files = written(tmp_path, [judged.csv_bytes(rows) for rows in sheets])
    with pytest.raises(StudyError, match=r"1 are missing, the first is a1-c002-r01") as caught:
        read_sheets(STUDY, files)
    told = f"{files[0]}, line 4: expected study {STUDY.id}, got 's0123456789a': this sheet is of "
    assert told in str(caught.value)


def test_a_sheet_of_another_study_is_told_once(tmp_path):
    other = judged.study(seed=1)
    files = written(tmp_path, [judged.csv_bytes(judged.rows(other, a)) for a in (1, 2, 3)])
    with pytest.raises(StudyError, match="the sheets have 3 problems") as caught:
        read_sheets(STUDY, files)
    assert str(caught.value).count(f"got '{other.id}'") == 3
