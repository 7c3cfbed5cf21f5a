"""A config with a list of values: one run each, a table and a figure of all."""

import importlib
import json

import pytest

from conkd_jax import config as conkd
from conkd_jax import train
from conkd_jax.config.rules import runs_of_sweep, validate_config
from conkd_jax.eval.tables.documents import read_documents
from conkd_jax.stages import pipeline
from tests.fixtures.programs import CONFIG
from tests.fixtures.small_world import get_config


def swept(field, values):
    fields = {"sweep.field": field, "sweep.over": values}
    return conkd.frozen(get_config()).replace(fields)


def test_one_config_a_value():
    config = swept("distill.gamma", (0.2, 0.8))
    found = runs_of_sweep(validate_config(config))
    assert list(found) == ["gamma=0.2", "gamma=0.8"]
    assert [single.distill.gamma for single in found.values()] == [0.2, 0.8]
    assert all(not single.sweep.field for single in found.values())
    single = conkd.frozen(get_config())
    assert runs_of_sweep(single) == {"": single}


@pytest.mark.parametrize(
    ("field", "values", "message"),
    [
        ("distill.gama", (0.1,), "config.sweep.field: expected the dotted name of a field"),
        ("distill.gamma", (), "config.sweep.over: expected one or more"),
        ("distill.gamma", (0.2, 0.2), "config.sweep.over: expected .* distinct values"),
        ("distill.gamma", ([0.2], [0.4]), "config.sweep.over: expected .* a number or a text"),
        ("distill.gamma", (None, 0.4), "config.sweep.over: expected .* a number or a text"),
        ("backbone", ("kgsf",), "config.sweep.field: .* other than preset or backbone"),
        ("distill.gamma", (0.1, 1.5), r"config.distill.gamma: expected a number from 0 to 1"),
        ("distill.gamma", ("much",), "'much' is not a value of distill.gamma"),
    ],
)
def test_a_sweep_that_can_t_work_is_refused_before_any_run(field, values, message):
    with pytest.raises(conkd.ConfigError, match=message):
        runs_of_sweep(validate_config(swept(field, values)))


@pytest.mark.parametrize("name", ["eta", "gamma"])
def test_the_values_of_a_committed_sweep_differ_in_their_students_alone(name):
    config = importlib.import_module(f"configs.sweeps.{name}").get_config("demo")
    singles = runs_of_sweep(validate_config(conkd.frozen(config)))
    runs = [pipeline.build(single) for single in singles.values()]
    assert len({stages["student"].fingerprint for stages in runs}) == len(config.sweep.over)
    assert len({stages["teacher_outputs"].fingerprint for stages in runs}) == 1


def test_a_sweep_leaves_its_runs_a_table_and_a_figure(call, small_world, tmp_path):
    """Over a field of decoding, so that everything trained is shared."""
    folder = tmp_path / "sweep"
    options = [f"--config.artifacts_dir={small_world.artifacts_dir}", f"--workdir={folder}"]
    assert call(train, CONFIG, *options)[0] == 0  # a run that the sweep takes the folder of
    sweep = ["--config.sweep.field=decode.max_tokens", "--config.sweep.over=(1,8)"]
    code, printed, errors = call(train, CONFIG, *options, *sweep)
    assert code == 0, errors
    (aside,) = (folder / "earlier").iterdir()
    assert (aside / "metrics.json").exists() and str(aside) in printed
    assert len(read_documents([folder])) == 2
    single = {path.name for path in folder.iterdir() if path.is_dir()} - {"earlier"}
    assert single == {"max_tokens=1", "max_tokens=8"}
    kept = json.loads((folder / "sweep.json").read_text())["runs"]
    for name in single:
        metrics = json.loads((folder / name / "metrics.json").read_text())["metrics"]
        assert kept[name]["metrics"] == metrics
    assert kept["max_tokens=8"]["metrics"] != kept["max_tokens=1"]["metrics"]
    assert (folder / "sweep.png").exists() and (folder / "sweep.md").exists()
    assert "decode.max_tokens on valid" in printed
    assert "max_tokens=1\n" in printed  # above the summary of its run

    assert call(train, CONFIG, *options)[0] == 0  # a run that takes the folder of the sweep
    assert (folder / "earlier" / "unknown" / "max_tokens=8" / "metrics.json").exists()
    assert not list(folder.glob("max_tokens=*")) and len(read_documents([folder])) == 1
