"""Tables as text: for a terminal, as Markdown and as LaTeX.

Writes rows as they are; chooses and rounds nothing.
"""

from __future__ import annotations

import re

from rich import box
from rich.table import Table
from rich.text import Text

from conkd_jax.eval.tables.table import Cell, ResultTable

PLAIN_MARKS = {"best": "*", "second": "_", None: ""}  # before a number, without styles
PLAIN_LEGEND = {"Bold:": "Marked *:", "Underlined:": "Marked _:"}


def table_for_terminal(table: ResultTable, *, is_plain: bool = False) -> Table:
    """Returns the table for rich to print.

    Args:
      table: a filled table.
      is_plain: whether marks are characters rather than styles, which a file or a pipe would lose.
    """
    caption = _joined(table.layout.note, table.caption)
    if is_plain:
        for styled, plain in PLAIN_LEGEND.items():
            caption = caption.replace(styled, plain)
    shown = Table(
        title=Text(table.layout.title),
        caption=Text(caption) if caption else None,
        caption_justify="left",
        box=box.SIMPLE_HEAD,
    )
    shown.add_column(Text(table.layout.row_title), no_wrap=True)
    for column in table.layout.columns:
        shown.add_column(Text(column.title), justify="right", no_wrap=True)
    for group in table.groups:
        for row in group:
            cells = (_terminal_cell(cell, is_plain) for cell in row.cells)
            shown.add_row(Text(row.label), *cells, style="dim" if row.is_paper else "")
        shown.add_section()
    return shown


def _terminal_cell(cell: Cell, is_plain: bool) -> Text:
    styles = {"best": "bold", "second": "underline", None: ""}
    shown = (
        Text(PLAIN_MARKS[cell.mark] + cell.text) if is_plain else Text(cell.text, styles[cell.mark])
    )
    return shown.append("\n" + cell.interval, "dim") if cell.interval else shown


def table_as_markdown(table: ResultTable) -> str:
    """Returns title, table and caption as Markdown."""
    parts = (markdown_title(table), markdown_grid(table), table.caption)
    return "\n\n".join(part for part in parts if part) + "\n"


def markdown_title(table: ResultTable) -> str:
    """Returns the title in bold, followed by the note."""
    return _joined(f"**{table.layout.title}.**", table.layout.note)


def markdown_grid(table: ResultTable) -> str:
    """Returns the rows as a Markdown table for GitHub, where `<ins>` underlines."""
    marks = {"best": "**{}**", "second": "<ins>{}</ins>", None: "{}"}
    columns = table.layout.columns
    lines = [[table.layout.row_title, *(column.title for column in columns)]]
    for group in table.groups:
        for row in group:
            label = row.label if row.is_paper else f"`{row.label}`"
            cells = (marks[cell.mark].format(cell.text) + _in_brackets(cell) for cell in row.cells)
            lines.append([label, *cells])
    lines = [[cell.replace("|", "\\|") for cell in line] for line in lines]
    lines.insert(1, ["---", *("---:" for _ in columns)])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def table_as_latex(table: ResultTable) -> str:
    """Returns a `table*` environment; it needs the package booktabs."""
    marks = {"best": r"\textbf{{{}}}", "second": r"\underline{{{}}}", None: "{}"}
    titles = [column.title for column in table.layout.columns]
    lines = [
        r"\begin{table*}[t]  % needs \usepackage{booktabs}",
        r"\centering",
        rf"\begin{{tabular}}{{l{'r' * len(titles)}}}",
        r"\toprule",
        " & ".join(map(latex_text, [table.layout.row_title, *titles])) + r" \\",
    ]
    for group in table.groups:
        lines.append(r"\midrule")
        for row in group:
            label = latex_text(row.label)
            label = label if row.is_paper else rf"\texttt{{{label}}}"
            cells = (
                marks[cell.mark].format(latex_text(cell.text)) + latex_text(_in_brackets(cell))
                for cell in row.cells
            )
            lines.append(" & ".join([label, *cells]) + r" \\")
    caption = latex_text(_joined(f"{table.layout.title}.", table.layout.note, table.caption))
    lines += [r"\bottomrule", r"\end{tabular}", rf"\caption{{{caption}}}", r"\end{table*}"]
    return "\n".join(lines) + "\n"


_LATEX = {
    "λ_r": r"$\lambda_r$",
    "λ_v": r"$\lambda_v$",
    "λ": r"$\lambda$",
    "η": r"$\eta$",
    "±": r"$\pm$",
    "↔": r"$\leftrightarrow$",
    "§": r"\S",
    "–": "--",
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    **{character: f"\\{character}" for character in "_&%#${}"},
}
_IN_LATEX = re.compile("|".join(map(re.escape, _LATEX)))


def latex_text(text: str) -> str:
    r"""Returns plain text as LaTeX.

    >>> print(latex_text("(+) D&R: λ_r 0.40 ± 0.01"))
    (+) D\&R: $\lambda_r$ 0.40 $\pm$ 0.01
    """
    return _IN_LATEX.sub(lambda match: _LATEX[match.group()], text)


def _in_brackets(cell: Cell) -> str:
    return f" ({cell.interval})" if cell.interval else ""


def _joined(*sentences: str) -> str:
    return " ".join(sentence for sentence in sentences if sentence)
