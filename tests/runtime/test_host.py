"""What a machine has, from the files of its devices, and which GPUs a scheduler's task gets."""

from pathlib import Path

import pytest

from conkd_jax.runtime import host
from conkd_jax.runtime.host import Host


@pytest.mark.parametrize(
    ("counts", "number"), [("1(x4)", 1), ("8", 8), ("2(x3),1", 2), ("4(x2)", 4), ("", None)]
)
def test_tasks_of_a_slurm_host(counts: str, number: int | None):
    environ = {"SLURM_STEP_TASKS_PER_NODE": counts, "SLURM_PROCID": "0"}
    assert host.tasks_on_host(environ) == number


def slurm(index: int, tasks: str, **variables: str) -> dict[str, str]:
    place = {"SLURM_PROCID": str(index), "SLURM_LOCALID": str(index)}
    return place | {"SLURM_STEP_TASKS_PER_NODE": tasks} | variables


def open_mpi(index: int, tasks: str, **variables: str) -> dict[str, str]:
    names = ("RANK", "LOCAL_RANK", "LOCAL_SIZE")
    place = dict(zip(names, (str(index), str(index), tasks), strict=True))
    return {f"OMPI_COMM_WORLD_{name}": value for name, value in place.items()} | variables


def test_tasks_of_mpirun_are_not_its_daemons_under_slurm():
    environ = slurm(0, "1(x2)") | open_mpi(3, "4")
    assert host.tasks_on_host(environ) == 4
    assert host.own_gpus(environ, Host(4, False)) == [3]


@pytest.mark.parametrize("task", [slurm, open_mpi])
@pytest.mark.parametrize(
    ("tasks", "num_gpus", "variables", "gpus"),
    [
        ("1", 8, {}, []),
        ("2", 8, {}, [1]),
        ("2", 0, {}, [1]),  # none that the kernel names as NVIDIA does
        ("2", 8, {"CUDA_VISIBLE_DEVICES": "4,5,6,7"}, []),  # bound: the other task has 0 to 3
        ("2", 8, {"CUDA_VISIBLE_DEVICES": "5"}, []),
        ("2", 8, {"CUDA_VISIBLE_DEVICES": "0,1,2,3,4,5,6,7"}, [1]),
        ("2", 8, {"CUDA_VISIBLE_DEVICES": "2,3", "SLURM_GPUS_ON_NODE": "2"}, [1]),  # all of the job
        ("2", 8, {"CUDA_VISIBLE_DEVICES": "0", "SLURM_GPUS_ON_NODE": "2"}, []),
        ("2", 8, {"CUDA_VISIBLE_DEVICES": ""}, []),
        ("2", 1, {}, []),  # JAX would look for a second one
        ("2", 1, {"CUDA_VISIBLE_DEVICES": "0"}, []),
        ("2", 8, {"JAX_LOCAL_DEVICE_IDS": "6, 7"}, [6, 7]),
        ("1", 8, {"JAX_LOCAL_DEVICE_IDS": "3"}, [3]),
    ],
)
def test_gpus_of_the_second_task(task, tasks: str, num_gpus: int, variables, gpus: list[int]):
    assert host.own_gpus(task(1, tasks, **variables), Host(num_gpus, False)) == gpus


def test_without_a_scheduler_nothing_is_chosen():
    assert host.own_gpus({"CUDA_VISIBLE_DEVICES": "0,1"}, Host(8, False)) is None
    assert host.own_gpus({"JAX_LOCAL_DEVICE_IDS": "1"}, Host(8, False)) == [1]
    with pytest.raises(ValueError, match="JAX_LOCAL_DEVICE_IDS: expected numbers.*'all'"):
        host.own_gpus({"JAX_LOCAL_DEVICE_IDS": "all"}, Host(8, False))


@pytest.mark.parametrize(
    ("devices", "vendors", "has_tpu"),
    [
        (["accel0", "accel1"], {}, True),
        (["vfio/vfio", "vfio/0", "vfio/1"], {"0": "0x1ae0", "1": "0x1ae0"}, True),
        (["vfio/vfio"], {"0": "0x1ae0"}, False),  # a container that was given no chip
        (["vfio/vfio", "vfio/96"], {"96": "0x15b3"}, False),  # a network card
        (["vfio/vfio", "vfio/0"], {}, False),
        (["accel"], {}, False),
        ([], {}, False),
    ],
)
def test_a_tpu_by_its_device_files(tmp_path: Path, devices, vendors, has_tpu: bool):
    for name in devices:
        (tmp_path / "dev" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "dev" / name).touch()
    for group, vendor in vendors.items():
        device = tmp_path / f"sys/kernel/iommu_groups/{group}/devices/0000:00:04.0"
        device.mkdir(parents=True)
        (device / "vendor").write_text(f"{vendor}\n")
    assert Host.here(tmp_path) == Host(0, has_tpu)


def test_gpus_are_counted_by_their_numbers(tmp_path: Path):
    (tmp_path / "dev").mkdir()
    for name in ("nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm"):
        (tmp_path / "dev" / name).touch()
    assert Host.here(tmp_path) == Host(2, False)
