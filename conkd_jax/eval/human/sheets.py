"""An annotator's sheet as a CSV file: written blind, read back from any spreadsheet.

Texts on a sheet are for reading only; the id of a row says which response was judged. This module
reads no file of a run.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import re
from collections.abc import Iterator, Sequence

import numpy as np
from etils import epath
from jaxtyping import Int

from conkd_jax.eval.human.study import SCALES, Entry, Shown, Study, StudyError
from conkd_jax.io.files import read_csv

SCALE_NAMES = tuple(scale.name for scale in SCALES)
COLUMNS = ("study", "id", *SCALE_NAMES)  # the columns that are read back; others are ignored
MAX_PROBLEMS = 20  # listed of each file
MAX_CELL = 30_000  # characters; past 32,767 a spreadsheet breaks a cell into rows

_SCORE = re.compile(r"([012])([.,]0*)?")  # a spreadsheet may make 2.0 or 2,0 of a 2
_DELIMITERS = ",;\t"


@dataclasses.dataclass(frozen=True)
class Judgements:
    """The scores of every annotator whose sheet came back.

    Attributes:
      annotators: their numbers, ascending.
      scores: from 0 to 2, by annotator, context, system and scale, as the study orders them.
    """

    annotators: tuple[int, ...]
    scores: Int[np.ndarray, "annotators contexts systems scales"]


# --- writing ---------------------------------------------------------------------------------


def sheet_csv(study: Study, annotator: int, texts: Sequence[Shown]) -> bytes:
    """Returns one annotator's CSV file, with open scores.

    A row is one line, so that lines of the file and rows of the spreadsheet have the same numbers.
    The file begins with a BOM, by which Excel recognises UTF-8, and no cell begins like a formula.

    Args:
      study: the key; only its ids get into the sheet.
      annotator: the number of the annotator, from 1.
      texts: what `shown_contexts` returned for the study.
    """
    file = io.StringIO(newline="")
    writer = csv.writer(file)
    writer.writerow(("study", "id", "context", "response", *SCALE_NAMES))
    for entry in study.sheets[annotator - 1]:
        text = texts[entry.context]
        context = " | ".join(f"{role.capitalize()}: {said}" for role, said in text.turns)
        response = f"Recommender: {text.responses[entry.system]}"
        open_scores = [""] * len(SCALES)
        writer.writerow((study.id, entry.id, _cell(context), _cell(response), *open_scores))
    return file.getvalue().encode("utf-8-sig")


def _cell(text: str) -> str:
    """Returns the text, or its end if it is too long for a spreadsheet's cell."""
    return text if len(text) <= MAX_CELL else "… " + text[-MAX_CELL:]


# --- reading ---------------------------------------------------------------------------------


def read_sheets(study: Study, files: Sequence[epath.PathLike]) -> Judgements:
    """Returns the judgements in filled sheets, in any order of files and rows.

    An annotator who returned nothing is left out; one who returned anything must have returned all
    rows, in one file or several.

    Args:
      study: the key.
      files: CSV files that have the columns `COLUMNS`.

    Raises:
      StudyError: the problems of all sheets by file and line, up to `MAX_PROBLEMS` of each file.
    """
    entries = {entry.id: entry for entries in study.sheets for entry in entries}
    found: dict[str, _Filled] = {}
    problems = [_read_file(epath.Path(file), study.id, entries, found) for file in files]
    present = [any(entry.id in found for entry in entries) for entries in study.sheets]
    annotators = tuple(number for number, is_there in enumerate(present, start=1) if is_there)
    for number in annotators:
        problems.append(_rows_missing(number, study.sheets[number - 1], found))
    if any(problems):
        raise StudyError(_problem_list(problems))
    if not annotators:
        raise StudyError("expected at least one filled sheet, got none.")
    shape = (len(annotators), len(study.contexts), len(study.systems), len(SCALES))
    scores = np.zeros(shape, np.int64)
    for place, number in enumerate(annotators):
        for entry in study.sheets[number - 1]:
            scores[place, entry.context, entry.system] = found[entry.id].scores
    return Judgements(annotators, scores)


@dataclasses.dataclass(frozen=True)
class _Filled:
    """A row as found; scores that can't be read are problems already and left out here."""

    file: str
    line: int
    scores: tuple[int, ...]


