"""The whole pipeline: what a run leaves, what runs again, and that its stages agree."""

import json
import shutil
from types import SimpleNamespace

import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
import pytest
from etils import epath

from conkd_jax.artifacts import build as artifacts
from conkd_jax.artifacts.manifest import read_manifest
from conkd_jax.artifacts.stage import Context
from conkd_jax.config import frozen
from conkd_jax.data.corpus import Corpus
from conkd_jax.data.mentioned_items import mentioned_items
from conkd_jax.data.teacher_store.files import TeacherStore
from conkd_jax.data.vocabulary import Vocabulary
from conkd_jax.distill.gates import item_mass
from conkd_jax.distill.head import Head
from conkd_jax.eval.metrics.options import options_from_corpus
from conkd_jax.eval.metrics.run_metrics import run_statistics
from conkd_jax.eval.predictions import read_predictions
from conkd_jax.models.lora import FullTraining
from conkd_jax.runs.folder import write_run_folder
from conkd_jax.runtime import parallel
from conkd_jax.stages import backbones, language_model, pipeline, student
from conkd_jax.stages import recommender as recommenders
from conkd_jax.stages.backbones import dialogpt
from conkd_jax.stages.language_model_training import divided_of, make_loss, training_batches
from conkd_jax.stages.rec_teacher import fold_of
from conkd_jax.stages.training import Execution
from conkd_jax.training import loop
from data_prep.sources import MissingDataError
from tests.data_prep.raw_files import dialogue as raw_dialogue
from tests.data_prep.raw_files import simple, write_jsonl, write_raw
from tests.fixtures.small_world import STAGES, get_config
from tests.fixtures.training import assert_close, first_step

PROMISED_METRICS = {
    *(f"{name}@{k}" for name in ("rer", "prr", "f1", "recall", "tf_hit") for k in (1, 10, 50)),
    *(f"dist-{n}" for n in (1, 2, 3)),
    "rec_ratio",
    "f1@10_2hop",
    "f1@10_refilled",
    "ppl",
    "ppl_predprefix",
    "ppl_words_renormalised",
    "lambda_r",
    "lambda_v",
    "train_lambda_r",
    "train_lambda_v",
    "classifier_accuracy",
    "classifier_base_rate",
}


@pytest.fixture(scope="module")
def folder(small_world):
    return small_world.folder


@pytest.fixture(scope="module")
def document(folder):
    return json.loads((folder / "metrics.json").read_text())


class Opened:
    """The opened artifacts that the student of a config is trained from."""

    def __init__(self, config):
        self.config = config
        self.stages = pipeline.build(config)
        artifacts.ensure(self.stages["teacher_outputs"], config.artifacts_dir)
        self.corpus = Corpus.open(self.directory("corpus"))
        self.words = Vocabulary.load(self.directory("vocabulary"))
        self.rows = dialogpt.row_settings(config).rows_of(
            self.corpus, self.words, self.corpus.dialogues("train")
        )
        self.store = TeacherStore.open(self.directory("teacher_outputs"))
        self.teacher = language_model.load(
            config.backbone, self.directory("dialogue_teacher"), self.words
        )

    def directory(self, name):
        return self.stages[name].directory(self.config.artifacts_dir)

    def manifest(self, name):
        return read_manifest(self.stages[name], self.config.artifacts_dir)

    def records(self):
        return self.store.read(range(len(self.store)))

    def student_step(self, num_devices=1, *, is_distilled=True, kind="pmap"):
        """Returns (loss, gradients) of the student's first batch."""
        config = self.config
        folders = {name: self.directory(name) for name in ("corpus", "vocabulary")}
        settings = dialogpt.model_settings(config)
        model, *_ = settings.initial(folders, self.words, 0, config.rng_impl)
        # A GPT-2's first step is nearly the same for every loss; trained weights differ more.
        start = language_model.LanguageModel(model, self.teacher.params, self.words)
        gamma = config.distill.gamma
        given = student.distillation(
            # With γ = 0 a student has no gate; the loss has one that it must not read.
            student.GateSettings(
                gamma,
                config.distill.gate,
                config.distill.eta if config.distill.gate == "hard" else None,
                mask_mentioned=config.distill.mask_mentioned or None,
            ),
            self.store,
        )
        dialogues = self.corpus.dialogues("train")
        loader = training_batches(
            config.student,
            self.rows,
            self.words,
            "student",
            seed=0,
            execution=Execution.of(config.replace({"parallel.num_devices": num_devices})),
            store=self.store,
            mentioned=mentioned_items(dialogues, self.words),
        )
        task = SimpleNamespace(
            init=lambda rng: start.params,
            loss=make_loss(start, 64, given if is_distilled else None),
            constants={"frozen": {}, **(given.constants if is_distilled else {})},
        )
        # a step so long that the change of the parameters is the gradient to float32 precision
        before, after, measured = first_step(
            task,
            parallel.select_devices(num_devices),
            loader,
            optax.sgd(1e4),
            kind=kind,
            divided=divided_of(start, given if is_distilled else None, FullTraining()),
        )
        leaves = {"params": before, "after": after.params}
        gradients = optax.tree.sub(leaves["params"], leaves["after"])
        return float(measured["loss"][0]), gradients


