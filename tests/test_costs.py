"""What runs cost, and the page that shows it."""

import json
import shutil
from pathlib import Path

import pytest

from conkd_jax import costs
from conkd_jax.artifacts.manifest import read_manifest
from conkd_jax.runs.finished import Run
from tests.fixtures.programs import refused

ROOT = Path(costs.__file__).parents[1]


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def test_the_costs_are_those_of_the_manifests_and_of_the_disk(call, small_world, tmp_path):
    file = tmp_path / "costs.json"
    # A copy: tests that run at the same time write into the folder that all of them share.
    folder = tmp_path / "run"
    shutil.copytree(small_world.folder, folder, symlinks=True)
    code, output, errors = call(costs, folder, f"--json={file}")
    assert code == 0, errors
    (found,) = json.loads(file.read_text())["runs"]
    run = Run.open(folder)
    assert found["run"] == run.label and found["preset"] == "demo"
    assert {each["stage"] for each in found["stages"]} == {*run.stages}
    for each in found["stages"]:
        stage = run.stages[each["stage"]]
        manifest = read_manifest(stage, run.config.artifacts_dir)
        assert each["seconds"] == manifest["wall_seconds"]
        assert each["bytes"] == size_of(Path(stage.directory(run.config.artifacts_dir)))
        assert 10**7 < each["peak_memory_bytes"] < 10**12
    files = [path for path in folder.rglob("*") if path.is_file()]
    own = [path for path in files if "artifacts" not in path.relative_to(folder).parts]
    assert found["results_bytes"] == sum(path.stat().st_size for path in own)
    assert "2 CPU cores" in output or "CPU cores" in output


def test_a_second_call_replaces_the_run_and_keeps_the_others(call, small_world, tmp_path):
    file = tmp_path / "costs.json"
    assert call(costs, small_world.folder, f"--json={file}")[0] == 0
    document = json.loads(file.read_text())
    other = {**document["runs"][0], "run": "another", "results_bytes": 1}
    stale = {**document["runs"][0], "results_bytes": 2}
    file.write_text(json.dumps({"runs": [stale, other]}))
    assert call(costs, small_world.folder, f"--json={file}")[0] == 0
    kept = {run["run"]: run["results_bytes"] for run in json.loads(file.read_text())["runs"]}
    assert kept == {"another": 1, document["runs"][0]["run"]: document["runs"][0]["results_bytes"]}


def test_the_page_shows_what_is_committed():
    shown = (ROOT / costs.PAGE).read_text(encoding="utf-8")
    assert costs.page_of(ROOT) == shown, "run python -m conkd_jax.costs --page"
    runs = json.loads((ROOT / costs.JSON).read_text(encoding="utf-8"))["runs"]
    assert len(runs) >= 10
    for run in runs:
        assert f"| `{run['run']}:{run['preset']}`" in shown


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "expected runs"),
        (["--page", "runs/a"], "expected runs"),
        (["--page", "--json=a.json"], "expected runs"),
    ],
)
def test_unclear_calls_are_refused(call, arguments, message):
    refused(call(costs, *arguments), message)


def test_a_file_of_something_else_is_not_overwritten(call, small_world, tmp_path):
    file = tmp_path / "other.json"
    file.write_text('{"a": 1}')
    refused(call(costs, small_world.folder, f"--json={file}"), "expected a file of this program")
    assert file.read_text() == '{"a": 1}'
