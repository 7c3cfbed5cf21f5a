"""metrics.json, samples.md, the summary table and the paper's rows."""

import io
import json
import math

import pytest
from rich.console import Console

from conkd_jax.eval import metrics, paper, report
from conkd_jax.eval.predictions import ContextTurn, ItemStep, Prediction, word_tokens

TITLES = {5: "Gladiator (2000)", 7: "Se7en (1995)", 8: "M*A*S*H (1970) [remastered]"}


def prediction(turn=1, dialogue="1", generated="Try @5", **changes) -> Prediction:
    fields = {
        "conversation_id": dialogue,
        "turn": turn,
        "turn_type": "rec",
        "predicted_turn_type": "rec",
        "context": (ContextTurn("seeker", "I *like* | @8\nand <b>_@99_</b>"),),
        "mentioned_items": (8,),
        "reference": "Have you seen @7?",
        "reference_items": (7,),
        "reference_items_out_of_vocabulary": (),
        "generated": generated,
        "generated_tokens": tuple(word_tokens(generated)),
        "generated_items": (5,),
        "item_steps": (ItemStep(1, 5, (5, 7, 8)),),
        "recommender_top": (8, 5),
        "token_nll": (1.0, 2.0),
        "token_is_item": (False, True),
    }
    return Prediction(**(fields | changes))


def document(seed=0, **changes) -> dict:
    run = [prediction(dialogue=str(i)) for i in range(8)]
    statistics = metrics.gather(run)
    arguments = {
        "config_name": "dialogpt_hard",
        "preset": "mini",
        "split": "valid",
        "seed": seed,
        "config_sha256": report.config_sha256({"seed": seed}),
        "counts": statistics.totals,
        "metrics": statistics.metrics() | {"lambda_r": 0.4},
        "intervals": statistics.intervals(num_resamples=20),
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
    promised = {"split", "seed", "config_sha256", "n_responses", "counts", "metrics"}
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
    with pytest.raises(ValueError, match=r"each once, got \[0, 0\]"):
        report.across_seeds([document(0), document(0)])


# --- the table ------------------------------------------------------------------------------


def test_the_table_puts_ours_beside_the_papers_row():
    text = printed(report.summary_table(document(), paper.paper_row("dialogpt_hard")))
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


# --- samples --------------------------------------------------------------------------------


def test_samples_show_titles_systems_and_hits():
    ours = [prediction(dialogue=str(i)) for i in range(5)]
    others = [prediction(dialogue=str(i), generated="Hello", item_steps=()) for i in range(5)]
    text = report.samples_md({"student": ours, "vanilla | x": others}, TITLES, num_samples=2)
    assert text.count("\n## ") == 2
    assert "## 1. Conversation 0, turn 1" in text
    assert "| reference | rec | Have you seen *Se7en (1995)*? |" in text
    assert (
        "| student | rec | Try *Gladiator (2000)* | *Gladiator (2000)*, *Se7en (1995)* ✓, "
        r"*M\*A\*S\*H (1970) \[remastered\]* |"
    ) in text
    assert r"| vanilla \| x | rec | Hello |" in text
    assert "| recommender alone |" in text


def test_samples_escape_what_people_typed():
    text = report.samples_md({"student": [prediction()]}, TITLES)
    line = next(line for line in text.splitlines() if "Seeker" in line)
    assert r"I \*like\* \|" in line
    assert r"and \<b\>\_@99\_\</b\>" in line  # no title: the id stays
    table = [line for line in text.splitlines() if line.startswith("| ")]
    assert {line.replace(r"\|", "").count("|") for line in table} == {5}


def test_samples_survive_half_a_surrogate_pair(tmp_path):
    text = report.samples_md({"s": [prediction(generated="\ud83d ok\x00")]}, TITLES)
    (tmp_path / "samples.md").write_text(text, encoding="utf-8")
    assert " ok |" in text


def test_samples_are_spread_over_what_all_systems_answered():
    ours = [prediction(dialogue=str(i)) for i in range(100)]
    theirs = [prediction(dialogue=str(i)) for i in range(50, 100)]
    text = report.samples_md({"a": ours, "b": theirs}, TITLES, num_samples=5)
    heads = [line.split()[3] for line in text.splitlines() if line.startswith("## ")]
    assert heads == ["50,", "60,", "70,", "80,", "90,"]
    with pytest.raises(ValueError, match="answered, got none"):
        report.samples_md({"a": ours[:5], "b": theirs}, TITLES)
    with pytest.raises(ValueError, match="at least one system"):
        report.samples_md({}, TITLES)


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


def test_every_config_name_finds_its_row_and_others_none():
    for name in paper._ROW_OF_CONFIG:
        assert paper.paper_row(name) is not None
    assert paper.paper_row("dialogpt_hard").name == "DialoGPT + ConKD (hard)"
    assert paper.paper_row("my_own_config") is None
