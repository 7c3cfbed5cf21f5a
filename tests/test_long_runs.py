"""Memory, open files and logs of a training don't grow with its steps.

The student of the demo, with its own shape and batches, in a process of its own; only the stages
before it are shortened. The process notes its memory while it trains; nothing else about it is
changed.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]
NUM_STEPS = 5_000
EVERY = 20  # steps between notes
BYTES_A_STEP = 4_000  # what memory may grow by; docs/howto/long_runs.md has what was seen
LOG_BYTES_A_STEP = 100

# conkd_jax.train, which notes memory, open files and checkpoints; with LEAK it keeps small arrays.
WATCHED = """
import json, os, sys
import numpy as np
from conkd_jax import progress, train

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

def checkpoints():
    found = [top for top, _, _ in os.walk(os.environ["ROOT"]) if top.endswith("/checkpoints")]
    return sum(name.isdecimal() for top in found for name in os.listdir(top))

notes, kept = open(os.environ["NOTES"], "a", buffering=1), []
step_before = progress.Progress.step

def step(self, step, loss, tokens):
    step_before(self, step, loss, tokens)
    if self.name == "student":
        if os.environ.get("LEAK"):
            kept.append([np.full(256, step + k, np.float32) for k in range(15)])
        if step % int(os.environ["EVERY"]) == 0:
            files = len(os.listdir("/proc/self/fd"))
            notes.write(json.dumps([step, resident(), files, checkpoints()]) + "\\n")

progress.Progress.step = step
train.run()
"""


def trained(root: Path, notes: Path, *options: str, leak: bool = False) -> np.ndarray:
    """Trains the demo's student; gives [step, memory, open files, checkpoints] of each note."""
    environment = {"ROOT": str(root), "NOTES": str(notes), "EVERY": str(EVERY)}
    environment |= {"JAX_PLATFORMS": "cpu", "LEAK": "yes"[: 3 * leak]}
    short = [f"--config.{part}.epochs=1" for part in ("dialogue_teacher", "turn_classifier")]
    done = subprocess.run(
        [
            *(sys.executable, "-c", WATCHED, "--config=configs/dialogpt_hard.py:demo"),
            *(f"--config.artifacts_dir={root}/artifacts", f"--workdir={root}/run"),
            *("--config.rec_teacher.epochs=1", "--config.rec_teacher.mim_epochs=0", *short),
            *("--config.evaluation.max_responses=20", "--config.checkpoint_every=500", *options),
        ],
        cwd=ROOT,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    (root / "output.txt").write_text(done.stdout)
    return np.array([json.loads(line) for line in notes.read_text().splitlines()])


def growth(notes: np.ndarray, column: int) -> float:
    """How much something grows a step: the slope of a line through the second half of the notes.

    By then everything is compiled, and the allocator has nearly all the memory that it will take.
    """
    late = notes[len(notes) // 2 :]
    return float(np.polyfit(late[:, 0], late[:, column], 1)[0])


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("long")


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_memory_files_checkpoints_and_logs_of_5000_steps(root):
    notes = trained(root, root / "notes.jsonl", "--config.student.epochs=27")
    num_steps = notes[-1, 0]
    assert num_steps >= NUM_STEPS, num_steps
    memory, files = growth(notes, 1), growth(notes, 2)
    print(
        f"{num_steps} steps: {memory:.0f} bytes and {files:.5f} files a step, of {notes[-1, 1]:,}"
    )
    assert memory < BYTES_A_STEP
    assert abs(files) * num_steps < 1 and np.ptp(notes[len(notes) // 5 :, 2]) <= 20
    assert notes[:, 3].max() <= 3  # two, and one that is being written
    (student,) = (root / "artifacts" / "student").glob("*/manifest.json")
    assert not (student.parent / "checkpoints").exists()
    logs = [*student.parent.glob("history.jsonl"), *student.parent.glob("tensorboard/*")]
    size = sum(path.stat().st_size for path in [*logs, root / "output.txt"])
    print(f"{size / num_steps:.0f} bytes of logs a step")
    assert size < LOG_BYTES_A_STEP * num_steps


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_a_leak_of_some_small_arrays_a_step_is_found(root):
    """15 KB a step, in a third of the steps, with the stages of the test before."""
    notes = trained(root, root / "leak.jsonl", "--config.student.epochs=9", leak=True)
    assert growth(notes, 1) > 2 * BYTES_A_STEP
