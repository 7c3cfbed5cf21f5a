"""metrics.json, samples.md, the summary table and the paper's rows."""

import io
import json
import math
from pathlib import Path

import pytest
from rich.console import Console

from conkd_jax.eval import report
from conkd_jax.eval.metrics.bootstrap import bootstrap_intervals
from conkd_jax.eval.tables import paper
from tests.eval.predicted import A, B, prediction, statistics_of


def document(seed=0, **changes) -> dict:
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
    statistics = statistics_of(run, num_items=2)
    arguments = {
        "config_name": "dialogpt_hard",
        "preset": "mini",
        "backbone": "dialogpt",
        "split": "valid",
        "seed": seed,
        "config_sha256": report.config_sha256({"seed": seed}),
        "counts": statistics.totals,
        "metrics": statistics.metrics() | {"lambda_r": 0.4},
        "intervals": bootstrap_intervals(statistics, num_resamples=20),
        "command": "python -m conkd_jax.train --config=configs/dialogpt_hard.py:mini",
        "machine": {"platform": "cpu", "cores": 2},
        "git": "abc1234",
    }
    return report.metrics_json(**(arguments | changes))


def printed(table) -> str:
    console = Console(file=io.StringIO(), width=120)
    console.print(table)
    return console.file.getvalue()


# --- metrics.json ---------------------------------------------------------------------------


def test_metrics_json_has_what_the_design_promises(tmp_path):
    path = tmp_path / "metrics.json"
    report.write_json(path, document())
    read = json.loads(path.read_text())
    assert read == document()
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
        document(**changes)


def test_the_configs_hash_follows_its_values():
    assert report.config_sha256({"a": {"b": 1}}) != report.config_sha256({"a": {"b": 2}})
    assert len(report.config_sha256({})) == 64


# --- several seeds --------------------------------------------------------------------------


def test_mean_and_deviation_across_seeds():
    runs = [document(seed, metrics={"ppl": 10.0 + seed}) for seed in range(3)]
    runs[0]["metrics"]["only_here"] = 1.0
    assert report.across_seeds(runs) == {"ppl": (11.0, 1.0)}


def test_runs_that_differ_in_more_than_the_seed_are_not_averaged():
    with pytest.raises(ValueError, match="split: expected the same"):
        report.across_seeds([document(0), document(1, split="test")])
    with pytest.raises(ValueError, match="backbone: expected the same"):
        report.across_seeds([document(0), document(1, backbone="kgsf")])
    with pytest.raises(ValueError, match=r"each once, got \[0, 0\]"):
        report.across_seeds([document(0), document(0)])


# --- names ----------------------------------------------------------------------------------


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
    assert report.run_label(config, backbone) == label


# --- the table ------------------------------------------------------------------------------


def test_the_table_puts_ours_beside_the_papers_row():
    text = printed(report.summary_table(document(), paper.paper_row("dialogpt_hard", "dialogpt")))
    lines = {line.split()[0]: line.split() for line in text.splitlines() if line.split()}
    assert lines["rer@10"] == ["rer@10", "1.000", "1.000", "to", "1.000", "0.120"]
    assert lines["ppl"][1] == f"{math.exp(1.5):.2f}"
    assert lines["ppl"][-1] == "12.41"
    assert lines["lambda_r"] == ["lambda_r", "0.400", "–", "–"]
    assert "DialoGPT + ConKD (hard)" in text
    assert "dialogpt_hard (mini) on valid: 8 responses, seed 0" in text
    assert "dist-4" not in lines  # our responses have no four tokens, so there is no such metric


def test_the_table_stands_without_a_paper_row():
    text = printed(report.summary_table(document()))
    assert "f1@50" in text
    assert "ConKD" not in text


# --- the paper's tables ---------------------------------------------------------------------


@pytest.mark.parametrize("row", paper.SYSTEMS.values(), ids=lambda row: row.name)
def test_the_papers_f1_is_the_harmonic_mean_of_its_recall_and_precision(row):
    # A typing error in Table 2 would show: the table's own rounding allows .0015.
    for k in (1, 10, 50):
        recall, precision = row.metrics[f"rer@{k}"], row.metrics[f"prr@{k}"]
        harmonic = 2 * recall * precision / (recall + precision)
        assert row.metrics[f"f1@{k}"] == pytest.approx(harmonic, abs=1.5e-3)


