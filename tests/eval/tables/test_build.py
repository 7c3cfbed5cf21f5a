"""Scored runs as rows beside the paper's."""

import pytest

from conkd_jax.eval.document import EXTERNAL
from conkd_jax.eval.metrics.trivial import is_trivial
from conkd_jax.eval.tables.build import TRIVIAL_LABELS, build_table, build_tables
from conkd_jax.eval.tables.layouts import LAYOUTS
from conkd_jax.eval.tables.paper import ABLATIONS, SYSTEMS
from conkd_jax.eval.tables.table import ABSENT, ResultTable, TableError
from tests.eval.scored import document, older


def cells(table: ResultTable) -> dict[str, dict[str, str]]:
    titles = [column.title for column in table.layout.columns]
    return {
        row.label: dict(zip(titles, (cell.text for cell in row.cells), strict=True))
        for group in table.groups
        for row in group
    }


def marks(table: ResultTable, title: str) -> dict[str, str | None]:
    at = [column.title for column in table.layout.columns].index(title)
    return {row.label: row.cells[at].mark for group in table.groups for row in group}


# --- trivial systems, repetition, intervals ---------------------------------------------------

TRIVIAL = {"f1@10_popularity": 0.03, "f1@10_repeat": 0.05, "f1@10_chance": 0.002, "f1@10": 0.1}
RECALL = {"recall@10": 0.2, "recall@10_popularity": 0.07, "recall@10_chance": 0.001}


def test_a_system_stands_beside_trivial_lists():
    rows = cells(build_table("trivial", [document(metrics=TRIVIAL), document("dialogpt")]))
    assert rows["dialogpt_hard"]["F1@10"] == "0.100"
    assert rows["dialogpt_hard"]["repeat"] == "0.050"
    assert set(rows["dialogpt"].values()) == {ABSENT}  # an older document
    assert list(rows) == ["dialogpt", "dialogpt_hard"]  # no row of the paper


def test_the_recommender_stands_above_trivial_systems():
    rows = cells(build_table("1", [document(), document("dialogpt", metrics=RECALL)]))
    assert list(rows)[-2:] == ["popularity", "chance"]
    assert (rows["popularity"]["R@10"], rows["chance"]["R@10"]) == ("0.070", "0.001")
    assert rows["popularity"]["ReR@10"] == rows["popularity"]["R@1"] == ABSENT
    assert "popularity" not in cells(build_table("1", [document()]))


AT_STEPS = {
    f"{name}@10{kind}_{rule}": value
    for name, value in (("rer", 0.01), ("prr", 0.02), ("f1", 0.03))
    for kind, rule in (("", "popularity"), ("", "repeat"), ("_novel", "popularity"))
}


def test_trivial_systems_recommend_at_the_steps_of_each_row():
    """In the same table, with mean and deviation, where a run has their numbers."""
    runs = [document("kgsf", metrics=AT_STEPS), document()]
    runs.append(document("kgsf", seed=1, metrics={name: 2 * x for name, x in AT_STEPS.items()}))
    table = build_table("2", runs, trivial_at_steps=True)
    names = [f"{name}, at these steps" for name in ("popularity", TRIVIAL_LABELS["repeat"])]
    first, second = table.groups
    assert [row.label for row in first] == ["kgsf", *names, "paper: KGSF"]
    assert [row.is_paper for row in first] == [False, True, True, True]
    assert cells(table)[names[0]]["F1@10"] == "0.045 ± 0.021"
    assert cells(table)[names[0]]["Rec Ratio"] == ABSENT
    assert len(second) == 2  # an older document
    assert all("these steps" not in label for label in cells(build_table("2", runs)))
    novel = document(metrics=AT_STEPS | {"f1@10_novel": 0.1})
    labels = cells(build_table("novel", [novel], trivial_at_steps=True))
    assert names[0] in labels and names[1] not in labels  # what was mentioned is not new


def test_crslab_stands_below_the_paper_where_it_has_numbers():
    runs = [document("kgsf"), document("redial", backbone="redial", metrics=RECALL)]
    table = build_table("1", runs)
    rows = cells(table)
    assert list(rows)[:6] == [
        *("redial", "paper: ReDial", "CRSLab: ReDial"),
        *("kgsf", "paper: KGSF", "CRSLab: KGSF"),
    ]
    assert rows["CRSLab: KGSF"]["R@10"] == "0.179" and rows["CRSLab: ReDial"]["R@50"] == "0.088"
    assert rows["CRSLab: KGSF"]["ReR@10"] == ABSENT
    assert "KGSF: https://github.com/RUCAIBox/CRSLab/issues/44" in table.caption
    assert "CRSLab: KGSF" not in cells(build_table("2", runs))  # no items in responses
    assert "CRSLab" not in build_table("2", runs).caption
    original = build_table("8", [document("kgsf", metrics={"dist-2_original": 0.2})])
    assert cells(original)["CRSLab: KGSF"]["DIST-2"] == "1.244"
    student = build_table("1", [document("kgsf_hard", metrics=RECALL)])
    assert "CRSLab: KGSF" not in cells(student)


