"""The training of a language model says of itself that it ended too soon."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath

from conkd_jax.artifacts.build import ensure
from conkd_jax.data.corpus import Corpus
from conkd_jax.data.vocabulary import Vocabulary
from conkd_jax.eval.learning import Learning
from conkd_jax.stages import pipeline
from conkd_jax.stages.language_model import LanguageModel
from conkd_jax.stages.language_model_training import train_language_model, training_batches
from tests.fixtures.backbones import check_one_device_is_eight
from tests.fixtures.small_world import SmallWorld

BFLOAT16_UNIT = 2.0**-8  # relative spacing


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    world = SmallWorld(tmp_path_factory.mktemp("world"))
    return world.config(corpus__movieworld_num_movies=200)


@pytest.fixture(scope="module")
def parts(config):
    """Settings, rows of the training split, and the model before its first step; 200 movies."""
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


def test_in_bfloat16_one_device_is_eight(parts, config):
    """Every device rounds its share of a gradient to 8 bits, before they are summed in float32."""
    _, rows, start = parts
    still = dataclasses.replace(start.model.spec, dropout=0.0)
    start = dataclasses.replace(start, model=dataclasses.replace(start.model, spec=still))
    gradients = check_one_device_is_eight(
        config,
        start.computing("bfloat16"),
        rows,
        "teacher",
        rtol=4 * BFLOAT16_UNIT,
        unit=BFLOAT16_UNIT,
    )
    assert {leaf.dtype for leaf in jax.tree.leaves(gradients)} == {np.dtype(np.float32)}


def test_scores_in_bfloat16_are_those_of_float32_but_for_rounding(parts):
    _, rows, start = parts
    exact, low = (model.score(rows, "teacher", 8) for model in (start, start.computing("bfloat16")))
    assert np.abs(exact.nll - low.nll).max() > 0, "nothing was computed in bfloat16"
    np.testing.assert_allclose(low.nll, exact.nll, rtol=4 * BFLOAT16_UNIT)
    np.testing.assert_allclose(low.item_mass, exact.item_mass, rtol=8 * BFLOAT16_UNIT)


def test_the_head_is_cast_and_the_stored_one_is_not(parts):
    _, _, start = parts
    low = start.computing("bfloat16")
    assert low.head().kernel.dtype == jnp.bfloat16 and low.head().bias.dtype == jnp.float32
    assert low.exact_head().kernel.dtype == jnp.float32
    assert start.computing(None).model == start.model, "None is float32, as in settings"


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
