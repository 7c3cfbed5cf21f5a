"""Which process of a run this is, and the devices that it gets and misses.

Variables of schedulers are set here as Slurm and Open MPI set them; the processes are real ones.
"""

import os
import re
import subprocess
import sys

import pytest

from conkd_jax.runtime import cluster
from conkd_jax.runtime.cluster import Membership, ProcessesError
from conkd_jax.runtime.host import Host
from tests.fixtures.processes import free_port

PLACE = {"CONKD_NUM_PROCESSES": "4", "CONKD_PROCESS_ID": "1"}


def test_the_three_variables_are_the_place():
    found = cluster.membership({"CONKD_COORDINATOR": "node1:20001", **PLACE})
    assert found == Membership("node1:20001", 4, 1)
    assert cluster.membership({"CONKD_COORDINATOR": "auto"}) == Membership("auto")
    assert cluster.membership({}) is None
    assert cluster.membership({"CONKD_COORDINATOR": "none", "SLURM_STEP_NUM_TASKS": "2"}) is None


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        (PLACE, "CONKD_COORDINATOR is not set"),
        ({"CONKD_PROCESS_ID": "0"}, "CONKD_COORDINATOR is not set"),
        ({"CONKD_COORDINATOR": "node1:1"}, r"CONKD_NUM_PROCESSES=\(not set\)"),
        ({"CONKD_COORDINATOR": "node1:1", "CONKD_NUM_PROCESSES": "2"}, r"CONKD_PROCESS_ID=\(not"),
        ({"CONKD_COORDINATOR": "node1:1", **PLACE, "CONKD_PROCESS_ID": "-1"}, "to be integers"),
        ({"CONKD_COORDINATOR": "node1:1", **PLACE, "CONKD_PROCESS_ID": "4"}, "from 0 to .* 3"),
        ({"CONKD_COORDINATOR": "node1", **PLACE}, "HOST:PORT"),
        ({"SLURM_STEP_NUM_TASKS": "8", "SLURM_PROCID": "3"}, "task 3 of 8 of Slurm"),
        (
            {"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "1"},
            "task 1 of 2 of Open MPI.*'none'",
        ),
    ],
)
def test_half_a_place_is_refused(environ: dict[str, str], message: str):
    with pytest.raises(ProcessesError, match=message):
        cluster.membership(environ)


def test_a_job_of_several_tasks_without_a_step_is_one_process():
    # The batch script itself, and the shell of an allocation.
    assert cluster.membership({"SLURM_NTASKS": "8", "SLURM_JOB_ID": "1"}) is None


# The last value is the GPUs that JAX will ask CUDA for; it has no public name. The machine is taken
# for one without GPUs.
PROGRAM = """
import sys
import jax
from jax._src import xla_bridge
from conkd_jax.runtime import cluster
from conkd_jax.runtime.host import Host
Host.here = lambda: Host(0, False)
cluster.join()
found = (jax.process_index(), jax.process_count(), jax.local_device_count(), jax.device_count(),
         xla_bridge.CUDA_VISIBLE_DEVICES.value)
sys.stdout.write(f"\\nsaid: {' '.join(map(str, found))}\\n")
cluster.leave()
"""


def joined(environs: list[dict[str, str]], program: str = PROGRAM, *arguments: str) -> list[str]:
    """What real processes with these variables say after they have joined."""
    left_out = ("CONKD_", "CUDA_", "JAX_LOCAL", "OMPI_", "SLURM_")
    inherited = {n: value for n, value in os.environ.items() if not n.startswith(left_out)}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", program, *arguments],
            env=inherited | {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "4"} | environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for environ in environs
    ]
    try:
        outputs = [process.communicate(timeout=300) for process in processes]
    finally:
        for process in processes:
            process.kill()
    for process, (_, errors) in zip(processes, outputs, strict=True):
        assert process.returncode == 0, errors
    # Gloo, the CPU's transport, prints as well, in several threads and in pieces of lines. What is
    # written at once, as the programs here do, stays whole.
    said = [re.findall("^said: (.*)$", output, re.MULTILINE) for output, _ in outputs]
    return ["\n".join(lines) for lines in said]


