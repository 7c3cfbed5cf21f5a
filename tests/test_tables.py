"""The tables program: which files it reads, what it keeps, and that README shows what is kept."""

import json
from pathlib import Path

import pytest
from absl import app, flags
from absl.testing import flagsaver

from conkd_jax import tables as program
from conkd_jax.eval import report
from conkd_jax.eval.predictions import ContextTurn, write_predictions
from conkd_jax.eval.tables import formats as table_formats
from conkd_jax.eval.tables.build import TableError, commit_path
from tests.eval.predicted import A, B, prediction

ROOT = Path(__file__).resolve().parents[1]


def document(config="dialogpt_hard", seed=0, **changes) -> dict:
    arguments = {
        "config_name": config,
        "preset": "mini",
        "backbone": "dialogpt",
        "split": "valid",
        "seed": seed,
        "config_sha256": report.config_sha256({}),
        "counts": {"responses": 10},
        "metrics": {"rer@1": 0.01, "ppl": 10.0, "lambda_r": 0.4},
        "command": "/opt/x/conkd_jax/train.py --config=configs/dialogpt_hard.py:mini",
        "machine": "a laptop",
        "git": "abc1234",
    }
    return report.metrics_json(**(arguments | changes))


def write(path: Path, content: dict | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    report.write_json(path, document() if content is None else content)
    return path


def called(*runs, **options) -> None:
    """The program with its options set."""
    if not flags.FLAGS.is_parsed():
        flags.FLAGS(["tables"])
    with flagsaver.flagsaver(**options):
        program.main(["tables", *map(str, runs)])


# --- the pages that show results -------------------------------------------------------------


@pytest.mark.parametrize("name", program.PAGES)
def test_a_page_shows_what_is_committed(name):
    shown = (ROOT / name).read_text(encoding="utf-8")
    assert program.pages(ROOT)[name] == shown, "run python -m conkd_jax.tables --pages"


def test_what_is_committed_lies_where_it_says():
    for path in (ROOT / "docs" / "results").rglob("seed*.json"):
        kept = json.loads(path.read_text(encoding="utf-8"))
        assert commit_path(kept) == path.relative_to(ROOT).as_posix()


def test_pages_follow_the_runs_that_are_kept(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(program, "CHECKOUT", tmp_path)
    for name in program.PAGES:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("a\n<!-- results -->\n<!-- /results -->\nb\n")
    called(pages=True)
    for name in program.PAGES:
        assert table_formats.PLACEHOLDER in (tmp_path / name).read_text()
    runs = [write(tmp_path / "runs" / str(k) / "metrics.json", document(seed=k)) for k in (0, 1)]
    called(*runs, keep=True)
    folder = "docs/results/mini/dialogpt_hard"
    assert capsys.readouterr().out.split() == [f"{folder}/seed0.json", f"{folder}/seed1.json"]
    called(pages=True)
    for name in program.PAGES:
        text = (tmp_path / name).read_text()
        assert "| `dialogpt_hard` |" in text and " ± 0.0" in text
        assert "made on a laptop" in text
        assert program.pages(tmp_path)[name] == text
    assert {path.name for path in tmp_path.iterdir()} == {"README.md", "docs", "runs"}


def test_a_page_without_a_place_for_results_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(program, "CHECKOUT", tmp_path)
    (tmp_path / "README.md").write_text("nothing\n")
    with pytest.raises(SystemExit, match=r"README.md: expected one '<!-- results -->'"):
        called(pages=True)
    assert (tmp_path / "README.md").read_text() == "nothing\n"


# --- runs -----------------------------------------------------------------------------------


def test_a_run_is_a_file_a_folder_or_a_folder_of_them(tmp_path):
    hard = write(tmp_path / "runs" / "hard" / "metrics.json")
    write(tmp_path / "runs" / "hard" / "test" / "metrics.json", document(split="test"))
    soft = write(tmp_path / "runs" / "deep" / "soft" / "seed1.json", document("dialogpt_soft", 1))
    write(tmp_path / "runs" / ".hidden" / "metrics.json")
    write(tmp_path / "runs" / "deep" / "config.json", {})
    assert program.read_runs([hard]) == program.read_runs([hard.parent]) == [document()]
    both = program.read_runs([tmp_path / "runs"])
    assert [d["config"] for d in both] == ["dialogpt_soft", "dialogpt_hard"]
    assert program.read_runs([soft, tmp_path / "runs", soft]) == both  # each file once
    assert program.read_runs([hard.parent / "test"])[0]["split"] == "test"


def test_what_is_no_run_gets_one_message(tmp_path):
    for missing in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(TableError, match="expected a metrics.json, the folder of a run"):
            program.read_runs([missing])
    broken = tmp_path / "metrics.json"
    for content in (b"{", b"\xff\xfe"):
        broken.write_bytes(content)
        with pytest.raises(TableError, match="it is no JSON"):
            program.read_runs([broken])
    write(broken, {"a": 1})
    with pytest.raises(SystemExit, match="metrics.json: expected a metrics.json that conkd_jax"):
        called(broken, table="2")


def test_kept_runs_name_no_folder_and_hold_their_place(tmp_path):
    run = document(command="/opt/x/conkd_jax/train.py --workdir=/disk/1")
    assert program.keep([run], tmp_path) == ["docs/results/mini/dialogpt_hard/seed0.json"]
    kept = json.loads((tmp_path / commit_path(run)).read_text())
    assert kept == run | {"command": "python -m conkd_jax.train --workdir=DIR"}
    program.keep([document(metrics={"ppl": 9.0})], tmp_path)  # the same split: a newer run
    with pytest.raises(TableError, match=r"seed0.json holds scores on valid, the run has test"):
        program.keep([document(split="test")], tmp_path)
    with pytest.raises(TableError, match="one run for each file, got two"):
        program.keep([document(seed=5), document(seed=5)], tmp_path)
    assert not (tmp_path / "docs/results/mini/dialogpt_hard/seed5.json").exists()


# --- predictions ----------------------------------------------------------------------------


def write_run(folder: Path, top=(A, B), **fields) -> Path:
    """A run's folder with 20 responses, half of them with an item."""
    folder.mkdir()
    run = [
        prediction(
            1,
            gold=(A,),
            tops=[top] if i % 2 else [],
            dialogue=str(i),
            context=(ContextTurn("seeker", "something with cats"),),
            **fields,
        )
        for i in range(20)
    ]
    write_predictions(folder / "predictions.jsonl", run)
    return folder


def test_two_runs_are_compared(tmp_path, capsys):
    good, bad = write_run(tmp_path / "good"), write_run(tmp_path / "bad", top=(B, A))
    called(bad, good / "predictions.jsonl", compare=True, figure=str(tmp_path / "k.png"))
    out = capsys.readouterr().out
    lines = {line.split()[0]: line.split() for line in out.splitlines() if line.split()}
    assert lines["rer@1"][1:4] == ["0.000", "0.500", "+0.500"]
    assert float(lines["rer@1"][-1]) < 0.01
    assert lines["rec_ratio"][-1] == "1.000"
    assert "Paired over 20 dialogues" in out
    assert (tmp_path / "k.png").stat().st_size > 1000


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("one",), "expected two runs, got 1"),
        (("one", "nowhere"), r"nowhere: expected a predictions.jsonl, or the folder of a run"),
        (("one", "one"), "expected runs of different names"),
        (("one", "other"), "one and other: paired test: expected two runs on the same responses"),
    ],
)
def test_runs_that_can_t_be_compared(tmp_path, names, message):
    write_run(tmp_path / "one")
    write_run(tmp_path / "other")
    shorter = (tmp_path / "other" / "predictions.jsonl").read_text().splitlines(keepends=True)[1:]
    (tmp_path / "other" / "predictions.jsonl").write_text("".join(shorter))
    with pytest.raises(SystemExit, match=message):
        called(*(tmp_path / name for name in names), compare=True)