@pytest.mark.parametrize("row", paper.SYSTEMS.values(), ids=lambda row: row.name)
def test_the_papers_human_average_is_the_mean_of_the_three(row):
    names = ("human_fluency", "human_informativeness", "human_coherence")
    mean = sum(row.metrics[name] for name in names) / 3
    assert row.metrics["human_average"] == pytest.approx(mean, abs=1.5e-3)


def test_the_papers_original_rer_is_its_rer_by_one_constant():
    # Table 8 over Table 2 is 1.345 for both systems: N_g / R_g of the test split.
    for name in ("RecInDial", "DialoGPT + ConKD (hard)"):
        values = paper.SYSTEMS[name].metrics
        for k in (10, 50):
            assert values[f"rer@{k}_original"] / values[f"rer@{k}"] == pytest.approx(
                1.345, abs=6e-3
            )


def test_the_full_ablation_is_the_main_tables_row():
    full, main = paper.ABLATIONS["(+) D&R&ST"].metrics, paper.SYSTEMS["KGSF + ConKD (hard)"].metrics
    assert {name: main[name] for name in full if name in main} == {
        name: value for name, value in full.items() if name in main
    }


ROOT = Path(__file__).resolve().parents[2]
NOT_IN_THE_PAPER = ("ablations/vanilla_special_tokens", "sweeps/eta", "sweeps/gamma")


@pytest.mark.parametrize(
    "path", sorted((ROOT / "configs").rglob("*.py")), ids=lambda path: path.stem
)
def test_every_config_has_its_row_of_the_paper(path):
    name = path.relative_to(ROOT / "configs").with_suffix("").as_posix()
    rows = {b: paper.paper_row(name, b) for b in ("dialogpt", "kgsf")}
    if name in NOT_IN_THE_PAPER:
        assert not any(rows.values())
    elif name.startswith("dialogpt"):
        assert rows["dialogpt"] and not rows["kgsf"]
    else:
        assert rows["kgsf"]
        is_variant = name in ("ablations/fitted_threshold", "ablations/cross_fitted")
        assert bool(rows["dialogpt"]) == is_variant  # the paper's ablations are on KGSF


@pytest.mark.parametrize(
    ("name", "f1_at_50", "ppl"),
    [
        ("kgsf", 0.116, 11.191),
        ("kgsf_hard", 0.253, 8.886),
        ("kgsf_soft", 0.248, 8.689),
        ("ablations/vanilla", 0.155, 7.538),
        ("ablations/dialogue_teacher", 0.165, 7.071),
        ("ablations/rec_teacher", 0.146, 12.331),
        ("ablations/both_teachers", 0.200, 6.349),
        ("ablations/both_teachers_special_tokens", 0.253, 8.886),
        ("ablations/constant_gate", 0.245, 9.211),
    ],
)
def test_the_papers_rows_of_kgsf(name, f1_at_50, ppl):
    metrics = paper.paper_row(name, "kgsf").metrics
    assert (metrics["f1@50"], metrics["ppl"]) == (f1_at_50, ppl)


def test_the_full_model_is_a_step_of_the_ladder():
    assert paper.ablation_row("kgsf_hard", "kgsf") is paper.ABLATIONS["(+) D&R&ST"]
    assert paper.ablation_row("dialogpt_hard", "dialogpt") is None
    assert paper.ablation_step("dialogpt_hard") == "(+) D&R&ST"
    assert paper.paper_row("my_own_config", "kgsf") is None


def test_what_the_paper_prints_as_lost_is_what_its_recalls_say():
    for name in ("KBRD", "KGSF", "RevCore"):
        values = paper.SYSTEMS[name].metrics
        for k in (1, 10, 50):
            lost = 1 - values[f"rer@{k}"] / values[f"recall@{k}"]
            assert values[f"drop@{k}"] == pytest.approx(lost, abs=0.02)  # of rounded recalls


def test_no_paper_stands_beside_a_synthetic_corpus():
    assert report.paper_beside(document()).name == "DialoGPT + ConKD (hard)"
    assert report.paper_beside(document(preset="demo")) is None
    assert report.paper_beside(document(preset="external", backbone="")) is None
    assert report.paper_beside(document(config_name="kbrd", backbone="")).name == "KBRD"
