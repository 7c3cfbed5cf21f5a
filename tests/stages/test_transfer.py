"""A trained system answers the dialogues of another source."""

import json
import shutil

import pytest

from conkd_jax import evaluate
from conkd_jax.data.corpus import Corpus
from conkd_jax.data.titles import readable_title
from conkd_jax.eval.predictions import read_predictions
from conkd_jax.runs.finished import Run


def turn(role: str, text: str, *movies: str) -> dict:
    """A turn of INSPIRED in UniCRS' file."""
    links = {"entity_link": [], "entity_name": [], "movie_link": [], "movie_name": []}
    return {"text": text, "role": role, "movie": list(movies), **links}


@pytest.fixture
def titles(small_world) -> list[str]:
    """The titles of the first movies of the world that was trained on."""
    corpus = Corpus.open(small_world.folder / "artifacts" / "corpus")
    return [readable_title(title) for title in corpus.items.titles[:3]]


@pytest.fixture
def run_folder(small_world, tmp_path, monkeypatch, titles):
    """A run, and INSPIRED's dev part with two movies of its world and one of another."""
    dialogue = [
        turn("SEEKER", "Hello, a film please"),
        turn("RECOMMENDER", f"I liked {titles[0].partition(' (')[0]}.", titles[0]),
        turn("SEEKER", "Seen it"),
        turn("RECOMMENDER", "Then Zzyzx Road", "Zzyzx Road (2006)"),
        turn("SEEKER", f"Or {titles[1].partition(' (')[0]}?", titles[1]),
        turn("RECOMMENDER", "Sure"),
    ]
    raw = tmp_path / "raw" / "inspired"
    raw.mkdir(parents=True)
    (raw / "dev.jsonl").write_text(json.dumps(dialogue) + "\n")
    monkeypatch.setenv("CONKD_RAW_DIR", str(tmp_path / "raw"))
    folder = tmp_path / "run"
    folder.mkdir()
    shutil.copy(small_world.folder / "config.json", folder)
    return folder


def test_a_run_answers_dialogues_of_another_source(call, run_folder, titles):
    code, output, errors = call(evaluate, f"--workdir={run_folder}", "--split=inspired_dev")
    assert code == 0, errors
    assert "on inspired_dev: 3 responses" in output
    folder = run_folder / "inspired_dev"
    document = json.loads((folder / "metrics.json").read_text())
    assert (document["split"], document["paper_row"]) == ("inspired_dev", "")
    found = document["transfer"]
    assert (found["movies"], found["movies_matched"]) == (3, {"same title and year": 2})
    assert (found["recommender_marked"], found["recommender_mentioned"]) == (2, 1)
    # The note stands below the table of this run.
    assert "Of 2 in turns of the recommender, 1 are such items" in " ".join(output.split())

    ids = Corpus.open(folder / "artifacts" / "corpus").items.item_ids.tolist()
    first, second, third = read_predictions(folder / "predictions.jsonl")
    assert first.reference == f"I liked @{ids[0]}." and first.reference_items == (ids[0],)
    assert second.reference == "Then Zzyzx Road" and second.reference_items == ()
    assert third.context[-1].text == f"Or @{ids[1]}?"
    assert third.mentioned_items == (ids[0], ids[1])

    run = Run.open(folder)  # which says its split, and has the system's own corpus with it
    assert run.split == run.own_split == "inspired_dev"
    scored, own = run.corpus, Corpus.open(run.directory("corpus"))
    assert set(scored.splits) == {"train", "inspired_dev"}
    assert scored.items.titles == own.items.titles
    assert (scored.graph.edges == own.graph.edges).all()
    assert (scored.mention_counts() == own.mention_counts()).all()


def test_a_source_without_a_common_movie_is_refused(call, run_folder, tmp_path):
    dialogue = [turn("SEEKER", "Hi"), turn("RECOMMENDER", "Zzyzx Road", "Zzyzx Road (2006)")]
    (tmp_path / "raw" / "inspired" / "dev.jsonl").write_text(json.dumps(dialogue) + "\n")
    code, _, errors = call(evaluate, f"--workdir={run_folder}", "--split=inspired_dev")
    assert code == 2 and "found none of 1" in errors


def test_a_part_that_is_not_there_is_named(call, run_folder):
    code, _, errors = call(evaluate, f"--workdir={run_folder}", "--split=inspired_test")
    assert code == 2 and "INSPIRED's test part was not found" in errors


# --- the real files ----------------------------------------------------------------------------


@pytest.mark.real_data
def test_how_many_movies_of_the_published_part_redial_has(raw_dir):
    from data_prep.graphs import read_movies
    from data_prep.inspired import MovieMatcher, find_part, read_part, with_mentions
    from data_prep.raw_dialogues import Problems

    file = raw_dir / "redial" / "movies_with_mentions.csv"
    movies = read_movies(file.read_bytes(), file.name)
    matcher = MovieMatcher(list(movies.values()))
    dialogues = read_part(find_part("dev", raw_dir), Problems())
    assert (len(dialogues), sum(len(d.messages) for d in dialogues)) == (99, 2053)
    titles = {title for d in dialogues for m in d.messages for title, _ in m.movies}
    ids = list(movies)
    items = {title: ids[match[0]] for title in titles if (match := matcher.find(title))}
    assert (len(titles), len(items)) == (324, 174)
    mentioned = sum(
        message.is_recommender
        for dialogue in dialogues
        for message, written in zip(
            dialogue.messages, with_mentions(dialogue, items)[1], strict=True
        )
        for title, _ in message.movies
        if title in written
    )
    assert mentioned == 138  # of 312
