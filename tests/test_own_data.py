"""`conkd-data` as a user calls it."""

import json
import math
import shlex

import pytest

from conkd_jax import own_data, train
from tests.fixtures.own_data import games, lines_of, without_graph, without_marks, write_lines
from tests.fixtures.programs import refused


def test_new_writes_a_folder_that_passes_check(call, tmp_path):
    folder = tmp_path / "games"
    code, output, _ = call(own_data, "new", folder)
    assert code == 0 and f"Next: conkd-data check {folder}" in output
    code, output, _ = call(own_data, "check", folder)
    assert code == 0 and "has no errors" in output and "warning" not in output
    assert "Graph: 58 nodes, 74 triples of 3 relations; it joins 28 of 28 items" in output
    assert "--config=dialogpt_hard:demo" in output  # a few dialogues
    assert f"--config.corpus.raw_dir={folder}" in output
    refused(call(own_data, "new", folder), "expected a new or empty folder")


def test_check_counts_each_split_apart(call, tmp_path):
    folder = games(tmp_path / "games")
    output = call(own_data, "check", folder)[1]
    rows = [line.split("│") for line in output.splitlines() if line.startswith("│")]
    counts = {row[1].strip(): int(row[2]) for row in rows}
    assert set(counts) == {"train", "dev", "valid", "test"}
    assert sum(counts.values()) == len(lines_of(folder / "dialogues.jsonl"))


def test_check_names_the_line_and_what_mends_it(call, tmp_path):
    folder = games(tmp_path / "games")
    entries = lines_of(folder / "items.jsonl")
    entries[2]["nam"] = entries[2].pop("name")
    write_lines(folder / "items.jsonl", entries)
    message = refused(call(own_data, "check", folder), "items.jsonl, line 3: object ")
    assert "Write an object on one line" in message


def test_check_says_what_missing_files_cost_and_how_to_train(call, tmp_path):
    folder = games(tmp_path / "games")
    without_graph(folder)
    (folder / "words.tsv").unlink()
    code, output, _ = call(own_data, "check", folder)
    assert code == 0
    words = " ".join(output.split())
    assert "warning: there is neither a graph.tsv nor an attribute of an item" in words
    assert "warning: there is no words.tsv" in words
    assert "Graph: 28 nodes, 0 triples of 0 relations; it joins 0 of 28 items" in words
    assert "--config.rec_teacher.use_concepts=False" in output.rpartition("To train")[2]


def test_check_says_how_to_train_without_valid(call, tmp_path):
    folder = games(tmp_path / "games")
    (folder / "dialogues.jsonl").rename(folder / "train.jsonl")
    code, output, _ = call(own_data, "check", folder)
    assert code == 0 and "there is no dialogue in valid" in output
    assert "--config.evaluation.split=dev" in output.rpartition("To train")[2]


# A config file with a recommender of a few seconds.
SMALL = """
from configs import dialogpt_hard
from tests.fixtures.small_world import shrunk

def get_config(argument: str = ""):
    return shrunk(dialogpt_hard.get_config(argument))
"""


@pytest.mark.slow
@pytest.mark.parametrize("missing", ["graph", "words.tsv", "graph and words.tsv"])
def test_a_recommender_trains_with_the_options_that_check_prints(call, tmp_path, missing):
    folder, artifacts = games(tmp_path / "games"), tmp_path / "artifacts"
    if "graph" in missing:
        without_graph(folder)
    if "words" in missing:
        (folder / "words.tsv").unlink()
    printed = call(own_data, "check", folder)[1].rpartition("To train on it:")[2]
    words = shlex.split(printed.replace("\\\n", " "))  # joins the lines, as a shell does
    config, *options = words[3:]  # after python -m conkd_jax.train
    assert config == "--config=dialogpt_hard:demo"
    assert ("--config.rec_teacher.use_concepts=False" in options) == ("words" in missing)

    (tmp_path / "small.py").write_text(SMALL)
    here = [f"--config={tmp_path / 'small.py'}:demo", f"--config.artifacts_dir={artifacts}"]
    code, output, errors = call(train, *here, *options, "--until=rec_teacher")
    assert code == 0 and "rec_teacher" in output, (output, errors)
    (manifest,) = (artifacts / "rec_teacher").glob("*/manifest.json")
    metrics = json.loads(manifest.read_text())["metrics"]
    for split in ("dev", "valid"):
        assert metrics[f"{split}_num_targets"] > 0
        recalls = [metrics[f"{split}_recall@{k}"] for k in (1, 10, 50)]
        assert 0 <= recalls[0] <= recalls[1] < recalls[2] == 1  # of 28 items
        assert math.isfinite(metrics[f"{split}_cross_entropy"])


def test_check_refuses_what_can_t_be_trained(call, tmp_path):
    folder = games(tmp_path / "games")
    without_marks(folder)
    refused(call(own_data, "check", folder), "The recommender can't be trained", "conkd-data link")


def test_link_shows_what_it_marks_before_it_writes(call, tmp_path):
    folder, out = games(tmp_path / "plain"), tmp_path / "linked"
    without_marks(folder)
    write_lines(
        folder / "items.jsonl",
        [*lines_of(folder / "items.jsonl"), {"id": "luck", "name": "Luck"}],
    )
    code, output, _ = call(own_data, "link", folder)
    assert code == 0 and f"conkd-data link {folder} --out=DIR" in output
    assert "Doubtful, not marked" in output and '--accept="Luck"' in output
    code, output, _ = call(own_data, "link", folder, f"--out={out}", "--skip=luck")
    assert code == 0 and f"Next: conkd-data check {out}" in output and "Doubtful" not in output
    assert call(own_data, "check", out)[0] == 0
    refused(call(own_data, "link", folder, f"--out={out}"), "expected a new or empty folder")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "expected new, check or link as the first argument, got ''"),
        (["chek", "DIR"], "got 'chek'"),
        (["check"], "expected one folder: check DIR; got 0"),
        (["check", "/nowhere/at/all"], "expected a folder with items.jsonl"),
        (["link", "DIR", "--acept=x"], "did you mean --accept=x?"),
    ],
)
def test_mistakes(call, arguments, message):
    refused(call(own_data, *arguments), message)