def _read_file(
    path: epath.Path, study_id: str, entries: dict[str, Entry], found: dict[str, _Filled]
) -> list[str]:
    """Adds a file's rows to `found` and returns the problems that they have."""
    problems: list[str] = []
    again: dict[str, list[tuple[str, int]]] = {}  # ids and lines, by the file that had them first
    is_foreign, line = False, 0
    try:
        for line, row in _rows(path):
            where = f"{path}, line {line}"
            name = row["id"]
            if row["study"] != study_id:
                if not is_foreign:  # once: the other rows have the same problem
                    problems.append(
                        f"{where}: expected study {study_id}, got {row['study']!r}: this sheet is "
                        "of another export. Collect it with the folder that it came from."
                    )
                is_foreign = True
            elif name not in entries:
                problems.append(
                    f"{where}: expected an id of this study, such as {next(iter(entries))}, got "
                    f"{name!r}. Put back the id that was sent out, or delete the row."
                )
            elif name in found:
                again.setdefault(found[name].file, []).append((name, line))
            else:
                values, wrong = _scores(row)
                if wrong:
                    problems.append(
                        f"{where}, {name}: expected 0, 1 or 2, got {', '.join(wrong)}. Ask "
                        "the annotator for it."
                    )
                found[name] = _Filled(str(path), line, values)
        if not line:
            problems.append(f"{path}: expected a filled sheet, found no row below its first.")
    except StudyError as error:
        problems.append(str(error))
    for first, rows in again.items():
        problems.append(_repeated_ids(path, found, first, rows))
    return problems


def _scores(row: dict[str, str]) -> tuple[tuple[int, ...], list[str]]:
    """Returns the scores of a row that can be read, and a few words for each that can't."""
    found = {scale: _SCORE.fullmatch(row[scale]) for scale in SCALE_NAMES}
    wrong = [
        f"{scale} ({repr(row[scale]) if row[scale] else 'nothing'})"
        for scale, score in found.items()
        if score is None
    ]
    return tuple(int(score[1]) for score in found.values() if score), wrong


def _repeated_ids(
    path: epath.Path, found: dict[str, _Filled], first: str, rows: Sequence[tuple[str, int]]
) -> str:
    """Returns one message for all rows of a file with ids that another row has already."""
    name, line = rows[0]
    message = (
        f"{path}, line {line}: expected each id once, got {name} again, first in {first}, line "
        f"{found[name].line}"
    )
    if len(rows) == 1:
        return f"{message}. Keep the row that counts."
    return (
        f"{message}, and {len(rows) - 1:,} more. Keep the file that counts; where two people "
        "judged the same sheet, one of them must judge another."
    )


def _rows(path: epath.Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Yields line number and cells, by column, of each row that is not empty.

    Raises:
      StudyError: there is no such file, or it is not a CSV file with the columns of a sheet.
    """
    if not path.exists() or path.is_dir():
        raise StudyError(f"{path}: expected a filled sheet, found no such file.")
    content = path.read_bytes()
    # Ids and scores are ASCII, so it does no harm if texts in another encoding are misread.
    is_utf16 = content.startswith((b"\xff\xfe", b"\xfe\xff"))
    text = content.decode("utf-16" if is_utf16 else "utf-8", errors="replace")
    for delimiter in _DELIMITERS:
        rows = read_csv(text, delimiter, may_be_shorter=True)
        try:
            _, header = next(rows, (0, []))
        except csv.Error:  # of another delimiter
            continue
        names = [name.strip().lower() for name in header]
        if any(names.count(column) != 1 for column in COLUMNS):
            continue
        try:
            for line, row in rows:
                yield line, dict(zip(names, (cell.strip() for cell in row), strict=True))
        except csv.Error as error:
            raise StudyError(
                f"{path}, {error}. Write scores as 0, 1 or 2, without decimals; give a column of "
                "remarks a title in the first row; save the sheet as CSV (UTF-8) again."
            ) from error
        return
    first = (text.splitlines() or [""])[0]
    raise StudyError(
        f"{path}: expected a CSV file with the columns {', '.join(COLUMNS)}, each once, between "
        f"commas, semicolons or tabs; its first line is {first[:80]!r}. Save the sheet as CSV "
        "(UTF-8), with its first row."
    )


def _rows_missing(annotator: int, entries: Sequence[Entry], found: dict[str, _Filled]) -> list[str]:
    missing = [entry.id for entry in entries if entry.id not in found]
    if not missing:
        return []
    files = dict.fromkeys(found[entry.id].file for entry in entries if entry.id in found)
    return [
        f"{', '.join(files)}: expected the {len(entries):,} rows of annotator {annotator}, "
        f"{len(missing):,} are missing, the first is {missing[0]}. Copy them from the sheet that "
        "was sent out and have them judged."
    ]


def _problem_list(problems: Sequence[Sequence[str]]) -> str:
    """Returns one message of all problems, by file, so that one bad file does not hide others."""
    total = sum(len(of_file) for of_file in problems)
    told: list[str] = []
    for of_file in problems:
        told += of_file[:MAX_PROBLEMS]
        if len(of_file) > MAX_PROBLEMS:
            told.append(f"and {len(of_file) - MAX_PROBLEMS:,} more in this file.")
    if total == 1:
        return told[0]
    numbered = (f"({number}) {problem}" for number, problem in enumerate(told, start=1))
    return f"the sheets have {total:,} problems: {' '.join(numbered)}"
