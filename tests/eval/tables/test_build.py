"""Scored runs as rows beside the paper's, and the rows as text."""

import io
import re

import pytest
from rich.console import Console

from conkd_jax.eval import report
from conkd_jax.eval.tables import build as tables
from conkd_jax.eval.tables import formats as table_formats
from conkd_jax.eval.tables import layouts, paper

METRICS = {
    "rer@1": 0.01,
    "f1@50": 0.2,
    "rec_ratio": 0.5,
    "ppl": 10.0,
    "dist-2": 0.1,
    "lambda_r": 0.4,
}


def document(config="dialogpt_hard", seed=0, metrics=None, **changes) -> dict:
    arguments = {
        "config_name": config,
        "preset": "mini",
        "backbone": "kgsf" if config.startswith("kgsf") else "dialogpt",
        "split": "valid",
        "seed": seed,
        "config_sha256": report.config_sha256({"config": config, "seed": seed}),
        "counts": {"responses": 1234},
        "metrics": METRICS | (metrics or {}),
        "command": "python -m conkd_jax.train",
        "machine": {"platform": "Linux", "cpus": 2, "devices": "1 x cpu", "jax": "0.10.2"},
        "git": "abc1234",
    }
    return report.metrics_json(**(arguments | changes))


def cells(table: tables.ResultTable) -> dict[str, dict[str, str]]:
    titles = [column.title for column in table.layout.columns]
    return {
        row.label: dict(zip(titles, (cell.text for cell in row.cells), strict=True))
        for group in table.groups
        for row in group
    }


def marks(table: tables.ResultTable, title: str) -> dict[str, str | None]:
    at = [column.title for column in table.layout.columns].index(title)
    return {row.label: row.cells[at].mark for group in table.groups for row in group}


# --- rows -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", layouts.LAYOUTS)
def test_columns_are_metrics_that_runs_and_paper_know(name):
    known = {
        metric
        for row in (*paper.SYSTEMS.values(), *paper.ABLATIONS.values())
        for metric in row.metrics
    }
    for column in layouts.LAYOUTS[name].columns:
        is_ours = column.metric.startswith("tf_hit")  # at item steps: the paper has no such number
        assert name in ("gate", "refilling", "latency") or is_ours or column.metric in known, column
    titles = [column.title for column in layouts.LAYOUTS[name].columns]
    assert len(set(titles)) == len(titles)


def test_our_row_stands_above_the_papers():
    table = tables.build("2", [document()])
    assert list(cells(table)) == ["dialogpt_hard", "paper: DialoGPT + ConKD (hard)"]
    ours, theirs = cells(table).values()
    assert (ours["ReR@1"], theirs["ReR@1"]) == ("0.010", "0.022")
    assert (ours["Rec Ratio"], theirs["Rec Ratio"]) == ("0.500", "0.525")
    assert ours["ReR@10"] == tables.ABSENT  # these runs have none


def test_rows_come_in_the_papers_order_and_ablations_after_their_parent():
    names = ["my_own", "ablations/fitted_threshold", "dialogpt_soft", "dialogpt", "dialogpt_hard"]
    table = tables.build("3", [document(name) for name in names])
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
    table = tables.build(name, [*runs, document("kgsf_hard"), document("kgsf_soft")])
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
    table = tables.build("5", runs)
    assert [row.label for group in table.groups for row in group] == [
        *(f"ablations/{step}-dialogpt" for step in LADDER[:4]),
        "dialogpt_hard",
        "ablations/both_teachers_special_tokens-dialogpt",
        "ablations/constant_gate-dialogpt",
    ]
    both = [document("ablations/vanilla"), document("ablations/vanilla", backbone="kgsf")]
    assert list(cells(tables.build("2", both))) == [
        "ablations/vanilla-kgsf",
        "paper: Vanilla (on KGSF)",
        "ablations/vanilla-dialogpt",
    ]


def test_what_the_response_loses_is_derived():
    runs = [document("kgsf", metrics={"recall@1": 0.04, "rer@1": 0.01})]
    ours, theirs = cells(tables.build("1", runs)).values()
    assert (ours["lost@1"], theirs["lost@1"]) == ("0.750", "0.789")
    assert ours["lost@10"] == tables.ABSENT
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
                "answers/s": ("3.1", "–"),
            },
        ),
    ],
)
def test_tables_4_and_8_and_latency(name, metrics, columns):
    ours, theirs, *_ = cells(tables.build(name, [document(metrics=metrics)])).values()
    for column, expected in columns.items():
        assert (ours[column], theirs[column]) == expected


