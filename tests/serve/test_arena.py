"""Blind rounds: nothing tells whose an answer is before the vote; votes are rated and exported."""

import csv
import json

import pytest

from conkd_jax import human
from conkd_jax.cli.command_line import UsageError
from conkd_jax.eval.predictions import read_predictions
from conkd_jax.serve import votes as program
from conkd_jax.serve.arena import Ballots
from conkd_jax.serve.database import DatabaseError
from conkd_jax.serve.limits import Settings
from conkd_jax.serve.server import Server
from conkd_jax.serve.systems import Systems
from tests.fixtures.programs import refused
from tests.fixtures.serving import running


@pytest.fixture(scope="module")
def arena(systems, tmp_path_factory):
    """A file with eight votes, and what was asked and told."""
    file, told = tmp_path_factory.mktemp("arena") / "votes.sqlite", []
    titles = systems[None].chat.system.corpus.items.titles
    with running(systems, arena=str(file)) as site:
        for number, choice in enumerate(["first", "second", "tie", "neither"] * 2):
            history = [{"role": "seeker", "text": f"I like {titles[number]}"}]
            body = {"history": history, "seed": number}
            round_ = site.client.post("/v1/arena/round", json=body).json()
            vote = {"round": round_["round"], "choice": choice, "voter": "=me"}
            voted = site.client.post("/v1/arena/vote", json=vote)
            told.append(
                (round_, choice, voted.json(), site.client.post("/v1/arena/vote", json=vote))
            )
        ratings = site.client.get("/v1/arena/ratings").json()["systems"]
        unknown = site.client.post("/v1/arena/vote", json={**vote, "round": "guess"})
    return file, told, ratings, unknown


def test_a_round_is_blind(arena, systems):
    _, told, _, unknown = arena
    for round_, _, voted, again in told:
        assert set(round_) == {"round", "answers"}
        assert all(set(answer) == {"text", "turn"} for answer in round_["answers"])
        assert not any(system.name in json.dumps(round_) for system in systems)
        assert sorted(voted["systems"]) == sorted(system.name for system in systems)
        assert again.status_code == 409
    assert unknown.status_code == 404


def test_wins_are_those_of_the_votes(arena, systems):
    _, told, ratings, _ = arena
    won = [
        voted["systems"][0 if choice == "first" else 1]
        for _, choice, voted, _ in told
        if choice in ("first", "second")
    ]
    for rating in ratings:
        assert (rating["rounds"], rating["ties"]) == (8, 4)
        assert rating["wins"] == won.count(rating["name"])
        assert rating["low"] <= rating["elo"] <= rating["high"]


def test_votes_are_exported_as_the_human_evaluation_reads_them(arena, call, tmp_path, systems):
    file, told, ratings, _ = arena
    code, output, errors = call(program, file, f"--out={tmp_path / 'out'}")
    assert code == 0, errors
    assert all(system.name in output for system in systems)
    rows = list(csv.DictReader((tmp_path / "out" / "votes.csv").read_text().splitlines()))
    assert [row["choice"] for row in rows] == [choice for _, choice, *_ in told]
    assert rows[0]["voter"] == "'=me"  # no formula
    assert json.loads((tmp_path / "out" / "ratings.json").read_text())["systems"] == ratings
    files = sorted((tmp_path / "out").glob("*.jsonl"))
    assert len(files) == 2
    by_round = {one.conversation_id: one for one in read_predictions(files[0])}
    for round_, _, voted, _ in told:
        place = 0 if files[0].stem == voted["systems"][0] else 1
        answer = by_round[round_["round"]]
        assert answer.generated == round_["answers"][place]["turn"]["text"] and answer.context
    code, output, errors = call(
        human, "export", *files, f"--out={tmp_path / 'study'}", "--num_contexts=8"
    )
    assert code == 0 and "8 contexts, 2 systems" in output, errors


def test_files_without_votes(call, tmp_path):
    refused(call(program, tmp_path / "none"), "expected a file of conkd-serve")
    refused(call(program), "expected one file")
    (tmp_path / "text").write_text("hello, this is no database at all")
    refused(call(program, tmp_path / "text"), "expected a database")
    Ballots(tmp_path / "empty").close()
    refused(call(program, tmp_path / "empty"), "no vote yet")


def test_votes_are_for_one_run_of_a_name(tmp_path):
    ballots = Ballots(tmp_path / "votes")
    ballots.expect_systems({"a": "1", "b": "2"})
    ballots.expect_systems({"a": "1", "c": "3"})
    with pytest.raises(DatabaseError, match="another run that is named b"):
        ballots.expect_systems({"b": "4"})
    ballots.close()


def test_an_arena_needs_two_systems(systems, tmp_path):
    one = Systems([systems[None].chat])
    with pytest.raises(UsageError, match="two runs or more"):
        Server(one, Settings(arena=str(tmp_path / "votes")))
    one.close()