@pytest.fixture(scope="module")
def opened(small_world):
    """The artifacts of the plain config."""
    return Opened(small_world.config())


def without_dropout(world, **fields):
    found = Opened(world.config(**fields))
    spec = found.teacher.model.spec
    assert spec.dropout > 0
    # Of the model that takes the step; the artifacts stay as they are.
    found.config = found.config.replace({"dialogue_teacher.dropout": 0.0})
    return found


def test_contexts_fit_the_positions_of_the_classifier(small_world):
    """20 is not a multiple of the length that batches are padded to."""
    config = small_world.config(turn_classifier__max_context_tokens=20)
    stage = pipeline.build(config)["turn_classifier"]
    artifacts.ensure(stage, config.artifacts_dir)
    metrics = read_manifest(stage, config.artifacts_dir)["metrics"]
    assert np.isfinite(metrics["dev_loss"])


# --- what a run leaves -------------------------------------------------------------------------


def test_a_run_leaves_its_numbers(document):
    assert set(document) >= {"split", "seed", "config_sha256", "n_responses", "counts", "metrics"}
    assert document["split"] == "valid" and document["seed"] == 0
    assert document["n_responses"] == document["counts"]["responses"] > 20
    assert len(document["config_sha256"]) == 64
    missing = PROMISED_METRICS - set(document["metrics"])
    assert not missing
    for name in PROMISED_METRICS:
        value = document["metrics"][name]
        assert value > 1 if name.startswith("ppl") else 0 <= value <= 1, name
    assert set(document["seconds"]) == set(STAGES)


def test_the_hash_of_a_config_leaves_out_its_paths(small_world, document):
    def sha256(**fields):
        config = small_world.config(**fields)
        stages = pipeline.build(small_world.config())
        folder = epath.Path(small_world.root / "hashed")
        return write_run_folder(folder, config, "x", stages, command="a test")["config_sha256"]

    assert sha256(corpus__raw_dir="/elsewhere") == document["config_sha256"]
    assert sha256(distill__gamma=0.1) != document["config_sha256"]


def test_predictions_give_the_metrics_again(small_world, folder, document):
    """Every metric of responses can be recomputed from predictions.jsonl and the corpus."""
    stages = pipeline.build(small_world.config())
    corpus = Corpus.open(stages["corpus"].directory(small_world.artifacts_dir))
    items = corpus.items
    counts = np.zeros(len(items), int)
    for dialogue in corpus.dialogues("train"):
        for turn in dialogue.turns:
            for item in turn.items:
                counts[item] += 1
    options = options_from_corpus(corpus, max_response_tokens=24)
    assert options.popularity == dict(zip(items.item_ids.tolist(), counts.tolist(), strict=True))
    again = run_statistics(read_predictions(folder / "predictions.jsonl"), options).metrics()
    assert len(again) > 60
    for name, value in again.items():
        assert document["metrics"][name] == pytest.approx(value, rel=1e-9), name


