"""The code of the how-to pages is taken from the pages and run."""

import importlib
import json
import re
import runpy
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from conkd_jax import train
from conkd_jax.artifacts import build as artifacts
from conkd_jax.config import BACKBONES, Config, ConfigError, frozen, load_config_file
from conkd_jax.config.backbones import BackboneOptions
from conkd_jax.config.rules import validate_config
from conkd_jax.data.vocabulary import Vocabulary
from conkd_jax.models.backbone import Backbone
from conkd_jax.runs.finished import Run, RunError
from conkd_jax.stages import language_model, pipeline, student
from conkd_jax.stages.backbones import BackboneStages, variant_of
from tests.fixtures.programs import CONFIG, refused

HOWTO = Path(__file__).resolve().parents[1] / "docs" / "howto"


def code_of(page: str) -> dict[str, str]:
    """Returns {file name: text}; a code block belongs to the last file named before it."""
    text = (HOWTO / page).read_text(encoding="utf-8")
    found = {}
    for match in re.finditer(r"```python\n(.*?)```", text, re.S):
        names = re.findall(r"`([\w/]+\.py)`", text[: match.start()])
        found[names[-1]] = match.group(1)
    return found


def written(page: str, folder: Path) -> set[str]:
    """Writes the code of a page into a folder; returns the names of the files."""
    files = code_of(page)
    for name, text in files.items():
        (folder / name).write_text(text)
    return set(files)


@pytest.fixture
def own_files(tmp_path, monkeypatch):
    assert written("add_a_gate.md", tmp_path) == {"my_gates.py", "entropy_gate.py"}
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
    folders = "conkd_jax|config|tests|data|stages|models|distill"
    named = set(re.findall(rf"`((?:{folders})/[\w/]+\.py)`", page))
    named = {name for name in named if "NAME" not in name}
    assert len(named) >= 5
    for name in named:
        assert (root / name).exists() or (root / "conkd_jax" / name).exists(), name
    for backbone in BACKBONES:
        for part, contract in (("stages", BackboneStages), ("config", BackboneOptions)):
            module = importlib.import_module(f"conkd_jax.{part}.backbones.{backbone}")
            assert isinstance(module, contract), module.__name__


# --- a backbone in a file of one's own ---------------------------------------------------------

OWN = "my_backbone:stages"


@pytest.fixture
def own_backbone(tmp_path, monkeypatch):
    assert written("add_a_backbone.md", tmp_path) == {"my_backbone.py", "fixed_positions.py"}
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path / "my_backbone.py"
    forget()


def forget() -> None:
    """Makes Python import the files again."""
    for name in [name for name in sys.modules if name.split(".")[0] == "my_backbone"]:
        del sys.modules[name]
    importlib.invalidate_caches()


def fingerprints(config: Config) -> dict[str, str]:
    return {name: stage.fingerprint for name, stage in pipeline.build(config).items()}


def test_the_backbone_of_the_page_runs_from_corpus_to_score(small_world, own_backbone):
    import my_backbone

    config = small_world.config(f"demo,backbone={OWN}")
    run = Run.open(small_world.run(config))
    assert run.run_name == "small_world-my_backbone_stages-demo-seed0"
    assert run.config == config and run.metrics["backbone"] == OWN
    assert run.metrics["n_responses"] > 0
    for name in ("dialogue_teacher", "student"):
        words = Vocabulary.load(run.directory("vocabulary"))
        trained = language_model.load(OWN, run.directory(name), words)
        expected = my_backbone.sines_and_cosines(64, 32)
        np.testing.assert_array_equal(trained.frozen["wpe"]["embedding"], expected)
        assert "wpe" not in trained.params


def test_the_config_of_the_page_names_the_backbone_and_has_its_presets(own_backbone):
    path = own_backbone.parent / "fixed_positions.py"
    for preset in ("paper", "demo"):
        config = validate_config(frozen(load_config_file(f"{path}:{preset}")))
        assert (config.preset, config.backbone) == (preset, OWN)
        assert config.dialogue_teacher.weights == "random"  # as the page's presets have it
    other = frozen(load_config_file(f"{path}:demo,backbone=kgsf"))
    assert other.backbone == "kgsf"
    with pytest.raises(ConfigError, match="expected random with fixed positions, .*got 'gpt2'"):
        validate_config(config.replace({"dialogue_teacher.weights": "gpt2"}))
    with pytest.raises(ConfigError, match="more than twice vocabulary.max_response_tokens"):
        validate_config(config.replace({"vocabulary.max_row_tokens": 60}))


def test_the_command_line_takes_the_backbone_like_an_argument(small_world, own_backbone, call):
    folders = [f"--config.artifacts_dir={small_world.root / 'none'}", "--plan"]
    by_field = call(train, CONFIG, "--config.seed=3", f"--config.backbone={OWN}", *folders)
    by_argument = call(train, f"{CONFIG}:demo,backbone={OWN}", "--config.seed=3", *folders)
    assert by_field == by_argument and by_field[0] == 0
    vocabulary = fingerprints(small_world.config(f"demo,backbone={OWN}"))["vocabulary"]
    assert vocabulary in by_field[1]


def test_its_source_is_in_the_fingerprint_of_what_depends_on_it(small_world, own_backbone):
    config = small_world.config(f"demo,backbone={OWN}")
    before = fingerprints(config)
    plain = fingerprints(small_world.config())
    shared = {"corpus", "rec_teacher"}  # they know no backbone
    assert {name for name in before if before[name] == plain[name]} == shared
    text = own_backbone.read_text()
    for old, new in (("10_000", "1_000"), ("0.02 * waves", "0.03 * waves")):
        assert old in text
        own_backbone.write_text(text.replace(old, new))
        forget()
        after = fingerprints(config)
        assert {name for name in before if before[name] == after[name]} == shared
    own_backbone.write_text(text)
    forget()
    assert fingerprints(config) == before


