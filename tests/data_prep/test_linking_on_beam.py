"""A corpus that Apache Beam links and writes is the corpus that one process writes."""

import sys
from pathlib import Path

import pytest

from conkd_jax import train
from conkd_jax.data import beam
from conkd_jax.data.corpus import Corpus
from conkd_jax.stages import pipeline
from data_prep import linking_on_beam
from data_prep.movieworld.build import build_movieworld
from tests.fixtures.programs import CONFIG, refused
from tests.fixtures.small_world import SmallWorld

DIRECT = "runner=DirectRunner"
SIZE = {"seed": 3, "num_movies": 40, "num_dialogues": 90}


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("plain")
    build_movieworld(folder, **SIZE)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_one_shard_of_each_split_has_the_bytes_of_one_process(plain, tmp_path):
    with beam.running(DIRECT):
        build_movieworld(tmp_path, **SIZE)
    assert contents(tmp_path) == contents(plain)
    assert not (tmp_path / "staged").exists()


def test_several_shards_hold_the_same_dialogues_in_the_same_order(plain, tmp_path, monkeypatch):
    monkeypatch.setattr(linking_on_beam, "PER_SHARD", 7)
    with beam.running(DIRECT):
        report = build_movieworld(tmp_path, **SIZE)
    found, expected = Corpus.open(tmp_path), Corpus.open(plain)
    num_shards = len(list((tmp_path / "dialogues").glob("dialogues-train.*")))
    assert num_shards == -(-len(expected.dialogues("train")) // 7) > 5
    for split in expected.splits:
        assert found.dialogues(split) == expected.dialogues(split)
    assert report == found.report == expected.report


def test_another_corpus_in_the_same_folder_has_its_own_linker(plain, tmp_path):
    with beam.running(DIRECT):
        for size in ({**SIZE, "seed": 4}, SIZE):
            build_movieworld(tmp_path, **size)
    assert contents(tmp_path) == contents(plain)


def test_a_piece_may_be_written_twice(plain, tmp_path, monkeypatch):
    """Runners repeat work that seems lost."""
    write = linking_on_beam.write_piece
    monkeypatch.setattr(linking_on_beam, "write_piece", lambda piece: (write(piece), write(piece)))
    with beam.running(DIRECT):
        build_movieworld(tmp_path, **SIZE)
    assert contents(tmp_path) == contents(plain)


@pytest.mark.slow
def test_several_processes_write_the_same(plain, tmp_path):
    with beam.running(f"{DIRECT},direct_num_workers=2,direct_running_mode=multi_processing"):
        build_movieworld(tmp_path, **SIZE)
    assert contents(tmp_path) == contents(plain)


# --- programs ------------------------------------------------------------------------------------


def test_a_run_builds_its_corpus_on_beam(call, tmp_path, monkeypatch):
    monkeypatch.setattr(linking_on_beam, "PER_SHARD", 10)
    corpora = []
    for name, options in (("plain", []), ("beam", [f"--beam_options={DIRECT}"])):
        world = SmallWorld(tmp_path / name)
        places = [f"--config.artifacts_dir={world.artifacts_dir}", "--until=corpus"]
        code, output, errors = call(train, CONFIG, *places, *options)
        assert code == 0 and ("on Beam's DirectRunner" in output) == bool(options), errors
        stage = pipeline.build(world.config())["corpus"]
        corpora.append(Corpus.open(stage.directory(world.artifacts_dir)))
    expected, found = corpora
    assert len(list((found.directory / "dialogues").glob("dialogues-train.*"))) > 1
    for split in expected.splits:
        assert found.dialogues(split) == expected.dialogues(split)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ("direct_num_workers=2", "expected a runner among them"),
        ("runner=FastRunner", "Unexpected pipeline runner: FastRunner"),
        (f"{DIRECT},workers=2", "Beam has no option workers"),
        (f"{DIRECT},direct_num_workers=two", "invalid int value: 'two'"),
        ("runner=DataflowRunner", "Missing required option: project"),
    ],
)
def test_options_that_beam_does_not_take(options, why):
    with pytest.raises(beam.BeamError, match=why), beam.running(options):
        pass


def test_beam_is_not_installed(call, monkeypatch):
    monkeypatch.setitem(sys.modules, "apache_beam.options.pipeline_options", None)
    outcome = call(train, CONFIG, f"--beam_options={DIRECT}")
    refused(outcome, "expected the package apache-beam", "pip install 'conkd_jax[beam]'")


def test_a_report_alone_is_not_written_by_beam(capsys):
    from data_prep.movieworld import __main__ as program

    assert program.main(["--report", f"--beam_options={DIRECT}"]) == 2
    assert "expected --out_dir as well" in capsys.readouterr().err
