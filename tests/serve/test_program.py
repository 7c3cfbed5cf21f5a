"""conkd-serve: what it refuses in one line, and a whole process from its first line to Ctrl-C."""

import contextlib
import json
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from conkd_jax.serve import load, program
from tests.fixtures.programs import refused

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ([], "expected --workdir=RUN"),
        (["--workdir=nowhere", "--host=0.0.0.0"], "add --token=TOKEN"),
        (["--workdir=nowhere", "--host=example.org"], "add --token=TOKEN"),
        (["--workdir=nowhere", "--host=0.0.0.0", "--token=short"], "16 characters"),
        (["--workdir=nowhere", "--public_name=chat.example.org"], "add --token=TOKEN"),
        (["--workdir=nowhere", "--port=70000"], "--port"),
        (["--workdir=nowhere", "--port=0"], "nowhere"),
    ],
)
def test_what_can_t_be_served(call, options, word):
    refused(call(program, *options), word)


def test_a_port_that_is_taken(call):
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        refused(call(program, "--workdir=nowhere", f"--port={port}"), "can't listen there")


def test_a_missing_package_is_named_with_its_pip_line(call, monkeypatch):
    for name in [name for name in sys.modules if name.startswith("conkd_jax.serve.")]:
        if name != program.__name__:
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "starlette.applications", None)
    refused(call(program, "--workdir=nowhere"), "pip install 'conkd_jax[serve]'")


def test_a_load_without_a_server(call):
    refused(call(load, "--url=http://127.0.0.1:9"), "expected a running conkd-serve")
    refused(call(load, "--url=nowhere"), "expected http://HOST:PORT")


@pytest.mark.slow
def test_a_process_serves_under_load_until_it_is_interrupted(small_world, call, tmp_path):
    command = [sys.executable, "-m", "conkd_jax.serve", f"--workdir={small_world.folder}"]
    options = ["--port=0", "--rate=0", f"--keep={tmp_path / 'kept.sqlite'}"]
    with subprocess.Popen(
        [*command, *options], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout and process.stderr
        lines = []
        while not (lines and lines[-1].startswith("Open http")):
            lines.append(process.stdout.readline())
            assert lines[-1], process.stderr.read()
        (url,) = re.findall(r"http://[\d.:]+", lines[-1])
        out = tmp_path / "load.json"
        code, _, errors = call(load, f"--url={url}", "--users=8", "--turns=2", f"--out={out}")
        assert code == 0, errors
        result = json.loads(out.read_text())
        assert (result["requests"], result["errors"], result["crosstalk"]) == (16, 0, 0)
        with urllib.request.urlopen(f"{url}/health") as response:
            assert json.load(response)["status"] == "ok"
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=60)
    assert process.returncode == 0 and output == "Stopped.\n" and errors == ""
