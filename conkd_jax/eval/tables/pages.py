"""The pages that show committed results: their tables are made from docs/results/."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from conkd_jax.eval.document import RATE_MATCHED, Document
from conkd_jax.eval.tables.build import build_table, has_numbers
from conkd_jax.eval.tables.documents import documents_in
from conkd_jax.eval.tables.formats import markdown_grid, markdown_title
from conkd_jax.eval.tables.table import TableError
from conkd_jax.files import write_whole

KEPT_RESULTS = "docs/results/mini"
PAGES = {  # and their tables; those that the results have no numbers for are left out
    "README.md": ("short",),
    "docs/results.md": ("short", "novel", "2", "trivial", "rate", "3", "gate"),
}
WITH_INTERVALS = {"docs/results.md": ("short", "3")}  # tables that show 95 % intervals
PLACEHOLDER = "*To come with the first committed runs in `docs/results/`.*"


def results_pages(checkout: Path) -> dict[str, str]:
    """Returns the text of each of `PAGES` with tables of the committed results.

    Args:
      checkout: the root of the checkout.

    Raises:
      DocumentError: a committed file is not a metrics.json.
      TableError: a page has no place for the tables, or the results make no table.
    """
    documents = documents_in(checkout / KEPT_RESULTS)
    made = {}
    for name, tables in PAGES.items():
        text = (checkout / name).read_text(encoding="utf-8")
        try:
            made[name] = with_results(text, documents, tables, WITH_INTERVALS.get(name, ()))
        except TableError as error:
            raise TableError(f"{name}: {error}") from error
    return made


def write_pages(checkout: Path) -> None:
    """Writes what `results_pages` returns, once all pages can be made."""
    for name, text in results_pages(checkout).items():
        write_whole(checkout / name, text)


def with_results(
    page: str,
    documents: Sequence[Document],
    names: Sequence[str],
    with_intervals: Sequence[str] = (),
) -> str:
    """Returns a page with new tables between `<!-- results -->` and `<!-- /results -->`.

    Each backbone has its own tables; rate-matched runs stand in the table "rate" alone. Text in
    that part between `<!-- results-text -->` and `<!-- /results-text -->` is kept, above the
    tables; everything outside of the part is left alone.

    Args:
      page: Markdown.
      documents: committed runs; without any, a placeholder stands for the tables.
      names: names of the tables, as in `LAYOUTS`.
      with_intervals: names of those that show intervals.

    Raises:
      TableError: the page has not exactly one such part, or the documents make no table.
    """
    parts = re.split(r"(<!-- /?results -->)", page)
    if len(parts) != 5 or parts[1::2] != ["<!-- results -->", "<!-- /results -->"]:
        raise TableError(
            "expected one '<!-- results -->' and, after it, one '<!-- /results -->', got "
            f"{', '.join(parts[1::2]) or 'none'}."
        )
    kept = re.search(r"<!-- results-text -->.*?<!-- /results-text -->", parts[2], re.DOTALL)
    block = [kept.group()] if kept else []
    if not documents:
        block.append(PLACEHOLDER)
    backbones = sorted({document["backbone"] for document in documents})
    for backbone in backbones:  # perplexities over two vocabularies can't be compared
        runs = [document for document in documents if document["backbone"] == backbone]
        tables = [
            build_table(name, shown, intervals=name in with_intervals)
            for name in names
            if has_numbers(name, shown := _shown(name, runs))
        ]
        if len(backbones) > 1:
            block.append(f"### Backbone `{backbone}`")
        for table in tables:
            block += [markdown_title(table), markdown_grid(table)]
        block.append(tables[0].caption)  # the same for all tables of these runs
    parts[2] = "\n" + "\n\n".join(block) + "\n"
    return "".join(parts)


def _shown(name: str, runs: Sequence[Document]) -> list[Document]:
    """Returns the runs that a table of a page is made of."""
    return [
        run
        for run in runs
        if (RATE_MATCHED in run.get("decoding", "").split("+")) == (name == "rate")
    ]
