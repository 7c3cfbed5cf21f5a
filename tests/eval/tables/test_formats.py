"""Tables as text: Markdown, LaTeX, the terminal."""

import io
import re

from rich.console import Console

from conkd_jax.eval.tables.build import build_table
from conkd_jax.eval.tables.formats import table_as_latex, table_as_markdown, table_for_terminal
from conkd_jax.eval.tables.table import Cell, Column, Layout, ResultTable, Row
from tests.eval.scored import document


def three() -> ResultTable:
    runs = {"dialogpt": 0.3, "dialogpt_hard": 0.2, "dialogpt_soft": 0.1}
    return build_table("2", [document(name, metrics={"rer@1": v}) for name, v in runs.items()])


def test_markdown_is_one_table_with_marks():
    text = table_as_markdown(three())
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert {line.count("|") for line in lines} == {12}
    assert lines[2].startswith("| `dialogpt` | **0.300** | –")
    assert lines[4].startswith("| `dialogpt_hard` | <ins>0.200</ins> |")
    assert lines[5].startswith("| paper: DialoGPT + ConKD (hard) | 0.022 | 0.120 |")
    assert text.startswith("**Table 2. Items in responses.**")
    assert text.rstrip().endswith(three().caption)


def test_latex_is_escaped_and_of_one_width():
    text = table_as_latex(three())
    rows = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert len(rows) == 7
    assert {len(re.findall(r"(?<!\\)&", row)) for row in rows} == {10}
    assert r"\texttt{dialogpt\_hard} & \underline{0.200} & --" in text
    assert r"\texttt{dialogpt} & \textbf{0.300}" in text
    gate = table_as_latex(build_table("gate", [document()]))
    assert r"student $\lambda_r$" in gate
    assert r"paper: \S3.4, on KGSF" in gate
    assert gate.isascii()


def test_the_terminal_shows_all_of_it():
    console = Console(file=io.StringIO(), width=150)
    console.print(table_for_terminal(three()))
    text = console.file.getvalue()
    assert "Table 2. Items in responses" in text
    lines = {line.split()[0]: line.split() for line in text.splitlines() if line.split()}
    assert lines["dialogpt_soft"][1] == "0.100"
    assert len(lines["dialogpt_soft"]) == 11


def test_a_label_can_not_break_the_table():
    layout = Layout("T", (Column("a|b", "x"),), row_title="system")
    text = table_as_markdown(ResultTable(layout, ((Row("c|d", (Cell("1"),)),),)))
    assert text == "**T.**\n\n| system | a\\|b |\n| --- | ---: |\n| `c\\|d` | 1 |\n"


def test_marks_survive_where_styles_do_not():
    console = Console(file=io.StringIO(), width=150)
    console.print(table_for_terminal(three(), is_plain=True))
    text = console.file.getvalue()
    words = text.split()
    assert {"*0.300", "_0.200", "0.100"} <= set(words) and "\x1b" not in text
    assert (
        "Marked *: best of our rows. Marked _: second best" in " ".join(words)
        and "Bold" not in text
    )
    ends = {
        line.index("0.") + 5
        for line in text.splitlines()
        if line.strip().startswith("dialogpt") and "0." in line
    }
    assert len(ends) == 1  # marks do not move digits


def test_an_interval_stands_below_its_number_or_behind_it():
    run = document(intervals={"ppl": (9.5, 10.5)})
    table = build_table("3", [run], intervals=True)
    assert "| 10.00 (9.50–10.50) | 0.100 |" in table_as_markdown(table)
    assert "10.00 (9.50--10.50) & 0.100 &" in table_as_latex(table)
    console = Console(width=200, file=io.StringIO())
    console.print(table_for_terminal(table))
    lines = console.file.getvalue().splitlines()
    at = next(i for i, line in enumerate(lines) if "dialogpt_hard" in line)
    assert lines[at].split()[:2] == ["dialogpt_hard", "10.00"]
    assert lines[at + 1].split() == ["9.50–10.50"]
