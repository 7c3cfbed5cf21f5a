"""RecInDial through the stages: as dialogue teacher, and as student of ConKD."""

import json

import numpy as np
import pytest

from conkd_jax.config import ConfigError
from conkd_jax.config.rules import validate_config
from conkd_jax.data.rows.dialogue_entities import DialogueEntityRows
from conkd_jax.data.teacher_store.files import TeacherStore
from conkd_jax.stages import language_model, student
from conkd_jax.stages import recommender as recommenders
from conkd_jax.stages.backbones import dialogpt, recindial
from conkd_jax.training import checkpoint
from tests.fixtures.backbones import (
    check_one_device_is_eight,
    check_same_responses,
    check_stored_gate,
)

BACKBONE, FIELDS = "recindial", {"distill__eta": 0.1}


@pytest.fixture(scope="module")
def directories(opened):
    """The folder of each stage."""
    return opened[2]


@pytest.fixture(scope="module")
def recommender(opened, directories):
    return recommenders.load(directories["rec_teacher"], opened[0])


def rows_of(config, opened, split):
    corpus, vocabulary, _ = opened
    return recindial.row_settings(config).rows_of(corpus, vocabulary, corpus.dialogues(split))


def test_a_run_answers_the_same_responses_as_the_others(folder, small_world):
    (document, other), pairs = check_same_responses(folder, small_world.folder)
    assert document["decoding"] == "class" and other["decoding"] == ""
    assert document["metrics"]["ppl"] > 1
    assert any(ours.generated for ours, _ in pairs)


def test_words_and_rows_are_those_of_dialogpt(small_world, config, opened):
    """Another vocabulary artifact with the same words, and rows with the same tokens."""
    theirs = dialogpt.row_settings(small_world.config())
    corpus, vocabulary, _ = opened
    plain = theirs.rows_of(corpus, vocabulary, corpus.dialogues("dev"))
    ours = rows_of(config, opened, "dev")
    assert isinstance(ours, DialogueEntityRows)
    for form in ("teacher", "student"):
        for one, other in zip(ours.tokens[form], plain.tokens[form], strict=True):
            np.testing.assert_array_equal(one, other)
    assert ours.response_keys == plain.response_keys


def test_the_user_vector_is_the_recommender_s(config, opened, recommender, teacher):
    """t_u of every response is p_u of its recommender, which reads mentioned items alone."""
    corpus, vocabulary, _ = opened
    rows = rows_of(config, opened, "dev")
    contexts = recommender.spec.contexts(corpus.dialogues("dev"), corpus)
    np.testing.assert_array_equal(rows.entities, contexts.entities)
    items = set(corpus.items.entity_ids.tolist())
    assert set(rows.entities[rows.entities >= 0].tolist()) <= items
    wider = config.replace({"rec_teacher.context_nodes": "entities"})
    assert not set(rows_of(wider, opened, "dev").entities.flat) <= {-1, *items}
    expected = recommender.user_vectors(contexts)
    assert np.abs(expected).max() > 1e-2
    width = teacher.model.spec.embed_dim
    found = 0
    for ids, batch in language_model.sequential(rows, vocabulary, "teacher", 8):
        states = np.asarray(teacher.model.states(teacher.variables, batch))
        features = states.reshape(-1, states.shape[-1])[batch["feature_index"]]
        count = int(batch["num_tokens"])
        response = ids[batch["response_index"][:count]]
        np.testing.assert_allclose(features[:count, width:], expected[response], atol=1e-5)
        found += count
    assert found == len(rows.targets)