def test_latency_ends_with_the_paper_s_third_system():
    rows = cells(tables.build("latency", [document("dialogpt", metrics={"ms_per_token": 1.0})]))
    assert list(rows) == ["dialogpt", "paper: DialoGPT", "paper: RecInDial"]
    assert [row["ms per token"] for row in rows.values()] == ["1.000", "5.464", "6.100"]


@pytest.mark.parametrize(
    ("name", "words"),
    [("4", "--graph=RUN/artifacts/corpus"), ("latency", "one response at a time"), ("8", "got")],
)
def test_a_table_of_nothing_says_how_to_have_it(name, words):
    with pytest.raises(tables.TableError, match=f"expected runs with some of .*{words}"):
        tables.build(name, [document()])


def test_other_systems_stand_among_ours():
    theirs = {"preset": report.EXTERNAL, "backbone": "", "metrics": {"f1@50": 0.3}}
    table = tables.build("2", [document("kgsf"), document("kbrd", **theirs)])
    assert list(cells(table)) == ["kbrd", "paper: KBRD", "kgsf", "paper: KGSF"]
    assert marks(table, "F1@50")["kbrd"] == "best"
    assert "preset mini" in table.caption
    assert "Scored from predictions that this project did not make, on valid" in table.caption
    assert "responses: kbrd." in table.caption


def test_no_paper_stands_beside_a_synthetic_corpus():
    table = tables.build("gate", [document(preset="demo")])
    assert list(cells(table)) == ["dialogpt_hard"]
    assert "paper" not in table.caption


def test_cells_keep_the_numbers_that_they_print():
    runs = [document(seed=seed, metrics={"ppl": 10.0 + seed}) for seed in (0, 2)]
    ours, theirs = tables.build("3", runs).groups[0]
    assert (ours.cells[0].value, ours.cells[0].deviation) == (11.0, pytest.approx(2**0.5))
    assert (theirs.cells[0].value, theirs.cells[0].deviation) == (12.412, None)
    assert ours.cells[2].value is None  # no DIST-3


def test_the_gate_stands_above_the_papers_means():
    rows = cells(tables.build("gate", [document(metrics={"tf_hit@10": 0.25})]))
    assert list(rows) == ["dialogpt_hard", "paper: §3.4, on KGSF"]  # no row of Tables 2 and 3
    assert (rows["dialogpt_hard"]["λ_r"], rows["dialogpt_hard"]["hit@10"]) == ("0.400", "0.250")
    assert (rows["paper: §3.4, on KGSF"]["λ_r"], rows["paper: §3.4, on KGSF"]["λ_v"]) == (
        "0.653",
        "0.023",
    )


def test_seeds_are_one_row_with_their_deviation():
    table = tables.build(
        "3", [document(seed=seed, metrics={"ppl": 10.0 + seed}) for seed in (2, 0)]
    )
    assert cells(table)["dialogpt_hard"]["PPL"] == "11.00 ± 1.41"
    assert "seeds 0, 2" in table.caption
    assert "standard deviation" in table.caption


def test_best_and_second_of_ours_are_marked_as_printed():
    runs = {"dialogpt": 12.0, "dialogpt_hard": 10.0, "dialogpt_soft": 10.001, "my_own": 11.0}
    table = tables.build("3", [document(name, metrics={"ppl": v}) for name, v in runs.items()])
    found = marks(table, "PPL")
    assert found.pop("dialogpt") is None
    assert found.pop("dialogpt_hard") == found.pop("dialogpt_soft") == "best"  # both print 10.00
    assert found.pop("my_own-dialogpt") == "second"
    assert set(found.values()) == {None}  # the paper's PPL of 5.858 to 17.577 is not ours
    assert set(marks(table, "DIST-2").values()) == {None}  # all alike


