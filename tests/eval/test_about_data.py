"""What a corpus says about its metrics reaches documents and tables."""

import io

from rich.console import Console

from conkd_jax.eval.about_data import data_notes, with_data
from conkd_jax.eval.tables.build import build_table
from conkd_jax.eval.tables.summary import summary_table
from conkd_jax.eval.tables.table import ABSENT
from tests.eval import scored

REPORT = {
    "without_meaning": {"rec_ratio": "All dialogues recommend."},
    "transfer": {"note": "Half of the movies are known.", "movies": 2},
    "splits": {},
}


def test_a_metric_without_meaning_leaves_the_document():
    document = scored.document("kgsf_hard")
    assert "rec_ratio" in document["metrics"]
    found = with_data(document, REPORT)
    assert "rec_ratio" not in found["metrics"] and "rec_ratio" not in found["intervals"]
    assert found["metrics"].keys() | {"rec_ratio"} == document["metrics"].keys()
    assert found["transfer"]["movies"] == 2 and "splits" not in found
    assert with_data(document, {"splits": {}}) == document


def test_tables_say_so_and_show_no_number():
    documents = [with_data(scored.document("kgsf_hard", seed=seed), REPORT) for seed in (0, 1)]
    table = build_table("2", documents)
    column = [column.metric for column in table.layout.columns].index("rec_ratio")
    assert table.groups[0][0].cells[column].text == ABSENT
    assert table.caption.count("All dialogues recommend. Half of the movies are known.") == 1
    assert data_notes(documents) == ["All dialogues recommend.", "Half of the movies are known."]


def test_a_summary_says_so():
    output = io.StringIO()
    console = Console(file=output, width=300)
    console.print(summary_table(with_data(scored.document("kgsf_hard"), REPORT)))
    text = output.getvalue()
    assert "rec_ratio" not in text
    assert "All dialogues recommend." in text and "Half of the movies are known." in text
