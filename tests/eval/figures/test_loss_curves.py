"""Loss curves are drawn, and hold what they were given."""

import pytest

from conkd_jax.eval.figures import loss_curves
from conkd_jax.eval.figures.loss_curves import draw_loss_curves
from tests.eval.drawn_figures import assert_is_picture, texts

HISTORY = [
    {"step": step, "loss": 9.0 - step / 100, **({"dev_nll": 4.5} if step % 200 == 0 else {})}
    for step in range(50, 801, 50)
]


def test_loss_curves_have_a_panel_for_each_metric(tmp_path, drawn):
    path = tmp_path / "loss.png"
    draw_loss_curves(HISTORY, path, title="student", best_step=400)
    assert_is_picture(path)
    assert len(drawn[0].axes) == 2
    loss, dev = drawn[0].axes
    assert loss.lines[0].get_ydata()[-1] == 1.0
    assert list(dev.lines[0].get_xdata()) == [200, 400, 600, 800]
    assert "kept, step 400" in texts(drawn[0])


def test_loss_curves_choose_metrics_and_skip_what_is_not_finite(tmp_path, drawn):
    history = [*HISTORY, {"step": 850, "loss": float("nan")}]
    draw_loss_curves(history, tmp_path / "a.png", names=["loss"])
    assert len(drawn[0].axes) == 1
    assert drawn[0].axes[0].lines[0].get_xdata()[-1] == 800
    with pytest.raises(ValueError, match="got none"):
        draw_loss_curves(history, tmp_path / "b.png", names=["accuracy"])


def test_the_same_numbers_make_the_same_file(tmp_path):
    for name in ("a", "b"):
        draw_loss_curves(HISTORY, tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_short_windows_make_no_kinks():
    steps, values = [24, 48, 50, 72, 96, 98], [5.0, 3.0, 9.0, 2.0, 1.0, 9.0]
    found = loss_curves._without_short_windows(steps, values, 0)
    assert found == ([24, 48, 72, 98], [5.0, 3.0, (9 * 2 + 2 * 22) / 24, (1 * 24 + 9 * 2) / 26])
    parted = loss_curves._without_short_windows([10, 20, 22, 30], [1.0, 1.0, 1.0, 5.0], 22)
    assert parted == ([10, 20, 22, 30], [1.0, 1.0, 1.0, 5.0])  # not across a change of the loss


def test_a_step_that_was_done_twice_counts_once():
    history = [{"step": 1, "loss": 3.0}, {"step": 2, "loss": 9.0}, {"step": 2, "loss": 2.0}]
    assert loss_curves._series(history, None) == {"loss": ([1, 2], [3.0, 2.0])}
