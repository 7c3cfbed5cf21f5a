"""A folder of own data is an artifact by the content of its files."""

import pytest

from conkd_jax.artifacts.build import ensure
from conkd_jax.config import ConfigError, base, frozen
from conkd_jax.config.rules import validate_config
from conkd_jax.data.corpus import Corpus, CorpusError
from conkd_jax.stages import corpus
from data_prep.custom.lines import OwnDataError
from tests.fixtures.own_data import games, lines_of, without_graph, without_marks, write_lines


@pytest.fixture
def folder(tmp_path):
    return games(tmp_path / "games")


def config(folder, **fields):
    given = {"corpus.name": "custom", "corpus.raw_dir": str(folder)}
    return frozen(base()).replace(given | {k.replace("__", "."): v for k, v in fields.items()})


def fingerprint(folder, use_test=False, **fields):
    return corpus.stage(config(folder, **fields), {}, use_test=use_test).fingerprint


def test_the_corpus_is_built_and_training_reads_no_test(folder, tmp_path):
    for use_test in (False, True):
        stage = corpus.stage(config(folder), {}, use_test=use_test)
        stage.settings.check_raw()
        ensure(stage, tmp_path / "artifacts")
        splits = Corpus.open(stage.directory(tmp_path / "artifacts")).splits
        assert ("test" in splits) == use_test and {"train", "dev", "valid"} <= set(splits)


def test_the_content_of_the_files_is_the_fingerprint(folder, tmp_path):
    before = fingerprint(folder)
    folder.rename(tmp_path / "moved")
    folder = tmp_path / "moved"
    (folder / "notes.txt").write_text("not read")
    assert fingerprint(folder) == before
    found = {before, fingerprint(folder, corpus__min_relation_share=0.1)}
    for name in ("items.jsonl", "graph.tsv", "words.tsv", "nodes.jsonl", "dialogues.jsonl"):
        (folder / name).write_text((folder / name).read_text() + "\n")
        found.add(fingerprint(folder))
    assert len(found) == 7


def test_a_test_file_added_later_changes_no_training(folder):
    entries = lines_of(folder / "dialogues.jsonl")
    (folder / "dialogues.jsonl").unlink()
    write_lines(folder / "train.jsonl", entries[:70])
    write_lines(folder / "valid.jsonl", entries[70:80])
    before = fingerprint(folder)
    with pytest.raises(OwnDataError, match="found no test.jsonl.*--config.evaluation.split=valid"):
        fingerprint(folder, use_test=True)
    write_lines(folder / "test.jsonl", entries[80:])
    assert fingerprint(folder) == before != fingerprint(folder, use_test=True)


def test_a_recommender_that_would_read_words_is_refused_without_them(folder):
    (folder / "words.tsv").unlink()
    with pytest.raises(ConfigError, match="use_concepts: expected False .*words.tsv"):
        fingerprint(folder)
    without = {"use_concepts": False, "mim_epochs": 0, "mim_weight": 0.0}
    given = {f"rec_teacher__{name}": value for name, value in without.items()}
    assert fingerprint(folder, **given)


def test_a_corpus_without_graph_and_words_is_one(folder, tmp_path, capsys):
    without_graph(folder)
    (folder / "words.tsv").unlink()
    stage = corpus.stage(config(folder, rec_teacher__use_concepts=False), {})
    assert ensure(stage, tmp_path / "artifacts")["metrics"]["graph"]["relations"] == 1
    said = capsys.readouterr().out
    assert "corpus: warning: there is neither a graph.tsv" in said
    assert "corpus: warning: there is no words.tsv" in said


def test_nothing_to_learn_from(folder, tmp_path):
    without_marks(folder)
    with pytest.raises(CorpusError, match="mentions an item of the list.*conkd-data link"):
        ensure(corpus.stage(config(folder), {}), tmp_path / "artifacts")


def test_options_that_do_not_go_together(folder):
    with pytest.raises(ConfigError, match="corpus.raw_dir: .*conkd-data new DIR"):
        validate_config(config(""))
    other = config(folder, corpus__name="movieworld", corpus__min_relation_share=0.1)
    with pytest.raises(ConfigError, match="min_relation_share: expected 0"):
        validate_config(other)
