"""The training of a language model says of itself that it ended too soon."""

import dataclasses

import pytest
from etils import epath

from conkd_jax.artifacts.build import ensure
from conkd_jax.data.corpus import Corpus
from conkd_jax.data.vocabulary import Vocabulary
from conkd_jax.eval.learning import Learning
from conkd_jax.stages import pipeline
from conkd_jax.stages.language_model import LanguageModel
from conkd_jax.stages.language_model_training import train_language_model, training_batches
from tests.fixtures.small_world import SmallWorld


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """Settings, rows of the training split, and the model before its first step; 200 movies."""
    world = SmallWorld(tmp_path_factory.mktemp("world"))
    config = world.config(corpus__movieworld_num_movies=200)
    stages = pipeline.build(config)
    ensure(stages["vocabulary"], config.artifacts_dir)
    folders = {
        name: epath.Path(stages[name].directory(config.artifacts_dir))
        for name in ("corpus", "vocabulary")
    }
    settings = stages["dialogue_teacher"].settings
    corpus, vocabulary = Corpus.open(folders["corpus"]), Vocabulary.load(folders["vocabulary"])
    rows = settings.rows.rows_of(corpus, vocabulary, corpus.dialogues("train"))
    start = LanguageModel.untrained(
        settings.model.initial, folders, vocabulary, settings.seed, settings.rng_impl
    )
    return settings, rows, start


@pytest.mark.parametrize("epochs, warmup_steps", [(8, 100), (24, 5)])
def test_a_training_that_ends_while_hits_rise_says_so(
    parts, tmp_path, capsys, epochs, warmup_steps
):
    """Scored on the dialogues that it learns by heart: ranking rises for as long as it learns."""
    settings, rows, start = parts
    training = settings.model.training
    optimizer = dataclasses.replace(
        training.optimizer, warmup_steps=warmup_steps, learning_rate=1e-2
    )
    training = dataclasses.replace(training, epochs=epochs, optimizer=optimizer)
    batches = training_batches(
        training, rows, start.vocabulary, "teacher", seed=0, execution=settings.execution
    )
    _, result = train_language_model(
        "dialogue_teacher",
        start,
        batches,
        training,
        seed=0,
        rng_impl=settings.rng_impl,
        directory=epath.Path(tmp_path),
        dev=rows,
        form="teacher",
        keep="best",
        execution=settings.execution,
    )
    found = Learning.of(result.history, epochs=epochs, kept_step=result.step)
    assert found is not None
    assert found.still_rises is (epochs == 8)
    output = capsys.readouterr().out
    assert ("dialogue_teacher: hit@50 on dev still rises" in output) is found.still_rises