def test_predictions_follow_the_order_of_the_split(small_world, folder):
    config = small_world.config()
    stages = pipeline.build(config)
    corpus = Corpus.open(stages["corpus"].directory(small_world.artifacts_dir))
    words = Vocabulary.load(stages["vocabulary"].directory(small_world.artifacts_dir))
    rows = dialogpt.row_settings(config).rows_of(corpus, words, corpus.dialogues("valid"))
    predictions = list(read_predictions(folder / "predictions.jsonl"))
    assert [p.key for p in predictions] == rows.response_keys
    for response, prediction in enumerate(predictions):
        targets = rows.response_targets(response)
        assert len(prediction.token_nll) == len(targets)
        assert list(prediction.token_is_item) == words.is_item(targets).tolist()
        assert prediction.predicted_turn_type in ("rec", "gen")


@pytest.mark.parametrize("backbone", ["dialogpt", "kgsf"])
def test_the_predicted_prefix_replaces_the_gold_one(small_world, backbone):
    """Oracle: the same model on each response's row alone, with the tag replaced."""
    config = small_world.config(f"demo,backbone={backbone}")
    folder = small_world.run(config) if backbone == "kgsf" else small_world.folder
    stages = pipeline.build(config)
    opened = {n: s.directory(small_world.artifacts_dir) for n, s in stages.items()}
    corpus, words = Corpus.open(opened["corpus"]), Vocabulary.load(opened["vocabulary"])
    student = language_model.load(config.backbone, opened["student"], words)
    rows = (
        backbones.named(backbone)
        .row_settings(config)
        .rows_of(corpus, words, corpus.dialogues("valid"))
    )
    predictions = list(read_predictions(folder / "predictions.jsonl"))
    wrong = 0
    for response, prediction in enumerate(predictions):
        gold = "rec" if rows.response_is_rec[response] else "gen"
        if prediction.predicted_turn_type == gold:
            assert prediction.token_nll_predprefix == prediction.token_nll
        elif (wrong := wrong + 1) <= 3:
            tag = words.rec_id if prediction.predicted_turn_type == "rec" else words.gen_id
            scored = student.score(rows.reopened([response], [tag]), "student", 1)
            np.testing.assert_allclose(prediction.token_nll_predprefix, scored.nll, rtol=1e-4)
            assert prediction.token_nll_predprefix != prediction.token_nll
    assert wrong and len(predictions) > wrong


def test_constraints_keep_items_out_of_responses(small_world):
    """Decoding by mass, because the plain run generates hardly any items."""
    fields = {"decode__item_rule": "mass", "decode__max_tokens": 24}
    plain = list(
        read_predictions(small_world.run(small_world.config(**fields)) / "predictions.jsonl")
    )
    fields |= {"decode__allow_mentioned_items": False, "decode__allow_repeated_items": False}
    folder = small_world.run(small_world.config(**fields))
    assert folder.name == "small_world-dialogpt+mass+novel+once-demo-seed0"
    document = json.loads((folder / "metrics.json").read_text())
    assert document["decoding"] == "mass+novel+once"
    kept = list(read_predictions(folder / "predictions.jsonl"))

    def ranks_a_mentioned_item(p):
        said, found = set(p.mentioned_items), False
        for step in p.item_steps:
            found |= bool(said & set(step.top))
            said.add(step.item)
        return found

    assert any(map(ranks_a_mentioned_item, plain)) and not any(map(ranks_a_mentioned_item, kept))
    assert sum(len(p.item_steps) for p in kept) > 0
    assert [p.token_nll for p in kept] == [p.token_nll for p in plain]  # it is the same student


def test_a_run_leaves_samples_and_figures(folder):
    samples = (folder / "samples.md").read_text()
    assert samples.count("\n## ") == 2 and "small_world" in samples.replace("\\", "")
    pictures = {path.name for path in (folder / "figures").iterdir()}
    assert pictures == {
        "loss_rec_teacher.png",
        "loss_dialogue_teacher.png",
        "loss_turn_classifier.png",
        "loss_student.png",
        "gate_histogram.png",
        "gate_traces.png",
        "items_in_responses.png",
    }
    for name in pictures:
        path = folder / "figures" / name
        assert path.read_bytes().startswith(b"\x89PNG\r\n")
        image = plt.imread(path)
        assert min(image.shape[:2]) > 100 and image.std() > 0.01, f"{name} is blank"


def test_a_run_points_to_its_artifacts(folder):
    for name in STAGES:
        assert (folder / "artifacts" / name / "manifest.json").is_file()
    config = json.loads((folder / "config.json").read_text())
    assert config["settings"]["distill"]["eta"] == 0.04