def test_higher_is_better_but_for_what_is_lower():
    runs = [document("dialogpt", metrics={"mismatch": 0.9, "rer@1": 0.3})]
    runs += [document("dialogpt_hard", metrics={"mismatch": 0.8, "rer@1": 0.2})]
    table = tables.build("1", runs)
    assert (marks(table, "ReR@1")["dialogpt"], marks(table, "ReR@1")["dialogpt_hard"]) == (
        "best",
        None,
    )
    assert marks(table, "Mismatch")["dialogpt_hard"] == "best"
    assert set(marks(tables.build("gate", runs), "λ_r").values()) == {None}


def test_the_caption_says_what_the_documents_say():
    runs = [document(), document("dialogpt", machine="a big one"), document("dialogpt", seed=1)]
    caption = tables.build("2", runs).caption
    for said in ("preset mini", "valid split", "1,234 responses", "dialogpt_hard: seed 0"):
        assert said in caption
    assert "dialogpt: seeds 0, 1" in caption
    assert "1 x cpu, 2 CPU cores, jax 0.10.2 and a big one" in caption


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"split": "test"},
            r"split: .* got valid \(dialogpt seed 0\); test \(dialogpt_hard seed 0",
        ),
        ({"preset": "paper"}, "preset: expected the same in every run"),
        ({"counts": {"responses": 5}}, "n_responses: expected the same"),
        ({"config": "dialogpt"}, r"dialogpt: seeds: expected two or more, each once, got \[0, 0\]"),
    ],
)
def test_runs_that_make_no_table_are_refused(changes, message):
    config = changes.pop("config", "dialogpt_hard")
    with pytest.raises(tables.TableError, match=message):
        tables.build("2", [document("dialogpt"), document(config, **changes)])


@pytest.mark.parametrize(
    ("teacher_seeds", "told"),
    [
        ({"kgsf": (0, 0), "kgsf_hard": (0, 0)}, "over students; teachers are shared."),
        ({"kgsf": (0, 1), "kgsf_hard": (0,)}, "over trainings, recommender and teachers included."),
        (
            {"kgsf": (0, 1), "kgsf_hard": (0, 0)},
            "over students that share their teachers; of kgsf over all trainings.",
        ),
    ],
)
def test_the_caption_says_what_the_deviation_is_over(teacher_seeds, told):
    runs = [
        document(name, seed=seed, teacher_seed=teacher_seed)
        for name, of_name in teacher_seeds.items()
        for seed, teacher_seed in enumerate(of_name)
    ]
    assert f"Mean ± standard deviation {told}" in tables.build("2", runs).caption


def test_a_table_needs_a_name_and_a_run():
    with pytest.raises(
        tables.TableError,
        match="expected one of short, 1, 2, 3, 4, 5, 6, 8, refilling, latency, gate",
    ):
        tables.build("22", [document()])
    with pytest.raises(tables.TableError, match="at least one run"):
        tables.build("2", [])


# --- documents ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ([], "no JSON object"),
        ({"settings": {}}, "of another type: config, preset, backbone, split"),
        ({k: v for k, v in document().items() if k != "backbone"}, "of another type: backbone"),
        (document() | {"seed": "0"}, "of another type: seed"),
        (document() | {"metrics": {"ppl": "low"}}, "a value of metrics"),
    ],
)
def test_other_json_is_refused(wrong, message):
    assert tables.checked(document(), "m.json") == document()
    with pytest.raises(tables.TableError, match=f"^m.json: expected a metrics.json .*{message}"):
        tables.checked(wrong, "m.json")


@pytest.mark.parametrize("config", ["", "../up", "a//b", "/abs"])
def test_only_configs_of_configs_have_a_place(config):
    with pytest.raises(tables.TableError, match="expected a config by its path"):
        tables.commit_path(document(config))


def test_commands_keep_no_folder_of_a_machine():
    command = (
        "/opt/me/conkd_jax/evaluate.py --config=/opt/me/configs/dialogpt.py:mini,backbone=dialogpt "
        "--config.artifacts_dir=/disk --workdir /disk/runs/a --config.corpus.raw_dir=gs://bucket/a "
        "--config.distill.eta=.3 --config.runs_dir=../runs"
    )
    assert tables.portable_command(command) == (
        "python -m conkd_jax.evaluate --config=configs/dialogpt.py:mini,backbone=dialogpt "
        "--config.artifacts_dir=DIR --workdir DIR --config.corpus.raw_dir=gs://bucket/a "
        "--config.distill.eta=.3 --config.runs_dir=../runs"
    )
    plain = "python -m conkd_jax.train --config=configs/dialogpt.py:mini"
    assert tables.portable_command(plain) == plain


