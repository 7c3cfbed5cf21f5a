"""A release answers as its run does, from its name alone, and nothing of a dialogue is in it."""

import hashlib
import subprocess
import tarfile

import numpy as np
import pytest

from conkd_jax.chat import Chat
from conkd_jax.chat.explanation import explain
from conkd_jax.data.corpus import responses
from conkd_jax.export.release import with_nodes, write_release
from conkd_jax.io.integrity import DamagedError
from conkd_jax.runs.finished import RunError
from conkd_jax.runs.released import HOME, ReleasedRun, open_run
from tests.fixtures.exports import run_of

NAME = "conkd/tiny"


@pytest.fixture(scope="module", params=["dialogpt", "kgsf"])
def run(request, small_world):
    return run_of(small_world, request.param)


@pytest.fixture(scope="module")
def folder(run, tmp_path_factory):
    """The folder of an exact release."""
    folder = tmp_path_factory.mktemp("release")
    write_release(run, folder, NAME, "float32")
    return folder


@pytest.fixture(scope="module")
def home(folder, tmp_path_factory):
    """A folder of releases with the release in it, as a user unpacks it."""
    home = tmp_path_factory.mktemp("home")
    (home / "releases").mkdir()
    command = ["tar", "-xf", str(folder / "tiny.tar.xz"), "-C", str(home / "releases")]
    subprocess.run(command, check=True)
    return home


@pytest.fixture
def at_home(home, monkeypatch):
    monkeypatch.setenv(HOME, str(home))


def histories(run, count=12):
    dialogues = run.corpus.dialogues("valid")
    return [d.turns[:turn] for d in dialogues for turn in responses(d)][:count]


def test_a_name_opens_the_release(run, at_home):
    asked = histories(run)
    release = Chat.open(NAME, batch_size=4, warm=False)
    assert isinstance(release.run, ReleasedRun) and NAME in release.run.title
    answers = release.respond_all(asked)
    own = Chat.open(run, batch_size=4, warm=False).respond_all(asked)
    assert len({answer.turn.text for answer in answers}) > 2
    for ours, theirs in zip(answers, own, strict=True):
        assert (ours.ids, ours.tag, ours.items) == (theirs.ids, theirs.tag, theirs.items)
        assert ours.tokens == theirs.tokens  # with probabilities and λ


def test_free_text_is_understood_as_by_the_run(run, at_home):
    ours, theirs = Chat.open(NAME, warm=False), Chat.open(run, warm=False)
    titles = run.corpus.items.titles
    texts = [f"I liked {titles[3]}, {titles[8].split(' (')[0]} and {titles[20].lower()}!"]
    texts += [turn.text for d in run.corpus.dialogues("valid")[:10] for turn in d.turns]
    texts += [name for name in run.corpus.entity_names if name]
    readings = [ours.read(text) for text in texts]
    assert sum(len(reading.links) for reading in readings) > 20
    assert readings == [theirs.read(text) for text in texts]


def test_an_explanation_lacks_the_recommender_alone(run, at_home):
    chat = Chat.open(NAME, warm=False)
    found = explain(chat, ["Hi! I like movies"], chat.respond(["Hi! I like movies"]))
    assert list(found.rankings) == ["dialogue teacher", "this system"]


def test_no_text_of_a_dialogue_is_in_the_archive(run, folder):
    with tarfile.open(folder / "tiny.tar.xz") as archive:
        names = archive.getnames()
        content = b"".join(archive.extractfile(name).read() for name in names)
    assert all(name.startswith(f"{NAME}/") for name in names)
    assert not any("dialogues" in name for name in names)
    spoken = [turn.text for d in run.corpus.dialogues("train") for turn in d.turns]
    spoken = [text for text in spoken if len(text.split()) > 4]
    assert len(spoken) > 50
    assert not [text for text in spoken if text.encode() in content]


def test_the_hashes_are_those_of_the_archive(folder):
    (line,) = (folder / "SHA256SUMS").read_text().splitlines()
    digest, name = line.split()
    assert digest == hashlib.sha256((folder / name).read_bytes()).hexdigest()


def test_a_rounded_release_is_smaller_and_says_what_it_costs(run, folder, tmp_path):
    archive = write_release(run, tmp_path, NAME, "int8")
    assert archive.stat().length < 0.8 * (folder / archive.name).stat().st_size
    card = (tmp_path / "README.md").read_text()
    table = card.partition("| | run | release |")[2]
    assert "perplexity per token" in table and "word for word" in table
    exact = (folder / "README.md").read_text()
    own, released = costs_in(exact, "perplexity per token")
    assert own == pytest.approx(released, abs=2e-3) and own > 1
    assert costs_in(exact, "F1@10")[0] == costs_in(exact, "F1@10")[1] == costs_in(card, "F1@10")[0]
    assert f1_of(run) == pytest.approx(costs_in(exact, "F1@10")[0], abs=1e-3)
    assert f1_of(run) > 0 or run.config.backbone == "kgsf"  # which names no right item here


