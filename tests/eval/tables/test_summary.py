"""One run beside the paper's row, for a terminal."""

import io

from rich.console import Console

from conkd_jax.eval.tables.paper import SYSTEMS
from conkd_jax.eval.tables.summary import summary_table
from tests.eval.scored import document


def run() -> dict:
    return document(metrics={"rer@10": 0.1}, intervals={"rer@10": (0.09, 0.11)})


def printed(table) -> str:
    console = Console(file=io.StringIO(), width=120)
    console.print(table)
    return console.file.getvalue()


def test_the_table_puts_ours_beside_the_papers_row():
    text = printed(summary_table(run(), SYSTEMS["DialoGPT + ConKD (hard)"]))
    lines = {line.split()[0]: line.split() for line in text.splitlines() if line.split()}
    assert lines["rer@10"] == ["rer@10", "0.100", "0.090", "to", "0.110", "0.120"]
    assert lines["ppl"][1] == "10.00"
    assert lines["ppl"][-1] == "12.41"
    assert lines["lambda_r"] == ["lambda_r", "0.400", "–", "–"]
    assert "DialoGPT + ConKD (hard)" in text
    assert "dialogpt_hard (mini) on valid: 1,234 responses, seed 0" in text
    assert "dist-4" not in lines  # this run has no such metric


def test_the_table_stands_without_a_paper_row():
    text = printed(summary_table(run()))
    assert "f1@50" in text
    assert "ConKD" not in text
