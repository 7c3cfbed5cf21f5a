import contextlib
import io
import re
import resource
import struct

import numpy as np
import pytest
import rich.console
from tensorboardX.proto.event_pb2 import Event

from conkd_jax.runtime import compiling
from conkd_jax.training import progress


def console_of(is_terminal):
    return rich.console.Console(
        file=io.StringIO(), force_terminal=is_terminal, width=160, color_system=None
    )


def shown(is_terminal, tokens, monkeypatch):
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
    console = console_of(is_terminal)
    with progress.Progress("student", 10, 4, None, console=console) as shown_progress:
        for step in (5, 6):
            shown_progress.step(step, 1.25, tokens)
        shown_progress.say("a line [that] stays")
    return console.file.getvalue()


@pytest.mark.parametrize("is_terminal", [False, True])
def test_loss_rate_and_time_left_are_shown(is_terminal, monkeypatch):
    text = shown(is_terminal, 1000.0, monkeypatch)
    assert "loss 1.2500" in text and "tokens/s" in text and " left" in text
    assert "6/10" in text and "student: a line [that] stays" in text
    assert ("\x1b" in text) == is_terminal  # a log file gets plain lines


def test_steps_a_second_where_tokens_are_unknown(monkeypatch):
    assert "steps/s" in shown(False, 0.0, monkeypatch)


def test_lines_are_rare():
    console = console_of(False)
    with progress.Progress("student", 100, 0, None, console=console) as shown_progress:
        for step in range(1, 100):
            shown_progress.step(step, 1.0, 10.0)
    assert console.file.getvalue() == ""


@pytest.mark.parametrize("num_steps", [500, 5_000, 12_345])
def test_a_long_training_prints_a_bounded_number_of_lines(num_steps, monkeypatch):
    clock, console = Clock(monkeypatch), console_of(False)
    with progress.Progress("student", num_steps, 0, None, console=console) as shown_progress:
        for step in range(1, num_steps + 1):
            clock.now += 60
            shown_progress.step(step, 1.0, 10.0)
    lines = console.file.getvalue().splitlines()
    assert min(num_steps, 900) <= len(lines) <= 1_000


# --- compiling ---------------------------------------------------------------------------------


class Clock:
    """The time, and how much of it was spent on compiling."""

    def __init__(self, monkeypatch):
        self.now = self.compiled = 0.0
        monkeypatch.setattr(progress.time, "monotonic", lambda: self.now)
        monkeypatch.setattr(compiling, "seconds", lambda: self.compiled)

    def compile(self, seconds):
        self.now += seconds
        self.compiled += seconds


def batch(length):
    return {"ids": np.zeros((1, 1, 2, length))}


def test_compiling_is_told_before_and_counted_apart(monkeypatch):
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
    clock, console = Clock(monkeypatch), console_of(False)
    with progress.Progress("student", 10, 0, None, console=console) as told:
        for step, (length, compiled) in enumerate([(8, 100), (8, 0), (16, 50), (8, 0)], start=1):
            with told.dispatching(batch(length)):
                clock.compile(compiled)
            clock.now += 1
            told.step(step, 1.0, 30.0)
        times = told.times()
    lines = console.file.getvalue().splitlines()
    assert lines == [
        "student: compiling the step",
        "student: step 1/10, loss 1.0000",  # nothing is known yet about the steps to come
        "student: step 2/10, loss 1.0000, 30 tokens/s, 8 s left",
        "student: compiling the step for another shape",
        "student: step 3/10, loss 1.0000, 30 tokens/s, 7 s left",
        "student: step 4/10, loss 1.0000, 30 tokens/s, 6 s left",
    ]
    assert times == "compiling 2 shapes took 2 min 30 s, all else 4 s"


def test_an_evaluation_does_not_slow_the_rate(monkeypatch):
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
    clock, console = Clock(monkeypatch), console_of(False)
    with progress.Progress("student", 10, 0, None, console=console) as told:
        clock.now += 2
        with told.evaluating():
            clock.now += 98
        told.step(2, 1.0, 60.0)
    assert "30 tokens/s" in console.file.getvalue()


