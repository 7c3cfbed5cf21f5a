"""The number of CPU threads: what it changes, how it is recorded, and how a resumed run keeps it.

Real processes, which may use one core or two.
"""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from conkd_jax.runtime import threads
from conkd_jax.runtime.threads import Numerics
from tests.fixtures.processes import started_after
from tests.fixtures.programs import CONFIG

ROOT = Path(__file__).resolve().parents[2]
CORES = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
two_cores = pytest.mark.skipif(len(CORES) < 2, reason="needs a machine with two cores")


def cpu(number: int) -> Numerics:
    return Numerics(platform="cpu", device_kind="cpu", threads=number)


# A step of a small transformer, whose last bits depend on the number of threads.
PROGRAM = """
import hashlib, json, sys
import jax, jax.numpy as jnp, numpy as np
from conkd_jax.runtime import threads

PIN = int(sys.argv[1])
before = threads.numerics()
if PIN:
    threads.pin({**before, "threads": PIN})

def norm(x):
    x = x - x.mean(-1, keepdims=True)
    return x / jnp.sqrt((x * x).mean(-1, keepdims=True) + 1e-5)

def loss(params, tokens):
    embedding, query, key, value, out, up, down = params
    hidden = embedding[tokens[:, :-1]]
    for _ in range(2):
        x = norm(hidden)
        q, k, v = (jnp.reshape(x @ w, (8, 63, 4, 48)) for w in (query, key, value))
        weights = jax.nn.softmax(jnp.einsum("bqhd,bkhd->bhqk", q, k) / 4)
        mixed = jnp.einsum("bhqk,bkhd->bqhd", weights, v).reshape(8, 63, 192)
        hidden = hidden + mixed @ out
        hidden = hidden + jax.nn.gelu(hidden @ up) @ down
    logits, labels = hidden @ embedding.T, tokens[:, 1:, None]
    return -jnp.take_along_axis(jax.nn.log_softmax(logits), labels, axis=-1).mean()

@jax.jit
def step(params, tokens):
    return jax.tree.map(lambda p, g: p - 0.1 * g, params, jax.grad(loss)(params, tokens))

draw = np.random.default_rng(0)
shapes = [(7000, 192)] + 4 * [(192, 192)] + [(192, 768), (768, 192)]
params = [draw.normal(size=shape).astype("f4") * 0.05 for shape in shapes]
params = step(params, draw.integers(0, 7000, (8, 64)))
content = b"".join(np.asarray(p).tobytes() for p in params)
print(json.dumps([hashlib.sha256(content).hexdigest(), before["threads"], threads.num_threads()]))
"""


def trained(cores: int, *, pin: int = 0, **environment: str) -> tuple[str, int, int]:
    """The SHA-256 of the parameters, and the number of threads before and after pinning."""
    allowed = f"import os; os.sched_setaffinity(0, {CORES[:cores]})"
    alone = {
        "JAX_PLATFORMS": "cpu",
        "JAX_ENABLE_COMPILATION_CACHE": "false",
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "0",
    }
    done = subprocess.run(
        started_after(allowed, sys.executable, "-c", PROGRAM, str(pin)),
        cwd=ROOT,
        env=os.environ | alone | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return tuple(json.loads(done.stdout.splitlines()[-1]))


@two_cores
def test_pinned_to_one_thread_two_cores_compute_the_bits_of_one():
    one, two = trained(1), trained(2)
    assert one[1:] == (1, 1) and two[1:] == (2, 2)
    assert one[0] != two[0], "XLA's results no longer depend on the cores: docs/design/0014"
    assert trained(2, pin=1) == (one[0], 2, 1)
    assert trained(2, NPROC="1") == (one[0], 1, 1)
    unsplit = f"--xla_disable_hlo_passes={threads.SPLITTING}"
    assert trained(2, XLA_FLAGS=unsplit) == (one[0], 1, 1)


@pytest.mark.slow
@two_cores
def test_a_compilation_cache_keeps_programs_of_other_threads_apart(tmp_path):
    cache = {
        "JAX_ENABLE_COMPILATION_CACHE": "true",
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    two = trained(2, **cache)
    assert trained(1, **cache)[0] == trained(1)[0] != two[0]


def stopped(root: Path, cores: int, stage: str) -> str:
    """Stops a run of the small world, on some cores, when a training begins; gives the output."""
    allowed = f"import os; os.sched_setaffinity(0, {CORES[:cores]})"
    folders = (f"--config.artifacts_dir={root}/artifacts", f"--config.runs_dir={root}/runs")
    process = subprocess.Popen(
        started_after(allowed, *(sys.executable, "-u", "-m", "conkd_jax.train", CONFIG), *folders),
        cwd=ROOT,
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    lines = []
    with process:
        for line in process.stdout:
            lines.append(line)
            if line.startswith(f"{stage}: compiling"):
                process.send_signal(signal.SIGTERM)
    return "".join(lines)


@pytest.mark.slow
@two_cores
def test_a_resumed_training_plans_for_as_many_threads_or_warns(tmp_path):
    assert "stopped at step" in stopped(tmp_path, 1, "rec_teacher")
    output = stopped(tmp_path, 2, "dialogue_teacher")
    assert "was begun with 1 CPU thread: uses as many, of 2" in output and "warning" not in output
    (path,) = (tmp_path / "artifacts" / "rec_teacher").glob("*/manifest.json")
    manifest = json.loads(path.read_text())
    assert manifest["numerics"] == [cpu(1)] and manifest["machine"]["threads"] == 1
    # The teacher of the dialogues was begun by that process; now its checkpoint is from two.
    for tries in (tmp_path / "artifacts" / "dialogue_teacher").glob("*/tries.json"):
        tries.unlink()
    assert "warning: dialogue_teacher, step" in stopped(tmp_path, 2, "student")


def test_the_number_of_threads():
    cores = len(CORES) or os.cpu_count()
    assert threads.num_threads({}) == cores
    assert threads.num_threads({"NPROC": "1"}) == 1
    assert threads.num_threads({"NPROC": "1000"}) == cores  # more than there are can't be had
    assert threads.num_threads({"NPROC": "many"}) == cores
    assert threads.num_threads({"NPROC": "0"}) == cores


def test_what_differs():
    gpu = Numerics(platform="gpu", device_kind="NVIDIA H100", threads=8)
    assert threads.difference(cpu(2), cpu(2)) == ""
    assert threads.difference(gpu, gpu | {"threads": 3}) == ""  # of its host, which adds nothing
    assert threads.difference(cpu(1), cpu(2)).startswith("1 CPU thread before, 2 now")
    assert "on gpu (NVIDIA H100) before, on cpu (cpu) now" in threads.difference(gpu, cpu(1))


def test_what_can_t_be_pinned(monkeypatch):
    monkeypatch.setattr(threads.jax.extend.backend, "clear_backends", lambda: pytest.fail("began"))
    number = threads.num_threads({})
    gpu = Numerics(platform="gpu", device_kind="NVIDIA H100", threads=1)
    for wanted, environ in ((cpu(number), {}), (cpu(99), {}), (gpu, {}), (cpu(1), {"NPROC": "2"})):
        before = dict(environ)
        assert not threads.pin(wanted, environ) and environ == before
