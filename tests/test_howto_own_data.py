"""docs/howto/own_data.md, followed literally: its commands, its lines and its config."""

import io
import json
import re
import shlex
from pathlib import Path

import pytest

from conkd_jax import evaluate, own_data, train
from conkd_jax.chat import program as chat
from conkd_jax.config import frozen, load_config_file
from conkd_jax.runs.finished import Run
from data_prep.custom.reader import read_own_data
from data_prep.custom.schema import STOP_WORDS
from data_prep.custom.template import template_files
from tests.fixtures.own_data import games, lines_of, without_marks, write_lines
from tests.fixtures.small_world import SmallWorld, shrunk

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "howto" / "own_data.md").read_text(encoding="utf-8")


def commands(program: str) -> list[list[str]]:
    """The arguments of each indented command of the page that calls a program, in order."""
    lines = [shlex.split(line) for line in re.findall(r"^    (\S.*)$", PAGE, re.M)]
    return [words[words.index(program) + 1 :] for words in lines if program in words]


def config_of_the_page() -> str:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.S)
    assert "`games.py`" in PAGE[: PAGE.index(code)]
    return code


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with the page's config, in which its commands run."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(ROOT))
    (tmp_path / "games.py").write_text(config_of_the_page())
    return tmp_path


def test_the_commands_of_the_page(here, call):
    without_marks(games(here / "plain"))
    found = commands("conkd-data")
    assert [words[0] for words in found] == ["new", "check", "link", "link", "check"]
    for words in found:
        code, output, errors = call(own_data, *words)
        assert code == 0, (words, output, errors)
    plan, whole = commands("conkd_jax.train")
    assert whole == [word for word in plan if word != "--plan"]
    code, output, errors = call(train, *plan, "--config.parallel.num_devices=1")
    assert code == 0 and "corpus" in output, errors


def test_the_lines_of_the_page_are_read(here, call):
    folder = games(here / "games")
    item, dialogue = (json.loads(text) for text in re.findall(r"```json\n(.*?)\n```", PAGE, re.S))
    about = re.search(r'`(\{"version": 1, "shares": .*?\}\})`', PAGE)[1]
    node = re.search(r'`(\{"id": "Q3".*?\})`', PAGE)[1]
    items = [item, {"id": "dominion", "name": "Dominion"}]
    dialogues = [{**dialogue, "id": f"d{number}"} for number in range(20)]
    files = {"items.jsonl": items, "dialogues.jsonl": dialogues, "nodes.jsonl": [json.loads(node)]}
    for name, entries in files.items():
        (folder / name).write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    (folder / "data.json").write_text(about)
    (folder / "graph.tsv").write_text("clank\tmechanic\tQ3\n")
    data = read_own_data(folder)
    assert data.items[0].attributes == {"designer": "Paul Dennen", "mechanic": ("deck building",)}
    assert "We liked @1." in str(data.splits["train"][0].messages)


def test_the_table_names_every_file():
    named = set(re.findall(r"^\| `([\w.]+)` \|", PAGE, re.M))
    assert named >= {*template_files("games"), STOP_WORDS} - {"README.txt"}


@pytest.mark.parametrize(
    "backbone",
    [
        pytest.param("dialogpt", marks=pytest.mark.slow),
        pytest.param("kgsf", marks=pytest.mark.soak),
    ],
)
def test_the_config_of_the_page_trains_a_student(here, call, monkeypatch, backbone):
    games(here / "games")
    config = load_config_file(f"games.py:demo,backbone={backbone}")
    assert config.corpus.raw_dir == "games"
    # The page's models take minutes; these take seconds.
    config = shrunk(config)
    for part in (config.dialogue_teacher, config.student):
        part.epochs = 1
        part.optimizer.warmup_steps = 0
    config.student.turn_tags = False
    config.artifacts_dir, config.runs_dir = str(here / "artifacts"), str(here / "runs")
    folder = SmallWorld(here).run(frozen(config))
    run = Run.open(folder)
    assert run.metrics["n_responses"] > 0
    assert run.corpus.items.keys[0] == "catan"
    talk_as_the_page_says(call, monkeypatch, folder)
    score_as_the_page_says(call, here, folder)


def talk_as_the_page_says(call, monkeypatch, folder: Path) -> None:
    (line,) = re.findall(r"`python -m conkd_jax\.chat (.*?)`", PAGE)
    message = re.search(r"`(I like @\[clank\])`", PAGE)[1]
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{message}\n/quit\n"))
    code, output, errors = call(chat, *of_the_run(line.split(), folder))
    assert code == 0, errors
    assert "understood: 1. Clank! (2016)" in output and "bot:" in output


def score_as_the_page_says(call, here, folder: Path) -> None:
    """Another system answers as the page does, with ids."""
    template, scoring = commands("conkd_jax.evaluate")
    code, output, errors = call(evaluate, *of_the_run(template, folder))
    assert code == 0, (output, errors)
    answer = json.loads("{" + re.search(r'`("generated": "Try.*?\])`', PAGE)[1] + "}")
    lines = lines_of(here / "valid.jsonl")
    assert lines and all(answer.keys() <= line.keys() for line in lines)
    write_lines(here / "valid.jsonl", [line | answer for line in lines])
    code, output, errors = call(evaluate, *of_the_run(scoring, folder))
    assert code == 0, (output, errors)
    metrics = json.loads((here / "scored" / "metrics.json").read_text())["metrics"]
    assert metrics["rec_ratio"] == 1
    scored = lines_of(here / "scored" / "predictions.jsonl")
    assert len(scored) == len(lines)
    assert all(line["ids"][str(line["generated_items"][0])] == "clank" for line in scored)


def of_the_run(words: list[str], folder: Path) -> list[str]:
    """The words of a command of the page, with the folder of a run in place of RUN."""
    assert any(word.endswith("=RUN") for word in words), words
    return [re.sub("=RUN$", f"={folder}", word) for word in words]
