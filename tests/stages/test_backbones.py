"""The second backbone through the same stages: KGSF as teacher and as student."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from etils import epath

from conkd_jax.artifacts import build as artifacts
from conkd_jax.artifacts.manifest import read_manifest
from conkd_jax.artifacts.stage import Context
from conkd_jax.config import ConfigError, frozen, load_config_file
from conkd_jax.config.rules import validate_config
from conkd_jax.data.batches.plan import BatchPlan
from conkd_jax.data.teacher_store.files import TeacherStore
from conkd_jax.eval.predictions import read_predictions
from conkd_jax.stages import backbones, language_model, pipeline, student
from conkd_jax.stages import recommender as recommenders
from conkd_jax.stages.backbones import kgsf
from conkd_jax.training import checkpoint
from tests.fixtures.backbones import check_one_device_is_eight, check_stored_gate, open_stages
from tests.fixtures.small_world import get_config

KGSF = "demo,backbone=kgsf"


@pytest.fixture(scope="module")
def config(small_world):
    return small_world.config(KGSF, distill__eta=0.6)


@pytest.fixture(scope="module")
def folder(small_world, config):
    return small_world.run(config)


@pytest.fixture(scope="module")
def opened(config, folder):
    """Returns (corpus, vocabulary, folder of each stage)."""
    return open_stages(config)


def test_a_run_of_kgsf_leaves_the_same_files(folder, small_world):
    assert folder != small_world.folder
    document = json.loads((folder / "metrics.json").read_text())
    other = json.loads((small_world.folder / "metrics.json").read_text())
    only_where_items_are_said = {"dist-4", "mismatch", "gini", "popularity_bias", "repeated_items"}
    assert set(document["metrics"]) ^ set(other["metrics"]) <= only_where_items_are_said
    assert document["n_responses"] == other["n_responses"]
    predictions = list(read_predictions(folder / "predictions.jsonl"))
    same = list(read_predictions(small_world.folder / "predictions.jsonl"))
    for ours, theirs in zip(predictions, same, strict=True):
        assert ours.key == theirs.key
        assert ours.reference_items == theirs.reference_items
        assert ours.recommender_top == theirs.recommender_top  # one recommender for both


def test_the_recommender_is_shared_and_nothing_else(small_world, config):
    ours, theirs = pipeline.build(config), pipeline.build(small_world.config())
    shared = {name for name in ours if ours[name].fingerprint == theirs[name].fingerprint}
    assert shared == {"corpus", "rec_teacher"}


def test_an_ablation_trains_only_its_student(config, folder):
    """Teachers, store and classifier are reused."""
    changes = [
        ({"distill.gate": "soft"}, {"student", "evaluation"}),
        ({"distill.gate": "constant", "distill.constant": 1.0}, {"student", "evaluation"}),
        ({"student.turn_tags": False}, {"student", "evaluation"}),
        ({"distill.gamma": 0.0, "student.turn_tags": False}, {"student", "evaluation"}),
        ({"system": "dialogue_teacher"}, {"evaluation"}),
    ]
    for fields, wanted in changes:
        changed = config.replace(fields)
        rows = artifacts.explain(pipeline.build(changed)["evaluation"], config.artifacts_dir)
        assert {row.name for row in rows if row.state != "whole"} == wanted, fields


def test_without_distillation_no_teacher_is_read(config):
    changed = config.replace({"distill.gamma": 0.0})
    stages = pipeline.build(changed)
    assert "teacher_outputs" not in stages
    assert set(stages["student"].inputs) == {"corpus", "vocabulary", "rec_teacher"}
    changed = changed.replace({"distill.eta": 0.9})  # not read
    assert pipeline.build(changed)["student"].fingerprint == stages["student"].fingerprint


def test_the_graphs_are_those_of_the_recommender_and_stay_frozen(opened):
    """Teacher and student have the recommender's graphs, bit for bit."""
    corpus, _, directories = opened
    recommender = recommenders.load(directories["rec_teacher"], corpus)
    rows = corpus.items.entity_ids
    for name in ("dialogue_teacher", "student"):
        graph = checkpoint.load(directories[name] / language_model.FROZEN)["graph"]
        np.testing.assert_array_equal(graph["entities"], recommender.nodes.entities)
        np.testing.assert_array_equal(graph["concept_energies"], recommender.nodes.concept_energies)
        np.testing.assert_array_equal(
            graph["entity_rows"][rows], recommender.index.entity_rows(rows)
        )
        assert graph["entity_rows"][-1] == graph["concept_rows"][-1] == -1
        assert len(graph["concept_rows"]) == corpus.concept_graph.num_concepts + 1


