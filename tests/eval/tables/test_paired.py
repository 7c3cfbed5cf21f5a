"""A comparison as a table: sections, signs, marks."""

from conkd_jax.eval.metrics.bootstrap import Comparison
from conkd_jax.eval.tables.formats import table_as_latex, table_as_markdown
from conkd_jax.eval.tables.paired import PairedTest, comparison_table


def test_metrics_come_by_section_and_clear_differences_are_marked():
    found = {
        "ppl": Comparison(20.0, 18.5, -1.5, -2.0, -1.0, 0.001),
        "f1@10": Comparison(0.1, 0.102, 0.002, -0.01, 0.014, 0.7),
        "rer@7": Comparison(0.0, 0.0, 0.0, 0.0, 0.0, 1.0),  # of no section
    }
    test = PairedTest(("a", "b"), found, 1342, 5000, 1000, 0)
    table = comparison_table(test.names, found, paired_over=test.paired_over)
    assert table.layout.title == "b against a"
    f1, ppl = (row for group in table.groups for row in group)
    assert [cell.text for cell in f1.cells] == [
        "0.100",
        "0.102",
        "+0.002",
        "-0.010 to 0.014",
        "0.700",
    ]
    assert [cell.text for cell in ppl.cells] == [
        "20.00",
        "18.50",
        "-1.50",
        "-2.00 to -1.00",
        "0.001",
    ]
    assert (f1.cells[2].mark, ppl.cells[2].mark) == (None, "best")
    text = table_as_markdown(table)
    assert "| `ppl` | 20.00 | 18.50 | **-1.50** | -2.00 to -1.00 | 0.001 |" in text
    assert "1,342 dialogues" in text
    assert "difference & 95 \\% interval & p" in table_as_latex(table)