# --- what runs again ---------------------------------------------------------------------------


def test_a_second_run_reuses_everything(small_world, folder, document, monkeypatch):
    def refuse(*arguments, **options):
        raise AssertionError("every artifact exists already")

    monkeypatch.setattr(loop, "train", refuse)
    monkeypatch.setattr(artifacts, "write_manifest", refuse)
    log = small_world.artifacts_dir / "log.jsonl"
    known = len(log.read_text().splitlines())
    config = small_world.config()
    config = config.replace({"runs_dir": config.runs_dir + "-again"})
    again = json.loads((small_world.run(config) / "metrics.json").read_text())
    for field in ("metrics", "intervals", "counts", "seconds"):
        assert again[field] == document[field], field
    lines = [json.loads(line) for line in log.read_text().splitlines()[known:]]
    reused = {line["stage"] for line in lines if line["action"] == "reused"}
    assert reused == set(STAGES)


def changed(world, **fields) -> set[str]:
    """Returns the stages that would run if these fields were changed."""
    config = world.config(**fields)
    rows = artifacts.explain(pipeline.build(config)["evaluation"], config.artifacts_dir)
    return {row.name for row in rows if row.state != "whole"}


CHANGES = [
    ({}, set()),
    ({"distill__gate": "soft"}, {"student", "evaluation"}),
    ({"distill__eta": 0.5}, {"student", "evaluation"}),
    ({"distill__gamma": 0.1}, {"student", "evaluation"}),
    ({"distill__constant": 0.1}, set()),  # which the hard gate never reads
    ({"seed": 1}, {"student", "evaluation"}),
    ({"student__epochs": 3}, {"student", "evaluation"}),
    ({"decode__item_rule": "mass"}, {"evaluation"}),
    ({"teacher_outputs__num_shards": 3}, {"teacher_outputs", "student", "evaluation"}),
    ({"teacher_seed": 1}, set(STAGES) - {"corpus", "vocabulary"}),
    ({"vocabulary__bpe_size": 310}, set(STAGES) - {"corpus", "rec_teacher"}),
    ({"corpus__movieworld_seed": 1}, set(STAGES)),
    ({"parallel__num_devices": 8, "checkpoint_every": 7}, set()),
    ({"parallel__kind": "mesh"}, set()),
]


@pytest.mark.parametrize("fields, wanted", CHANGES, ids=[str(fields) for fields, _ in CHANGES])
def test_only_what_depends_on_a_change_runs_again(small_world, fields, wanted):
    assert changed(small_world, **fields) == wanted


def test_a_test_split_added_later_changes_no_training(tmp_path):
    with_concept = raw_dialogue(1, (0, "my cat likes @10"), (1, "Try @11"))
    raw = write_raw(tmp_path / "raw", [with_concept, simple(2)], valid=[simple(9)])
    corpus = {"corpus.name": "redial", "corpus.raw_dir": str(raw), "corpus.graph_rule": "all"}
    config = frozen(get_config()).replace(corpus)
    before = pipeline.build(config)
    with pytest.raises(MissingDataError, match="no test_data.jsonl"):
        pipeline.build(config, split="test")
    write_jsonl(raw / "redial" / "test_data.jsonl", [simple(10)])
    after = pipeline.build(config)
    assert {n: s.fingerprint for n, s in before.items()} == {
        n: s.fingerprint for n, s in after.items()
    }
    tested = pipeline.build(config, split="test")
    assert tested["student"].fingerprint == before["student"].fingerprint
    corpora = {name: tested["evaluation"].inputs[name] for name in ("corpus", "scored_corpus")}
    assert corpora["corpus"].fingerprint == before["corpus"].fingerprint
    for name, stage in corpora.items():
        artifacts.ensure(stage, tmp_path / "artifacts")
        opened = Corpus.open(stage.directory(tmp_path / "artifacts"))
        assert ("test" in opened.splits) == (name == "scored_corpus")


# --- other systems, other splits ---------------------------------------------------------------


