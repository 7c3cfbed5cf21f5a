"""The program: export, judge, collect, and one message for a mistake."""

import json
from pathlib import Path

import numpy as np
import pytest
from rich.cells import cell_len
from rich.text import Text

from conkd_jax import human as program
from conkd_jax.errors import UserError
from tests.eval import judged
from tests.eval.exported import fill, key, sent, write_run
from tests.fixtures.programs import call_main

SMALL = {"num_contexts": 4, "annotators": 2}


@pytest.fixture
def runs(tmp_path) -> list[Path]:
    return [write_run(tmp_path / "x" / name, name) for name in ("dialogpt", "dialogpt_hard")]


def called(*arguments, **options) -> None:
    """The program with its options set."""
    call_main(program, *arguments, **options)


def test_export_judge_collect(tmp_path, runs, capsys):
    out = tmp_path / "out"
    called("export", *runs, out=str(out), **SMALL)
    printed = capsys.readouterr().out
    assert "4 contexts, 2 systems, 2 annotators: 8 responses each." in printed
    assert f"Keep to yourself: {out}/key.json" in printed
    assert {path.name for path in out.iterdir()} == {"annotator_1", "annotator_2", "key.json"}
    assert {Path(name).name for name in sent(out)} == {
        "annotator_1.csv", "annotator_1.html", "annotator_2.csv", "annotator_2.html",
        "instructions.md",
    }  # fmt: skip
    called("collect", out, *fill(out, delimiter=";", encoding="utf-8-sig"))
    printed, text = capsys.readouterr().out, (out / "scores.md").read_text()
    for words in ("judged by 2 of 2 annotators", "paper: DialoGPT + ConKD (hard)", "1.894", "α"):
        assert words in " ".join(printed.split()), words
    document = json.loads((out / "scores.json").read_text())
    scores = judged.scores(key(out))
    for place, name in enumerate(judged.NAMES):
        system = document["systems"][place]
        assert system["name"] == name and f"| `{name}` |" in text
        means = [scores[:, :, place, scale].mean() for scale in range(3)]
        assert list(system["metrics"].values()) == pytest.approx([*means, np.mean(means)])
    assert "| paper: DialoGPT + ConKD (hard) | 1.894 |" in text
    assert not list(out.glob("*.partial"))


def test_scores_fit_a_terminal_of_80_columns(tmp_path, runs, monkeypatch, capsys):
    out = tmp_path / "out"
    called("export", *runs, out=str(out), **SMALL)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich then takes the output for a terminal
    monkeypatch.setenv("NO_COLOR", "1")
    capsys.readouterr()
    called("collect", out, *fill(out))
    printed = Text.from_ansi(capsys.readouterr().out).plain
    assert max(cell_len(line.rstrip()) for line in printed.splitlines()) <= 80
    for system in json.loads((out / "scores.json").read_text())["systems"]:
        for metric, (low, high) in system["intervals"].items():
            assert f"{system['metrics'][metric]:.3f} [{low:.3f}, {high:.3f}]" in printed, metric


def test_a_mistake_is_an_error_of_the_user(tmp_path, runs):
    out = str(tmp_path / "out")
    called("export", *runs, out=out, **SMALL)
    with pytest.raises(UserError, match=r"nothere.csv: expected a filled"):
        called("collect", out, tmp_path / "nothere.csv")
    with pytest.raises(UserError, match="expected a folder without a study"):
        called("export", *runs, out=out)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((), {}, "expected export or collect"),
        (("judge",), {}, "expected export or collect"),
        (("export",), {"out": "x"}, "expected runs and a folder"),
        (("export", "run"), {}, "expected runs and a folder"),
        (("collect", "DIR"), {}, "expected the folder of an export and sheets"),
    ],
)
def test_unclear_calls_are_refused(arguments, options, message):
    with pytest.raises(UserError, match=message):
        called(*arguments, **options)