@pytest.mark.parametrize("table", program.SAMPLE_TABLES)
@pytest.mark.parametrize(
    ("form", "start"),
    [("terminal", "1. Conversation 0"), ("markdown", "## 1. "), ("latex", r"\begin{table*}")],
)
def test_samples_are_shown_side_by_side(tmp_path, capsys, table, form, start):
    write_run(tmp_path / "mine")
    write_run(tmp_path / "theirs", item_steps=None)
    called(tmp_path / "mine", tmp_path / "theirs", table=table, format=form)
    out = capsys.readouterr().out
    assert out.startswith(start)
    assert out.count("something with cats") == program.NUM_SAMPLES
    assert "mine" in out and "theirs" in out and f"@{A}" in out


def test_a_broken_predictions_file_gets_one_message(tmp_path):
    path = write_run(tmp_path / "a") / "predictions.jsonl"
    path.write_text("{}\n")
    with pytest.raises(SystemExit, match="line 1: field 'conversation_id': expected a value"):
        called(tmp_path / "a", table="7")


def test_a_table_is_drawn(tmp_path):
    figure = tmp_path / "ladder.png"
    called(write(tmp_path / "metrics.json"), table="3", figure=str(figure))
    assert figure.stat().st_size > 1000


# --- the command line -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("form", "start"),
    [("terminal", " "), ("markdown", "**Table 3"), ("latex", r"\begin{table*}")],
)
def test_every_format_is_printed_whole(tmp_path, capsys, form, start):
    called(write(tmp_path / "metrics.json"), table="3", format=form)
    out = capsys.readouterr().out
    assert out.startswith(start)
    assert "10.00" in out and "12.41" in out and "a laptop" in out


def test_a_wide_table_is_not_squeezed(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    called(write(tmp_path / "metrics.json"), table="gate")
    line = next(line for line in capsys.readouterr().out.splitlines() if "dialogpt_hard" in line)
    assert len(line.split()) == 12


@pytest.mark.parametrize(
    ("runs", "options", "message"),
    [
        (["a"], {}, "expected one of --table"),
        (["a"], {"table": "2", "keep": True}, "expected one of --table"),
        ([], {"table": "2"}, "expected a run"),
        (["a"], {"pages": True}, "takes no runs"),
        (["a"], {"table": "2", "compare": True}, "expected one of --table"),
        (["a"], {"table": "7", "figure": "f.png"}, "--figure goes with a --table of numbers"),
        (["a"], {"keep": True, "figure": "f.png"}, "--figure goes with"),
    ],
)
def test_calls_that_ask_for_nothing_clear_are_refused(runs, options, message):
    with pytest.raises(app.UsageError, match=message):
        called(*runs, **options)
