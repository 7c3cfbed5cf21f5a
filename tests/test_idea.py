"""The figures of one response: their numbers are those of the run and of the paper's formulas."""

import json

import numpy as np
import pytest

from conkd_jax import idea
from conkd_jax.eval.figures.idea import FIGURES
from conkd_jax.eval.gate.responses import response_keys, response_name
from conkd_jax.runs.finished import Run
from tests.fixtures.programs import refused


@pytest.fixture(scope="module")
def run(small_world):
    return Run.open(small_world.folder, "valid")


def key_of(run, number: int) -> str:
    return response_name(response_keys(run.corpus, run.split)[number])


@pytest.fixture(scope="module")
def place(run):
    """The index of the first response with a movie among the tokens that can be decoded."""
    of, is_item = run.tokens["response_index"], run.tokens["is_item"]
    limit = run.config.decode.max_tokens
    return next(n for n in range(of.max() + 1) if is_item[of == n][:limit].any())


def test_the_numbers_are_the_run_s_and_the_paper_s(call, run, place, tmp_path):
    file, figures = tmp_path / "idea.json", tmp_path / "figures"
    options = [f"--response={key_of(run, place)}", f"--json={file}", f"--figures={figures}"]
    code, output, errors = call(idea, f"--workdir={run.home}", *options)
    assert code == 0, errors
    found = json.loads(file.read_text())
    of = np.flatnonzero(run.tokens["response_index"] == place)[: len(found["tokens"])]
    assert found["item_mass"] == pytest.approx(run.tokens["teacher_item_mass"][of], abs=1e-4)
    assert found["is_item"] == run.tokens["is_item"][of].tolist()
    eta, gamma = run.eta, run.config.distill.gamma
    assert found["gates"]["hard"] == [float(mass >= eta) for mass in found["item_mass"]]
    assert found["gates"]["soft"] == pytest.approx(found["item_mass"])
    for name in ("hard", "soft"):
        weight = found["gates"][name][found["place"]]
        for each in found["targets"]:
            mixed = (1 - weight) * each["dialogue_teacher"] + weight * each["recommender"]
            expected = (1 - gamma) * each["is_gold"] + gamma * mixed
            assert each[f"{name}_target"] == pytest.approx(expected, abs=1e-6), each["text"]
    assert all(not each["recommender"] for each in found["targets"] if not each["is_item"])
    assert sum(each["is_gold"] for each in found["targets"]) == 1
    drawn = {name: (figures / name).read_bytes() for name in FIGURES}
    again = tmp_path / "again"
    assert call(idea, f"--draw={file}", f"--figures={again}")[0] == 0
    assert drawn == {name: (again / name).read_bytes() for name in FIGURES}


def test_a_response_without_a_movie_is_refused(call, run):
    with_movie = {*run.tokens["response_index"][run.tokens["is_item"]].tolist()}
    number = next(n for n in range(len(response_keys(run.corpus, "valid"))) if n not in with_movie)
    options = [f"--workdir={run.home}", f"--response={key_of(run, number)}"]
    refused(call(idea, *options), "expected a response with an item")


@pytest.mark.parametrize(
    "options", [[], ["--workdir=a"], ["--workdir=a", "--response=1:1", "--draw=b"]]
)
def test_unclear_calls_are_refused(call, options):
    refused(call(idea, *options), "expected --workdir=RUN and --response")


def test_a_file_that_is_not_there_is_refused(call, tmp_path):
    refused(call(idea, f"--draw={tmp_path / 'none.json'}"), "expected a file of --json")
