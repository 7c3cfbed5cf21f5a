"""Memory, open files and logs of a training don't grow with its steps.

    CONKD_STEPS=10000 CONKD_SOAK_JSON=OUT python -m pytest -m soak -s tests/test_long_runs.py

The student of the demo, with its own shape and batches, in a process of its own; only the stages
before it are shortened. The process notes its memory while it trains; nothing else about it is
changed.

What the C library has given out and not got back shows a leak of a few hundred bytes a step. What
the process has from the system moves by some megabytes up and down, since free memory is scattered
differently after each checkpoint; it must not move further in more steps.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.stats

from tests.fixtures.soak_record import record

ROOT = Path(__file__).resolve().parents[1]
NUM_STEPS = int(os.environ.get("CONKD_STEPS") or 5_000)
STEPS_PER_EPOCH = 188
CHECKPOINT_EVERY = 500
EVERY = 20  # steps between notes
WARM_UP = 1_000  # steps in which everything is compiled and written for the first time
# What growth may be; docs/howto/long_runs.md has what was seen.
IN_USE_A_STEP = 400  # bytes, and a line of the history is 10 of them
OBJECTS_A_STEP = 3  # of Python, of which a line of the history has 20 in 50 steps
RESIDENT = 20_000_000  # bytes from the system, in any number of steps
LOG_BYTES_A_STEP = 100

# conkd_jax.train, which notes memory, open files and checkpoints; with LEAK it keeps small arrays.
WATCHED = """
import ctypes, json, os, sys
import numpy as np
from conkd_jax import train
from conkd_jax.training import progress

class Allocated(ctypes.Structure):
    names = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"
    _fields_ = [(name, ctypes.c_size_t) for name in names.split()]

mallinfo = ctypes.CDLL(None).mallinfo2
mallinfo.restype = Allocated

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

def in_use():
    found = mallinfo()
    return found.uordblks + found.hblkhd

def checkpoints():
    found = [top for top, _, _ in os.walk(os.environ["ROOT"]) if top.endswith("/checkpoints")]
    return sum(name.isdecimal() for top in found for name in os.listdir(top))

notes, kept = open(os.environ["NOTES"], "a", buffering=1), []
step_before = progress.Progress.step

def step(self, step, loss, tokens):
    step_before(self, step, loss, tokens)
    if self.name == "student":
        if os.environ.get("LEAK"):
            kept.append(np.full(256, step, np.float32))
        if step % int(os.environ["EVERY"]) == 0:
            note = {"step": step, "resident": resident(), "in_use": in_use()}
            note |= {"objects": sys.getallocatedblocks(), "checkpoints": checkpoints()}
            note |= {"files": len(os.listdir("/proc/self/fd"))}
            notes.write(json.dumps(note) + "\\n")

progress.Progress.step = step
train.run()
"""

Notes = dict[str, np.ndarray]


def trained(root: Path, notes: Path, num_steps: int, *, leak: bool = False) -> Notes:
    """Trains the demo's student; gives what was noted, by name."""
    environment = {"ROOT": str(root), "NOTES": str(notes), "EVERY": str(EVERY)}
    environment |= {"JAX_PLATFORMS": "cpu", "LEAK": "yes"[: 3 * leak]}
    short = [f"--config.{part}.epochs=1" for part in ("dialogue_teacher", "turn_classifier")]
    done = subprocess.run(
        [
            *(sys.executable, "-c", WATCHED, "--config=configs/dialogpt_hard.py:demo"),
            *(f"--config.artifacts_dir={root}/artifacts", f"--workdir={root}/run"),
            *("--config.rec_teacher.epochs=1", "--config.rec_teacher.mim_epochs=0", *short),
            f"--config.student.epochs={-(-num_steps // STEPS_PER_EPOCH)}",
            f"--config.checkpoint_every={CHECKPOINT_EVERY}",
            "--config.evaluation.max_responses=20",
        ],
        cwd=ROOT,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    (root / "output.txt").write_text(done.stdout)
    lines = [json.loads(line) for line in notes.read_text().splitlines()]
    found = {name: np.array([line[name] for line in lines]) for name in lines[0]}
    assert found["step"][-1] >= num_steps - EVERY, "fewer steps an epoch than expected"
    return found


def growth(notes: Notes, name: str) -> float:
    """How much something grows a step.

    Batches and checkpoints that are being written come and go, so what stays is the least value
    between two checkpoints. Through these, Theil and Sen's line is not moved by one of them.
    """
    interval = (notes["step"] - 1) // CHECKPOINT_EVERY
    late = range(WARM_UP // CHECKPOINT_EVERY, interval[-1])  # the last one may be short
    least = [notes[name][interval == each].min() for each in late]
    return float(scipy.stats.theilslopes(least, CHECKPOINT_EVERY * np.array(late)).slope)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("long")


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_memory_files_checkpoints_and_logs_of_thousands_of_steps(root):
    notes = trained(root, root / "notes.jsonl", NUM_STEPS)
    num_steps = int(notes["step"][-1])
    a_step = {name: growth(notes, name) for name in ("in_use", "objects", "resident", "files")}
    late = notes["step"] > WARM_UP
    (student,) = (root / "artifacts" / "student").glob("*/manifest.json")
    logs = [*student.parent.glob("history.jsonl"), *student.parent.glob("tensorboard/*")]
    size = sum(path.stat().st_size for path in [*logs, root / "output.txt"])
    found = {
        "steps": num_steps,
        "growth_a_step": {name: round(value, 3) for name, value in a_step.items()},
        "resident_bytes": [int(end(notes["resident"][late])) for end in (np.min, np.max)],
        "log_bytes_a_step": round(size / num_steps, 1),
    }
    print(record("tests/test_long_runs.py", found, {"CONKD_STEPS": NUM_STEPS}))
    assert a_step["in_use"] < IN_USE_A_STEP
    assert a_step["objects"] < OBJECTS_A_STEP
    assert a_step["resident"] * num_steps < RESIDENT
    assert a_step["files"] == 0 and np.ptp(notes["files"][late]) <= 20
    assert notes["checkpoints"].max() <= 3  # two, and one that is being written
    assert not (student.parent / "checkpoints").exists()
    assert size < LOG_BYTES_A_STEP * num_steps


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_a_leak_of_a_small_array_a_step_is_found(root):
    """A kilobyte a step, in fewer steps, with the stages of the test before."""
    notes = trained(root, root / "leak.jsonl", 2_600, leak=True)
    assert growth(notes, "in_use") > 2 * IN_USE_A_STEP
