"""The offset that makes systems recommend equally often: the search, and a run scored with it."""

import json

import pytest

from conkd_jax import evaluate
from conkd_jax.eval.document import document_label
from conkd_jax.eval.tables.build import build_table
from conkd_jax.eval.tables.documents import commit_path, read_documents
from conkd_jax.runs.finished import Answers, Run
from conkd_jax.stages.systems.rate_matching import TOLERANCE, WIDEST, bisect

# --- the search ------------------------------------------------------------------------------


def searched(rate, target: float) -> tuple[float, list[float]]:
    """The offset, and those that were tried."""
    tried: list[float] = []

    def recorded(offset: float) -> float:
        tried.append(offset)
        return rate(offset)

    return bisect(recorded, target), tried


@pytest.mark.parametrize("target", [0.01, 0.4, 0.5, 0.73, 3.0])
def test_the_rate_is_met_from_either_side(target):
    def rate(offset: float) -> float:
        return 0.5 * 1.3**offset

    offset, tried = searched(rate, target)
    assert rate(offset) == pytest.approx(target, rel=TOLERANCE)
    assert tried[0] == 0 and len(set(tried)) == len(tried) < 20


def test_a_rate_that_is_met_already_is_left_alone():
    assert searched(lambda offset: 0.5, 0.5) == (0.0, [0.0])


def test_a_rate_that_jumps_is_approached_from_the_nearer_side():
    offset, tried = searched(lambda offset: 0.9 if offset >= 1.3 else 0.1, target=0.8)
    assert 1.3 <= offset < 1.3 + 1 / 32
    assert len(tried) < 15
    offset, _ = searched(lambda offset: 0.9 if offset >= 1.3 else 0.1, target=0.2)
    assert offset == 0.0  # of those with .1


@pytest.mark.parametrize(("rate", "target"), [(0.2, 0.5), (0.5, 0.2)])
def test_a_rate_out_of_reach_ends_the_search(rate, target):
    offset, tried = searched(lambda offset: rate, target)
    assert offset == 0.0
    assert max(map(abs, tried)) == WIDEST


# --- a run -----------------------------------------------------------------------------------


@pytest.fixture
def matched(small_world, tmp_path, call):
    """A run that is scored with an offset; its folder, its document and what was printed."""
    (tmp_path / "config.json").write_text((small_world.folder / "config.json").read_text())
    code, output, errors = call(
        evaluate, f"--workdir={tmp_path}", "--match_rate", "--rate=2", "--split=valid"
    )
    assert code == 0, errors
    folder = tmp_path / "rate_matched"
    return folder, json.loads((folder / "metrics.json").read_text()), output


def test_a_run_names_as_many_items_as_asked(small_world, matched):
    folder, document, output = matched
    plain = json.loads((small_world.folder / "metrics.json").read_text())
    rate, metrics = document["rate"], document["metrics"]
    assert rate["target"] == metrics["items_per_response_aimed"] == 2
    assert rate["plain_dev_rate"] < rate["dev_rate"] == pytest.approx(2, abs=0.4)
    assert rate["split_rate"] == metrics["items_per_response"] == pytest.approx(2, abs=0.6)
    assert metrics["items_per_response"] > plain["metrics"]["items_per_response"]
    assert metrics["item_offset"] == rate["offset"] > 0
    assert metrics["ppl"] == plain["metrics"]["ppl"]  # of references: no offset there
    assert "2.000 aimed at" in output and str(folder) in output
    # It has a row, a name and a file of its own, which do not depend on the offset.
    assert document_label(document) == "small_world-dialogpt+rate-matched"
    assert commit_path(document).endswith("small_world-dialogpt+rate-matched/seed0.json")
    assert document["settings_sha256"] == plain["settings_sha256"]
    assert Answers.open(folder).name == f"{folder.parent.name}+rate-matched"
    assert Run.open(folder).config.decode.item_offset == rate["offset"]
    table = build_table("rate", read_documents([folder]))
    assert [row.label for group in table.groups for row in group] == [document_label(document)]
    assert "chosen on dev" in table.caption


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--workdir={run}", "--rate=1"], "--rate needs --match_rate"),
        (["--predictions=p.jsonl", "--match_rate"], "--match_rate needs --workdir"),
        (["--workdir={run}", "--match_rate", "--rate=0"], "expected more than 0 items"),
    ],
)
def test_what_can_t_be_matched(small_world, call, options, message):
    options = [option.format(run=small_world.folder) for option in options]
    code, _, errors = call(evaluate, *options)
    assert code == 2 and message in errors
