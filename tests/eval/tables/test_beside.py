"""Every config, every committed result and every foreign system finds its row of the paper."""

import json
from pathlib import Path

import pytest

from conkd_jax.config import BACKBONES, PRESETS
from conkd_jax.eval.document import EXTERNAL
from conkd_jax.eval.tables import beside
from conkd_jax.eval.tables.beside import configured_paper_row, paper_row_beside, paper_row_name
from conkd_jax.eval.tables.paper import ROW_NAMES, paper_row
from tests.eval.scored import document, older

ROOT = Path(__file__).resolve().parents[3]
NOT_IN_THE_PAPER = (
    "item_first",
    "item_first_hard",
    "recindial_hard",
    "kbrd_hard",
    "smollm2",
    "smollm2_hard",
    "smollm2_soft",
    "ablations/vanilla_special_tokens",
    "recommender_start/vanilla_special_tokens",
    "sweeps/epochs",
    "sweeps/eta",
    "sweeps/gamma",
    "sweeps/item_init_map",
    "sweeps/item_init_scale",
    "sweeps/item_init_vectors",
)
VARIANTS = (
    "ablations/fitted_threshold",
    "ablations/cross_fitted",
    "ablations/inferred_order",
    "ablations/mask_mentioned",
    "ablations/more_distillation",
    "ablations/oracle_gate",
    "recommender_start/fine_tuned",
    "recommender_start/fitted_threshold",
    "recommender_start/hard",
    "recommender_start/soft",
    "redial",
)


@pytest.mark.parametrize(
    "path", sorted((ROOT / "configs").rglob("*.py")), ids=lambda path: path.stem
)
def test_every_config_has_its_row_of_the_paper(path):
    name = path.relative_to(ROOT / "configs").with_suffix("").as_posix()
    names = {b: {configured_paper_row(name, p, b) for p in PRESETS} for b in BACKBONES}
    assert all(len(of_backbone) == 1 for of_backbone in names.values())  # a preset changes sizes
    rows = {b: paper_row(of_backbone.pop(), b) for b, of_backbone in names.items()}
    if name in NOT_IN_THE_PAPER:
        assert not any(rows.values())
    elif name in BACKBONES:  # a system as published, on its own backbone only
        assert {b for b, row in rows.items() if row} == {name}
    elif name.startswith("dialogpt"):
        assert rows["dialogpt"] and not rows["kgsf"]
    else:
        assert rows["kgsf"]
        assert bool(rows["dialogpt"]) == (name in VARIANTS)  # the paper's ablations are on KGSF


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
    metrics = paper_row(configured_paper_row(name, "paper", "kgsf"), "kgsf").metrics
    assert (metrics["f1@50"], metrics["ppl"]) == (f1_at_50, ppl)


def test_a_document_names_its_row():
    theirs = document("my_own", paper_row="DialoGPT")
    assert paper_row_beside(theirs).name == "DialoGPT"
    assert paper_row_name(document(paper_row="")) == ""  # even if its config names one today


def test_an_older_document_has_the_row_of_its_config():
    assert paper_row_beside(older(document())).name == "DialoGPT + ConKD (hard)"
    assert paper_row_name(older(document("ablations/vanilla"))) == "Vanilla"
    assert paper_row_beside(older(document("my_own"))) is None


def test_committed_results_find_their_rows():
    for path in (ROOT / "docs" / "results").rglob("seed*.json"):
        kept = json.loads(path.read_text(encoding="utf-8"))
        name = paper_row_name(kept)
        is_redial = kept["split"] == "valid" and "corpus.name" not in kept.get("overrides", {})
        is_of_paper = is_redial and kept["config"] not in NOT_IN_THE_PAPER
        assert (name in ROW_NAMES) == is_of_paper, path


def test_no_paper_stands_beside_a_synthetic_corpus():
    demo = document(preset="demo")
    assert demo["paper_row"] == "DialoGPT + ConKD (hard)"
    assert paper_row_beside(demo) is None


def test_the_name_of_a_file_earns_no_row():
    foreign = {"preset": EXTERNAL, "backbone": ""}
    for config in ("kbrd", "kgsf", "RecInDial", "dialogpt_hard"):
        assert paper_row_beside(older(document(config, **foreign))) is None
    assert paper_row_beside(document("kbrd", paper_row="KBRD", **foreign)).name == "KBRD"


@pytest.mark.parametrize("name", ["../conkd_jax/train", "/etc/passwd", "", "a/../kgsf", "nowhere"])
def test_only_files_of_configs_are_read(name):
    assert configured_paper_row(name, "mini", "kgsf") == ""


@pytest.mark.parametrize(
    "content",
    ["1 +", "import nowhere", "get_config = 3", "def get_config(_): raise ValueError", "x = 1"],
)
def test_a_config_that_can_t_be_read_has_no_row(tmp_path, monkeypatch, content):
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "broken.py").write_text(content)
    monkeypatch.setattr(beside, "HOME", tmp_path)
    configured_paper_row.cache_clear()
    assert configured_paper_row("broken", "mini", "kgsf") == ""
    configured_paper_row.cache_clear()