def test_new_items_come_before_table_2_and_trivial_lists_below_it():
    metrics = TRIVIAL | {"f1@10_novel": 0.08}
    tables = build_tables("2", [document(metrics=metrics)])
    names = ("novel", "2", "trivial")
    assert [table.layout for table in tables] == [LAYOUTS[name] for name in names]
    assert [bool(table.caption) for table in tables] == [False, False, True]
    assert cells(tables[0])["dialogpt_hard"]["F1@10"] == "0.080"
    assert [table.layout for table in build_tables("2", [document()])] == [LAYOUTS["2"]]


def test_a_row_of_one_run_shows_its_intervals():
    one = document(intervals={"ppl": (9.5, 10.55), "dist-2": (0.1, 0.2)})
    row, _ = build_table("3", [one], intervals=True).groups[0]
    assert [cell.interval for cell in row.cells[:2]] == ["9.50–10.55", ".100–.200"]
    (shown,) = build_tables("3", [one])
    assert "95 % intervals over dialogues" in shown.caption
    plain = build_table("3", [one])
    assert not any(cell.interval for group in plain.groups for row in group for cell in row.cells)
    assert "95 %" not in plain.caption
    several = build_table("3", [one, document(seed=1)], intervals=True)  # mean ± sd
    assert not any(cell.interval for cell in several.groups[0][0].cells)


def test_the_short_table_shows_intervals_only_when_asked():
    one = document(intervals={"ppl": (9.5, 10.5)})
    assert not any(cell.interval for cell in build_tables("short", [one])[0].groups[0][0].cells)
    asked = build_tables("short", [one], intervals=True)[0].groups[0][0]
    assert "9.50–10.50" in [cell.interval for cell in asked.cells]


# --- rows -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LAYOUTS)
def test_columns_are_metrics_that_runs_and_paper_know(name):
    known = {metric for row in (*SYSTEMS.values(), *ABLATIONS.values()) for metric in row.metrics}
    for column in LAYOUTS[name].columns:
        stem, _, kind = column.metric.partition("_")
        # not in the paper: gold item steps, trivial systems, without repetition, per word
        is_ours = stem in ("tf", "repeated") or "novel" in kind or is_trivial(column.metric)
        is_ours |= kind == "per_word"
        assert (
            name in ("gate", "refilling", "latency", "rate") or is_ours or column.metric in known
        ), column
    titles = [column.title for column in LAYOUTS[name].columns]
    assert len(set(titles)) == len(titles)


def test_our_row_stands_above_the_papers():
    table = build_table("2", [document()])
    assert list(cells(table)) == ["dialogpt_hard", "paper: DialoGPT + ConKD (hard)"]
    ours, theirs = cells(table).values()
    assert (ours["ReR@1"], theirs["ReR@1"]) == ("0.010", "0.022")
    assert (ours["Rec Ratio"], theirs["Rec Ratio"]) == ("0.500", "0.525")
    assert ours["ReR@10"] == ABSENT  # these runs have none


def test_rows_come_in_the_papers_order_and_ablations_after_their_parent():
    names = ["my_own", "ablations/fitted_threshold", "dialogpt_soft", "dialogpt", "dialogpt_hard"]
    table = build_table("3", [document(name) for name in names])
    assert [[row.label for row in group] for group in table.groups] == [
        ["dialogpt", "paper: DialoGPT"],
        ["dialogpt_hard", "ablations/fitted_threshold-dialogpt", "paper: DialoGPT + ConKD (hard)"],
        ["dialogpt_soft", "paper: DialoGPT + ConKD (soft)"],
        ["my_own-dialogpt"],
    ]


LADDER = (
    "vanilla",
    "dialogue_teacher",
    "rec_teacher",
    "both_teachers",
    "both_teachers_special_tokens",
    "constant_gate",
)