def test_a_bar_says_that_it_compiles():
    console = console_of(True)
    with progress.Progress("student", 10, 0, None, console=console) as told:
        with told.dispatching(batch(8)):
            told._bar.refresh()
    assert "compiling the step" in console.file.getvalue()


def test_counting_leaves_out_compiling(monkeypatch):
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
    clock, console = Clock(monkeypatch), console_of(False)
    monkeypatch.setattr(progress.terminal, "console", lambda quiet: console)

    with progress.Counting("evaluation, decoding", "responses") as display:
        clock.compile(100)
        clock.now += 0.5
        display.add()
    lines = console.file.getvalue().splitlines()
    assert lines[0] == "evaluation, decoding: compiling before the first of the responses"
    assert re.fullmatch(r"evaluation, decoding: 1 responses, 2\.0 per second", lines[1])


def test_how_much_is_left_is_told_where_the_total_is_known(monkeypatch):
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 30.0)
    clock, console = Clock(monkeypatch), console_of(False)
    monkeypatch.setattr(progress.terminal, "console", lambda quiet: console)
    with progress.Counting("teacher_outputs", "responses", 1000) as told:
        for _ in range(4):
            clock.now += 16
            told.add(8)
    assert console.file.getvalue().splitlines()[1:] == [
        "teacher_outputs: 16 of 1,000 responses, 0.5 per second, 32 min 48 s left",
        "teacher_outputs: 32 of 1,000 responses, 0.5 per second, 32 min 16 s left",
    ]


def test_a_bar_shows_how_much_is_left(monkeypatch):
    console = console_of(True)
    monkeypatch.setattr(progress.terminal, "console", lambda quiet: console)
    with progress.Counting("teacher_outputs", "responses", 10) as told:
        told.add(5)
        told._bar.refresh()
    assert re.search(r"5 of 10 responses, .* per second, .* left", console.file.getvalue())


def test_what_has_no_name_displays_nothing(capsys):
    with progress.Counting("", "responses", 10) as display:
        display.add(10)
    assert capsys.readouterr() == ("", "")


# --- curves ------------------------------------------------------------------------------------


@contextlib.contextmanager
def full_disk():
    """In this block no file of this process takes another byte."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        yield
    finally:  # before pytest writes what came out, perhaps to a file
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def read_events(folder):
    """(step, name, value) of everything in TensorBoard's files."""
    found = []
    for path in sorted(folder.glob("events.out.tfevents.*")):
        content = path.read_bytes()
        while content:
            (size,) = struct.unpack("<Q", content[:8])
            event = Event.FromString(content[12 : 12 + size])
            found += [(event.step, value.tag, value.simple_value) for value in event.summary.value]
            content = content[16 + size :]
    return found


def test_curves_are_files_of_tensorboard(tmp_path):
    with progress.Progress("student", 10, 0, tmp_path, console=console_of(False)) as display:
        for step in range(30):
            display.scalars({"step": step, "loss": 0.5, "dev_nll": step})
    assert read_events(tmp_path)[-2:] == [(29, "loss", 0.5), (29, "dev_nll", 29.0)]
    assert len(read_events(tmp_path)) == 60


@pytest.mark.timeout(60)
def test_a_full_disk_at_the_curves_is_an_error_and_no_wait(tmp_path, monkeypatch):
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_FLUSHES", 0.0)
    display = progress.Progress("student", 10, 0, tmp_path, console=console_of(False))
    with pytest.raises(OSError, match=f"File too large: '{tmp_path}'"), full_disk(), display:
        for step in range(30):
            display.scalars({"step": step, "loss": 0.5})


def test_what_stopped_a_training_is_told_before_its_curves(tmp_path):
    display = progress.Progress("student", 10, 0, tmp_path, console=console_of(False))
    with pytest.raises(ValueError, match="the loss is not finite"), full_disk(), display:
        display.scalars({"step": 1, "loss": 0.5})
        raise ValueError("the loss is not finite")
