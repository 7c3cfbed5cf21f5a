"""Learning curves: which rows and lengths, what the summary says, and what the figure holds."""

import json
import math

import pytest

from conkd_jax import tables
from conkd_jax.eval.learning import Learning
from conkd_jax.eval.tables.curves import (
    COLORS,
    ITEM_PERPLEXITY,
    MOST_ROWS,
    PANELS,
    curves_document,
    curves_summary,
    draw_curves,
    read_curves,
)
from conkd_jax.eval.tables.table import TableError
from tests.eval.drawn_figures import assert_is_picture, texts
from tests.eval.scored import document

ITEMS = 997


def run(epochs=8, gain=0.1, turn=None, stage="student", length=None, **fields) -> dict:
    """A run whose hit@50 gains evenly, and whose NLL turns after an epoch."""
    turn = turn or epochs
    lines = [
        {
            "step": epoch * 100,
            "dev_nll": 4 + abs(epoch - turn) / 10,
            "dev_nll_word": 3.5,
            "dev_nll_item": 9.0 - epoch / epochs,
            "dev_tf_hit@10": round(ITEMS * gain * epoch / epochs / 2) / ITEMS,
            "dev_tf_hit@50": round(ITEMS * (0.1 + gain * epoch / epochs)) / ITEMS,
        }
        for epoch in range(1, epochs + 1)
    ]
    kept = turn if stage == "dialogue_teacher" else epochs
    learning = Learning.of(lines, epochs=epochs, kept_step=kept * 100)
    assert learning is not None
    overrides = {} if length is None else {f"{stage}.epochs": length}
    overrides |= fields.pop("overrides", {})
    return {**document(overrides=overrides, **fields), "learning": {stage: learning.to_dict()}}


def test_a_row_holds_its_lengths_whatever_order_they_come_in():
    longer = run(epochs=16, length=16)
    other = run(config="kgsf_hard", overrides={"distill.gamma": 0.2})
    curves = read_curves([longer, other, run(preset="mini")])
    assert [curve.row for curve in curves] == [
        "dialogpt_hard (mini)",
        "dialogpt_hard (mini)",
        "kgsf_hard+gamma=0.2 (mini)",
    ]
    assert [curve.learning.epochs for curve in curves] == [8, 16, 8]
    assert curves[0].scores[ITEM_PERPLEXITY][-1] == pytest.approx(math.exp(8.0))


def test_a_student_s_scores_come_before_its_teacher_s():
    both = run()
    both["learning"]["dialogue_teacher"] = run(epochs=4)["learning"]["student"]
    (curve,) = read_curves([both])
    assert (curve.stage, curve.learning.epochs) == ("student", 8)
    (curve,) = read_curves([run(stage="dialogue_teacher", epochs=4)])
    assert (curve.stage, curve.learning.epochs) == ("dialogue_teacher", 4)


def test_what_can_t_be_drawn_is_refused():
    with pytest.raises(TableError, match="run conkd_jax.train again"):
        read_curves([document()])
    with pytest.raises(TableError, match="expected each run once"):
        read_curves([run(), run()])
    assert len(read_curves([run(), run(seed=1), run(seed=1, teacher_seed=1)])) == 3
    many = [run(config=f"row{number}") for number in range(MOST_ROWS + 1)]
    with pytest.raises(TableError, match=f"at most {MOST_ROWS} rows, got {len(many)}"):
        read_curves(many)


def test_the_summary_says_where_curves_turn_and_fits_a_terminal():
    rising = run(epochs=8, gain=0.4, turn=6)
    flat = run(epochs=16, gain=0.0, length=16, seed=2, teacher_seed=2)
    teacher = run(
        config="dialogpt", stage="dialogue_teacher", turn=5, gain=0.0, overrides={"a" * 90: 1}
    )
    lines = curves_summary(read_curves([flat, rising, teacher]))
    assert all(len(line) <= 80 for line in lines)
    rows = [line.split() for line in lines if line.startswith("      ")]
    assert rows[0] == "8 6 8 4.200 3.500 8.000 2,981 0.200 0.499 rises".split()
    assert rows[1] == "16 16 1 4.000 3.500 8.000 2,981 0.000 0.100".split()
    assert rows[2] == ["seed2-teachers2"]
    assert rows[3][:3] == ["8", "5", "1"]
    assert rows[4] == ["kept:", "5"]


