"""What is said of what the recommender knows: ratios by hand, and the figure."""

import pytest

from conkd_jax.eval.tables.said import draw_said, said_document, said_of_known
from conkd_jax.eval.tables.table import TableError
from tests.eval.drawn_figures import assert_is_picture
from tests.eval.scored import document

HALF = {"recall@10": 0.2, "rer@10": 0.1}


def test_ours_come_by_share_and_then_the_papers():
    runs = [
        document("dialogpt", metrics={"recall@10": 0.2, "rer@10": 0.02}),
        document("kgsf_hard", metrics=HALF),
        document("kgsf_hard", seed=1, metrics={"recall@10": 0.2, "rer@10": 0.14}),
    ]
    said = said_of_known(runs)
    ours = [(each.label, round(each.share, 6)) for each in said if not each.is_paper]
    assert ours == [("kgsf_hard", 0.6), ("dialogpt", 0.1)]
    paper = {each.label: round(each.share, 4) for each in said if each.is_paper}
    assert paper == {"paper: KBRD": 0.2381, "paper: KGSF": 0.235, "paper: RevCore": 0.159}
    assert [each.is_paper for each in said] == [False, False, True, True, True]
    found = said_document(said, runs, command="a command")
    assert found["systems"][0]["rer@10/recall@10"] == pytest.approx(0.6)
    assert found["split"] == "valid" and found["command"] == "a command"


def test_a_synthetic_corpus_has_no_paper_beside_it():
    assert not any(each.is_paper for each in said_of_known([document(preset="demo", metrics=HALF)]))


def test_runs_without_the_numbers_are_refused():
    with pytest.raises(TableError, match="expected runs with recall@10 and rer@10"):
        said_of_known([document(metrics={"recall@10": 0.2})])


def test_the_figure_is_drawn(tmp_path):
    draw_said(said_of_known([document(metrics=HALF)]), tmp_path / "said.png")
    assert_is_picture(tmp_path / "said.png")
