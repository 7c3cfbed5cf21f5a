"""KBRD through the same stages: recommender, dialogue model, and ConKD distilled into it."""

import json

import numpy as np
import pytest

from conkd_jax.config import ConfigError
from conkd_jax.config.rules import validate_config
from conkd_jax.data.corpus import responses
from conkd_jax.data.teacher_store.files import TeacherStore
from conkd_jax.stages import language_model, pipeline, student
from conkd_jax.stages import recommender as recommenders
from conkd_jax.stages.backbones import kbrd
from conkd_jax.training import checkpoint
from tests.fixtures.backbones import (
    check_one_device_is_eight,
    check_same_responses,
    check_stored_gate,
)

BACKBONE = "kbrd"  # ConKD distilled into KBRD, as `configs/kbrd_hard.py` does it


@pytest.mark.parametrize("system", ["student", "dialogue_teacher"])
def test_both_rows_answer_the_same_responses_as_the_others(small_world, config, folder, system):
    """`configs/kbrd_hard.py` and `configs/kbrd.py`, which share every teacher."""
    folder = small_world.run(config.replace({"system": system}))
    (document, _), pairs = check_same_responses(folder, small_world.folder)
    assert np.isfinite([document["metrics"][name] for name in ("ppl", "recall@10")]).all()
    assert all(ours.generated == ours.generated.lower() for ours, _ in pairs)


def test_only_the_corpus_is_shared_with_other_backbones(small_world, config):
    ours, theirs = pipeline.build(config), pipeline.build(small_world.config())
    shared = {name for name in ours if ours[name].fingerprint == theirs[name].fingerprint}
    assert shared == {"corpus"}  # ReDial's graph has another rule as well


def test_the_dialogue_teacher_is_the_row_kbrd(config):
    changed = config.replace({"system": "dialogue_teacher"})
    ours, theirs = pipeline.build(config), pipeline.build(changed)
    assert ours["dialogue_teacher"].fingerprint == theirs["dialogue_teacher"].fingerprint
    assert "student" not in theirs


def test_the_recommender_stays_frozen_in_teacher_and_student(opened):
    corpus, _, directories = opened
    recommender = recommenders.load(directories["rec_teacher"], corpus)
    rows = corpus.items.entity_ids
    for name in ("dialogue_teacher", "student"):
        graph = checkpoint.load(directories[name] / language_model.FROZEN)["graph"]
        assert set(graph) == {"entities", "entity_energies", "entity_rows"}
        np.testing.assert_array_equal(graph["entities"], recommender.nodes.entities)
        np.testing.assert_array_equal(
            graph["entity_rows"][rows], recommender.index.entity_rows(rows)
        )


def test_rows_read_the_whole_history_in_lower_case(config, opened):
    corpus, words, _ = opened
    whole = config.replace({"vocabulary.max_context_tokens": 1024})
    whole = whole.replace({"vocabulary.max_context_turns": 1024})
    rows = kbrd.row_settings(whole).rows_of(corpus, words, corpus.dialogues("valid"))
    texts = [
        [turn.text for turn in dialogue.turns[:number]]
        for dialogue in corpus.dialogues("valid")
        for number in responses(dialogue)
    ]
    assert max(map(len, texts)) > 5  # KGSF's window
    for turns, tokens in zip(texts, rows.context_tokens, strict=True):
        assert tokens.tolist() == [t for turn in turns for t in [*words.encode(turn), words.end_id]]
    assert rows.contexts.concepts.shape[1] == 0
    assert any(turn != turn.lower() for turns in texts for turn in turns)
    vocabulary = words.tokenizer.get_vocab()
    assert all(word == word.lower() for word in vocabulary)


def test_the_user_of_the_bias_is_the_recommender_s(config, opened):
    """t_u, pooled inside of the model, is the user vector that the teacher store keeps."""
    corpus, words, directories = opened
    dialogues = corpus.dialogues("valid")
    recommender = recommenders.load(directories["rec_teacher"], corpus)
    users = recommender.user_vectors(recommender.spec.contexts(dialogues, corpus))
    teacher = language_model.load("kbrd", directories["dialogue_teacher"], words)
    rows = kbrd.row_settings(config).rows_of(corpus, words, dialogues)
    ids, _ = rows.inputs(np.arange(6), 48, "teacher", words.pad_id)
    features = np.asarray(teacher.model.states(teacher.variables, ids))
    layer = teacher.params["bias_hidden"]
    hidden = np.maximum(users[:6] @ layer["kernel"] + layer["bias"], 0)
    assert np.abs(users[:6]).max() > 1e-3
    np.testing.assert_allclose(features[:, 0, config.kbrd.embed_dim :], hidden, atol=1e-5)


def test_the_store_holds_the_teacher_s_gate(config, opened):
    corpus, words, directories = opened
    teacher = language_model.load("kbrd", directories["dialogue_teacher"], words)
    rows = kbrd.row_settings(config).rows_of(corpus, words, corpus.dialogues("train"))
    store = TeacherStore.open(directories["teacher_outputs"])
    width = config.kbrd.embed_dim + config.kbrd.bias_dim
    assert store.spec.width == teacher.head().kernel.shape[0] == width
    live = teacher.score(rows, "teacher", batch_rows=16).item_mass
    check_stored_gate(store, live)


def test_one_device_is_eight(config, opened):
    """Loss and gradients of a student's first step, dropout off."""
    corpus, words, directories = opened
    store = TeacherStore.open(directories["teacher_outputs"])
    teacher = language_model.load("kbrd", directories["dialogue_teacher"], words)
    spec = {**json.loads((directories["student"] / "model.json").read_text()), "dropout": 0.0}
    model = kbrd.model_of(spec, words)
    start = language_model.LanguageModel(model, teacher.params, words, teacher.frozen)
    given = student.distillation(
        student.GateSettings.of(config.replace({"distill.eta": 0.1}).distill), store
    )
    rows = kbrd.row_settings(config).rows_of(corpus, words, corpus.dialogues("train"))
    check_one_device_is_eight(config, start, rows, "student", store=store, given=given)


@pytest.mark.parametrize(
    "field, value, expected",
    [
        ("rec_teacher.use_concepts", True, "False with the backbone kbrd"),
        ("vocabulary.tokenizer", "words.json", "train with the backbone kbrd"),
        ("kbrd.bias_dim", 0, "1 or more"),
        ("kbrd.num_heads", 3, r"a multiple of kbrd.num_heads \(3\)"),
        ("rec_teacher.mim_epochs", 1, "0 with rec_teacher.use_concepts = False"),
        ("rec_teacher.mim_weight", 0.1, "0 with rec_teacher.use_concepts = False"),
    ],
)
def test_what_kbrd_can_t_do_is_refused(config, field, value, expected):
    with pytest.raises(ConfigError, match=expected):
        validate_config(config.replace({field: value}))


@pytest.mark.parametrize(
    "backbone, field, value",
    [("kgsf", "rec_teacher.use_concepts", False), ("dialogpt", "vocabulary.lower_case", True)],
)
def test_what_is_kbrds_is_refused_elsewhere(small_world, backbone, field, value):
    config = small_world.config(f"demo,backbone={backbone}")
    with pytest.raises(ConfigError, match=f"config.{field}"):
        validate_config(config.replace({field: value}))
