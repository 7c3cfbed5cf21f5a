"""What a run's config.json and hash say, also of runs from before the field `paper_row`."""

import json
from pathlib import Path

import pytest
from etils import epath

from conkd_jax import config as conkd
from conkd_jax import run_folder
from conkd_jax.run import Run, RunError


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