def test_all_modules_of_a_package_count(small_world, tmp_path, own_backbone):
    package = tmp_path / "my_backbone"
    package.mkdir()
    shutil.move(own_backbone, package / "model.py")
    (package / "__init__.py").write_text("")
    (package / "stages.py").write_text(
        "from conkd_jax.stages.backbones.dialogpt import *\n"
        "from my_backbone.model import model_settings, presets\n"
    )
    forget()
    config = small_world.config(f"demo,backbone={OWN}")
    before = fingerprints(validate_config(config))
    (package / "model.py").write_text((package / "model.py").read_text() + "\n# more\n")
    forget()
    assert fingerprints(config)["student"] != before["student"]


def test_a_run_says_which_module_it_lacks(small_world, own_backbone, tmp_path):
    config = small_world.config(f"demo,backbone={OWN}")
    record = {"name": "my_own", "settings": config.to_dict(), "split": "valid"}
    (tmp_path / "config.json").write_text(json.dumps(record))
    assert Run.open(tmp_path).config == config
    own_backbone.unlink()
    forget()
    with pytest.raises(RunError, match="at 'my_backbone:stages': No module named 'my_backbone'"):
        Run.open(tmp_path)
    with pytest.raises(RunError, match="my_backbone is in must be on Python's path: PYTHONPATH"):
        Run.open(tmp_path)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("", "module 'my_backbone' has no attribute 'stages'"),
        ("import no_such_module", "No module named 'no_such_module'"),
        ("stages = 3", "word_settings: expected a function word_settings.config., got none"),
        ("stages = variant_of('dialogpt', READS_RECOMMENDER=1)", "of type bool, got 1"),
        (
            "stages = variant_of('dialogpt', model_of=lambda spec: None)",
            r"a function model_of\(spec, vocabulary\), got model_of\(spec\): too many",
        ),
        ("stages = variant_of('dialogpt', check=3)", "check: expected a function .* got a int"),
        (
            "stages = variant_of('dialogpt', model_settings=lambda config: {'size': 3})",
            r"must be an instance of a frozen dataclass; got \{'size': 3\}",
        ),
        (
            "stages = variant_of('dialogpt', row_settings=lambda config: Rows())",
            r"RowSettings: max_response_tokens: expected a value of type int, got none; .*"
            r"rows_of: expected a function rows_of\(corpus, vocabulary, dialogues\), got none",
        ),
    ],
)
def test_a_backbone_that_does_not_fit_is_refused_before_any_stage(
    small_world, own_backbone, call, code, message
):
    own_backbone.write_text(
        "import dataclasses\nfrom conkd_jax.stages.backbones import variant_of\n"
        f"@dataclasses.dataclass(frozen=True)\nclass Rows:\n    size: int = 3\n{code}\n"
    )
    forget()
    with pytest.raises(ConfigError, match=f"^config.backbone: .*my_backbone:stages.*{message}"):
        pipeline.build(validate_config(small_world.config().replace({"backbone": OWN})))
    refused(call(train, CONFIG, f"--config.backbone={OWN}", "--plan"), "config.backbone")


def test_a_variant_has_no_functions_that_nobody_calls():
    with pytest.raises(TypeError, match="expected some of .*model_settings.*; got model_setings"):
        variant_of("dialogpt", model_setings=None)


# --- from Python ---------------------------------------------------------------------------------


def test_the_program_of_the_page_from_python_runs(small_world, tmp_path, monkeypatch, capsys):
    """All of the page's code in one go, literally; its configs are those of the small world."""
    page = (HOWTO.parent / "from_python.md").read_text(encoding="utf-8")
    code = "\n".join(re.findall(r"```python\n(.*?)```", page, re.S))
    named = set(re.findall(r"configs/(\w+)\.py", code))
    assert named == {"dialogpt_hard", "dialogpt_soft"}
    (tmp_path / "configs").mkdir()
    for name in named:
        (tmp_path / "configs" / f"{name}.py").write_text(
            "from tests.fixtures import small_world\n\n\n"
            "def get_config(argument):\n"
            "    config = small_world.get_config(argument)\n"
            "    config.student.epochs = 1\n"
            f"    config.distill.gate = {name.rpartition('_')[2]!r}\n"
            "    return config\n"
        )
    (tmp_path / "artifacts").symlink_to(small_world.artifacts_dir)  # its teachers are trained
    monkeypatch.chdir(tmp_path)
    program = tmp_path / "first_run.py"
    program.write_text(code)
    runpy.run_path(str(program))
    printed = capsys.readouterr().out
    run = Run.open(tmp_path / "runs" / "dialogpt_hard+gamma=0.2-demo-seed0")
    assert run.config.distill.gamma == 0.2 and run.overrides == {"distill.gamma": 0.2}
    assert str(run.metrics["metrics"]["f1@10"]) in printed
    command = run.metrics["command"]  # makes the same run in a shell
    assert command.split()[:3] == ["python", "-m", "conkd_jax.train"]
    assert command.endswith("--config=configs/dialogpt_hard.py:demo --config.distill.gamma=0.2")
    assert "[0. 0. 1.] [0.01 0.3  0.9 ]" in printed
