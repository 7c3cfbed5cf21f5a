"""The paper's numbers agree with each other, and each row stands beside its own systems only."""

import pytest

from conkd_jax.config import BACKBONES
from conkd_jax.eval.tables.paper import (
    ABLATIONS,
    SYSTEMS,
    ablation_row,
    ablation_step,
    paper_row,
)


@pytest.mark.parametrize("row", SYSTEMS.values(), ids=lambda row: row.name)
def test_the_papers_f1_is_the_harmonic_mean_of_its_recall_and_precision(row):
    # A typing error in Table 2 would show: the table's own rounding allows .0015.
    for k in (1, 10, 50):
        recall, precision = row.metrics[f"rer@{k}"], row.metrics[f"prr@{k}"]
        harmonic = 2 * recall * precision / (recall + precision)
        assert row.metrics[f"f1@{k}"] == pytest.approx(harmonic, abs=1.5e-3)


@pytest.mark.parametrize("row", SYSTEMS.values(), ids=lambda row: row.name)
def test_the_papers_human_average_is_the_mean_of_the_three(row):
    names = ("human_fluency", "human_informativeness", "human_coherence")
    mean = sum(row.metrics[name] for name in names) / 3
    assert row.metrics["human_average"] == pytest.approx(mean, abs=1.5e-3)


def test_the_papers_original_rer_is_its_rer_by_one_constant():
    # Table 8 over Table 2 is 1.345 for both systems: N_g / R_g of the test split.
    for name in ("RecInDial", "DialoGPT + ConKD (hard)"):
        values = SYSTEMS[name].metrics
        for k in (10, 50):
            assert values[f"rer@{k}_original"] / values[f"rer@{k}"] == pytest.approx(
                1.345, abs=6e-3
            )


def test_the_full_ablation_is_the_main_tables_row():
    full, main = ABLATIONS["(+) D&R&ST"].metrics, SYSTEMS["KGSF + ConKD (hard)"].metrics
    assert {name: main[name] for name in full if name in main} == {
        name: value for name, value in full.items() if name in main
    }


def test_what_the_paper_prints_as_lost_is_what_its_recalls_say():
    for name in ("KBRD", "KGSF", "RevCore"):
        values = SYSTEMS[name].metrics
        for k in (1, 10, 50):
            lost = 1 - values[f"rer@{k}"] / values[f"recall@{k}"]
            assert values[f"drop@{k}"] == pytest.approx(lost, abs=0.02)  # of rounded recalls


def test_rows_stand_beside_runs_on_their_own_backbone():
    assert paper_row("KGSF + ConKD (hard)", "kgsf") is SYSTEMS["KGSF + ConKD (hard)"]
    assert paper_row("KGSF + ConKD (hard)", "dialogpt") is None
    assert paper_row("(+) D", "dialogpt") is None  # the paper ran its ablations on KGSF
    assert paper_row("KBRD", "kbrd") is paper_row("KBRD", "") is SYSTEMS["KBRD"]
    assert paper_row("KBRD", "kgsf") is None
    assert paper_row("ReDial", "kgsf") is None
    not_in_the_paper = {"llama"}
    assert {row.backbone for row in SYSTEMS.values()} == set(BACKBONES) - not_in_the_paper
    for name in ("", "no such row"):
        assert paper_row(name, "kgsf") is ablation_row(name, "kgsf") is ablation_step(name) is None


def test_the_full_model_is_a_step_of_the_ladder():
    assert ablation_row("KGSF + ConKD (hard)", "kgsf") is ABLATIONS["(+) D&R&ST"]
    assert ablation_row("DialoGPT + ConKD (hard)", "dialogpt") is None
    assert ablation_step("DialoGPT + ConKD (hard)") == "(+) D&R&ST"
    assert ablation_step("KGSF + ConKD (soft)") is None