@pytest.mark.parametrize("name", ["5", "6"])
def test_the_ladder_is_climbed_in_the_papers_order(name):
    runs = [document(f"ablations/{step}", backbone="kgsf") for step in sorted(LADDER)]
    table = build_table(name, [*runs, document("kgsf_hard"), document("kgsf_soft")])
    labels = [[row.label for row in group] for group in table.groups]
    steps = ["Vanilla", "(+) D", "(+) R", "(+) D&R", "(+) D&R&ST", "λ ↔ 0.5"]
    assert labels[:-1] == [
        [f"ablations/{config}-kgsf", f"paper: {step} (on KGSF)"]
        if step != "(+) D&R&ST"
        else ["kgsf_hard", f"ablations/{config}-kgsf", f"paper: {step} (on KGSF)"]
        for config, step in zip(LADDER, steps, strict=True)
    ]
    assert labels[-1] == ["kgsf_soft"]  # no step of the ladder
    rows = cells(table)
    if name == "6":
        assert rows["paper: Vanilla (on KGSF)"] == {
            **{
                f"DIST-{n}": f"{v:.3f}"
                for n, v in zip(range(1, 5), (0.029, 0.1, 0.176, 0.246), strict=True)
            },
            "PPL": "7.54",
        }


def test_ablations_on_dialogpt_climb_without_the_paper():
    runs = [document(f"ablations/{step}") for step in LADDER] + [document("dialogpt_hard")]
    table = build_table("5", runs)
    assert [row.label for group in table.groups for row in group] == [
        *(f"ablations/{step}-dialogpt" for step in LADDER[:4]),
        "dialogpt_hard",
        "ablations/both_teachers_special_tokens-dialogpt",
        "ablations/constant_gate-dialogpt",
    ]
    both = [document("ablations/vanilla"), document("ablations/vanilla", backbone="kgsf")]
    assert list(cells(build_table("2", both))) == [
        "ablations/vanilla-kgsf",
        "paper: Vanilla (on KGSF)",
        "ablations/vanilla-dialogpt",
    ]


def test_what_reaches_the_response_is_derived():
    runs = [document("kgsf", metrics={"recall@1": 0.04, "rer@1": 0.01})]
    ours, theirs, _ = cells(build_table("1", runs)).values()
    assert (ours["ReR/R@1"], theirs["ReR/R@1"]) == ("0.250", "0.211")
    assert ours["ReR/R@10"] == ABSENT
    assert (ours["R@1"], theirs["Mismatch"]) == ("0.040", "0.926")


@pytest.mark.parametrize(
    ("name", "metrics", "columns"),
    [
        ("4", {"f1@10_2hop": 0.3}, {"F1@10": ("0.300", "0.331")}),
        (
            "8",
            {"rer@50_original": 0.4, "dist-2_original": 1.0},
            {"ReR@50": ("0.400", "0.337"), "DIST-2": ("1.000", "1.326")},
        ),
        (
            "latency",
            {"ms_per_token": 9.1234, "prefill_ms": 20.0, "responses_per_second": 3.14},
            {
                "ms per token": ("9.123", "5.306"),
                "ms per prompt": ("20.000", "–"),
                "ms per turn prefix": ("–", "–"),
                "responses/s": ("3.1", "–"),
            },
        ),
    ],
)
def test_tables_4_and_8_and_latency(name, metrics, columns):
    ours, theirs, *_ = cells(build_table(name, [document(metrics=metrics)])).values()
    for column, expected in columns.items():
        assert (ours[column], theirs[column]) == expected


def test_latency_ends_with_the_paper_s_third_system():
    rows = cells(build_table("latency", [document("dialogpt", metrics={"ms_per_token": 1.0})]))
    assert list(rows) == ["dialogpt", "paper: DialoGPT", "paper: RecInDial"]
    assert [row["ms per token"] for row in rows.values()] == ["1.000", "5.464", "6.100"]


@pytest.mark.parametrize(
    ("name", "words"),
    [("4", "--graph=RUN/artifacts/corpus"), ("latency", "one response at a time"), ("8", "got")],
)
def test_a_table_of_nothing_says_how_to_have_it(name, words):
    with pytest.raises(TableError, match=f"expected runs with some of .*{words}"):
        build_table(name, [document()])


def test_other_systems_stand_among_ours():
    theirs = {"preset": EXTERNAL, "backbone": "", "metrics": {"f1@50": 0.3}}
    table = build_table("2", [document("kgsf"), document("kbrd", **theirs, paper_row="KBRD")])
    assert list(cells(table)) == ["kbrd", "paper: KBRD", "kgsf", "paper: KGSF"]
    assert marks(table, "F1@50")["kbrd"] == "best"
    assert "preset mini" in table.caption
    assert "Scored from predictions that this project did not make, on valid" in table.caption
    assert "responses: kbrd." in table.caption


