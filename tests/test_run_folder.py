"""What a run's config.json and hash say, also of runs from before the field `paper_row`."""

import json
from pathlib import Path

import pytest
from etils import epath

from conkd_jax import config as conkd
from conkd_jax import run_folder
from conkd_jax.run import Run, RunError

ROOT = Path(__file__).resolve().parents[1]


def config_json(folder: Path, name: str, without: str = "") -> epath.Path:
    """A run's folder with its config.json, less a field."""
    settings = conkd.frozen(conkd.from_argument("mini")).to_dict()
    settings.pop(without, None)
    record = {"name": name, "settings": settings, "split": "valid"}
    (folder / "config.json").write_text(json.dumps(record))
    return epath.Path(folder)


def test_the_hash_leaves_out_what_changes_no_number():
    first = conkd.frozen(conkd.base())
    same = {"paper_row": "KGSF", "runs_dir": "elsewhere", "corpus.raw_dir": "elsewhere"}
    assert run_folder.config_sha256(first) == run_folder.config_sha256(first.replace(same))
    assert run_folder.config_sha256(first) != run_folder.config_sha256(first.replace({"seed": 1}))


@pytest.mark.parametrize(
    ("name", "row"), [("dialogpt_soft", "DialoGPT + ConKD (soft)"), ("my_own", "")]
)
def test_an_older_run_has_the_row_of_its_config_file(tmp_path, name, row):
    record = Run.open(config_json(tmp_path, name, without="paper_row"))
    assert record.config.paper_row == row
    newer = Run.open(config_json(tmp_path, name))
    assert newer.config.paper_row == ""  # what the run itself says


def test_a_field_that_changes_numbers_must_be_there(tmp_path):
    with pytest.raises(RunError, match="lacks teacher_seed"):
        Run.open(config_json(tmp_path, "dialogpt_soft", without="teacher_seed"))


# --- names -----------------------------------------------------------------------------------


def own(name: str = "dialogpt_hard", argument: str = "demo") -> conkd.Config:
    """A config file's own config."""
    return conkd.frozen(conkd.load_config_file(f"{ROOT}/configs/{name}.py:{argument}"))


def folder_of(**fields) -> str:
    config = own().replace({name.replace("__", "."): value for name, value in fields.items()})
    overrides = run_folder.overrides_of(config, own())
    return run_folder.default_folder(config, "dialogpt_hard", "", overrides).name


def test_a_run_that_overrides_a_field_has_a_folder_of_its_own():
    assert folder_of() == "dialogpt_hard-demo-seed0"
    assert folder_of(distill__gamma=0.2) == "dialogpt_hard+gamma=0.2-demo-seed0"
    assert folder_of(distill__gamma=0.4) == "dialogpt_hard-demo-seed0"  # the file's own value
    assert folder_of(student__epochs=3) == "dialogpt_hard+student.epochs=3-demo-seed0"
    assert folder_of(decode__item_rule="mass") == "dialogpt_hard+mass-demo-seed0"
    assert folder_of(seed=1, teacher_seed=1) == "dialogpt_hard-demo-seed1-teachers1"
    assert folder_of(vocabulary__tokenizer="/a b/c") == "dialogpt_hard+tokenizer=_a_b_c-demo-seed0"


@pytest.mark.parametrize("letter", ["w", "ж"])
def test_many_or_long_overrides_fit_a_file_name(tmp_path, letter):
    long = f"/{letter * 200}"
    names = [folder_of(vocabulary__tokenizer=long + end, student__epochs=3) for end in "ab"]
    assert len(set(names)) == 2
    for name in names:
        assert name.startswith("dialogpt_hard+student.epochs=3+tokenizer=_" + letter)
        (tmp_path / name).mkdir()


def test_what_changes_no_number_is_in_no_name():
    where = {"artifacts_dir": "x", "corpus__raw_dir": "x", "checkpoint_every": 7}
    how = {"parallel__num_devices": 2, "decode__batch_size": 3, "teacher_outputs__batch_rows": 2}
    assert folder_of(**where, **how) == "dialogpt_hard-demo-seed0"


def test_fields_outside_of_names_exist():
    assert run_folder.NOT_IN_NAME <= conkd.field_names(conkd.Config())


def test_seeds_have_one_hash_of_settings():
    first = conkd.Config()
    hashes = {
        run_folder.config_sha256(config, without=run_folder.SEEDS)
        for config in (first, first.replace({"seed": 1, "teacher_seed": 2}))
    }
    assert len(hashes) == 1
    other = first.replace({"distill.gamma": 0.2})
    assert run_folder.config_sha256(other, without=run_folder.SEEDS) not in hashes