def test_the_dialogue_teacher_alone_is_scored_without_a_student(small_world):
    config = small_world.config(system="dialogue_teacher")
    stages = pipeline.build(config)
    assert set(stages) == {
        "corpus",
        "vocabulary",
        "rec_teacher",
        "dialogue_teacher",
        "evaluation",
    }
    config = config.replace({"runs_dir": config.runs_dir + "-dialogpt"})
    folder = small_world.run(config)
    found = json.loads((folder / "metrics.json").read_text())["metrics"]
    assert "classifier_accuracy" not in found and "train_lambda_r" not in found
    # the teacher is the scored system, so both gates are its own
    assert found["lambda_r"] == pytest.approx(found["student_lambda_r"], rel=1e-6)
    predictions = list(read_predictions(folder / "predictions.jsonl"))
    assert {p.predicted_turn_type for p in predictions} == {None}
    assert {p.turn_type for p in predictions} == {"rec", "gen"}


def test_another_split_is_scored_by_the_same_system(small_world, document):
    config = small_world.config()
    stages = pipeline.build(config, split="dev")
    assert pipeline.untrained(stages, config.artifacts_dir) == []
    folder = small_world.run(config, split="dev")
    dev = json.loads((folder / "metrics.json").read_text())
    assert dev["split"] == "dev" and dev["n_responses"] != document["n_responses"]
    assert dev["metrics"]["train_lambda_r"] == document["metrics"]["train_lambda_r"]
    # the student's training ends with the same measurement on the same split
    manifest = read_manifest(stages["student"], config.artifacts_dir)
    ppl = np.exp(manifest["metrics"]["dev_nll"])
    assert dev["metrics"]["ppl"] == pytest.approx(ppl, rel=1e-4)


# --- teachers and their store ------------------------------------------------------------------


def test_the_stored_gate_is_the_live_teacher_s(opened):
    """λ differs by the rounding of features to bfloat16, by what the manifest states of a part."""
    live = opened.teacher.score(opened.rows, "teacher", batch_rows=4).item_mass
    stored = np.concatenate([record.item_mass for record in opened.records()])
    told = opened.manifest("teacher_outputs")["metrics"]["rounding_max_item_mass_error"]
    assert stored.std() > 1e-3, "a constant gate proves nothing"
    errors = np.abs(live - stored)
    assert 0 < told <= errors.max() + 1e-6 < 5e-3
    assert np.abs(errors - told).min() < 1e-6, "no token has the error that the manifest states"


def test_a_resumed_store_measures_the_rounding_of_all_shards(opened, tmp_path):
    stage, straight = opened.stages["teacher_outputs"], opened.directory("teacher_outputs")
    shutil.copytree(straight, tmp_path, dirs_exist_ok=True)
    (tmp_path / "manifest.json").unlink()
    (tmp_path / "store.json").unlink()
    next(tmp_path.glob("*-00001-of-*")).unlink()
    folders = {name: opened.directory(of.name) for name, of in stage.inputs.items()}
    manifests = {
        name: read_manifest(of, opened.config.artifacts_dir) for name, of in stage.inputs.items()
    }
    again = Context(folders, manifests, is_resumed=True)
    metrics = stage.run(stage.settings, epath.Path(tmp_path), again)
    assert metrics == opened.manifest("teacher_outputs")["metrics"]
    assert len(opened.rows.targets) / 4 < metrics["rounding_tokens"] <= len(opened.rows.targets)


def test_the_stored_teacher_is_rebuilt_exactly(opened):
    heads = opened.store.heads
    head = Head(jnp.asarray(heads.dialogue_kernel), jnp.asarray(heads.dialogue_bias))
    for record in opened.records()[::20]:
        logits = head.logits(jnp.asarray(record.outputs, jnp.float32))
        rebuilt = item_mass(logits, opened.words.num_words)
        np.testing.assert_allclose(record.item_mass, rebuilt, atol=1e-6)


def test_the_stored_recommender_is_the_live_one(opened):
    recommender = recommenders.load(opened.directory("rec_teacher"), opened.corpus)
    dialogues = opened.corpus.dialogues("train")
    vectors = recommender.user_vectors(recommender.spec.contexts(dialogues, opened.corpus))
    stored = np.stack([record.user_vector for record in opened.records()])
    np.testing.assert_allclose(stored, vectors, atol=1e-6)
    heads = opened.store.heads
    logits = stored @ heads.rec_kernels[0] + heads.rec_biases[0]
    live = recommender.scores(vectors)[:, opened.words.item_candidates]
    np.testing.assert_allclose(logits, live, atol=1e-5)