def test_the_figure_has_a_colour_for_each_row_and_a_style_for_each_length(tmp_path, drawn):
    runs = [run(), run(epochs=32, length=32), run(config="kgsf_hard")]
    curves = read_curves(runs)
    draw_curves(curves, tmp_path / "a.png")
    assert_is_picture(tmp_path / "a.png")
    (figure,) = drawn
    assert all(title in texts(figure) for title in PANELS.values())
    hit, nll = figure.axes[1], figure.axes[2]
    lines = [line for line in hit.lines if len(line.get_xdata()) > 1]
    assert [list(line.get_ydata()) for line in lines] == [
        list(curve.scores["tf_hit@50"]) for curve in curves
    ]
    colors, styles = ([getattr(line, f"get_{k}")() for line in lines] for k in ("color", "ls"))
    assert colors[0] == colors[1] != colors[2]
    assert styles[0] == styles[2] != styles[1]
    marked = [line for line in nll.lines if len(line.get_xdata()) == 1]
    assert [line.get_xdata()[0] for line in marked] == [8, 32, 8]
    assert hit.get_xscale() == "log"
    names = [text.get_text() for legend in figure.legends for text in legend.get_texts()]
    assert names == [
        "dialogpt_hard (mini)",
        "kgsf_hard (mini)",
        "8 epochs",
        "32 epochs",
        "best of its curve",
    ]
    draw_curves(curves, tmp_path / "b.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_rows_of_one_colour_have_other_markers(tmp_path, drawn):
    curves = read_curves([run(config=f"row{number:02}") for number in range(MOST_ROWS)])
    draw_curves(curves, tmp_path / "a.png")
    (figure,) = drawn
    lines = [line for line in figure.axes[0].lines if len(line.get_xdata()) > 1]
    assert len({(line.get_color(), line.get_marker()) for line in lines}) == MOST_ROWS
    assert len({line.get_color() for line in lines}) == len(COLORS)
    explained = figure.legends[0].get_lines()
    assert [(line.get_color(), line.get_marker()) for line in explained] == [
        (line.get_color(), line.get_marker()) for line in lines
    ]


def test_runs_without_scores_are_named_and_the_others_shown(call, tmp_path):
    for name, made in (("old", document(seed=3)), ("new", run()), ("other", run(seed=1))):
        (tmp_path / name).mkdir()
        (tmp_path / name / "metrics.json").write_text(json.dumps(made))
    code, output, errors = call(
        tables, "--curves", tmp_path, f"--json={tmp_path}/c.json", f"--figure={tmp_path}/c.png"
    )
    assert code == 0, errors
    assert len(json.loads((tmp_path / "c.json").read_text())["curves"]) == 2
    assert "Without dev scores:\n  dialogpt_hard (mini), seed3\n" in output
    assert "conkd_jax.train again" in output
    assert all(len(line) <= 80 for line in output.splitlines())
    code, _, errors = call(tables, "--curves", tmp_path / "old")
    assert code == 2 and "expected runs with dev scores, got none" in errors
    assert "dialogpt_hard (mini), seed3" in errors


def test_the_points_are_kept_as_json():
    curves = read_curves([run(gain=0.4)])
    value = json.loads(json.dumps(curves_document(curves, command="made by hand")))
    (curve,) = value["curves"]
    assert curve["row"] == "dialogpt_hard (mini)" and curve["seeds"] == "seed0"
    assert curve["scores"][ITEM_PERPLEXITY] == list(curves[0].scores[ITEM_PERPLEXITY])
    assert curve["at"] == list(range(1, 9)) and curve["still_rises"] is True


def test_the_program_writes_what_is_asked_for(call, tmp_path):
    for name, made in (("short", run()), ("long", run(epochs=16, length=16))):
        (tmp_path / name).mkdir()
        (tmp_path / name / "metrics.json").write_text(json.dumps(made))
    files = [f"--json={tmp_path}/new/c.json", f"--figure={tmp_path}/c.png"]
    code, output, errors = call(tables, "--curves", tmp_path / "short", tmp_path / "long", *files)
    assert code == 0, errors
    assert output.startswith("Dev scores.")
    assert len(json.loads((tmp_path / "new" / "c.json").read_text())["curves"]) == 2
    assert_is_picture(tmp_path / "c.png")
