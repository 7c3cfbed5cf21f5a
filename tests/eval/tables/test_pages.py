"""Pages show what is committed, and keep what people wrote."""

from pathlib import Path

import pytest

from conkd_jax.eval.document import document_label
from conkd_jax.eval.tables.documents import documents_in
from conkd_jax.eval.tables.pages import (
    KEPT_RESULTS,
    PAGES,
    PLACEHOLDER,
    Page,
    results_pages,
    with_results,
)
from conkd_jax.eval.tables.table import TableError
from tests.eval.scored import document

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize("name", PAGES)
def test_a_page_shows_what_is_committed(name):
    shown = (ROOT / name).read_text(encoding="utf-8")
    assert results_pages(ROOT)[name] == shown, "run python -m conkd_jax.tables --pages"


PAGE = "# Name\n\n<!-- results -->\nold\n<!-- /results -->\n\nrest\n"

TABLES = Page(("2", "3", "gate"))


def shown(page: str, documents) -> str:
    return with_results(page, documents, TABLES)


def test_the_page_gets_its_tables_and_one_caption():
    text = shown(PAGE, [document()])
    assert text.startswith("# Name\n\n<!-- results -->\n**Table 2.")
    assert text.endswith("ReDial's test split.\n<!-- /results -->\n\nrest\n")
    assert text.count("\n| --- |") == 3
    assert text.count("Our rows: preset mini") == 1
    assert "\nold\n" not in text
    assert shown(text, [document()]) == text


def test_some_tables_show_intervals_and_those_without_numbers_are_left_out():
    run = document(intervals={"ppl": (9.5, 10.5)})
    text = with_results(PAGE, [run], Page(("short", "trivial", "3"), with_intervals=("short",)))
    short, third = text.split("**Table 3")
    assert "10.00 (9.50–10.50)" in short and "(9.50" not in third
    assert "trivial lists" not in text
    run = document(metrics={"f1@10_popularity": 0.03})
    assert "F1@10 beside trivial lists" in with_results(PAGE, [run], Page(("short", "trivial")))


def test_backbones_have_tables_of_their_own():
    """Perplexities of two tokenizers are not compared: each backbone has its own best."""
    ours = {**document(), "backbone": "dialogpt"}
    theirs = {**document(config="kgsf_hard"), "backbone": "kgsf"}
    text = shown(PAGE, [theirs, ours])
    first, second = text.split("### Backbone `kgsf`")
    assert "### Backbone `dialogpt`" in first and "`kgsf_hard`" not in first
    assert first.count("**Table 2") == second.count("**Table 2") == 1
    assert "### Backbone" not in shown(PAGE, [ours])
    other = document(config="kbrd", backbone="kbrd")  # on the page of systems
    assert shown(PAGE, [ours, other]) == shown(PAGE, [ours])


def test_a_page_of_systems_has_one_table_without_ablations_and_marks_no_perplexity():
    runs = [
        {**document(metrics={"ppl": 10.0, "ppl_per_word": 30.0}), "backbone": "dialogpt"},
        document(config="kgsf_hard", metrics={"ppl": 20.0, "ppl_per_word": 25.0}),
        document(config="ablations/vanilla", backbone="kgsf"),
        {**document(config="kgsf_hard", seed=1), "overrides": {"distill.gamma": 0.2}},
    ]
    text = with_results(PAGE, runs, Page(("2", "3"), is_of_systems=True))
    assert "### " not in text and text.count("**Table 2") == 1
    assert "`kgsf_hard`" in text and "vanilla" not in text and "gamma" not in text
    assert "| 10.00 |" in text and "| **25.00** |" in text
    assert PLACEHOLDER in with_results(PAGE, [], Page(("2",), is_of_systems=True))


def test_a_page_can_choose_its_rows():
    """One table for all backbones; a row that the page does not name is on other pages only."""
    runs = [
        {**document(), "backbone": "dialogpt"},
        document(config="kgsf_hard"),
        document(config="ablations/vanilla", backbone="kgsf"),
        {**document(config="kgsf_hard", seed=1), "overrides": {"distill.gamma": 0.2}},
    ]
    page = Page(("2",), rows=("dialogpt_hard", "ablations/vanilla-kgsf"))
    text = with_results(PAGE, runs, page)
    assert "### " not in text and text.count("**Table 2") == 1
    assert "`dialogpt_hard`" in text and "`ablations/vanilla-kgsf`" in text
    assert "kgsf_hard" not in text and "gamma" not in text
    assert PLACEHOLDER in with_results(PAGE, runs, Page(("2",), rows=("nothing",)))


def test_the_rows_that_pages_choose_are_committed():
    labels = {document_label(each) for each in documents_in(ROOT / KEPT_RESULTS)}
    for name, page in PAGES.items():
        assert set(page.rows) <= labels, name


def test_a_page_shows_trivial_systems_and_learning_curves_where_it_says_so(tmp_path):
    """The curves are those that are committed; the link leads from the page to the figure."""
    run = document(metrics={"f1@10_popularity": 0.03})
    page = Page(("2", "3"), trivial_at_steps=("2",), curves=("docs/c.json", "docs/c.png"))
    second, third = with_results(PAGE, [run], page).split("**Table 3")
    assert "popularity, at these steps" in second and "at these steps" not in third
    text = with_results(PAGE, [run], page, "the curves")
    assert text.endswith("test split.\n\nthe curves\n<!-- /results -->\n\nrest\n")
    systems = PAGES["docs/systems.md"]
    assert all((ROOT / each).exists() for each in systems.curves)
    committed = results_pages(ROOT)["docs/systems.md"]
    assert "](figures/curves_systems.png)" in committed
    assert (ROOT / "docs" / "figures" / "curves_systems.png").exists()


def test_the_page_without_results_has_a_placeholder():
    text = shown(PAGE, [])
    assert text == PAGE.replace("old", PLACEHOLDER)


@pytest.mark.parametrize("around", ["{}\n\nold", "old\n\n{}"])
def test_a_written_sentence_in_the_page_stays(around):
    written = "<!-- results-text -->\nSmaller models,\n\non valid.\n<!-- /results-text -->"
    page = PAGE.replace("old", around.format(written))
    text = shown(page, [document()])
    assert f"<!-- results -->\n{written}\n\n**Table 2." in text
    outside = PAGE + written
    assert shown(outside, [document()]).endswith("rest\n" + written)


@pytest.mark.parametrize(
    "page", ["", "<!-- /results -->\n<!-- results -->", PAGE + PAGE, "<!-- results -->"]
)
def test_a_page_without_one_part_is_left_alone(page):
    with pytest.raises(TableError, match=r"^expected one '<!-- results -->'"):
        shown(page, [])
