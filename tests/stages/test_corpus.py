"""A corpus from which nothing can be learned is refused before anything is trained."""

import pytest

from conkd_jax.artifacts.build import ensure
from conkd_jax.config import base, frozen
from conkd_jax.data.corpus import CorpusError
from conkd_jax.stages import corpus
from tests.data_prep.raw_files import dialogue, simple, write_raw

GOOD = dialogue(1, (0, "I like @10 and my dog"), (1, "Try @11"))


def build(tmp_path, train, rule="all", **fields):
    raw = write_raw(tmp_path / "raw", [train], valid=[simple(2)])
    fields |= {"corpus.name": "redial", "corpus.raw_dir": str(raw), "corpus.graph_rule": rule}
    stage = corpus.stage(frozen(base()).replace(fields), {})
    return ensure(stage, tmp_path / "artifacts")


def test_a_small_corpus_is_built_and_what_it_lacks_is_said(tmp_path, capsys):
    assert build(tmp_path, GOOD)["metrics"]["graph"]["relations"] == 2
    warning = "corpus: warning: 0 of the 901 published validation dialogues were found"
    assert warning in capsys.readouterr().out


@pytest.mark.parametrize(
    "train, rule, message",
    [
        (GOOD, "kgsf", "the knowledge graph has no relation.*graph_rule=all"),
        (dialogue(1, (0, "I like @10"), (1, "Try @11")), "all", "mentions a concept"),
        (dialogue(1, (0, "I like my dog"), (1, "Try @99")), "all", "mentions an item of the list"),
    ],
)
def test_a_corpus_that_would_leave_parameters_without_elements(tmp_path, train, rule, message):
    with pytest.raises(CorpusError, match=message):
        build(tmp_path, train, rule)


def test_the_coverage_of_reviews_is_said_and_their_content_is_the_artifacts(tmp_path, capsys):
    (tmp_path / "raw" / "reviews").mkdir(parents=True)
    file = tmp_path / "raw" / "reviews" / "own.jsonl"
    file.write_text('{"movie_id": 11, "text": "A dog and a cat."}')
    plain = build(tmp_path, GOOD)["fingerprint"]
    assert "corpus: reviews" not in capsys.readouterr().out
    manifest = build(tmp_path, GOOD, **{"corpus.reviews": "own.jsonl"})
    said = "corpus: reviews (own.jsonl) of 1 of 6 movies (16.7%), to which 50.0% of the mentions"
    assert said in capsys.readouterr().out
    file.write_text('{"movie_id": 11, "text": "A cat and a dog."}')
    again = build(tmp_path, GOOD, **{"corpus.reviews": str(file)})
    assert len({plain, manifest["fingerprint"], again["fingerprint"]}) == 3