def test_a_small_release_answers_without_its_teacher(run, folder, tmp_path):
    archive = write_release(run, tmp_path, NAME, "float32", is_small=True)
    assert archive.stat().length < 0.9 * (folder / archive.name).stat().st_size
    subprocess.run(["tar", "-xf", str(archive), "-C", str(tmp_path)], check=True)
    release = ReleasedRun.of_folder(tmp_path / NAME)
    assert not release.system.has_teacher and run.system.has_teacher
    asked = histories(run)
    small, own = (Chat.open(each, batch_size=4, warm=False) for each in (release, run))
    answers, expected = small.respond_all(asked), own.respond_all(asked)
    same = sum(a.turn.text == b.turn.text for a, b in zip(answers, expected, strict=True))
    # The others have a context with a concept that training does not mention.
    assert same == len(asked) or (run.config.backbone == "kgsf" and same > len(asked) / 2)
    for history, ours in zip(asked, answers, strict=True):
        assert {token.teacher_mass for token in ours.tokens} <= {None}
        assert set(explain(small, history, ours).rankings) <= {"this system"}
    card = (tmp_path / "README.md").read_text()
    assert "λ and the rankings of the two teachers, which it leaves out" in " ".join(card.split())


def test_a_small_release_has_the_vectors_of_concepts_that_training_mentions(run):
    if "graph" not in (frozen := run.system.model.frozen):
        return
    concepts = {node for d in run.corpus.dialogues("train") for t in d.turns for node in t.concepts}
    kept = with_nodes(frozen, {"concepts": sorted(concepts)[::2]})["graph"]
    whole, rows = frozen["graph"], np.asarray(frozen["graph"]["concept_rows"])
    found = np.flatnonzero(kept["concept_rows"] >= 0)
    assert found.tolist() == [node for node in sorted(concepts)[::2] if rows[node] >= 0]
    for name in ("concepts", "concept_energies"):
        np.testing.assert_array_equal(
            kept[name][kept["concept_rows"][found]], np.asarray(whole[name])[rows[found]]
        )
    assert len(kept["concepts"]) == len(found) < len(whole["concepts"])
    np.testing.assert_array_equal(kept["entity_rows"], whole["entity_rows"])


def test_the_hub_does_not_take_an_archive_for_a_model_of_transformers(folder):
    assert "library_name: conkd_jax\n" in (folder / "README.md").read_text()


def costs_in(card, what):
    """The numbers of the run and of its release, in a row of the table of costs."""
    (row,) = [line for line in card.splitlines() if line.startswith(f"| {what}")]
    return [float(cell.replace(",", "")) for cell in row.split("|")[2:4]]


def f1_of(run):
    """F1@10 of the responses that have a history: 2 · hits / (gold items + named items)."""
    item_ids = run.corpus.items.item_ids.tolist()
    places = [(d, t) for d in run.corpus.dialogues(run.split) for t in responses(d) if t]
    chat = Chat.open(run, batch_size=16, warm=False)
    found = chat.respond_all([d.turns[:turn] for d, turn in places])
    hits = total = 0
    for (dialogue, turn), answer in zip(places, found, strict=True):
        free = [item_ids[item] for item in dialogue.turns[turn].items]
        total += len(free) + len(dialogue.turns[turn].unknown_items) + len(answer.items)
        for item in answer.items:
            ranked = [one.item_id for one in item.ranking[:10]]
            if best := min((m for m in free if m in ranked), key=ranked.index, default=None):
                free.remove(best)
                hits += 1
    return 2 * hits / total


def test_a_release_can_t_be_scored(at_home):
    with pytest.raises(RunError, match="this release answers"):
        _ = open_run(NAME).stages
    with pytest.raises(RunError, match="but no rec_teacher"):
        open_run(NAME).directory("rec_teacher")


def test_names_that_are_not_there(at_home, home, call, tmp_path):
    with pytest.raises(RunError, match=r"tar -xf no-such\.tar\.xz -C .*releases"):
        open_run("conkd/no-such")
    with pytest.raises(RunError, match="expected a folder written by conkd_jax.train"):
        open_run("runs/no-such")


def test_a_damaged_release_is_refused(home, tmp_path):
    place = tmp_path / "tiny"
    subprocess.run(["cp", "-r", str(home / "releases" / NAME), str(place)], check=True)
    open_run(place)
    path = place / "artifacts" / "student" / "params.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(DamagedError, match="Unpack its archive again"):
        open_run(place)
    path.unlink()
    with pytest.raises(DamagedError, match="params.safetensors"):
        open_run(place)
