"""Tables as text: for a terminal, as Markdown, as LaTeX, and as the part of a page that has them.

Writes down the rows that `tables` made; it chooses and rounds nothing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from conkd_jax.eval.tables.build import Document, ResultTable, TableError, build

PLACEHOLDER = "*To come with the first committed runs in `docs/results/`.*"


def terminal(table: ResultTable) -> Table:
    """The table for rich to print; marks are styles, so a plain file shows none."""
    styles = {"best": "bold", "second": "underline", None: ""}
    shown = Table(
        title=table.layout.title,
        caption=Text(_joined(table.layout.note, table.caption)),
        caption_justify="left",
        box=box.SIMPLE_HEAD,
    )
    shown.add_column("", no_wrap=True)
    for column in table.layout.columns:
        shown.add_column(column.title, justify="right", no_wrap=True)
    for group in table.groups:
        for row in group:
            cells = (Text(cell.text, styles[cell.mark]) for cell in row.cells)
            shown.add_row(Text(row.label), *cells, style="dim" if row.is_paper else "")
        shown.add_section()
    return shown


def wide_console(shown: Table) -> Console:
    """A console as wide as a table: a terminal that is narrower wraps its lines."""
    console = Console()
    wanted = Measurement.get(console, console.options.update(width=1000), shown).maximum
    console.width = max(console.width, wanted)
    return console


def markdown(table: ResultTable) -> str:
    """Title, table and caption for GitHub, whose HTML has `<ins>` for what is underlined."""
    return "\n\n".join((*_markdown_parts(table), table.caption)) + "\n"


def _markdown_parts(table: ResultTable) -> tuple[str, str]:
    marks = {"best": "**{}**", "second": "<ins>{}</ins>", None: "{}"}
    lines = [["", *(column.title for column in table.layout.columns)]]
    lines.append(["---", *("---:" for _ in table.layout.columns)])
    for group in table.groups:
        for row in group:
            label = row.label if row.is_paper else f"`{row.label}`"
            lines.append([label, *(marks[cell.mark].format(cell.text) for cell in row.cells)])
    head = _joined(f"**{table.layout.title}.**", table.layout.note)
    return head, "\n".join("| " + " | ".join(line) + " |" for line in lines)


def latex(table: ResultTable) -> str:
    """A `table*` environment; it needs the package booktabs."""
    marks = {"best": r"\textbf{{{}}}", "second": r"\underline{{{}}}", None: "{}"}
    columns = table.layout.columns
    lines = [
        r"\begin{table*}[t]  % needs \usepackage{booktabs}",
        r"\centering",
        rf"\begin{{tabular}}{{l{'r' * len(columns)}}}",
        r"\toprule",
        " & ".join(["", *(latex_text(column.title) for column in columns)]) + r" \\",
    ]
    for group in table.groups:
        lines.append(r"\midrule")
        for row in group:
            label = latex_text(row.label)
            label = label if row.is_paper else rf"\texttt{{{label}}}"
            cells = (marks[cell.mark].format(latex_text(cell.text)) for cell in row.cells)
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
    r"""Plain text as LaTeX.

    >>> print(latex_text("(+) D&R: λ_r 0.40 ± 0.01"))
    (+) D\&R: $\lambda_r$ 0.40 $\pm$ 0.01
    """
    return _IN_LATEX.sub(lambda match: _LATEX[match.group()], text)


def _joined(*sentences: str) -> str:
    return " ".join(sentence for sentence in sentences if sentence)


# --- the part of a page ----------------------------------------------------------------------


def with_results(page: str, documents: Sequence[Document], names: Sequence[str]) -> str:
    """A page whose part between `<!-- results -->` and `<!-- /results -->` is made anew.

    Runs of each backbone have tables of their own. What stands in that part between `<!--
    results-text -->` and `<!-- /results-text -->` is kept, at its head; everything outside of it
    is left alone.

    Args:
      page: its Markdown.
      documents: committed runs; without any, a placeholder stands for the tables.
      names: of the tables, as in `LAYOUTS`.

    Raises:
      TableError: the page has not exactly one such part, or the documents make no table.
    """
    parts = re.split(r"(<!-- /?results -->)", page)
    if len(parts) != 5 or parts[1::2] != ["<!-- results -->", "<!-- /results -->"]:
        raise TableError(
            "expected one '<!-- results -->' and after it one '<!-- /results -->', got "
            f"{', '.join(parts[1::2]) or 'none'}."
        )
    kept = re.search(r"<!-- results-text -->.*?<!-- /results-text -->", parts[2], re.DOTALL)
    block = [kept.group()] if kept else []
    if not documents:
        block.append(PLACEHOLDER)
    backbones = sorted({document["backbone"] for document in documents})
    for backbone in backbones:  # words of two tokenizers have no perplexity in common
        runs = [document for document in documents if document["backbone"] == backbone]
        tables = [build(name, runs) for name in names]
        if len(backbones) > 1:
            block.append(f"### Backbone `{backbone}`")
        for table in tables:
            block += _markdown_parts(table)
        block.append(tables[0].caption)  # it says nothing of the columns, so once is enough
    parts[2] = "\n" + "\n\n".join(block) + "\n"
    return "".join(parts)
