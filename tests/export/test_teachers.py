"""The Parquet files hold what the reader of the teacher store gives, in documented columns."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow.parquet
import pytest

from conkd_jax.artifacts import build as artifacts
from conkd_jax.data.teacher_store.files import TeacherStore
from conkd_jax.data.teacher_store.reader import TeacherStoreReader
from conkd_jax.distill.head import Head
from conkd_jax.export import teachers
from conkd_jax.export.teachers import TeacherExportError, write_teachers
from conkd_jax.runs.finished import Run
from conkd_jax.stages import pipeline


@pytest.fixture(scope="module")
def run(small_world):
    return Run.open(small_world.folder)


@pytest.fixture(scope="module")
def expected(run):
    """log P_φ [n, Y], log P_ψ [G, I], λ [n] and the rows, from the reader and the heads."""
    stage = run.stages["teacher_outputs"]
    store = TeacherStore.open(stage.directory(run.config.artifacts_dir))
    rows = run.system.rows_of(run.corpus.dialogues("train"))
    reader = TeacherStoreReader(store, rows.response_keys, rows.targets, rows.target_offsets)
    batch, heads = reader.gather(np.arange(rows.num_responses)), store.heads
    head = Head(*map(jnp.asarray, (heads.dialogue_kernel, heads.dialogue_bias)))
    logits = head.logits(jnp.asarray(batch["teacher_features"]))
    rec = batch["user_vectors"] @ heads.rec_kernels[0] + heads.rec_biases[0]
    log_probs = jax.nn.log_softmax(logits), jax.nn.log_softmax(rec)
    return *map(np.asarray, log_probs), batch["item_mass"], rows


def written(run, folder, top_k):
    folder.mkdir()
    count = write_teachers(run, folder, top_k)
    table = pyarrow.parquet.read_table(folder / "data")
    assert len(table) == count
    about = json.loads((folder / "teachers.json").read_text())
    assert set(table.column_names) <= {*about["columns"].replace(",", " ").split()}
    return table.to_pydict(), about


def test_all_log_probabilities(run, expected, tmp_path, monkeypatch):
    monkeypatch.setattr(teachers, "ROWS_A_FILE", 100)  # so that there are several files
    log_probs, rec_log_probs, mass, rows = expected
    found, about = written(run, tmp_path / "all", top_k=0)
    assert len(list((tmp_path / "all" / "data").glob("*.parquet"))) > 1
    assert "ids" not in found and about["top_k"] is None
    np.testing.assert_allclose(np.concatenate(found["log_probs"]), log_probs, atol=2e-5)
    np.testing.assert_allclose(np.array(found["rec_log_probs"]), rec_log_probs, atol=2e-5)
    np.testing.assert_array_equal(np.concatenate(found["item_mass"]).astype(np.float32), mass)
    np.testing.assert_array_equal(np.concatenate(found["response_ids"]), rows.targets)
    keys = list(zip(found["conversation_id"], found["turn"], strict=True))
    assert keys == [tuple(key) for key in rows.response_keys]


def test_the_largest_log_probabilities(run, expected, tmp_path):
    log_probs, rec_log_probs, _, _ = expected
    found, about = written(run, tmp_path / "top", top_k=5)
    ids, values = (np.concatenate(found[name]) for name in ("ids", "log_probs"))
    assert ids.shape == (len(log_probs), 5) and about["top_k"] == 5
    np.testing.assert_allclose(values, np.sort(log_probs)[:, :-6:-1], atol=2e-5)
    np.testing.assert_allclose(values, np.take_along_axis(log_probs, ids, 1), atol=2e-5)
    items = np.array(found["rec_ids"]) - about["num_words"]
    values = np.array(found["rec_log_probs"])
    np.testing.assert_allclose(values, np.sort(rec_log_probs)[:, :-6:-1], atol=2e-5)
    np.testing.assert_allclose(values, np.take_along_axis(rec_log_probs, items, 1), atol=2e-5)


def test_a_store_of_topk_has_what_it_kept(small_world, tmp_path):
    config = small_world.config(teacher_outputs__format="topk", teacher_outputs__top_k=5)
    stage = pipeline.build(config)["teacher_outputs"]
    artifacts.ensure(stage, config.artifacts_dir)
    store = TeacherStore.open(stage.directory(config.artifacts_dir))
    records = store.read(range(len(store)))
    run = dataclasses.replace(Run.open(small_world.folder), config=config)
    for top_k in (3, 5):
        found, about = written(run, tmp_path / str(top_k), top_k)
        assert about["store"] == {"format": "topk", "dtype": "bfloat16"}
        ids, values = (np.concatenate(found[name]) for name in ("ids", "log_probs"))
        kept = np.concatenate([record.outputs for record in records]).astype(np.float32)
        np.testing.assert_array_equal(values, kept[:, :top_k])
        kept_ids = np.concatenate([record.token_ids for record in records])
        assert (ids == kept_ids[:, :top_k]).mean() > 0.95  # but where rounded ones are equal
        assert np.isin(ids[0], kept_ids[0]).all()
    for top_k in (0, 6):
        (tmp_path / f"refused {top_k}").mkdir()
        with pytest.raises(TeacherExportError, match=f"expected 1 to 5, .* got {top_k}"):
            write_teachers(run, tmp_path / f"refused {top_k}", top_k)


def test_prompts_are_those_of_a_student(run, expected, tmp_path):
    rows = expected[3]
    found, _ = written(run, tmp_path / "prompts", top_k=1)
    words = run.vocabulary
    for response, prompt in enumerate(found["prompt_ids"]):
        is_rec = rows.response_is_rec[response]
        assert prompt[-1] == (words.rec_id if is_rec else words.gen_id)
        (history,) = rows.histories(len(prompt) - 1, "student", [response]) or ([],)
        assert prompt[:-1] == history.tolist()


def test_a_run_without_a_store(small_world, tmp_path):
    config = small_world.config(system="dialogue_teacher")
    run = Run.open(small_world.folder)
    with pytest.raises(TeacherExportError, match="expected a run with a teacher store"):
        write_teachers(Run(run.home, config, "plain", {}, "valid", "valid"), tmp_path, 5)
