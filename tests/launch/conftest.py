"""Stand-ins for the commands of a cloud and of a cluster, and a program for their hosts."""

import os
import shutil
import sys
from pathlib import Path

import pytest

STANDINS = Path(__file__).parent / "standins"

LEFT_OUT = (
    *("CONKD_", "JAX_", "XLA_", "HF_", "MALLOC_", "MLFLOW_", "NCCL_", "NPROC", "SLURM_", "TF_CPP"),
    "WANDB_",
)

# Says where it runs and with which variables; then does what its first argument says.
PROGRAM = r"""
import json, os, pathlib, signal, sys, time

def stop(*_):
    print("saved", flush=True)
    sys.exit(143)

signal.signal(signal.SIGTERM, stop)
names = [name for name in os.environ if name.startswith(("CONKD_", "JAX_", "XLA_", "HF_"))]
line = json.dumps({"arguments": sys.argv[1:], **{name: os.environ[name] for name in names}})
os.write(1, f"{line}\n".encode())  # in one piece: others write there too
word = sys.argv[1]
if word.startswith("wait"):
    begun = pathlib.Path(f"{sys.argv[2]}-{pathlib.Path.home().name}")  # on this host
    is_again = begun.exists()
    begun.touch()
    if word == "wait" or not is_again:
        time.sleep(600)
sys.exit(int(word) if word.isdecimal() else 0)
"""


@pytest.fixture
def standin(tmp_path: Path) -> dict[str, str]:
    """Variables with which the scripts find stand-ins first, and the program."""
    programs, folder = tmp_path / "programs", tmp_path / "standin"
    programs.mkdir()
    (programs / "program.py").write_text(PROGRAM)
    shutil.copytree(STANDINS, folder)
    host = folder / "host_python"
    text = host.read_text().replace("@PROGRAMS@", str(programs))
    host.write_text(text.replace("@PYTHON@", sys.executable))
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(LEFT_OUT)}
    return inherited | {
        "PATH": f"{folder}:{os.environ['PATH']}",
        "STANDIN": str(folder),
        "CONKD_PROGRAM": "program",
        "PYTHON": sys.executable,
        "PYTHONPATH": str(programs),
        "POLL_SECONDS": "0.2",
        "HOST_PYTHON": str(host),
        "ZONE": "us-west4-a",
    }
