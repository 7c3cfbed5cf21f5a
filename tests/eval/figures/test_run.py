"""Figures are drawn, hold what they were given, and take whatever people typed."""

import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread

from conkd_jax.eval.figures import run as figures
from conkd_jax.eval.tables import paper

HISTORY = [
    {"step": step, "loss": 9.0 - step / 100, **({"dev_nll": 4.5} if step % 200 == 0 else {})}
    for step in range(50, 801, 50)
]


@pytest.fixture
def drawn(monkeypatch):
    """Figures as they were saved, so that their contents can be looked at."""
    saved = []
    save = Figure.savefig

    def keep(figure, *args, **kwargs):
        saved.append(figure)
        return save(figure, *args, **kwargs)

    monkeypatch.setattr(Figure, "savefig", keep)
    return saved


def texts(figure: Figure) -> str:
    parts = [t.get_text() for ax in figure.axes for t in ax.texts]
    parts += [ax.get_title(loc=loc) for ax in figure.axes for loc in ("left", "center", "right")]
    parts += [t.get_text() for ax in figure.axes for t in ax.get_xticklabels()]
    return "\n".join(parts)


def assert_is_picture(path) -> None:
    pixels = imread(path)[..., :3]
    assert pixels.shape[0] > 200
    assert pixels.shape[1] > 200
    assert 0.5 < (pixels > 0.99).all(-1).mean() < 0.999  # mostly white, not all of it


def test_loss_curves_have_a_panel_for_each_metric(tmp_path, drawn):
    path = tmp_path / "loss.png"
    figures.loss_curves(HISTORY, path, title="student", best_step=400)
    assert_is_picture(path)
    assert len(drawn[0].axes) == 2
    loss, dev = drawn[0].axes
    assert loss.lines[0].get_ydata()[-1] == 1.0
    assert list(dev.lines[0].get_xdata()) == [200, 400, 600, 800]
    assert "kept, step 400" in texts(drawn[0])


def test_loss_curves_choose_metrics_and_skip_what_is_not_finite(tmp_path, drawn):
    history = [*HISTORY, {"step": 850, "loss": float("nan")}]
    figures.loss_curves(history, tmp_path / "a.png", names=["loss"])
    assert len(drawn[0].axes) == 1
    assert drawn[0].axes[0].lines[0].get_xdata()[-1] == 800
    with pytest.raises(ValueError, match="got none"):
        figures.loss_curves(history, tmp_path / "b.png", names=["accuracy"])


def test_metric_bars_stand_beside_the_papers(tmp_path, drawn):
    path = tmp_path / "bars.png"
    row = paper.paper_row("dialogpt_hard", "dialogpt").metrics
    ours = {name: value / 2 for name, value in row.items()}
    figures.metric_bars(ours, path, paper=row, intervals={"f1@50": (0.1, 0.15)}, title="F1")
    assert_is_picture(path)
    assert [ax.get_title(loc="left") for ax in drawn[0].axes] == ["ReR@k", "PrR@k", "F1@k"]
    heights = [patch.get_height() for patch in drawn[0].axes[2].patches]
    assert heights == pytest.approx([0.011, 0.022, 0.058, 0.116, 0.1215, 0.243])
    assert ".243" in texts(drawn[0])


def test_metric_bars_of_a_run_without_a_paper_row(tmp_path, drawn):
    ours = {"recall@10": 0.2, "recall@50": 0.4}
    figures.metric_bars(ours, tmp_path / "a.png", families=("recall", "f1"))
    assert len(drawn[0].axes) == 1
    assert len(drawn[0].axes[0].patches) == 2
    with pytest.raises(ValueError, match="expected some of"):
        figures.metric_bars({}, tmp_path / "b.png")


def test_the_same_numbers_make_the_same_file(tmp_path):
    for name in ("a", "b"):
        figures.loss_curves(HISTORY, tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
