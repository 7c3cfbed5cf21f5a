"""Metric bars are drawn, and hold what they were given."""

import pytest

from conkd_jax.eval.figures.metric_bars import draw_metric_bars
from conkd_jax.eval.tables import paper
from tests.eval.drawn_figures import assert_is_picture, texts


def test_metric_bars_stand_beside_the_papers(tmp_path, drawn):
    path = tmp_path / "bars.png"
    row = paper.SYSTEMS["DialoGPT + ConKD (hard)"].metrics
    ours = {name: value / 2 for name, value in row.items()}
    draw_metric_bars(ours, path, paper=row, intervals={"f1@50": (0.1, 0.15)}, title="F1")
    assert_is_picture(path)
    assert [ax.get_title(loc="left") for ax in drawn[0].axes] == ["ReR@k", "PrR@k", "F1@k"]
    heights = [patch.get_height() for patch in drawn[0].axes[2].patches]
    assert heights == pytest.approx([0.011, 0.022, 0.058, 0.116, 0.1215, 0.243])
    assert ".243" in texts(drawn[0])


def test_metric_bars_of_a_run_without_a_paper_row(tmp_path, drawn):
    ours = {"recall@10": 0.2, "recall@50": 0.4}
    draw_metric_bars(ours, tmp_path / "a.png", families=("recall", "f1"))
    assert len(drawn[0].axes) == 1
    assert len(drawn[0].axes[0].patches) == 2
    with pytest.raises(ValueError, match="expected some of"):
        draw_metric_bars({}, tmp_path / "b.png")
