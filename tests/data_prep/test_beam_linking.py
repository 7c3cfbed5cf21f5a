"""A corpus that Apache Beam links and writes is the corpus that one process writes."""

import json
import sys
from pathlib import Path

import pytest

from conkd_jax import train
from conkd_jax.data import beam_runner
from conkd_jax.data.corpus import Corpus, CorpusError
from conkd_jax.stages import pipeline
from data_prep import beam_linking
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
    with beam_runner.using(DIRECT):
        build_movieworld(tmp_path, **SIZE)
    assert contents(tmp_path) == contents(plain)
    assert not (tmp_path / "staged_dialogues").exists()


def test_several_shards_hold_the_same_dialogues_in_the_same_order(plain, tmp_path, monkeypatch):
    monkeypatch.setattr(beam_linking, "PER_SHARD", 7)
    with beam_runner.using(DIRECT):
        report = build_movieworld(tmp_path, **SIZE)
    found, expected = Corpus.open(tmp_path), Corpus.open(plain)
    num_shards = len(list((tmp_path / "dialogues").glob("dialogues-train.*")))
    assert num_shards == -(-len(expected.dialogues("train")) // 7) > 5
    for split in expected.splits:
        assert found.dialogues(split) == expected.dialogues(split)
    assert report == found.report == expected.report


def test_another_corpus_in_the_same_folder_has_its_own_linker(plain, tmp_path):
    with beam_runner.using(DIRECT):
        for size in ({**SIZE, "seed": 4}, SIZE):
            build_movieworld(tmp_path, **size)
    assert contents(tmp_path) == contents(plain)


def test_a_piece_may_be_written_twice(plain, tmp_path, monkeypatch):
    """Runners repeat work that seems lost."""
    write = beam_linking.write_piece
    monkeypatch.setattr(beam_linking, "write_piece", lambda piece: (write(piece), write(piece)))
    with beam_runner.using(DIRECT):
        build_movieworld(tmp_path, **SIZE)
    assert contents(tmp_path) == contents(plain)


@pytest.mark.slow
def test_several_processes_write_the_same(plain, tmp_path):
    with beam_runner.using(f"{DIRECT},direct_num_workers=2,direct_running_mode=multi_processing"):
        build_movieworld(tmp_path, **SIZE)
    assert contents(tmp_path) == contents(plain)


# --- programs ------------------------------------------------------------------------------------


def test_a_run_builds_its_corpus_on_beam(call, tmp_path, monkeypatch):
    monkeypatch.setattr(beam_linking, "PER_SHARD", 10)
    corpora = []
    for name, options in (("plain", []), ("beam", [f"--beam_options={DIRECT}"])):
        world = SmallWorld(tmp_path / name)
        places = [f"--config.artifacts_dir={world.artifacts_dir}", "--until=corpus"]
        code, output, errors = call(train, CONFIG, *places, *options)
        assert code == 0 and ("on Beam's DirectRunner" in errors) == bool(options), errors
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
        (f"{DIRECT},workers=2", "Beam does not know workers=2"),
        (f"{DIRECT},direct_num_workers=two", "invalid int value: 'two'"),
    ],
)
def test_options_that_beam_does_not_take(options, why):
    with pytest.raises(beam_runner.BeamError, match=why), beam_runner.using(options):
        pass


def test_options_are_written_as_beam_takes_them():
    """With or without dashes, in any of their spellings, and with commas in quotes."""
    config = '{""command"": ""a"", ""b"": 1}'
    text = f'--{DIRECT},experiment=one,label=a=b,no_use_public_ips,"environment_config={config}"'
    found = beam_runner.parsed(text).get_all_options()
    assert found["experiments"] == ["one"] and found["labels"] == ["a=b"]
    assert found["use_public_ips"] is False
    assert found["environment_config"] == '{"command": "a", "b": 1}'


def test_what_a_runner_needs_is_said_before_anything_is_linked(tmp_path):
    with (
        beam_runner.using("runner=DataflowRunner"),
        pytest.raises(beam_runner.BeamError, match="Missing required option: project"),
    ):
        build_movieworld(tmp_path, **SIZE)


# --- folders that are not empty ------------------------------------------------------------------


@pytest.mark.parametrize("options", ["", DIRECT])
def test_nothing_of_an_earlier_build_stays(plain, tmp_path, monkeypatch, options):
    """Of one with more shards, and of one that was killed."""
    with monkeypatch.context() as patch, beam_runner.using(DIRECT):
        patch.setattr(beam_linking, "PER_SHARD", 7)
        build_movieworld(tmp_path, **{**SIZE, "seed": 4})
    (tmp_path / "staged_dialogues").mkdir()
    (tmp_path / "staged_dialogues" / "tools.pickle").write_bytes(b"")
    with beam_runner.using(options):
        build_movieworld(tmp_path, **SIZE)
    assert contents(tmp_path) == contents(plain)


def test_a_failed_build_leaves_no_staged_files_and_no_corpus(tmp_path, monkeypatch):
    def fail(piece):
        raise RuntimeError("a worker fails")

    monkeypatch.setattr(beam_linking, "write_piece", fail)
    with beam_runner.using(DIRECT), pytest.raises(RuntimeError, match="a worker fails"):
        build_movieworld(tmp_path, **SIZE)
    assert not (tmp_path / "staged_dialogues").exists()
    with pytest.raises(CorpusError):
        Corpus.open(tmp_path)


def test_beam_is_not_installed(call, monkeypatch):
    monkeypatch.setitem(sys.modules, "apache_beam.options.pipeline_options", None)
    outcome = call(train, CONFIG, f"--beam_options={DIRECT}")
    refused(outcome, "expected the package apache-beam", "pip install 'conkd_jax[beam]'")


def test_a_report_alone_is_not_written_by_beam(capsys):
    from data_prep.movieworld import __main__ as program

    assert program.main(["--report", f"--beam_options={DIRECT}"]) == 2
    assert "expected --out_dir as well" in capsys.readouterr().err


def test_a_report_beside_the_corpus_is_one_json_object(capsys, tmp_path):
    from data_prep.movieworld import __main__ as program

    assert program.main(["--report", f"--out_dir={tmp_path}", f"--beam_options={DIRECT}"]) == 0
    assert json.loads(capsys.readouterr().out)["splits"]["train"]["dialogues"]
