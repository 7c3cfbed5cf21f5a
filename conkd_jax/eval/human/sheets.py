"""An annotator's sheet as a CSV file: written blind, read back from whatever spreadsheet filled it.

Texts on a sheet are for reading only; a judgement is found again by the id of its row. Knows ids
and scores, and neither files of runs nor the meaning of any score.
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

SCALE_NAMES = tuple(scale.name for scale in SCALES)
COLUMNS = ("study", "id", *SCALE_NAMES)  # what is read back; other columns may come and go
MAX_PROBLEMS = 20  # told at once, of each file
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


def sheet(study: Study, annotator: int, texts: Sequence[Shown]) -> bytes:
    """One annotator's CSV file, its scores open.

    A row is one line, so that a line of the file is a row of the spreadsheet. It begins with a BOM,
    which Excel knows UTF-8 by, and no cell begins like a formula.

    Args:
      study: the key; only its ids get into the sheet.
      annotator: from 1.
      texts: `human_study.shown` of the study.
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
    """The text, or where it is longer than a spreadsheet's cell its end."""
    return text if len(text) <= MAX_CELL else "… " + text[-MAX_CELL:]


# --- reading ---------------------------------------------------------------------------------


def read(study: Study, files: Sequence[epath.PathLike]) -> Judgements:
    """The judgements in filled sheets, in any order of files and rows.

    An annotator who sent nothing is left out; one who sent anything must have sent all of it, in
    one file or several.

    Args:
      study: the key.
      files: CSV files with the columns `COLUMNS` among theirs.

    Raises:
      StudyError: what is wrong with the sheets, up to `MAX_PROBLEMS` a file, by file and line.
    """
    entries = {entry.id: entry for entries in study.sheets for entry in entries}
    found: dict[str, _Filled] = {}
    problems = [_read_file(epath.Path(file), study.id, entries, found) for file in files]
    present = [any(entry.id in found for entry in entries) for entries in study.sheets]
    annotators = tuple(number for number, is_there in enumerate(present, start=1) if is_there)
    for number in annotators:
        problems.append(_rows_missing(number, study.sheets[number - 1], found))
    if any(problems):
        raise StudyError(_told(problems))
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
    """A row as found; scores that can't be read are left out, and were told."""

    file: str
    line: int
    scores: tuple[int, ...]


def _read_file(
    path: epath.Path, study_id: str, entries: dict[str, Entry], found: dict[str, _Filled]
) -> list[str]:
    """Adds a file's rows to `found`; returns what is wrong with them."""
    problems: list[str] = []
    again: dict[str, list[tuple[str, int]]] = {}  # ids and lines, by the file that had them first
    is_foreign, line = False, 0
    try:
        for line, row in _rows(path):
            where = f"{path}, line {line}"
            name = row["id"]
            if row["study"] != study_id:
                if not is_foreign:  # once: the other rows would say the same
                    problems.append(
                        f"{where}: expected study {study_id}, got {row['study']!r}: this sheet is "
                        "of another export. Collect it with the folder that it came from."
                    )
                is_foreign = True
                continue
            if name not in entries:
                problems.append(
                    f"{where}: expected an id of this study, such as {next(iter(entries))}, got "
                    f"{name!r}. Put back the id that was sent out, or delete the row."
                )
            elif name in found:
                again.setdefault(found[name].file, []).append((name, line))
            else:
                scores = {scale: _SCORE.fullmatch(row[scale]) for scale in SCALE_NAMES}
                wrong = [
                    f"{scale} ({repr(row[scale]) if row[scale] else 'nothing'})"
                    for scale, score in scores.items()
                    if score is None
                ]
                if wrong:
                    problems.append(
                        f"{where}, {name}: expected 0, 1 or 2, got {', '.join(wrong)}. Ask "
                        "the annotator for it."
                    )
                values = tuple(int(score[1]) for score in scores.values() if score)
                found[name] = _Filled(str(path), line, values)
        if not line:
            problems.append(f"{path}: expected a filled sheet, found no row below its first.")
    except StudyError as error:
        problems.append(str(error))
    for first, rows in again.items():
        problems.append(_told_again(path, found, first, rows))
    return problems


def _told_again(
    path: epath.Path, found: dict[str, _Filled], first: str, rows: Sequence[tuple[str, int]]
) -> str:
    """Rows whose ids another row of the same or another file has: one message for all of them."""
    name, line = rows[0]
    message = (
        f"{path}, line {line}: expected each id once, got {name} again, first in {first}, line "
        f"{found[name].line}"
    )
    if len(rows) == 1:
        return f"{message}. Keep the row that counts."
    return (
        f"{message}, and {len(rows) - 1:,} more. Keep the file that counts; where two people "
        "judged the same sheet, one of them has to judge another."
    )


def _rows(path: epath.Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Line number and cells of each row that holds anything; cells by the name of their column.

    Raises:
      StudyError: there is no such file, or it is no CSV file with the columns of a sheet.
    """
    if not path.exists() or path.is_dir():
        raise StudyError(f"{path}: expected a filled sheet, found no such file.")
    content = path.read_bytes()
    # Ids and scores are ASCII: a text in another encoding may be misread, it is not used.
    is_utf16 = content.startswith((b"\xff\xfe", b"\xfe\xff"))
    text = content.decode("utf-16" if is_utf16 else "utf-8-sig", errors="replace")
    for delimiter in _DELIMITERS:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
        try:
            header = next((row for row in reader if any(row)), [])
            names = [name.strip().lower() for name in header]
            if any(names.count(column) != 1 for column in COLUMNS):
                continue
            for row in reader:
                cells = [cell.strip() for cell in row]
                if any(cells):
                    cells += [""] * (len(names) - len(cells))
                    yield reader.line_num, dict(zip(names, cells, strict=False))
        except csv.Error as error:
            raise StudyError(
                f"{path}, line {reader.line_num}: expected a row of a CSV file: {error}. Save the "
                "sheet as CSV (UTF-8) again."
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


def _told(problems: Sequence[Sequence[str]]) -> str:
    """One message of all problems, file by file: one bad file hides nothing of the others."""
    total = sum(len(of_file) for of_file in problems)
    lines = [] if total == 1 else [f"the sheets have {total:,} problems:"]
    for of_file in problems:
        lines += of_file[:MAX_PROBLEMS]
        if len(of_file) > MAX_PROBLEMS:
            lines.append(f"and {len(of_file) - MAX_PROBLEMS:,} more in this file")
    return "\n  ".join(lines)
