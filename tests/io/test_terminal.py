"""What is printed may be lost; what is computed may not. Real pipes, real full disks."""

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from conkd_jax.io import terminal

ROOT = Path(__file__).resolve().parents[2]
TALKS = """
import pathlib, sys
from absl import flags
from conkd_jax.cli import command_line
from conkd_jax.training import progress
from conkd_jax.io import terminal

def main(argv):
    for number in range(20_000):
        print("library", number)
        terminal.say("stage λ")
        command_line.show("program λ")
    with progress.Progress("student", 10, 0, None) as shown:
        shown.say("a line")
    with progress.Counting("evaluation, decoding", "responses") as shown:
        shown.add(3)
    pathlib.Path(sys.argv[1]).write_text("the result")

command_line.run(main, flags.FlagValues(), positional="FILE")
"""


def talk(result: Path, shell: str) -> subprocess.CompletedProcess:
    """Runs a talkative program with its output redirected by a shell."""
    command = f'"$0" -c "$1" "$2" {shell}'
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", command, sys.executable, TALKS, str(result)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | {"PYTHONIOENCODING": "latin-1"},
    )


@pytest.mark.parametrize("shell", ["| head -n 1", "2>&1 | head -n 1", ">&-", "2>&-", ">&- 2>&-"])
def test_a_reader_who_leaves_loses_text_only(tmp_path, shell):
    outcome = talk(tmp_path / "result", shell)
    assert (tmp_path / "result").read_text() == "the result"
    assert outcome.returncode == 0 and "Error" not in outcome.stderr


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no device that is always full")
def test_a_full_disk_is_told_at_the_end(tmp_path):
    outcome = talk(tmp_path / "result", "> /dev/full")
    assert (tmp_path / "result").read_text() == "the result"
    assert outcome.returncode == 2
    assert outcome.stderr.startswith(
        "error: the output could not be printed to its end: [Errno 28]"
    )
    assert outcome.stderr.count("\n") == 1


def test_after_a_failure_nothing_more_is_written():
    class Once(io.StringIO):
        def write(self, text):
            if self.getvalue():
                raise OSError(28, "full")
            return super().write(text)

    inner = Once()
    stream = terminal.LenientStream(inner)
    for text in ("first", "second", "third"):
        stream.write(text)
    assert inner.getvalue() == "first" and stream.is_cut_short


def test_a_closed_file_is_no_error():
    inner = io.StringIO()
    stream = terminal.LenientStream(inner)
    inner.close()
    stream.writelines(["a", "b"])
    stream.flush()
    assert isinstance(stream.error, ValueError) and stream.is_cut_short


def test_a_stream_is_wrapped_once():
    stream = terminal.lenient(io.StringIO())
    assert terminal.lenient(stream) is stream
    assert stream.writable() and not stream.isatty()  # the rest is the stream's own
