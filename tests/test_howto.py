"""The code of the how-to pages is taken from the pages and run."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest

from conkd_jax.artifacts import build as artifacts
from conkd_jax.config import BACKBONES, ConfigError
from conkd_jax.models.backbone import Backbone
from conkd_jax.stages import pipeline, student
from conkd_jax.stages.backbones import BackboneStages

HOWTO = Path(__file__).resolve().parents[1] / "docs" / "howto"


def code_of(page: str) -> dict[str, str]:
    """Returns {file name: text}; a code block belongs to the last file named before it."""
    text = (HOWTO / page).read_text(encoding="utf-8")
    found = {}
    for match in re.finditer(r"```python\n(.*?)```", text, re.S):
        names = re.findall(r"`([\w/]+\.py)`", text[: match.start()])
        found[names[-1]] = match.group(1)
    return found


@pytest.fixture
def own_files(tmp_path, monkeypatch):
    files = code_of("add_a_gate.md")
    assert set(files) == {"my_gates.py", "entropy_gate.py"}
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    for name in ("my_gates", "entropy_gate"):
        sys.modules.pop(name, None)


@pytest.fixture
def config(small_world, own_files):
    import entropy_gate

    gate = entropy_gate.get_config("demo").distill.gate
    return small_world.config(distill__gate=gate, student__epochs=1)


def test_the_gate_of_the_page_trains_a_student_and_nothing_else(small_world, config):
    stages = pipeline.build(config)
    plan = artifacts.explain(stages["evaluation"], config.artifacts_dir)
    assert {row.name for row in plan if row.state != "whole"} == {"student", "evaluation"}
    manifest = artifacts.ensure(stages["student"], config.artifacts_dir)
    plain = small_world.config(distill__gate="soft", student__epochs=1)
    soft = artifacts.ensure(pipeline.build(plain)["student"], plain.artifacts_dir)
    # λ of the page's gate is the soft one's times a share of the greatest entropy
    assert 0 < manifest["metrics"]["gate"] < soft["metrics"]["gate"]


def test_the_gate_reads_the_teacher_s_distribution(own_files):
    import my_gates

    certain, unsure = np.log([[0.97, 0.01, 0.01, 0.01], [0.25] * 4])
    mass = np.array([0.5, 0.5], np.float32)
    given = np.stack([certain, unsure]).astype(np.float32)
    gate = np.asarray(my_gates.entropy_gate(mass, log_probs=given))
    assert gate[0] < 0.07 and gate[1] == pytest.approx(0.5)


def test_another_text_of_the_gate_is_another_student(config, own_files):
    before = student.GateSettings.of(config.distill)
    path = own_files / "my_gates.py"
    path.write_text(path.read_text().replace("return mass *", "return 0.5 * mass *"))
    sys.modules.pop("my_gates", None)
    import linecache

    linecache.checkcache()
    after = student.GateSettings.of(config.distill)
    assert before.gate_sha256 != after.gate_sha256


def test_a_helper_of_the_gate_counts_as_well(config, own_files):
    before = student.GateSettings.of(config.distill)
    path = own_files / "my_gates.py"
    path.write_text(path.read_text() + "\n\nSCALE = 0.5\n")
    sys.modules.pop("my_gates", None)
    assert student.GateSettings.of(config.distill).gate_sha256 != before.gate_sha256


def test_a_gate_that_fails_on_shapes_is_refused_before_any_stage(config, own_files):
    (own_files / "my_gates.py").write_text("def entropy_gate(mass):\n    return mass.sum()\n")
    sys.modules.pop("my_gates", None)
    with pytest.raises(ConfigError, match=r"config.distill.gate: .*one float32 for each mass"):
        pipeline.build(config)


def test_the_backbone_page_names_what_there_is():
    page = (HOWTO / "add_a_backbone.md").read_text(encoding="utf-8")
    for name in (name for name in vars(Backbone) if not name.startswith("_")):
        assert f"`{name}" in page, f"the page leaves out {name} of the contract"
    root = HOWTO.parents[1]
    named = set(re.findall(r"`((?:conkd_jax/|tests/|data/|stages/|models/)[\w/]+\.py)`", page))
    named = {name for name in named if "NAME" not in name}
    assert len(named) >= 5
    for name in named:
        assert (root / name).exists() or (root / "conkd_jax" / name).exists(), name
    for backbone in BACKBONES:
        module = __import__(f"conkd_jax.stages.backbones.{backbone}", fromlist=["*"])
        assert isinstance(module, BackboneStages)