def test_the_copy_term_reaches_items_and_concepts(opened):
    corpus, words, _ = opened
    graph = corpus.concept_graph
    mask = kgsf.copy_mask(graph, words)
    assert mask[words.num_words :].all() and not mask[[words.end_id, words.unk_id]].any()
    keys = set(graph.words)
    reached = [words.tokenizer.id_to_token(t) for t in np.flatnonzero(mask[: words.num_words])]
    assert 0 < len(reached) < words.num_words
    assert {word.lower() for word in reached} <= keys
    is_stop_word = np.array(graph.words) == reached[0].lower()
    without = kgsf.copy_mask(dataclasses.replace(graph, is_stop_word=is_stop_word), words)
    assert set(np.flatnonzero(mask != without)) == {words.tokenizer.token_to_id(reached[0])}


def test_the_store_holds_the_teacher_s_gate(config, opened):
    corpus, words, directories = opened
    teacher = language_model.load(config.backbone, directories["dialogue_teacher"], words)
    rows = kgsf.row_settings(config).rows_of(corpus, words, corpus.dialogues("train"))
    store = TeacherStore.open(directories["teacher_outputs"])
    assert store.spec.width == teacher.head().kernel.shape[0] == 2 * config.kgsf.embed_dim
    live = teacher.score(rows, "teacher", batch_rows=16).item_mass
    check_stored_gate(store, live)


def test_one_device_is_eight(config, opened):
    """Loss and gradients of a student's first step, dropout off."""
    corpus, words, directories = opened
    store = TeacherStore.open(directories["teacher_outputs"])
    teacher = language_model.load(config.backbone, directories["dialogue_teacher"], words)
    spec = {**json.loads((directories["student"] / "model.json").read_text()), "dropout": 0.0}
    model = kgsf.model_of(spec, words)
    start = language_model.LanguageModel(model, teacher.params, words, teacher.frozen)
    given = student.distillation(
        student.GateSettings.of(config.replace({"distill.eta": 0.1}).distill), store
    )
    rows = kgsf.row_settings(config).rows_of(corpus, words, corpus.dialogues("train"))
    check_one_device_is_eight(config, start, rows, "student", store=store, given=given)


def test_a_student_is_trained_from_topk(small_world, opened):
    fields = {"teacher_outputs__format": "topk", "teacher_outputs__top_k": 5}
    config = small_world.config(KGSF, distill__gate="soft", **fields)
    stage = pipeline.build(config)["student"]
    artifacts.ensure(stage, config.artifacts_dir)
    assert np.isfinite(read_manifest(stage, config.artifacts_dir)["metrics"]["loss"])
    _, _, directories = opened
    store = TeacherStore.open(stage.inputs["teacher_outputs"].directory(config.artifacts_dir))
    whole = TeacherStore.open(directories["teacher_outputs"])
    assert store.heads.dialogue_kernel is None and whole.heads.dialogue_kernel is not None
    masses = (np.concatenate([r.item_mass for r in s.read(range(len(s)))]) for s in (store, whole))
    np.testing.assert_allclose(*masses, atol=2e-2)  # those of features are of rounded ones