def test_a_cross_fitted_teacher_never_saw_its_dialogues(small_world):
    crossed = Opened(small_world.config(rec_teacher__cross_fit_folds=2))
    records = crossed.records()
    folds = [fold_of(record.conversation_id, 2) for record in records]
    assert [record.rec_head_index for record in records] == folds and set(folds) == {0, 1}
    dialogues = crossed.corpus.dialogues("train")
    vectors = []
    for fold in range(2):
        stage = crossed.stages["teacher_outputs"].inputs[f"rec_teacher_{fold}"]
        assert stage.config_part["fold"] == [fold, 2]
        directory = stage.directory(crossed.config.artifacts_dir)
        teacher = recommenders.load(directory, crossed.corpus)
        vectors.append(teacher.user_vectors(teacher.spec.contexts(dialogues, crossed.corpus)))
        manifest = read_manifest(stage, crossed.config.artifacts_dir)
        seen = [d for d in dialogues if fold_of(d.conversation_id, 2) != fold]
        mentions = sum(
            len(set(turn.items)) for d in seen for turn in d.turns[1:] if turn.role == "recommender"
        )
        assert 0 < manifest["metrics"]["num_samples"] <= mentions
    for index, (record, fold) in enumerate(zip(records, folds, strict=True)):
        np.testing.assert_allclose(record.user_vector, vectors[fold][index], atol=1e-6)
    assert np.abs(vectors[0] - vectors[1]).max() > 1e-3


# --- the student's step ------------------------------------------------------------------------

EXACT = {"teacher_outputs__dtype": "float32"}


def test_dense_and_features_are_the_same_teacher(small_world):
    features = without_dropout(small_world, **EXACT)
    dense = without_dropout(small_world, teacher_outputs__format="dense", **EXACT)
    assert dense.store.spec.width == features.words.num_targets
    (loss, gradients), (wanted_loss, wanted) = features.student_step(), dense.student_step()
    assert loss == pytest.approx(wanted_loss, rel=1e-5)
    assert_close(gradients, wanted, rtol=1e-5)


def test_rounded_features_are_nearly_the_same_teacher(small_world):
    """bfloat16 keeps 8 bits: features are off by up to 1/256, the loss by far less.

    The soft gate, since a hard one flips where a rounded λ passes η.
    """
    rounded = without_dropout(small_world)
    exact = without_dropout(small_world, teacher_outputs__format="dense", **EXACT)
    for each in (rounded, exact):
        each.config = each.config.replace({"distill.gate": "soft"})
    (loss, gradients), (wanted_loss, wanted) = rounded.student_step(), exact.student_step()
    assert loss == pytest.approx(wanted_loss, rel=1e-3)
    assert loss != wanted_loss
    assert_close(gradients, wanted, rtol=2e-2)


def topk(world, k, **fields):
    fields = {"format": "topk", "top_k": k, **fields}
    return without_dropout(world, **{f"teacher_outputs__{k}": v for k, v in fields.items()})


@pytest.mark.parametrize(
    "dtype, of_loss, of_gradients", [("float32", 1e-5, 1e-5), ("bfloat16", 1e-3, 2e-2)]
)
def test_topk_of_all_targets_is_dense(small_world, dtype, of_loss, of_gradients):
    every = topk(small_world, 10**6, dtype=dtype)
    dense = without_dropout(small_world, teacher_outputs__format="dense", **EXACT)
    assert every.store.spec.width == every.store.spec.num_targets == every.words.num_targets
    assert every.store.heads.dialogue_kernel is None
    for each in (every, dense):
        each.config = each.config.replace({"distill.gate": "soft"})
    (loss, gradients), (wanted_loss, wanted) = every.student_step(), dense.student_step()
    assert loss == pytest.approx(wanted_loss, rel=of_loss)
    assert_close(gradients, wanted, rtol=of_gradients)


