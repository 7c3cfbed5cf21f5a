"""Models whose item rows start from the recommender: what they read, and how they are known."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import transformers
from etils import epath

from conkd_jax.artifacts import build as artifacts
from conkd_jax.artifacts.stage import Context
from conkd_jax.config import Config, ConfigError, ItemInitConfig, from_argument, frozen
from conkd_jax.config.rules import validate_config
from conkd_jax.data.corpus import Corpus
from conkd_jax.data.vocabulary import Vocabulary
from conkd_jax.distill.head import Head
from conkd_jax.models.item_rows import MAPS, title_rows
from conkd_jax.runs.document import config_sha256
from conkd_jax.stages import dialogue_teacher, language_model, pipeline, recommender, student
from conkd_jax.stages.item_init import ItemInitSettings, item_vectors
from tests.fixtures.training import assert_same, straight_and_killed

BACKBONES = ("dialogpt", "kgsf")
PARTS = ("dialogue_teacher", "student")
OTHERS = {
    "item_init_vectors": "kernel_and_bias",
    "item_init_map": "pca",
    "item_init_scale": 1.0,
}


def config_with(backbone: str, **fields) -> Config:
    """The demo with both starts from titles, but for `fields`."""
    config = frozen(from_argument("demo", backbone)).replace({"student.item_init": "title"})
    return config.replace({name.replace("__", "."): value for name, value in fields.items()})


# --- fingerprints and configs -----------------------------------------------------------------


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("backbone", BACKBONES)
def test_only_a_model_with_this_start_reads_the_recommender_for_it(backbone, part):
    plain = pipeline.build(config_with(backbone))[part]
    other = pipeline.build(config_with(backbone, **{f"{part}__item_init": "recommender"}))[part]
    assert plain.fingerprint != other.fingerprint and "rec_teacher" in other.inputs
    assert ("rec_teacher" in plain.inputs) == (backbone == "kgsf")
    assert not [name for name in plain.config_part if name.startswith("item_init")]
    assert [n for n in other.config_part if n.startswith("item_init")] == ["item_init"]


@pytest.mark.parametrize("field", OTHERS)
@pytest.mark.parametrize("part", PARTS)
def test_every_option_of_the_start_makes_another_model(part, field):
    start = config_with("dialogpt", **{f"{part}__item_init": "recommender"})
    other = start.replace({f"{part}.{field}": OTHERS[field]})
    one, two = (pipeline.build(config)[part] for config in (start, other))
    assert one.fingerprint != two.fingerprint
    assert two.config_part[field] == OTHERS[field]
    assert config_sha256(start) != config_sha256(other)


def test_the_settings_give_the_options_again():
    for fields in ({}, OTHERS):
        given = ItemInitConfig("recommender", **fields)
        settings = ItemInitSettings.of(given)
        assert settings is not None and settings.options == given
    assert ItemInitSettings.of(ItemInitConfig()) is None


@pytest.mark.parametrize("field", OTHERS)
@pytest.mark.parametrize("part", PARTS)
def test_options_of_a_start_that_is_not_there_are_refused(part, field):
    config = config_with("dialogpt", **{f"{part}__{field}": OTHERS[field]})
    expected = rf"config\.{part}\.{field}: .*no effect with {part}\.item_init = title"
    with pytest.raises(ConfigError, match=expected):
        validate_config(config)


def test_vectors_are_not_added_to_trained_rows():
    config = config_with("dialogpt", student__init="dialogue_teacher")
    validate_config(config)
    validate_config(config.replace({"dialogue_teacher.item_init": "recommender"}))
    with pytest.raises(ConfigError, match=r"student\.item_init: expected title with student\.init"):
        validate_config(config.replace({"student.item_init": "recommender"}))


# --- the models --------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=BACKBONES)
def config(request, small_world) -> Config:
    return small_world.config(
        f"demo,backbone={request.param}",
        dialogue_teacher__item_init="recommender",
        dialogue_teacher__epochs=1,
        distill__gamma=0.0,
        student__epochs=1,
        student__turn_tags=False,
    )


@pytest.fixture(scope="module")
def directories(config) -> dict[str, epath.Path]:
    """The artifacts that an untrained model reads, by the names of their stages."""
    stages = pipeline.build(config)
    names = ("corpus", "vocabulary", "rec_teacher")
    for name in names:
        artifacts.ensure(stages[name], config.artifacts_dir)
    return {name: stages[name].directory(config.artifacts_dir) for name in names}


def starts(stage, directories, monkeypatch) -> tuple[language_model.LanguageModel, ...]:
    """The model that a stage trains, and the one that it would train from titles."""
    module = {"dialogue_teacher": dialogue_teacher, "student": student}[stage.name]
    given = {}

    def before_the_first_step(name, start, *_, **named):
        given.update(start=start, **named)
        raise InterruptedError

    monkeypatch.setattr(module, "train_language_model", before_the_first_step)
    inputs = {name: directories[name] for name in stage.inputs}
    with pytest.raises(InterruptedError):
        stage.run(stage.settings, directories["corpus"], Context(inputs, {}, is_resumed=False))
    start, settings = given["start"], stage.settings
    initial = settings.initial if stage.name == "student" else settings.model.initial
    plain = language_model.LanguageModel.untrained(
        initial, inputs, start.vocabulary, given["seed"], settings.rng_impl
    )
    return start, plain


@pytest.mark.parametrize("part", PARTS)
def test_the_start_changes_the_rows_of_items_alone(config, directories, part, monkeypatch):
    start, plain = starts(pipeline.build(config)[part], directories, monkeypatch)
    words = start.vocabulary
    items = slice(words.num_words, words.num_targets)
    changed = jax.tree.map(
        lambda one, other: np.asarray(one) != np.asarray(other), start.variables, plain.variables
    )
    rows = changed[start.model.EMBEDDING].pop("embedding")
    assert rows[items].all() and not rows[: items.start].any() and not rows[items.stop :].any()
    assert not any(leaf.any() for leaf in jax.tree.leaves(changed))  # KGSF's copy term and graph


@pytest.mark.parametrize("part", PARTS)
def test_the_rows_that_score_an_item_hold_its_vector(config, directories, part, monkeypatch):
    """Differences of the head's columns are as alike as the recommender's items."""
    start, plain = starts(pipeline.build(config)[part], directories, monkeypatch)
    words = start.vocabulary
    heads = (np.asarray(model.head().kernel) for model in (start, plain))
    difference = np.subtract(*heads).T
    assert not difference[: words.num_words].any()
    corpus = Corpus.open(directories["corpus"])
    teacher = recommender.load(directories["rec_teacher"], corpus)
    vectors = item_vectors(teacher, corpus, "kernel")[words.item_candidates]
    grams = [m @ m.T for m in (difference[words.num_words :], vectors - vectors.mean(0))]
    one, other = (gram / np.trace(gram) for gram in grams)
    np.testing.assert_allclose(one, other, atol=1e-4 * np.abs(other).max())


def test_the_bias_is_one_more_entry_of_the_size_of_the_others(config, directories):
    corpus = Corpus.open(directories["corpus"])
    teacher = recommender.load(directories["rec_teacher"], corpus)
    plain = item_vectors(teacher, corpus, "kernel")
    vectors = item_vectors(teacher, corpus, "kernel_and_bias")
    users = teacher.user_vectors(teacher.spec.contexts(corpus.dialogues("dev"), corpus))
    size = np.sqrt(np.square(users).mean())
    np.testing.assert_array_equal(vectors[:, :-1], plain)
    extended = np.column_stack([users, np.full(len(users), size)])
    np.testing.assert_allclose(extended @ vectors.T, teacher.scores(users), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("field", OTHERS)
def test_every_option_starts_another_model(config, directories, field, monkeypatch):
    corpus, words = Corpus.open(directories["corpus"]), Vocabulary.load(directories["vocabulary"])
    teacher = recommender.load(directories["rec_teacher"], corpus)
    popular = np.linspace(-1, 1, len(teacher.head.bias), dtype=np.float32)  # hardly trained yet
    teacher = dataclasses.replace(teacher, head=Head(teacher.head.kernel, jnp.asarray(popular)))
    monkeypatch.setattr(recommender, "load", lambda *_: teacher)
    initial = pipeline.build(config)["student"].settings.initial
    plain = language_model.LanguageModel.untrained(initial, directories, words, 0, config.rng_impl)
    key = jax.random.key(0, impl=config.rng_impl)
    options = [
        ItemInitConfig("recommender"),
        ItemInitConfig("recommender", **{field: OTHERS[field]}),
    ]
    one, other = (
        ItemInitSettings.of(each).applied(plain, directories["rec_teacher"], corpus, key)
        for each in options
    )
    difference = np.asarray(one.head().kernel) - np.asarray(other.head().kernel)
    assert np.abs(difference).max() > 1e-3 * np.abs(np.asarray(one.head().kernel)).max()


def test_a_resumed_training_gives_the_weights_of_a_straight_one(
    config, directories, tmp_path, monkeypatch
):
    stage = pipeline.build(config)["dialogue_teacher"]
    inputs = {name: directories[name] for name in stage.inputs}
    folders = straight_and_killed(stage, inputs, tmp_path, monkeypatch)
    vocabulary = Vocabulary.load(directories["vocabulary"])
    one, other = (
        language_model.load(config.backbone, folder, vocabulary).variables for folder in folders
    )
    assert_same(one, other)


# --- published weights ---------------------------------------------------------------------------

STDDEV = 0.3  # of the published embedding: not that of GPT-2's initialisation, .02


@pytest.fixture(scope="module")
def published(small_world, tmp_path_factory) -> str:
    """A folder with a small GPT-2 over the words of the small world, as transformers writes it."""
    vocabulary = pipeline.build(small_world.config())["vocabulary"]
    words = Vocabulary.load(vocabulary.directory(small_world.artifacts_dir)).num_words
    torch.manual_seed(0)
    settings = transformers.GPT2Config(
        vocab_size=words,
        n_layer=1,
        n_embd=24,
        n_head=2,
        n_positions=64,
        initializer_range=STDDEV,
    )
    folder = tmp_path_factory.mktemp("published")
    transformers.GPT2LMHeadModel(settings).save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize("map_name", MAPS)
@pytest.mark.parametrize("part", PARTS)
def test_published_weights_keep_their_words_and_set_the_scale(
    small_world, published, part, map_name, monkeypatch
):
    config = small_world.config(
        dialogue_teacher__weights=published,
        student__item_init="title",
        distill__gamma=0.0,
    ).replace({f"{part}.item_init": "recommender", f"{part}.item_init_map": map_name})
    stages = pipeline.build(config)
    directories = {
        name: stages[name].directory(config.artifacts_dir)
        for name in ("corpus", "vocabulary", "rec_teacher")
    }
    start, plain = starts(stages[part], directories, monkeypatch)
    words = start.vocabulary
    one, other = (np.asarray(m.params[m.model.EMBEDDING]["embedding"]) for m in (start, plain))
    assert other[: words.num_words].std() == pytest.approx(STDDEV, rel=0.05)
    np.testing.assert_array_equal(one[: words.num_words], other[: words.num_words])
    added = (one - other)[words.num_words : words.num_targets]
    assert np.sqrt(np.square(added).mean()) == pytest.approx(3 * other.std(), rel=1e-3)
    titles = [words.title_token_ids(item) for item in range(words.num_items)]
    rows = np.asarray(title_rows(jnp.asarray(other[: words.num_words]), titles))
    # where the backbone starts them, but for noise
    np.testing.assert_allclose(other[words.num_words : words.num_targets], rows, atol=0.1)
    correlation = np.corrcoef(added.ravel(), (rows - rows.mean(0)).ravel())[0, 1]
    assert (correlation > 0.25) == (map_name == "least_squares"), correlation
