"""A dialogue teacher that is trained on the dialogues with an inferred turn order as well."""

import pytest

from conkd_jax.artifacts import build as artifacts
from conkd_jax.artifacts.manifest import whole_manifest
from conkd_jax.config import ConfigError, frozen
from conkd_jax.data.corpus import Corpus, CorpusError
from conkd_jax.data.dialogues import responses
from conkd_jax.data.vocabulary import Vocabulary
from conkd_jax.stages import pipeline
from conkd_jax.stages.checks import DATA_STAGES, check_data, data_stages
from conkd_jax.stages.language_model_training import batch_plan
from data_prep.sources import MissingDataError
from tests.data_prep.raw_files import dialogue, simple, write_jsonl, write_raw
from tests.fixtures.small_world import get_config

NUM_EXACT, NUM_INFERRED = 60, 40
OPTION = "dialogue_teacher.use_inferred_order"


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    with_concept = dialogue(0, (0, "my cat likes @10"), (1, "Try @11"))
    exact = [with_concept, *(simple(i) for i in range(1, NUM_EXACT))]
    folder = write_raw(tmp_path_factory.mktemp("raw"), exact, valid=[simple(1000)])
    inferred = [simple(i) for i in range(2000, 2000 + NUM_INFERRED)]
    write_jsonl(folder / "redial" / "train_inferred_order.jsonl", inferred)
    return folder


def config_of(raw, root, argument="demo", **fields):
    config = frozen(get_config(argument))
    fields = {name.replace("__", "."): value for name, value in fields.items()}
    return config.replace(
        {
            "corpus.name": "redial",
            "corpus.raw_dir": str(raw),
            "corpus.graph_rule": "all",
            "artifacts_dir": str(root / "artifacts"),
            "dialogue_teacher.epochs": 1,
            "dialogue_teacher.batch_rows": 2,
            "dialogue_teacher.optimizer.warmup_steps": 1,
            "student.epochs": 1,
            **fields,
        }
    )


def test_the_teacher_alone_sees_them(raw, tmp_path):
    plain = pipeline.build(config_of(raw, tmp_path))
    stages = pipeline.build(config_of(raw, tmp_path, dialogue_teacher__use_inferred_order=True))
    same = {name for name in plain if plain[name].fingerprint == stages[name].fingerprint}
    assert same == {"corpus", "vocabulary", "rec_teacher", "turn_classifier"}
    for name in ("teacher_outputs", "student", "evaluation"):
        assert stages[name].inputs["corpus"].fingerprint == plain["corpus"].fingerprint
    both = pipeline.build(
        config_of(
            raw,
            tmp_path,
            dialogue_teacher__use_inferred_order=True,
            rec_teacher__use_inferred_order=True,
        )
    )
    corpora = {both[n].inputs["corpus"].fingerprint for n in ("dialogue_teacher", "rec_teacher")}
    assert corpora == {stages["dialogue_teacher"].inputs["corpus"].fingerprint}


@pytest.mark.parametrize("backbone", ["dialogpt", "kgsf"])
def test_it_takes_a_step_for_every_two_of_all_dialogues(raw, tmp_path, backbone):
    found = {}
    for option in (False, True):
        config = config_of(raw, tmp_path, f"demo,backbone={backbone}").replace({OPTION: option})
        stage = pipeline.build(config)["dialogue_teacher"]
        artifacts.ensure(stage, config.artifacts_dir)
        corpus = Corpus.open(stage.inputs["corpus"].directory(config.artifacts_dir))
        dialogues = corpus.training_dialogues(use_inferred_order=option)
        assert len(dialogues) == len(corpus.dialogues("train")) + NUM_INFERRED * option
        rows = sum(len(responses(each)) for each in dialogues)  # one response each
        manifest = whole_manifest(stage, config.artifacts_dir)
        found[option] = manifest["metrics"], -(-rows // 2)
    for metrics, steps in found.values():
        assert metrics["step"] == steps
    assert found[True][0]["dev_nll"] != found[False][0]["dev_nll"]


def test_they_count_in_the_checks_of_the_data(raw, tmp_path):
    """A warm-up may be as long as the training on all dialogues; of the exact ones alone, not."""
    config = config_of(raw, tmp_path, dialogue_teacher__use_inferred_order=True)
    stages = pipeline.build(config)
    inferred = stages["dialogue_teacher"].inputs["corpus"]
    assert inferred.fingerprint in {stage.fingerprint for stage in data_stages(stages)}
    artifacts.ensure_first(stages["evaluation"], config.artifacts_dir, DATA_STAGES)
    corpus = Corpus.open(inferred.directory(config.artifacts_dir))
    vocabulary = Vocabulary.load(stages["vocabulary"].directory(config.artifacts_dir))
    settings = stages["dialogue_teacher"].settings
    exact = settings.rows.rows_of(corpus, vocabulary, corpus.dialogues("train"))
    steps = batch_plan(config.dialogue_teacher, exact, 0).steps_per_epoch
    config = config.replace({"dialogue_teacher.optimizer.warmup_steps": steps})
    check_data(config, pipeline.build(config))
    plain = config.replace({OPTION: False})
    artifacts.ensure_first(pipeline.build(plain)["evaluation"], plain.artifacts_dir, DATA_STAGES)
    with pytest.raises(ConfigError, match="dialogue_teacher.optimizer.warmup_steps"):
        check_data(plain, pipeline.build(plain))


def test_what_is_not_there_is_missed_before_any_training(raw, tmp_path):
    exact = [dialogue(0, (0, "my cat likes @10"), (1, "Try @11")), simple(1), simple(2)]
    bare = write_raw(tmp_path / "raw", exact, valid=[simple(9)])
    config = config_of(bare, tmp_path, dialogue_teacher__use_inferred_order=True)
    with pytest.raises(MissingDataError, match="train_inferred_order"):
        pipeline.build(config)
    write_jsonl(bare / "redial" / "train_inferred_order.jsonl", [simple(1), simple(9)])
    stage = pipeline.build(config)["dialogue_teacher"].inputs["corpus"]
    with pytest.raises(CorpusError, match="train_inferred_order.jsonl that are neither"):
        artifacts.ensure(stage, config.artifacts_dir)