def test_the_bias_of_an_item_is_the_recommender_s_score(opened, recommender, teacher):
    """The lower rows of the kernel: zero on words, n_i on the items that have a token."""
    vocabulary = opened[1]
    head, width = teacher.head(), teacher.model.spec.embed_dim
    lower = np.asarray(head.kernel[width:])
    np.testing.assert_array_equal(lower[:, : vocabulary.num_words], 0)
    expected = np.asarray(recommender.head.kernel)[:, vocabulary.item_candidates]
    np.testing.assert_array_equal(lower[:, vocabulary.num_words :], expected)
    assert head.switch.num_words == vocabulary.num_words
    np.testing.assert_array_equal(head.switch.kernel[width:], 0)


def test_the_pointer_is_trained_and_the_graph_is_not(directories, opened, recommender, config):
    """Teacher and student have the recommender's vectors, bit for bit; their pointers differ."""
    vocabulary = opened[1]
    untrained = language_model.LanguageModel.untrained(
        recindial.model_settings(config), directories, vocabulary, 0, config.rng_impl
    )
    pointers = [untrained.params["pointer"]["kernel"]]
    for name in ("dialogue_teacher", "student"):
        graph = checkpoint.load(directories[name] / language_model.FROZEN)["graph"]
        np.testing.assert_array_equal(graph["entities"], recommender.nodes.entities)
        np.testing.assert_array_equal(graph["entity_energies"], recommender.nodes.entity_energies)
        assert graph["entity_rows"][-1] == -1
        pointers.append(checkpoint.load(directories[name] / language_model.PARAMS)["pointer"])
    _, one, other = pointers
    assert np.abs(np.asarray(one["kernel"]) - pointers[0]).max() > 1e-3
    assert np.abs(np.asarray(one["kernel"]) - other["kernel"]).max() > 1e-3
    assert one["bias"] != 0


def test_a_response_keeps_its_scores_when_it_is_reopened(config, opened, teacher):
    """Alone in a row and opened by the same token, each response has its NLL of the whole row."""
    rows = rows_of(config, opened, "dev")
    vocabulary = opened[1]
    whole = teacher.score(rows, "teacher", batch_rows=8)
    assert np.diff(rows.row_offsets).max() > 1
    opening = [vocabulary.rec_id if rec else vocabulary.gen_id for rec in rows.response_is_rec]
    in_rows = teacher.score(rows, "student", batch_rows=8)
    alone = teacher.score(rows.reopened(range(rows.num_responses), opening), "student", 8)
    np.testing.assert_allclose(in_rows.nll, alone.nll, atol=1e-4)
    assert np.abs(in_rows.nll - whole.nll).max() > 1e-3  # the opening token matters


def test_prompts_are_decoded_with_the_features_of_teacher_forcing(config, opened, teacher):
    """The first token of every response is chosen by the same features as in its row."""
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


def test_the_store_holds_the_teacher_s_pointer(config, directories, opened, teacher):
    """The gate reads the item mass, which is σ of the switch."""
    rows = rows_of(config, opened, "train")
    store = TeacherStore.open(directories["teacher_outputs"])
    assert store.spec.width == teacher.head().num_features
    live = teacher.score(rows, "teacher", batch_rows=16).item_mass
    check_stored_gate(store, live)


def test_one_device_is_eight(config, directories, opened, teacher):
    """Loss and gradients of a student's first step, dropout off."""
    vocabulary = opened[1]
    store = TeacherStore.open(directories["teacher_outputs"])
    spec = {**json.loads((directories["student"] / "model.json").read_text()), "dropout": 0.0}
    model = recindial.model_of(spec, vocabulary)
    start = language_model.LanguageModel(model, teacher.params, vocabulary, teacher.frozen)
    given = student.distillation(student.GateSettings.of(config.distill), store)
    rows = rows_of(config, opened, "train")
    gradients = check_one_device_is_eight(config, start, rows, "student", store=store, given=given)
    assert float(abs(gradients["pointer"]["kernel"]).max()) > 0


def test_concepts_are_refused_before_anything_runs(config):
    with pytest.raises(ConfigError, match="use_concepts: expected False with backbone = recindial"):
        validate_config(config.replace({"rec_teacher.use_concepts": True}))