def test_topk_keeps_the_most_probable_targets_and_the_whole_item_mass(small_world):
    kept, dense = (
        topk(small_world, 5),
        without_dropout(small_world, teacher_outputs__format="dense", **EXACT),
    )
    lost = []
    for record, whole in zip(kept.records(), dense.records(), strict=True):
        log_probs = whole.outputs - whole.log_normalizer[:, None]
        best = np.argsort(-log_probs, axis=1, kind="stable")[:, :5]
        ids = record.token_ids.astype(np.int64)
        np.testing.assert_allclose(  # equal up to rounding, which may exchange two ids
            np.take_along_axis(log_probs, ids, 1), np.take_along_axis(log_probs, best, 1), atol=1e-4
        )
        found = record.outputs.astype(np.float32)
        np.testing.assert_allclose(found, np.take_along_axis(log_probs, ids, 1), rtol=2**-8)
        np.testing.assert_allclose(record.item_mass, whole.item_mass, atol=1e-6)
        np.testing.assert_allclose(record.log_normalizer, whole.log_normalizer, atol=1e-5)
        lost.append(1 - np.exp(found).sum(1))
    metrics = kept.manifest("teacher_outputs")["metrics"]
    assert metrics["rounding_max_item_mass_error"] == metrics["rounding_flips_at_0.6"] == 0
    assert 0.2 < metrics["rounding_tokens"] / len(kept.rows.targets) < 1
    told = metrics["rounding_mean_lost_mass"]  # of a part of the tokens
    assert told == pytest.approx(np.concatenate(lost).mean(), rel=0.2) and told > 0.01
    assert 0 < abs(metrics["rounding_mean_nll_error"]) < 0.01
    assert dense.manifest("teacher_outputs")["metrics"]["rounding_mean_lost_mass"] == 0


def test_a_student_is_trained_from_topk(small_world):
    """Without the teacher's head, and to other weights than from all of the distribution."""
    fields = {"teacher_outputs__format": "topk", "teacher_outputs__top_k": 5}
    config, plain = small_world.config(**fields), small_world.config()
    stages, others = pipeline.build(config), pipeline.build(plain)
    changed = {n for n in stages if stages[n].fingerprint != others[n].fingerprint}
    assert changed == {"teacher_outputs", "student", "evaluation"}
    artifacts.ensure(stages["student"], config.artifacts_dir)
    metrics = read_manifest(stages["student"], config.artifacts_dir)["metrics"]
    assert np.isfinite(metrics["loss"]) and 0 < metrics["gate"] < 1
    words = Vocabulary.load(stages["vocabulary"].directory(config.artifacts_dir))
    ours, theirs = (
        language_model.load("dialogpt", each["student"].directory(config.artifacts_dir), words)
        for each in (stages, others)
    )
    assert ours.params["wte"]["embedding"].shape == theirs.params["wte"]["embedding"].shape
    assert (ours.params["wte"]["embedding"] != theirs.params["wte"]["embedding"]).any()


def test_gamma_0_is_plain_nll(small_world):
    opened = without_dropout(small_world)
    distilled, _ = opened.student_step()
    opened.config = opened.config.replace({"distill.gamma": 0.0})
    loss, gradients = opened.student_step()
    wanted_loss, wanted = opened.student_step(is_distilled=False)
    assert loss == pytest.approx(wanted_loss, rel=1e-6)
    assert_close(gradients, wanted, rtol=1e-6)
    assert abs(distilled - loss) > 1e-3, "γ > 0 must change the loss"


def test_masking_what_was_mentioned_changes_the_step(small_world):
    opened = without_dropout(small_world)
    plain, _ = opened.student_step()
    opened.config = opened.config.replace({"distill.mask_mentioned": True})
    assert abs(opened.student_step()[0] - plain) > 1e-4


@pytest.mark.parametrize(
    "fields, kind",
    [
        ({}, "pmap"),
        ({}, "mesh"),
        ({"distill__mask_mentioned": True}, "pmap"),
        ({"distill__gate": "oracle"}, "pmap"),
        ({"teacher_outputs__format": "topk", "teacher_outputs__top_k": 5}, "pmap"),
        ({"teacher_outputs__format": "topk", "teacher_outputs__top_k": 5}, "mesh"),
    ],
    ids=str,
)
def test_eight_devices_step_as_one(small_world, fields, kind):
    """Equal gradients of the whole distillation step: model, store, both teachers, gate, head."""
    opened = without_dropout(small_world, **fields)
    loss, gradients = opened.student_step(8, kind=kind)
    wanted_loss, wanted = opened.student_step(1)
    assert loss == pytest.approx(wanted_loss, rel=1e-5)
    assert_close(gradients, wanted, rtol=1e-5)