def test_no_paper_stands_beside_a_synthetic_corpus():
    table = build_table("gate", [document(preset="demo")])
    assert list(cells(table)) == ["dialogpt_hard"]
    assert "paper" not in table.caption


def test_cells_keep_the_numbers_that_they_print():
    runs = [document(seed=seed, metrics={"ppl": 10.0 + seed}) for seed in (0, 2)]
    ours, theirs = build_table("3", runs).groups[0]
    assert (ours.cells[0].value, ours.cells[0].deviation) == (11.0, pytest.approx(2**0.5))
    assert (theirs.cells[0].value, theirs.cells[0].deviation) == (12.412, None)
    assert ours.cells[2].value is None  # no DIST-3


def test_the_gate_stands_above_the_papers_means():
    rows = cells(build_table("gate", [document(metrics={"tf_hit@10": 0.25})]))
    assert list(rows) == ["dialogpt_hard", "paper: §3.4, on KGSF"]  # no row of Tables 2 and 3
    assert (rows["dialogpt_hard"]["λ_r"], rows["dialogpt_hard"]["hit@10"]) == ("0.400", "0.250")
    assert (rows["paper: §3.4, on KGSF"]["λ_r"], rows["paper: §3.4, on KGSF"]["λ_v"]) == (
        "0.653",
        "0.023",
    )


def test_seeds_are_one_row_with_their_deviation():
    table = build_table("3", [document(seed=seed, metrics={"ppl": 10.0 + seed}) for seed in (2, 0)])
    assert cells(table)["dialogpt_hard"]["PPL"] == "11.00 ± 1.41"
    assert "seeds 0, 2" in table.caption
    assert "standard deviation" in table.caption


def test_best_and_second_of_ours_are_marked_as_printed():
    runs = {"dialogpt": 12.0, "dialogpt_hard": 10.0, "dialogpt_soft": 10.001, "my_own": 11.0}
    table = build_table("3", [document(name, metrics={"ppl": v}) for name, v in runs.items()])
    found = marks(table, "PPL")
    assert found.pop("dialogpt") is None
    assert found.pop("dialogpt_hard") == found.pop("dialogpt_soft") == "best"  # both print 10.00
    assert found.pop("my_own-dialogpt") == "second"
    assert set(found.values()) == {None}  # the paper's PPL of 5.858 to 17.577 is not ours
    assert set(marks(table, "DIST-2").values()) == {None}  # all alike


def test_higher_is_better_but_for_what_is_lower():
    runs = [document("dialogpt", metrics={"mismatch": 0.9, "rer@1": 0.3})]
    runs += [document("dialogpt_hard", metrics={"mismatch": 0.8, "rer@1": 0.2})]
    table = build_table("1", runs)
    assert (marks(table, "ReR@1")["dialogpt"], marks(table, "ReR@1")["dialogpt_hard"]) == (
        "best",
        None,
    )
    assert marks(table, "Mismatch")["dialogpt_hard"] == "best"
    assert set(marks(build_table("gate", runs), "λ_r").values()) == {None}


def test_variants_stand_on_the_step_of_their_row():
    names = ("dialogpt_hard", "ablations/fitted_threshold", "ablations/constant_gate")
    table = build_table("5", [document(name) for name in names])
    assert list(cells(table)) == [
        "dialogpt_hard",
        "ablations/fitted_threshold-dialogpt",
        "ablations/constant_gate-dialogpt",
    ]


def test_older_documents_make_the_same_table():
    runs = [document(name) for name in ("dialogpt", "dialogpt_hard", "ablations/vanilla")]
    for name in ("2", "5"):
        assert build_table(name, [older(run) for run in runs]) == build_table(name, runs)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"split": "test"},
            r"split: .* got valid \(dialogpt seed 0\); test \(dialogpt_hard seed 0",
        ),
        ({"preset": "paper"}, "preset: expected the same in every run"),
        ({"counts": {"responses": 5}}, "n_responses: expected the same"),
        (
            {"config": "dialogpt"},
            "dialogpt: seeds: expected two or more, each once, got seed0",
        ),
    ],
)
def test_runs_that_make_no_table_are_refused(changes, message):
    config = changes.pop("config", "dialogpt_hard")
    with pytest.raises(TableError, match=message):
        build_table("2", [document("dialogpt"), document(config, **changes)])


def test_a_table_needs_a_name_and_a_run():
    with pytest.raises(
        TableError,
        match="expected one of short, 1, novel, 2, .*, trivial, rate, gate",
    ):
        build_table("22", [document()])
    with pytest.raises(TableError, match="at least one run"):
        build_table("2", [])
