import io

import pytest
import rich.console

from conkd_jax import progress


def shown(is_terminal, tokens, monkeypatch):
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
    console = rich.console.Console(
        file=io.StringIO(), force_terminal=is_terminal, width=160, color_system=None
    )
    with progress.Progress("student", 10, 4, None, console=console) as shown_progress:
        shown_progress.step(5, 1.25, tokens)
        shown_progress.say("a line [that] stays")
    return console.file.getvalue()


@pytest.mark.parametrize("is_terminal", [False, True])
def test_loss_rate_and_time_left_are_shown(is_terminal, monkeypatch):
    text = shown(is_terminal, 1000.0, monkeypatch)
    assert "loss 1.2500" in text and "tokens/s" in text
    assert "5/10" in text and "student: a line [that] stays" in text
    assert is_terminal or "s left" in text
    assert ("\x1b" in text) == is_terminal  # a log file gets plain lines


def test_steps_a_second_where_tokens_are_unknown(monkeypatch):
    assert "steps/s" in shown(False, 0.0, monkeypatch)


def test_lines_are_rare(monkeypatch):
    console = rich.console.Console(file=io.StringIO(), force_terminal=False)
    with progress.Progress("student", 100, 0, None, console=console) as shown_progress:
        for step in range(1, 100):
            shown_progress.step(step, 1.0, 10.0)
    assert console.file.getvalue() == ""
