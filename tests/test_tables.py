"""The program: its options, what it prints, draws and writes."""

import json
from pathlib import Path

import pytest

from conkd_jax import tables as program
from conkd_jax.errors import UserError
from conkd_jax.eval.predictions import ContextTurn, write_predictions
from conkd_jax.eval.tables.pages import KEPT_RESULTS, PAGES, PLACEHOLDER, results_pages
from conkd_jax.io.files import sha256_of_file, write_json
from tests.eval import scored
from tests.eval.predicted import A, B, prediction
from tests.fixtures.programs import call_main


def document(config="dialogpt_hard", seed=0, **changes) -> dict:
    return scored.document(config, seed=seed, machine="a laptop", **changes)


def write(path: Path, content: dict | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, document() if content is None else content)
    return path


def called(*arguments, **options) -> None:
    """The program with its options set."""
    call_main(program, *arguments, **options)


# --- pages -----------------------------------------------------------------------------------


def test_pages_follow_the_runs_that_are_kept(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(program, "CHECKOUT", tmp_path)
    for name in PAGES:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("a\n<!-- results -->\n<!-- /results -->\nb\n")
    called(pages=True)
    for name in PAGES:
        assert PLACEHOLDER in (tmp_path / name).read_text()
    runs = [write(tmp_path / "runs" / str(k) / "metrics.json", document(seed=k)) for k in (0, 1)]
    called(*runs, keep=True)
    folder = "docs/results/mini/dialogpt_hard"
    assert capsys.readouterr().out.split() == [f"{folder}/seed0.json", f"{folder}/seed1.json"]
    called(pages=True)
    on_other_data = [name for name, page in PAGES.items() if page.results != KEPT_RESULTS]
    for name in on_other_data:
        assert PLACEHOLDER in (tmp_path / name).read_text()
    for name in PAGES.keys() - on_other_data:
        text = (tmp_path / name).read_text()
        assert "| `dialogpt_hard` |" in text and " ± 0.0" in text
        assert "made on a laptop" in text
        assert results_pages(tmp_path)[name] == text
    assert {path.name for path in tmp_path.iterdir()} == {"README.md", "docs", "runs"}


def test_a_page_without_a_place_for_results_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(program, "CHECKOUT", tmp_path)
    (tmp_path / "README.md").write_text("nothing\n")
    with pytest.raises(UserError, match=r"README.md: expected one '<!-- results -->'"):
        called(pages=True)
    assert (tmp_path / "README.md").read_text() == "nothing\n"


def test_a_broken_run_gets_one_message(tmp_path):
    broken = write(tmp_path / "metrics.json", {"a": 1})
    with pytest.raises(UserError, match="metrics.json: expected a metrics.json written by this"):
        called(broken, table="2")


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
    assert lines["rer@1"][1:4] == ["0.000", "0.500", "*+0.500"]
    assert float(lines["rer@1"][-1]) < 0.01
    assert lines["rec_ratio"][-1] == "1.000"
    assert "Paired over 20 dialogues" in out
    assert (tmp_path / "k.png").stat().st_size > 1000


def test_a_comparison_is_written_with_what_it_compares(tmp_path):
    runs = {"good": write_run(tmp_path / "good"), "bad": write_run(tmp_path / "bad", top=(B, A))}
    write(runs["bad"] / "metrics.json", document("dialogpt", metrics={"tf_hit@50": 0.1}))
    changes = {"metrics": {"tf_hit@50": 0.3}, "overrides": {"distill.gamma": 0.2}}
    write(runs["good"] / "metrics.json", document(**changes))
    file = tmp_path / "docs" / "bad_good.json"
    called(runs["bad"], runs["good"], compare=True, json=str(file))
    found = json.loads(file.read_text())
    assert [found[side]["name"] for side in ("first", "second")] == ["bad", "good"]
    assert found["second"]["label"] == "dialogpt_hard+gamma=0.2"
    for side, name in (("first", "bad"), ("second", "good")):
        predictions = runs[name] / "predictions.jsonl"
        assert found[side]["predictions_sha256"] == sha256_of_file(predictions)
        assert found[side]["config_sha256"] and found[side]["seed"] == 0
    assert (found["split"], found["n_dialogues"], found["n_responses"]) == ("valid", 20, 20)
    assert (found["num_resamples"], found["resampling_seed"]) == (1000, 0)
    assert {"f1@1", "f1@1_novel", "rer@1", "rec_ratio"} <= found["metrics"].keys()
    rer = found["metrics"]["rer@1"]
    assert (rer["first"], rer["second"], rer["difference"]) == (0, 0.5, 0.5)
    assert rer["interval"][0] > 0 and rer["p"] < 0.01
    hits = found["without_test"]["tf_hit@50"]
    assert hits == {"first": 0.1, "second": 0.3, "difference": pytest.approx(0.2)}
    assert found["command"] and found["machine"]


def test_files_of_other_systems_can_be_compared_into_a_file(tmp_path):
    runs = [write_run(tmp_path / name) for name in ("a", "b")]
    called(*runs, compare=True, json=str(tmp_path / "ab.json"))
    found = json.loads((tmp_path / "ab.json").read_text())
    assert found["first"].keys() == {"name", "predictions_sha256"}
    assert (found["split"], found["without_test"]) == ("", {})


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("one",), "expected two runs, got 1"),
        (("one", "nowhere"), r"nowhere: expected a predictions.jsonl, or a folder"),
        (("one", "one"), "expected runs with different names"),
        (("one", "other"), "one and other: paired test: expected two runs on the same responses"),
    ],
)
def test_runs_that_can_t_be_compared(tmp_path, names, message):
    write_run(tmp_path / "one")
    write_run(tmp_path / "other")
    shorter = (tmp_path / "other" / "predictions.jsonl").read_text().splitlines(keepends=True)[1:]
    (tmp_path / "other" / "predictions.jsonl").write_text("".join(shorter))
    with pytest.raises(UserError, match=message):
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
    with pytest.raises(UserError, match="line 1: field 'conversation_id': expected a value"):
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


def test_an_empty_line_ends_a_table_before_the_next(tmp_path, capsys):
    both = scored.document(metrics={"f1@10": 0.1, "f1@10_novel": 0.1})
    called(write(tmp_path / "metrics.json", both), table="2", format="markdown")
    before, after = capsys.readouterr().out.split("**Table 2. ")
    assert before.endswith("\n\n") and before.startswith("**Table 2 without") and after


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
        ([], {"table": "2"}, "expected runs"),
        (["a"], {"pages": True}, "takes no runs"),
        (["a"], {"table": "2", "compare": True}, "expected one of --table"),
        (["a"], {"table": "7", "figure": "f.png"}, "--figure needs a --table of numbers"),
        (["a"], {"table": "2", "json": "f.json"}, "--json needs --compare"),
        (["a"], {"keep": True, "figure": "f.png"}, "--figure needs"),
    ],
)
def test_unclear_calls_are_refused(runs, options, message):
    with pytest.raises(UserError, match=message):
        called(*runs, **options)
