"""docs/benchmarks.md says what the committed files say."""

import json
import shutil

import pytest

from benchmarks import decode, kd_head, page, stored_forms
from benchmarks.__main__ import PROGRAMS
from benchmarks.report import Report, read_options
from benchmarks.side_by_side import CHECKOUT


def test_the_page_shows_what_is_committed():
    text = (CHECKOUT / page.PAGE).read_text(encoding="utf-8")
    documents = page.read(CHECKOUT, PROGRAMS)
    assert page.page_of(text, PROGRAMS, documents) == text, "run python -m benchmarks --page"
    for name in documents:
        if name in page.DRAWINGS:
            assert (CHECKOUT / page.FIGURES / f"{name}.png").is_file()


def test_a_bar_in_a_cell_does_not_end_the_cell():
    table = page.grid(["number", "value"], [["|ratio - 1|", "0.02"]])
    assert table.splitlines()[-1] == r"| \|ratio - 1\| | 0.02 |"


def test_committed_commands_name_programs_that_exist():
    for name, document in page.read(CHECKOUT, PROGRAMS).items():
        assert document["command"].startswith(f"python -m benchmarks.{name} ")
        assert (CHECKOUT / "benchmarks" / f"{name}.py").is_file()


@pytest.fixture
def checkout(tmp_path):
    (tmp_path / "docs").mkdir()
    shutil.copy(CHECKOUT / page.PAGE, tmp_path / page.PAGE)
    (tmp_path / page.RESULTS).mkdir(parents=True)
    return tmp_path


def seconds(value):
    return {"median": 2 * value, "min": value, "rounds": [value, 3 * value]}


def measured(value, **others):
    return {"difference": 2e-6, "seconds": seconds(value), **others}


def write(checkout, name, cases):
    report = Report(name, read_options("", ("full",), []))
    document = report.document() | {"cases": cases}
    (checkout / page.RESULTS / f"{name}.json").write_text(json.dumps(document))


def test_a_program_that_has_run_gets_tables_and_a_figure(checkout):
    ours, peer = kd_head.FROM_FEATURES, kd_head.CHUNKED
    report = Report("kd_head", read_options("", ("full",), []))
    for count in (512, 1024):
        found = {
            ours: measured(0.001 * count, peak_bytes=count << 20, planned_bytes=count << 19),
            peer: measured(0.002 * count),
            kd_head.LIGER: {"absent": "not installed: pip install liger-kernel"},
        }
        case = report.case(f"paper, N = {count}", {"N": count, "F": 768}, found)
        case.ratio("seconds", ours, peer, kd_head.Bound(0.4))
    write(checkout, "kd_head", report.document()["cases"])
    page.write(checkout, PROGRAMS)
    text = (checkout / page.PAGE).read_text()
    assert f"| {ours} | 2048 | 1024 | 1024 | 512 | 2e-06 |" in text
    assert f"| {kd_head.LIGER} | not installed: pip install liger-kernel | – | – | – | – |" in text
    assert "| `kd_head` | paper, N = 512: time, conkd_jax" in text
    assert "| 0.5 | at most 0.4 | – | **missed** |" in text
    assert (checkout / page.FIGURES / "kd_head.png").stat().st_size > 10_000
    assert "python -m benchmarks.rgcn --json=docs/results/benchmarks/rgcn.json" in text


def test_figures_of_decoding_and_of_the_store_are_drawn(checkout):
    token = {page.TOKEN: {"median": 0.002, "min": 0.001}}
    found = {decode.label_of(decode.OURS, size): measured(1.0, **token) for size in (1, 8)}
    cases = [
        {"case": f"{model}, prompt 64", "facts": {"prompt": 64}, "contenders": found}
        for model in ("mini", "small")
    ]
    write(checkout, "decode", [{**case, "ratios": [], "numbers": []} for case in cases])
    forms = {stored_forms.FEATURES: {"bytes_per_token": 1536, "total_variation": 0.001}}
    case = {"case": "mini", "facts": {"Y": 10}, "contenders": {}, "forms": forms}
    write(checkout, "teacher_store", [{**case, "ratios": [], "numbers": []}])
    page.write(checkout, PROGRAMS)
    for name in ("decode", "teacher_store"):
        assert (checkout / page.FIGURES / f"{name}.png").stat().st_size > 10_000


def test_a_page_without_a_place_for_a_program_is_refused():
    with pytest.raises(ValueError, match="<!-- targets -->"):
        page.page_of("# A page", PROGRAMS, {})
