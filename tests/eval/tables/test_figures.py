"""Tables as figures: every number of the table is on the page, and nothing else."""

import pytest
from matplotlib.container import ErrorbarContainer

from conkd_jax.eval.tables.build import build_table
from conkd_jax.eval.tables.figures import draw_over_k, draw_table
from tests.eval.drawn_figures import assert_is_picture, texts
from tests.eval.scored import document


def test_the_ladder_has_a_bar_for_each_row_and_whiskers_for_seeds(tmp_path, drawn):
    runs = [
        document("ablations/vanilla", seed, {"f1@50": 0.1 + seed / 50}, backbone="kgsf")
        for seed in range(3)
    ]
    table = build_table("5", [*runs, document("kgsf_hard")])
    draw_table(table, tmp_path / "a.png")
    assert_is_picture(tmp_path / "a.png")
    figure = drawn[0]
    axes = {ax.get_title(loc="left"): ax for ax in figure.axes}
    assert set(axes) == {"F1@1 ↑", "F1@10 ↑", "F1@50 ↑", "Rec Ratio ↑"}
    panel = axes["F1@50 ↑"]
    assert [bar.get_width() for bar in panel.patches] == pytest.approx([0.12, 0.155, 0.2, 0.253])
    assert [bar.get_facecolor() for bar in panel.patches][0] != panel.patches[1].get_facecolor()
    (whisker,) = (c for c in panel.containers if isinstance(c, ErrorbarContainer))
    low, high = whisker.lines[2][0].get_segments()[0][:, 0]
    assert (low, high) == pytest.approx((0.1, 0.14))  # .12 ± .02; the others have one seed
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels[:2] == ["ablations/vanilla-kgsf", "paper: Vanilla (on KGSF)"]
    found = texts(figure)
    assert ".120" in found and ".155" in found and ".253" in found


def test_columns_without_a_number_are_left_out(tmp_path, drawn):
    draw_table(build_table("2", [document("my_own")]), tmp_path / "a.png")
    assert [ax.get_title(loc="left") for ax in drawn[0].axes] == [
        "ReR@1 ↑",
        "F1@50 ↑",
        "Rec Ratio ↑",
    ]


def test_lines_over_k_have_bands_and_names(tmp_path, drawn):
    ours = {"f1@1": 0.1, "f1@10": 0.2, "f1@50": 0.3, "f1@50_novel": 0.9, "recall@1": 0.5}
    theirs = {"f1@1": 0.2, "f1@50": 0.25}
    draw_over_k(
        {"ours": ours, "theirs": theirs},
        tmp_path / "a.png",
        intervals={"ours": {"f1@50": (0.25, 0.35)}},
    )
    assert_is_picture(tmp_path / "a.png")
    (panel,) = drawn[0].axes  # recall has one cut-off only: no line
    assert list(panel.lines[0].get_xdata()) == [1, 10, 50]
    assert list(panel.lines[0].get_ydata()) == [0.1, 0.2, 0.3]
    assert [t.get_text() for t in drawn[0].legends[0].get_texts()] == ["ours", "theirs"]
    with pytest.raises(ValueError, match="expected two cut-offs"):
        draw_over_k({"a": {"f1@1": 0.1}}, tmp_path / "b.png")
