"""The table of the teacher store's formats."""

import json

import pytest

from conkd_jax import store_formats
from conkd_jax.artifacts.manifest import whole_manifest
from conkd_jax.stages import pipeline
from tests.fixtures.programs import CONFIG, refused


@pytest.fixture
def options(small_world):
    return CONFIG, f"--config.artifacts_dir={small_world.artifacts_dir}"


def test_three_formats_of_one_config(call, small_world, options, tmp_path):
    file = tmp_path / "formats.json"
    code, output, errors = call(store_formats, *options, "--rows=0", f"--json={file}")
    assert code == 0, errors
    document = json.loads(file.read_text())
    stores = {each["format"]: each for each in document["stores"]}
    assert list(stores) == ["features", "dense", "topk"]
    assert str(tmp_path) not in document["command"]
    targets = stores["topk"]["num_targets"]
    sizes = {"features": 2 * 32 + 8, "dense": 2 * targets + 8, "topk": 64 * (2 + 2) + 8}
    for format, each in stores.items():
        assert each["bytes_per_token"] == sizes[format]
        assert each["bytes_per_token_on_disk"] > 0.4 * sizes[format]  # files are compressed
        assert each["bytes_per_token_of_bfloat16_logits"] == 2 * targets
        assert each["eta"] == 0.04
        config = small_world.config(teacher_outputs__format=format)
        stage = pipeline.build(config)["teacher_outputs"]
        told = whole_manifest(stage, config.artifacts_dir)["metrics"]
        # The stage measures a part of the tokens, the program all of them.
        assert told["rounding_tokens"] < each["tokens"]
        assert each["max_item_mass_error"] > told["rounding_max_item_mass_error"] - 1e-6
        assert each["mean_lost_mass"] == pytest.approx(told["rounding_mean_lost_mass"], rel=0.3)
        assert f"{format}{' 64' if format == 'topk' else ''}, bfloat16" in output
    for format in ("features", "dense"):
        each = stores[format]
        assert each["max_rebuilt_item_mass_error"] == pytest.approx(
            each["max_item_mass_error"], abs=1e-6
        )
        assert 0 < each["mean_cross_entropy_error"] < each["max_cross_entropy_error"] < 0.2
    topk = stores["topk"]
    assert topk["flips"] == 0 and topk["max_item_mass_error"] < 1e-6
    assert topk["max_rebuilt_item_mass_error"] > 1e-3 and topk["mean_lost_mass"] > 1e-3
    assert topk["mean_cross_entropy_error"] > stores["dense"]["mean_cross_entropy_error"]


def test_all_targets_in_float32_are_the_teacher(call, options, tmp_path):
    file = tmp_path / "formats.json"
    fields = {"format": "topk", "dtype": "float32", "top_k": 10**6}
    of_store = [f"--config.teacher_outputs.{name}={value}" for name, value in fields.items()]
    options = [*options, *of_store, "--formats=topk", "--rows=4", f"--json={file}"]
    assert call(store_formats, *options)[0] == 0
    (found,) = json.loads(file.read_text())["stores"]
    assert found["width"] == found["num_targets"]
    for name in ("max_rebuilt_item_mass_error", "max_cross_entropy_error", "mean_lost_mass"):
        assert abs(found[name]) < 1e-5, name


def test_runs_show_their_students(call, small_world, tmp_path):
    file = tmp_path / "formats.json"
    code, output, errors = call(store_formats, small_world.folder, "--rows=4", f"--json={file}")
    assert code == 0, errors
    (found,) = json.loads(file.read_text())["stores"]
    metrics = json.loads((small_world.folder / "metrics.json").read_text())["metrics"]
    assert found["f1@10"] == metrics["f1@10"] and found["ppl"] == metrics["ppl"]
    assert "F1@10" in output and f"{metrics['ppl']:.2f}" in output


def test_a_gate_without_a_threshold_has_no_flips(call, options, tmp_path):
    file = tmp_path / "formats.json"
    options = [*options, "--config.distill.gate=soft", "--formats=features", "--rows=4"]
    assert call(store_formats, *options, f"--json={file}")[0] == 0
    (found,) = json.loads(file.read_text())["stores"]
    assert found["flips"] is found["eta"] is None


def test_unclear_calls_are_refused(call, small_world, options):
    refused(call(store_formats), "expected runs")
    refused(call(store_formats, small_world.folder, *options), "expected runs")
    refused(call(store_formats, *options, "--formats=sparse"), "expected one of features")
    untaught = "--config.distill.gamma=0.0"
    refused(call(store_formats, *options, untaught), "expected a student with γ above 0")
