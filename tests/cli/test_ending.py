"""How programs end when they are stopped, and when the disk is full."""

import errno
import os
import signal
import sys
import time

import pytest

from conkd_jax.cli.ending import STOPPED, explained


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_a_program_with_one_line(capsys, number, code):
    before = signal.getsignal(signal.SIGTERM)
    if number == signal.SIGINT:  # a shell's background jobs begin with this signal ignored
        signal.signal(number, signal.default_int_handler)
    with pytest.raises(SystemExit) as end, explained():
        os.kill(os.getpid(), number)
        raise AssertionError("not stopped")
    assert end.value.code == code
    assert capsys.readouterr().err == f"{STOPPED}\n" and "the same command resumes it" in STOPPED
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_that_comes_while_garbage_is_collected_is_heard(capsys, number, code):
    """Python ignores what a finalizer raises, and JAX runs some code at every collection."""

    class Finalized:
        def __del__(self):
            os.kill(os.getpid(), number)

    before = sys.unraisablehook
    if number == signal.SIGINT:
        signal.signal(number, signal.default_int_handler)
    with pytest.raises(SystemExit) as end, explained():
        Finalized()
        time.sleep(60)
        raise AssertionError("not stopped")
    assert end.value.code == code
    assert capsys.readouterr().err == f"{STOPPED}\n"
    assert sys.unraisablehook is before


def test_other_exceptions_of_finalizers_are_reported_as_before(monkeypatch):
    class Finalized:
        def __del__(self):
            raise ValueError("of a finalizer")

    reported = []
    monkeypatch.setattr(sys, "unraisablehook", reported.append)
    with explained():
        Finalized()
    assert [each.exc_type for each in reported] == [ValueError]


def test_a_hook_that_the_program_installed_outlives_it(monkeypatch):
    """After a full disk, one silences what the other writes of orbax report below the last line."""
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)  # put back after the test
    reported = []
    with explained():
        sys.unraisablehook = reported.append
    sys.unraisablehook("a write")
    assert reported == ["a write"]


def test_a_full_disk_ends_a_program_with_one_line(capsys):
    with pytest.raises(SystemExit) as end, explained(), open("/dev/full", "w") as file:
        file.write("x")
    assert end.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and "No space left on device. " in said
    assert said.count("\n") == 1


def test_another_error_of_the_disk_keeps_its_traceback(tmp_path):
    with pytest.raises(FileNotFoundError), explained():
        open(tmp_path / "nothing")
    with pytest.raises(OSError, match="Input/output error"), explained():
        raise OSError(errno.EIO, os.strerror(errno.EIO))
