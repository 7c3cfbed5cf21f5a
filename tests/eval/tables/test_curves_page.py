"""The table of learning curves says for each system what dev said at the end."""

import pytest

from conkd_jax.eval.learning import Learning
from conkd_jax.eval.tables.curves import curves_document, read_curves
from conkd_jax.eval.tables.curves_page import HEAD, curves_section
from conkd_jax.eval.tables.table import TableError
from tests.eval.scored import document

ITEMS = 997


def run(nll, hits, config="kbrd", **fields) -> dict:
    lines = [
        {
            "step": 100 * (n + 1),
            "dev_nll": score,
            "dev_nll_item": 9.0,
            "dev_tf_hit@10": round(ITEMS * hit / 2) / ITEMS,
            "dev_tf_hit@50": round(ITEMS * hit) / ITEMS,
        }
        for n, (score, hit) in enumerate(zip(nll, hits, strict=True))
    ]
    learning = Learning.of(lines, epochs=len(lines), kept_step=100 * len(lines))
    assert learning is not None
    made = document(config=config, **fields)
    return {**made, "learning": {"dialogue_teacher": learning.to_dict()}}


def rows(text: str) -> dict[str, dict[str, str]]:
    lines = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| `")]
    return {label: dict(zip(HEAD[1:], values, strict=True)) for label, *values in lines}


def test_a_line_says_what_dev_said():
    runs = [
        run([4.0, 3.9, 3.8, 3.75], [0.2, 0.2, 0.2, 0.4]),
        run([4.0, 3.7, 3.8, 3.85], [0.3, 0.3, 0.3, 0.3], config="kgsf"),
        run([4.0], [0.1], config="dialogpt"),
        run([4.0, 3.9], [0.3, 0.3], config="ablations/vanilla"),
    ]
    points = curves_document(read_curves(runs), command="made by hand")
    without = document(config="revcore", backbone="revcore")
    text = curves_section(points, "figures/c.png", [*runs[:3], without])
    found = rows(text)
    assert list(found) == ["`kbrd-dialogpt`", "`kgsf`", "`dialogpt`"]  # the page has no ablation
    assert found["`kbrd-dialogpt`"] == {
        "epochs": "4",
        "NLL lowest after": "4",
        "NLL": "3.750",
        "in the last epoch": "−0.050",
        "hit@10": "0.200",
        "hit@50": "0.400",
        "NLL still fell": "yes",
        "hit@50 still rose": "yes",
    }
    turned = found["`kgsf`"]
    assert (turned["NLL lowest after"], turned["in the last epoch"]) == ("2", "+0.050")
    assert (turned["NLL still fell"], turned["hit@50 still rose"]) == ("no", "no")
    assert found["`dialogpt`"]["NLL still fell"] == found["`dialogpt`"]["in the last epoch"] == "–"
    assert "](figures/c.png)" in text
    assert text.endswith("Without curves, since they were not recorded in training: `revcore`.")


def test_trainings_of_one_system_are_told_apart():
    runs = [run([4.0, 3.9], [0.3, 0.3], seed=n, teacher_seed=n) for n in (0, 1)]
    points = curves_document(read_curves(runs), command="made by hand")
    text = curves_section(points, "c.png", runs)
    assert list(rows(text)) == ["`kbrd-dialogpt`", "`kbrd-dialogpt` seed1-teachers1"]
    assert "Without" not in text


@pytest.mark.parametrize("points", [{}, {"curves": [{"row": "kbrd (mini)"}]}])
def test_another_file_is_refused(points):
    with pytest.raises(TableError, match="expected the JSON of `conkd_jax.tables --curves`"):
        curves_section(points, "c.png", [document()])
