"""The pages that show committed results: their tables are made from docs/results/.

The learning curves of a page are made from runs, whose metrics.json has the dev scores:

    python -m conkd_jax.tables --curves RUN RUN … --json=JSON --figure=PNG

writes the two files that a page names, and `--pages` makes their table.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path

from conkd_jax.eval.document import RATE_MATCHED, Document, document_label
from conkd_jax.eval.tables.build import build_table, has_numbers
from conkd_jax.eval.tables.curves_page import curves_section
from conkd_jax.eval.tables.documents import documents_in
from conkd_jax.eval.tables.formats import markdown_grid, markdown_title
from conkd_jax.eval.tables.table import TableError
from conkd_jax.io.files import write_whole

KEPT_RESULTS = "docs/results/mini"
ABLATED = ("dialogpt", "kgsf")  # backbones whose every row is shown, each in tables of its own


@dataclasses.dataclass(frozen=True)
class Page:
    """The tables of a page.

    Attributes:
      tables: their names, as in `LAYOUTS`; those that the results have no numbers for are left out.
      with_intervals: names of those that show 95 % intervals.
      is_of_systems: whether all backbones share one table, which has whole systems only: the
        configs next to `configs/ablations/`, without overrides but for the corpus. Otherwise each
        of `ABLATED` has tables of its own, with every row.
      trivial_at_steps: names of the tables in which each system is followed by trivial ones that
        recommend at its item steps.
      rows: labels of the only rows that are shown, of all backbones in one table; without any,
        the rows are those that `is_of_systems` says.
      results: the folder of the runs, from the root of the checkout.
      curves: the JSON of the learning curves and their figure, from the root of the checkout; ""
        for none.
    """

    tables: tuple[str, ...]
    with_intervals: tuple[str, ...] = ()
    is_of_systems: bool = False
    trivial_at_steps: tuple[str, ...] = ()
    rows: tuple[str, ...] = ()
    results: str = KEPT_RESULTS
    curves: tuple[str, str] = ("", "")


PAGES = {
    "README.md": Page(
        ("short",),
        rows=(
            "dialogpt",
            "dialogpt_hard",
            "ablations/fitted_threshold-dialogpt",
            "ablations/vanilla-kgsf",
            "kgsf_hard",
        ),
    ),
    "docs/results.md": Page(
        ("short", "novel", "2", "trivial", "rate", "3", "gate"),
        with_intervals=("short", "novel", "2", "3"),
    ),
    "docs/systems.md": Page(
        ("1", "novel", "2", "rate", "3", "4", "8"),
        with_intervals=("novel", "2"),
        is_of_systems=True,
        trivial_at_steps=("2", "novel"),
        curves=("docs/results/curves/systems.json", "docs/figures/curves_systems.png"),
    ),
    "docs/data_cards/opendialkg.md": Page(
        ("1", "novel", "2", "3"),
        with_intervals=("novel", "2"),
        is_of_systems=True,
        trivial_at_steps=("2", "novel"),
        results="docs/results/opendialkg/mini",
    ),
    "docs/data_cards/inspired.md": Page(
        ("1", "novel", "2", "3"),
        with_intervals=("novel", "2"),
        is_of_systems=True,
        trivial_at_steps=("2", "novel"),
        results="docs/results/inspired_dev/mini",
    ),
}
PLACEHOLDER = "*To come with the first committed runs in `docs/results/`.*"


def results_pages(checkout: Path) -> dict[str, str]:
    """Returns the text of each of `PAGES` with tables of the committed results.

    Args:
      checkout: the root of the checkout.

    Raises:
      DocumentError: a committed file is not a metrics.json.
      TableError: a page has no place for the tables, or the results make no table.
    """
    made = {}
    for name, page in PAGES.items():
        documents = documents_in(checkout / page.results)
        text = (checkout / name).read_text(encoding="utf-8")
        try:
            section = _curves(checkout, name, page, documents)
            made[name] = with_results(text, documents, page, section)
        except TableError as error:
            raise TableError(f"{name}: {error}") from error
    return made


def write_pages(checkout: Path) -> None:
    """Writes what `results_pages` returns, once all pages can be made."""
    for name, text in results_pages(checkout).items():
        write_whole(checkout / name, text)


def with_results(text: str, documents: Sequence[Document], page: Page, section: str = "") -> str:
    """Returns a page with new tables between `<!-- results -->` and `<!-- /results -->`.

    Rate-matched runs stand in the table "rate" alone. Text in that part between
    `<!-- results-text -->` and `<!-- /results-text -->` is kept, above the tables; everything
    outside of the part is left alone.

    Args:
      text: the page as it is, Markdown.
      documents: committed runs; without any, a placeholder stands for the tables.
      page: its tables.
      section: what stands below them, Markdown.

    Raises:
      TableError: the page has not exactly one such part, or the documents make no table.
    """
    parts = re.split(r"(<!-- /?results -->)", text)
    if len(parts) != 5 or parts[1::2] != ["<!-- results -->", "<!-- /results -->"]:
        raise TableError(
            "expected one '<!-- results -->' and, after it, one '<!-- /results -->', got "
            f"{', '.join(parts[1::2]) or 'none'}."
        )
    kept = re.search(r"<!-- results-text -->.*?<!-- /results-text -->", parts[2], re.DOTALL)
    block = [kept.group()] if kept else []
    groups = _groups(documents, page)
    if not groups:
        block.append(PLACEHOLDER)
    for title, runs in groups.items():
        tables = [
            build_table(
                name,
                shown,
                intervals=name in page.with_intervals,
                trivial_at_steps=name in page.trivial_at_steps,
            )
            for name in page.tables
            if has_numbers(name, shown := _shown(name, runs))
        ]
        if len(groups) > 1:
            block.append(f"### {title}")
        for table in tables:
            block += [markdown_title(table), markdown_grid(table)]
        block.append(tables[0].caption)  # the same for all tables of these runs
    parts[2] = "\n" + "\n\n".join(filter(None, (*block, section))) + "\n"
    return "".join(parts)


def _curves(checkout: Path, name: str, page: Page, documents: Sequence[Document]) -> str:
    """Returns the learning curves of a page; "" if it has none, or before they are committed."""
    points, figure = page.curves
    if not points or not (checkout / points).exists():
        return ""
    systems = [run for runs in _groups(documents, page).values() for run in _shown("", runs)]
    link = os.path.relpath(figure, os.path.dirname(name))
    return curves_section(json.loads((checkout / points).read_text()), link, systems)


def _groups(documents: Sequence[Document], page: Page) -> dict[str, list[Document]]:
    """Returns the runs that share tables, by the title of their group."""
    if page.rows:
        chosen = [d for d in documents if document_label(d) in page.rows]
        return {"In short": chosen} if chosen else {}
    if page.is_of_systems:
        systems = [
            d
            for d in documents
            if "/" not in d["config"] and not set(d.get("overrides") or ()) - {"corpus.name"}
        ]
        return {"Systems": systems} if systems else {}
    groups: dict[str, list[Document]] = {}
    for document in sorted(documents, key=lambda document: document["backbone"]):
        if document["backbone"] in ABLATED:
            groups.setdefault(f"Backbone `{document['backbone']}`", []).append(document)
    return groups


def _shown(name: str, runs: Sequence[Document]) -> list[Document]:
    """Returns the runs that a table of a page is made of."""
    return [
        run
        for run in runs
        if (RATE_MATCHED in run.get("decoding", "").split("+")) == (name == "rate")
    ]
