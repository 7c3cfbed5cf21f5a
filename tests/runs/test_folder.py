"""The names of runs and their folders; runs of earlier versions can be opened."""

import json
from pathlib import Path

import pytest
from etils import epath

from conkd_jax import config as conkd
from conkd_jax.runs.finished import Run, RunError
from conkd_jax.runs.folder import NOT_IN_NAME, config_name, default_folder, overrides_of

ROOT = Path(__file__).resolve().parents[2]


def config_json(folder: Path, name: str, without: str = "") -> epath.Path:
    """A run's folder with its config.json, less a field."""
    settings = conkd.frozen(conkd.from_argument("mini")).to_dict()
    settings.pop(without, None)
    record = {"name": name, "settings": settings, "split": "valid"}
    (folder / "config.json").write_text(json.dumps(record))
    return epath.Path(folder)


@pytest.mark.parametrize("field", ["paper_row", "item_offset"])
def test_a_run_of_an_earlier_version_can_be_opened(tmp_path, field):
    folder = config_json(tmp_path, "my_own")
    record = json.loads((folder / "config.json").read_text())
    record["settings"].pop(field, None)
    record["settings"]["decode"].pop(field, None)
    (folder / "config.json").write_text(json.dumps(record))
    assert Run.open(folder).config == conkd.frozen(conkd.from_argument("mini"))


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
    overrides = overrides_of(config, own())
    return default_folder(config, "dialogpt_hard", "", overrides).name


def test_a_run_that_overrides_a_field_has_a_folder_of_its_own():
    assert folder_of() == "dialogpt_hard-demo-seed0"
    assert folder_of(distill__gamma=0.2) == "dialogpt_hard+gamma=0.2-demo-seed0"
    assert folder_of(distill__gamma=0.4) == "dialogpt_hard-demo-seed0"  # the file's own value
    assert folder_of(student__epochs=3) == "dialogpt_hard+student.epochs=3-demo-seed0"
    assert folder_of(decode__item_rule="mass") == "dialogpt_hard+mass-demo-seed0"
    assert folder_of(decode__item_offset=1.5) == "dialogpt_hard+offset=1.5-demo-seed0"
    assert folder_of(seed=1, teacher_seed=1) == "dialogpt_hard-demo-seed1-teachers1"
    assert folder_of(vocabulary__tokenizer="/a b/c") == "dialogpt_hard+tokenizer=_a_b_c-demo-seed0"


def test_a_run_on_another_corpus_has_it_in_its_name():
    """Its argument names the corpus, so that nothing differs from the file's own config."""
    config = own("kgsf_hard", "mini,corpus=opendialkg")
    overrides = overrides_of(config, config)
    assert overrides == {"corpus.name": "opendialkg"}
    folder = default_folder(config, "kgsf_hard", "", overrides)
    assert folder.name == "kgsf_hard+corpus.name=opendialkg-mini-seed0"
    for argument in ("mini", "demo"):
        assert not overrides_of(*[own("kgsf_hard", argument)] * 2)


@pytest.mark.parametrize("letter", ["w", "ж"])
def test_many_or_long_overrides_fit_a_file_name(tmp_path, letter):
    long = f"/{letter * 200}"
    names = [folder_of(vocabulary__tokenizer=long + end, student__epochs=3) for end in "ab"]
    assert len(set(names)) == 2
    for name in names:
        assert name.startswith("dialogpt_hard+student.epochs=3+tokenizer=_" + letter)
        (tmp_path / name).mkdir()


def test_a_config_file_anywhere_has_a_name_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    paths = (
        "configs/hard.py",
        "configs/ablations/hard.py",
        "hard.py",
        "my configs/hard.py",
        "myconfigs/hard.py",
        "a/configs/hard.py",
        "b/configs/hard.py",
        "configs/a b.py",
        "configs/a_b.py",
        "x/фильм é.py",
        "x/C:\\exp\\con.py".replace(":", ""),
        "x.py/hard.py",
        f"x/{'ж' * 120}.py",
    )
    names = {path: config_name(f"{path}:demo") for path in paths}
    assert names["configs/hard.py"] == "hard"
    assert names["configs/ablations/hard.py"] == "ablations/hard"
    assert names["my configs/hard.py"].startswith("hard-")
    assert names["x/фильм é.py"].startswith("фильм_é-")
    folders = [default_folder(own(), name).name for name in names.values()]
    assert len(set(folders)) == len(paths)
    for folder in folders:
        (tmp_path / folder).mkdir()
        assert not set(folder) & set(r'<>:"/\|?* ')  # what file systems refuse
    for path in ("configs/hard.py", "hard.py", "a/configs/hard.py"):  # however it is written
        for other in (f"./{path}", f"{tmp_path}/{path}", f"x/../{path}"):
            assert config_name(other) == names[path]


def test_the_checkout_s_configs_have_their_names_everywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = f"{ROOT}/configs/dialogpt_hard.py"
    assert config_name(path) == "dialogpt_hard"
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs/dialogpt_hard.py").write_text("")
    assert config_name("configs/dialogpt_hard.py") == "dialogpt_hard"
    assert config_name(path).startswith("dialogpt_hard-")  # that name is taken here


def test_what_changes_no_number_is_in_no_name():
    where = {"artifacts_dir": "x", "corpus__raw_dir": "x", "checkpoint_every": 7}
    how = {
        "parallel__kind": "mesh",
        "parallel__num_devices": 2,
        "decode__batch_size": 3,
        "teacher_outputs__batch_rows": 2,
    }
    assert folder_of(**where, **how) == "dialogpt_hard-demo-seed0"


def test_fields_outside_of_names_exist():
    assert NOT_IN_NAME <= conkd.field_names(conkd.Config())
