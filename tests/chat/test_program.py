"""conkd-chat over a pipe: messages, commands and mistakes, at 80 columns and in plain text."""

import io

import pytest

from conkd_jax.chat import program
from conkd_jax.data.corpus import Corpus
from conkd_jax.eval.predictions import read_predictions


@pytest.fixture
def talk(small_world, call, monkeypatch):
    """Pipes lines into the program; returns its output."""

    def talked(*lines: str, options=()) -> str:
        monkeypatch.setenv("COLUMNS", "80")
        monkeypatch.setattr("sys.stdin", io.StringIO("".join(f"{line}\n" for line in lines)))
        code, output, errors = call(program, f"--workdir={small_world.folder}", *options)
        assert code == 0, errors
        return output

    return talked


@pytest.fixture(scope="module")
def corpus(small_world):
    return Corpus.open(next((small_world.artifacts_dir / "corpus").glob("*")))


def test_a_conversation(talk, corpus, tmp_path):
    title, other = corpus.items.titles[3], corpus.items.titles[7]
    saved = tmp_path / "saved.jsonl"
    output = talk(
        f"I like {title}",
        "/items",
        "/why",
        f"/fix 1 {other}",
        "Something else?",
        f"/save {saved}",
        "/undo",
        "/undo",
        "/undo",
        "/quit",
        "never read",
    )
    assert f"understood: 1. {title}" in output and f"understood: 1. {other}" in output
    assert "recommender\n" in output and "dialogue teacher\n" in output
    assert "2 answers written" in output and "never read" not in output
    assert output.count("taken back") == 2 and "there is no answer yet" in output
    notice, *_ = output.partition("you:")  # names the run's folder, which may be long
    assert all(len(line) <= 80 for line in output[len(notice) :].splitlines() if "/" not in line)
    assert "\x1b" not in output
    first, second = read_predictions(saved)
    assert [turn.role for turn in second.context] == ["seeker", "recommender", "seeker"]
    movie = int(corpus.items.item_ids[7])
    assert first.context[0].text == f"I like @{movie}" and movie in first.mentioned_items


def test_random_answers_mark_their_titles(talk, corpus):
    messages = [f"I like {title}" for title in corpus.items.titles[:6]]
    output = talk(*messages, options=["--seed=1"])
    assert output == talk(*messages, options=["--seed=1"])
    assert output != talk(*messages)
    words = " ".join(output.split())
    assert any(f"[{title}]" in words for title in corpus.items.titles)


def test_a_run_is_compared_with_another(talk, small_world):
    output = talk("Hi", f"/compare {small_world.folder}")
    assert output.count(output.split("bot: ")[1].splitlines()[0]) == 2


def test_mistakes_do_not_end_the_conversation(talk):
    output = talk("/nonsense", "/items", "/fix 9", "/save", "/compare nowhere", "Hi")
    assert output.count("error: ") == 5 and "bot: " in output


@pytest.mark.parametrize("file", ["/dev/null/chat.jsonl", "."])
def test_a_file_that_can_t_be_written_does_not_end_the_conversation(talk, file):
    output = talk("Hi", f"/save {file}", "Hi again")
    assert output.count(f"error: /save {file}: expected a file") == 1
    assert output.count("bot: ") == 2


def test_a_file_is_saved_in_a_new_folder(talk, tmp_path):
    file = tmp_path / "new" / "chat.jsonl"
    assert "1 answers written" in talk("Hi", f"/save {file}")
    assert len(list(read_predictions(file))) == 1


def test_an_interrupted_answer_ends_the_conversation(talk, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(program, "answer_line", interrupted)
    assert talk("Hi", "never read").rstrip().endswith("Stopped.")


def test_a_run_is_asked_for(call):
    code, _, errors = call(program)
    assert code == 2 and "--workdir" in errors
