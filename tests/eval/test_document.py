"""metrics.json: what it holds, what is refused, and what its run is called."""

import json
import math

import pytest

from conkd_jax.eval.document import (
    DocumentError,
    checked_document,
    metrics_document,
    run_label,
)
from conkd_jax.eval.metrics.bootstrap import bootstrap_intervals
from conkd_jax.eval.metrics.options import MetricOptions
from conkd_jax.eval.metrics.run_metrics import run_statistics
from conkd_jax.io.files import sha256_of_json, write_json
from tests.eval.predicted import A, B, prediction
from tests.eval.scored import document, older


def scored_run(seed=0, **changes) -> dict:
    run = [
        prediction(
            dialogue=str(i),
            gold=(B,),
            tops=[(A, B)],
            predicted_turn_type="rec",
            recommender_top=(A, B),
            token_nll=(1.0, 2.0),
            token_is_item=(False, True),
        )
        for i in range(8)
    ]
    statistics = run_statistics(run, MetricOptions(num_items=2))
    arguments = {
        "config_name": "dialogpt_hard",
        "preset": "mini",
        "backbone": "dialogpt",
        "split": "valid",
        "seed": seed,
        "config_sha256": sha256_of_json({"seed": seed}),
        "counts": statistics.totals,
        "metrics": statistics.metrics() | {"lambda_r": 0.4},
        "intervals": bootstrap_intervals(statistics, num_resamples=20),
        "command": "python -m conkd_jax.train --config=configs/dialogpt_hard.py:mini",
        "machine": {"platform": "cpu", "cores": 2},
        "git": "abc1234",
        "paper_row": "DialoGPT + ConKD (hard)",
    }
    return metrics_document(**(arguments | changes))


def test_metrics_json_has_what_the_design_promises(tmp_path):
    path = tmp_path / "metrics.json"
    write_json(path, scored_run())
    read = json.loads(path.read_text())
    assert read == scored_run()
    promised = {"split", "seed", "config_sha256", "n_responses", "counts", "metrics", "backbone"}
    assert promised <= set(read)
    assert read["n_responses"] == read["counts"]["responses"] == 8
    names = {"rer@1", "rer@10", "rer@50", "prr@50", "f1@50", "rec_ratio", "dist-1", "ppl"}
    names |= {"recall@1", "lambda_r", "classifier_accuracy", "classifier_base_rate"}
    assert names <= set(read["metrics"])
    assert read["metrics"]["rer@10"] == 1
    assert read["metrics"]["ppl"] == pytest.approx(math.exp(1.5))
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"metrics": {"ppl": math.inf}}, "ppl: expected a finite number, got inf"),
        ({"intervals": {"ppl": (1.0, math.nan)}}, "interval of ppl: expected a finite number"),
        ({"counts": {"dialogues": 3}}, r"expected 'responses', got \['dialogues'\]"),
    ],
)
def test_numbers_that_json_cannot_hold_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        scored_run(**changes)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ([], "not a JSON object"),
        ({"settings": {}}, "of another type: config, preset, backbone, split"),
        ({k: v for k, v in document().items() if k != "backbone"}, "of another type: backbone"),
        (document() | {"seed": "0"}, "of another type: seed"),
        (document() | {"metrics": {"ppl": "low"}}, "a value of metrics"),
        (document() | {"paper_row": None}, "of another type: paper_row"),
    ],
)
def test_other_json_is_refused(wrong, message):
    assert checked_document(document(), "m.json") == document()
    assert checked_document(older(document()), "m.json") == older(document())
    with pytest.raises(DocumentError, match=f"^m.json: expected a metrics.json .*{message}"):
        checked_document(wrong, "m.json")


@pytest.mark.parametrize(
    ("config", "backbone", "label"),
    [
        ("dialogpt_hard", "dialogpt", "dialogpt_hard"),
        ("kgsf", "kgsf", "kgsf"),
        ("ablations/fitted_threshold", "dialogpt", "ablations/fitted_threshold-dialogpt"),
        ("ablations/vanilla", "kgsf", "ablations/vanilla-kgsf"),
        ("ablations/kgsf_small", "kgsf", "ablations/kgsf_small"),  # its own name begins with it
        ("kgsf_hard", "dialogpt", "kgsf_hard-dialogpt"),
        ("their_system", "", "their_system"),
    ],
)
def test_a_run_is_called_by_its_config_and_backbone(config, backbone, label):
    assert run_label(config, backbone) == label