def slurm_task(index: int, per_node: str) -> dict[str, str]:
    """The variables of a task of a step that srun started, two tasks in all."""
    local = "0" if per_node.startswith("1") else str(index)
    return {
        "SLURM_JOB_ID": "1",
        "SLURM_STEP_NODELIST": "localhost",
        "SLURM_STEP_NUM_TASKS": "2",
        "SLURM_STEP_TASKS_PER_NODE": per_node,
        "SLURM_NTASKS": "2",
        "SLURM_PROCID": str(index),
        "SLURM_LOCALID": local,
    }


def open_mpi_task(index: int, on_host: str) -> dict[str, str]:
    """The variables of a task that mpirun started, two tasks in all, on one host."""
    return {
        "OMPI_COMM_WORLD_SIZE": "2",
        "OMPI_COMM_WORLD_RANK": str(index),
        "OMPI_COMM_WORLD_LOCAL_SIZE": on_host,
        "OMPI_COMM_WORLD_LOCAL_RANK": str(index),
    }


@pytest.mark.parametrize(
    ("task", "per_node", "gpus"),
    [
        (slurm_task, "1(x2)", ["all", "all"]),
        (slurm_task, "2", ["0", "1"]),
        (open_mpi_task, "2", ["0", "1"]),
    ],
)
def test_tasks_with_an_explicit_place_share_out_the_gpus_of_a_host(task, per_node: str, gpus):
    """JAX alone gives each task all of them."""
    place = {"CONKD_COORDINATOR": f"localhost:{free_port()}", "CONKD_NUM_PROCESSES": "2"}
    tasks = [task(i, per_node) | place | {"CONKD_PROCESS_ID": str(i)} for i in range(2)]
    assert joined(tasks) == [f"{i} 2 4 8 {gpus[i]}" for i in range(2)]


@pytest.mark.parametrize(("per_node", "gpus"), [("1(x2)", ["all", "all"]), ("2", ["0", "1"])])
def test_a_detected_step_shares_out_the_gpus_of_a_host(per_node: str, gpus: list[str]):
    port = {"JAX_COORDINATOR_PORT": str(free_port()), "CONKD_COORDINATOR": "auto"}
    found = joined([slurm_task(i, per_node) | port for i in range(2)])
    assert found == [f"{i} 2 4 8 {gpus[i]}" for i in range(2)]


LATE = """
import sys, time
import jax, numpy as np
from conkd_jax.runtime import cluster, parallel
cluster.join()
devices = parallel.select_devices(4)  # two of each process: connections of their own
if jax.process_index():
    time.sleep(40)
if sys.argv[1] == "connect":
    parallel.connect(devices)
added = jax.pmap(lambda x: jax.lax.psum(x, "i"), "i", devices=devices)
sys.stdout.write(f"\\nsaid: {added(np.arange(2.0)).tolist()}\\n")
cluster.leave()
"""


@pytest.mark.slow
def test_a_process_may_come_late_to_the_first_step():
    """By more than the 30 seconds for which JAX's CPU collectives wait by themselves."""
    place = {"CONKD_COORDINATOR": f"localhost:{free_port()}", "CONKD_NUM_PROCESSES": "2"}
    places = [place | {"CONKD_PROCESS_ID": str(i)} for i in range(2)]
    found = joined(places, LATE, "connect")
    assert found == ["[2.0, 2.0]"] * 2


LEFT = """
import os, sys, time
import jax
from conkd_jax.runtime import cluster
cluster.join()
cluster.leave()
if jax.process_index():
    time.sleep(5)
sys.stdout.write(f"\\nsaid: {jax.process_index()} is done\\n")
sys.stdout.flush()
os._exit(0)  # without the barrier in which JAX's own exit handler waits
"""


