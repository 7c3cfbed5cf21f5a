"""docs/howto/own_data.md, followed literally: its commands, its lines and its config."""

import json
import re
import shlex
from pathlib import Path

import pytest

from conkd_jax import own_data, train
from conkd_jax.config import frozen, load_config_file
from conkd_jax.runs.finished import Run
from data_prep.custom.reader import read_own_data
from data_prep.custom.schema import STOP_WORDS
from data_prep.custom.template import template_files
from tests.fixtures.own_data import games, without_marks
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
def test_the_config_of_the_page_trains_a_student(here, backbone):
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
    run = Run.open(SmallWorld(here).run(frozen(config)))
    assert run.metrics["n_responses"] > 0
    assert run.corpus.items.keys[0] == "catan"