# --- text -----------------------------------------------------------------------------------


def three() -> tables.ResultTable:
    runs = {"dialogpt": 0.3, "dialogpt_hard": 0.2, "dialogpt_soft": 0.1}
    return tables.build("2", [document(name, metrics={"rer@1": v}) for name, v in runs.items()])


def test_markdown_is_one_table_with_marks():
    text = table_formats.markdown(three())
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert {line.count("|") for line in lines} == {12}
    assert lines[2].startswith("| `dialogpt` | **0.300** | –")
    assert lines[4].startswith("| `dialogpt_hard` | <ins>0.200</ins> |")
    assert lines[5].startswith("| paper: DialoGPT + ConKD (hard) | 0.022 | 0.120 |")
    assert text.startswith("**Table 2. Items in responses.**")
    assert text.rstrip().endswith(three().caption)


def test_latex_is_escaped_and_of_one_width():
    text = table_formats.latex(three())
    rows = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert len(rows) == 7
    assert {len(re.findall(r"(?<!\\)&", row)) for row in rows} == {10}
    assert r"\texttt{dialogpt\_hard} & \underline{0.200} & --" in text
    assert r"\texttt{dialogpt} & \textbf{0.300}" in text
    gate = table_formats.latex(tables.build("gate", [document()]))
    assert r"student $\lambda_r$" in gate
    assert r"paper: \S3.4, on KGSF" in gate
    assert gate.isascii()


def test_the_terminal_shows_all_of_it():
    console = Console(file=io.StringIO(), width=150)
    console.print(table_formats.terminal(three()))
    text = console.file.getvalue()
    assert "Table 2. Items in responses" in text
    lines = {line.split()[0]: line.split() for line in text.splitlines() if line.split()}
    assert lines["dialogpt_soft"][1] == "0.100"
    assert len(lines["dialogpt_soft"]) == 11


# --- the part of a page ----------------------------------------------------------------------

PAGE = "# Name\n\n<!-- results -->\nold\n<!-- /results -->\n\nrest\n"

NAMES = ("2", "3", "gate")


def with_results(page: str, documents) -> str:
    return table_formats.with_results(page, documents, NAMES)


def test_the_page_gets_its_tables_and_one_caption():
    text = with_results(PAGE, [document()])
    assert text.startswith("# Name\n\n<!-- results -->\n**Table 2.")
    assert text.endswith("ReDial's test split.\n<!-- /results -->\n\nrest\n")
    assert text.count("\n| --- |") == 3
    assert text.count("Our rows: preset mini") == 1
    assert "\nold\n" not in text
    assert with_results(text, [document()]) == text


def test_backbones_have_tables_of_their_own():
    """Perplexities of two tokenizers are not compared: each backbone has its own best."""
    ours = {**document(), "backbone": "dialogpt"}
    theirs = {**document(config="kgsf_hard"), "backbone": "kgsf"}
    text = with_results(PAGE, [theirs, ours])
    first, second = text.split("### Backbone `kgsf`")
    assert "### Backbone `dialogpt`" in first and "`kgsf_hard`" not in first
    assert first.count("**Table 2") == second.count("**Table 2") == 1
    assert "### Backbone" not in with_results(PAGE, [ours])


def test_the_page_without_results_has_a_placeholder():
    text = with_results(PAGE, [])
    assert text == PAGE.replace("old", table_formats.PLACEHOLDER)


@pytest.mark.parametrize("around", ["{}\n\nold", "old\n\n{}"])
def test_a_written_sentence_in_the_page_stays(around):
    written = "<!-- results-text -->\nSmaller models,\n\non valid.\n<!-- /results-text -->"
    page = PAGE.replace("old", around.format(written))
    text = with_results(page, [document()])
    assert f"<!-- results -->\n{written}\n\n**Table 2." in text
    outside = PAGE + written
    assert with_results(outside, [document()]).endswith("rest\n" + written)


@pytest.mark.parametrize(
    "page", ["", "<!-- /results -->\n<!-- results -->", PAGE + PAGE, "<!-- results -->"]
)
def test_a_page_without_one_part_is_left_alone(page):
    with pytest.raises(tables.TableError, match=r"^expected one '<!-- results -->'"):
        with_results(page, [])