@pytest.mark.slow
def test_who_has_left_does_not_miss_process_0():
    place = {"CONKD_COORDINATOR": f"localhost:{free_port()}", "CONKD_NUM_PROCESSES": "2"}
    found = joined([place | {"CONKD_PROCESS_ID": str(i)} for i in range(2)], LEFT)
    assert found == ["0 is done", "1 is done"]


def test_nothing_to_detect_is_told():
    environ = {"JAX_PLATFORMS": "cpu", "CONKD_COORDINATOR": "auto", "PATH": os.environ["PATH"]}
    found = subprocess.run(
        [sys.executable, "-m", "conkd_jax.train", "--config=configs/dialogpt_hard.py:demo"],
        env=environ,
        capture_output=True,
        text=True,
    )
    assert found.returncode == 2
    assert found.stderr.startswith("error: CONKD_COORDINATOR is 'auto', but no cluster")
    assert "Traceback" not in found.stderr


# --- devices -------------------------------------------------------------------------------------

EIGHT_GPUS, TPU, NOTHING = Host(8, False), Host(0, True), Host(0, False)


@pytest.mark.parametrize(
    ("platform", "num_local", "host", "environ", "told"),
    [
        ("gpu", 8, EIGHT_GPUS, {}, ""),
        ("gpu", 2, EIGHT_GPUS, {"CUDA_VISIBLE_DEVICES": "2,3"}, "use 2 each (CUDA_VISIBLE_DEVICES"),
        ("gpu", 1, EIGHT_GPUS, {}, "this machine has 8 GPU(s); 1 process(es) here use 1 each"),
        ("gpu", 1, EIGHT_GPUS, {"SLURM_GPUS_ON_NODE": "4"}, "the job has 4 GPU(s)"),
        ("gpu", 1, EIGHT_GPUS, slurm_task(0, "8") | {"SLURM_GPUS_ON_NODE": "8"}, ""),
        ("gpu", 1, EIGHT_GPUS, slurm_task(0, "1(x2)") | {"SLURM_GPUS_ON_NODE": "8"}, "1 each"),
        (
            "gpu",
            1,
            Host(1, False),
            slurm_task(0, "2"),
            "1 GPU(s); 2 process(es) here use 1 each, so that",
        ),
        ("gpu", 8, EIGHT_GPUS, slurm_task(0, "2"), "several share a GPU: start one"),
        ("cpu", 1, EIGHT_GPUS, {}, "extra [cuda]"),
        ("cpu", 1, EIGHT_GPUS, {"JAX_PLATFORMS": "cpu"}, ""),
        ("cpu", 1, EIGHT_GPUS, {"CUDA_VISIBLE_DEVICES": ""}, ""),
        ("cpu", 1, TPU, {}, "extra [tpu]"),
        ("cpu", 1, NOTHING, {}, ""),
        ("tpu", 4, TPU, {}, ""),
    ],
)
def test_what_is_missing_is_told(platform, num_local, host, environ, told: str):
    found = cluster.doubts(platform, num_local, host, environ)
    assert told in " ".join(found)
    assert bool(found) == bool(told)


def test_processes_with_other_numbers_of_devices_are_refused():
    cluster.expect_equal([4, 4])
    with pytest.raises(ProcessesError, match="process 0: 4, process 1: 3"):
        cluster.expect_equal([4, 3])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("cpu", "cpu", [4]), "4 CPU devices"),
        (("cpu", "cpu", [4, 4]), "8 devices: 2 processes with 4 CPU devices each"),
        (("gpu", "NVIDIA H100", [1]), "1 GPU (NVIDIA H100)"),
        (("tpu", "TPU v5 lite", [4] * 4), "16 devices: 4 processes with 4 TPUs each (TPU v5 lite)"),
    ],
)
def test_devices_in_words(arguments: tuple, words: str):
    assert cluster.describe(*arguments) == words