def test_a_student_does_not_repeat_its_teacher(small_world, config, opened, tmp_path, monkeypatch):
    """With the same seed, model and rows, a student still draws its own batches and weights."""
    _, vocabulary, directories = opened
    untaught = pipeline.build(
        small_world.config(KGSF, distill__gamma=0.0, student__turn_tags=False)
    )["student"]
    inputs = {name: directories[name] for name in untaught.inputs}
    given = {}

    def before_the_first_step(name, start, batches, training, **named):
        given.update(named, start=start, batches=batches)
        raise InterruptedError

    monkeypatch.setattr(student, "train_language_model", before_the_first_step)
    with pytest.raises(InterruptedError):
        untaught.run(untaught.settings, epath.Path(tmp_path), Context(inputs, {}, is_resumed=False))

    assert config.seed == config.teacher_seed
    assert given["seed"] == student.student_seed(config.seed) != config.teacher_seed
    teacher = language_model.LanguageModel.untrained(
        untaught.settings.initial, inputs, vocabulary, config.teacher_seed, config.rng_impl
    )
    plan, lengths = given["batches"].plan, given["batches"].plan.lengths
    order = BatchPlan(lengths, plan.batch_size, plan.bucket_lengths, config.teacher_seed)
    assert any((plan.step(i).rows != order.step(i).rows).any() for i in range(4))
    pairs = zip(
        jax.tree.leaves(given["start"].params), jax.tree.leaves(teacher.params), strict=True
    )
    assert any((np.asarray(one) != np.asarray(other)).any() for one, other in pairs)


@pytest.mark.slow  # other words make other shapes: it compiles a whole pipeline
def test_own_words_random_vectors_and_a_student_that_starts_from_its_teacher(small_world, tmp_path):
    """With two words in the list, nearly all is <unk>, which is learnt but never generated."""
    words = write_word_list(tmp_path)
    config = small_world.config(
        KGSF,
        vocabulary__tokenizer=str(words),
        kgsf__word_vectors="random",
        student__init="dialogue_teacher",
        student__item_init="title",
        student__epochs=6,
    )
    config = config.replace({"runs_dir": str(tmp_path)})
    predictions = list(read_predictions(small_world.run(config) / "predictions.jsonl"))
    assert any(prediction.generated for prediction in predictions)
    assert not [p.generated for p in predictions if "unk" in p.generated]


def write_word_list(folder):
    words = folder / "word2index_redial.json"
    words.write_text(json.dumps({"good": 4, "@111": 5, "movie": 6, "_split_": 7}))
    return words


def test_the_word_list_of_kgsf_is_an_option(tmp_path):
    words = write_word_list(tmp_path)
    config = frozen(get_config(KGSF)).replace({"vocabulary.tokenizer": str(words)})
    validate_config(config)
    kgsf.check_sources(config, makes_words=True, makes_model=True)
    tokenizer = kgsf.word_settings(config).tokenizer([])
    assert tokenizer.token_to_id("movie") is not None and tokenizer.token_to_id("@111") is None
    config = config.replace({"vocabulary.tokenizer": str(tmp_path / "nothing.json")})
    with pytest.raises(ConfigError, match="config.vocabulary.tokenizer"):
        kgsf.check_sources(config, makes_words=True, makes_model=True)


@pytest.mark.parametrize("name", ["kgsf", "revcore", "redial"])
def test_word2vec_without_gensim_is_told_before_anything_is_trained(monkeypatch, name):
    config = frozen(load_config_file(f"{name}:demo"))
    stages = backbones.named(name)
    stages.check_sources(config, makes_words=True, makes_model=True)
    monkeypatch.setattr(kgsf, "has_word2vec", lambda: False)
    part = "redial" if name == "redial" else "kgsf"
    with pytest.raises(ConfigError, match=rf"config.{part}.word_vectors: .*conkd_jax\[kgsf\]"):
        stages.check_sources(config, makes_words=True, makes_model=True)
    stages.check_sources(config, makes_words=False, makes_model=True)
    random = config.replace({f"{part}.word_vectors": "random"})
    stages.check_sources(random, makes_words=True, makes_model=True)
