"""LoRA through the stages: settings, refusals, training, resuming, and what is saved."""

import dataclasses
import functools
import json

import jax
import numpy as np
import pytest
import torch
import transformers
from etils import epath
from flax.traverse_util import flatten_dict

from conkd_jax.artifacts import build as artifacts
from conkd_jax.config import ConfigError, from_argument, frozen
from conkd_jax.config.rules import validate_config
from conkd_jax.data.corpus import Corpus
from conkd_jax.data.vocabulary import Vocabulary
from conkd_jax.models.compute import Compute
from conkd_jax.models.gpt2 import GPT2, GPT2Spec
from conkd_jax.models.lora import A, B, LoRA
from conkd_jax.models.recindial import RecInDial
from conkd_jax.runs.document import config_sha256
from conkd_jax.runtime import parallel
from conkd_jax.stages import language_model, pipeline
from conkd_jax.stages.lora import LoRASettings, training_of
from conkd_jax.stages.train_step_memory import planned_step, step_memory
from conkd_jax.training.checkpoint import CHECKPOINTS, Checkpoints
from conkd_jax.training.optimizers import make_optimizer
from tests.fixtures.backbones import check_one_device_is_eight
from tests.fixtures.training import assert_same, straight_and_killed

PARTS = ("dialogue_teacher", "student")
RANK = 2


@pytest.fixture(scope="module")
def published(small_world, tmp_path_factory) -> str:
    """A folder with a small Llama over the words of the small world."""
    vocabulary = pipeline.build(small_world.config())["vocabulary"]
    words = Vocabulary.load(vocabulary.directory(small_world.artifacts_dir)).num_words
    torch.manual_seed(0)
    shape = transformers.LlamaConfig(
        vocab_size=words,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        tie_word_embeddings=True,
    )
    folder = tmp_path_factory.mktemp("published")
    transformers.LlamaForCausalLM(shape).save_pretrained(folder)
    return str(folder)


def directories_of(config):
    """The artifacts that an untrained model reads."""
    stages = pipeline.build(config)
    names = ("corpus", "vocabulary")
    for name in names:
        artifacts.ensure(stages[name], config.artifacts_dir)
    return {name: stages[name].directory(config.artifacts_dir) for name in names}


@pytest.fixture(scope="module")
def config(small_world, published):
    """A teacher that starts from published weights and trains low-rank changes of them."""
    return small_world.config(
        "demo,backbone=llama",
        dialogue_teacher__weights=published,
        dialogue_teacher__lora_rank=RANK,
        dialogue_teacher__epochs=1,
    )


@pytest.fixture(scope="module")
def start(config):
    """The teacher before its first step."""
    settings, directories = (
        pipeline.build(config)["dialogue_teacher"].settings,
        directories_of(config),
    )
    return language_model.LanguageModel.untrained(
        settings.model.initial,
        directories,
        Vocabulary.load(directories["vocabulary"]),
        settings.seed,
        settings.rng_impl,
    )


# --- settings -------------------------------------------------------------------------------------


def config_with(**fields):
    config = frozen(from_argument("demo", "llama"))
    return config.replace({name.replace("__", "."): value for name, value in fields.items()})


@pytest.mark.parametrize("part", PARTS)
def test_rank_and_alpha_enter_fingerprints_only_if_used(part):
    plain, ranked, scaled = (
        config_with(),
        config_with(**{f"{part}__lora_rank": 2}),
        config_with(**{f"{part}__lora_rank": 2, f"{part}__lora_alpha": 4.0}),
    )
    stages = [pipeline.build(each)[part] for each in (plain, ranked, scaled)]
    assert len({stage.fingerprint for stage in stages}) == 3
    assert not [name for name in stages[0].config_part if name.startswith("lora")]
    assert stages[2].config_part["lora_rank"] == 2 and stages[2].config_part["lora_alpha"] == 4.0
    assert len({config_sha256(each) for each in (plain, ranked, scaled)}) == 3


@pytest.mark.parametrize(
    ("backbone", "fields", "message"),
    [
        ("llama", {"lora_rank": -1}, "lora_rank: expected a number from 0 to 256, got -1"),
        ("llama", {"lora_rank": 257}, "lora_rank: expected a number from 0 to 256, got 257"),
        ("llama", {"lora_rank": 8}, "0 with dialogue_teacher.weights = random, .* got 8"),
        ("kgsf", {"lora_rank": 8}, "0 with the backbone kgsf, as LoRA is for dialogpt and llama"),
        ("dialogpt", {"lora_alpha": 8.0}, "lora_alpha: expected 16.0, as .*lora_rank = 0 trains"),
        ("dialogpt", {"lora_rank": 8, "lora_alpha": 0.0}, "a number from 0.001 to 10000, got 0.0"),
    ],
)
@pytest.mark.parametrize("part", PARTS)
def test_what_makes_no_sense_is_refused(part, backbone, fields, message):
    config = frozen(from_argument("demo", backbone))
    config = config.replace({f"{part}.{name}": value for name, value in fields.items()})
    with pytest.raises(ConfigError, match=f"config.{part}.*{message}"):
        validate_config(config)


def test_a_student_can_adapt_a_teacher_that_was_trained_from_scratch():
    fields = {"student.init": "dialogue_teacher", "student.item_init": "title"}
    validate_config(config_with().replace({**fields, "student.lora_rank": 8}))


def test_a_model_of_another_kind_is_refused(start):
    """For backbones of the user's own, whose models a config doesn't know."""
    other = dataclasses.replace(start, model=RecInDial(GPT2(GPT2Spec(1, 8, 2, 8), 9)))
    with pytest.raises(ConfigError, match="lora_rank: expected 0, .*got 2 with a RecInDial"):
        training_of(other, LoRASettings(2, 16.0))


# --- training -------------------------------------------------------------------------------------


def test_one_device_is_eight(config, start):
    corpus = Corpus.open(directories_of(config)["corpus"])
    settings = pipeline.build(config)["dialogue_teacher"].settings
    still = dataclasses.replace(start.model.spec, dropout=0.0)  # dropout depends on the devices
    start = dataclasses.replace(start, model=dataclasses.replace(start.model, spec=still))
    rows = settings.rows.rows_of(corpus, start.vocabulary, corpus.dialogues("train"))
    tuning = training_of(start, settings.lora)
    assert isinstance(tuning, LoRA)
    gradients = check_one_device_is_eight(config, start, rows, "teacher", tuning=tuning)
    assert gradients["layers"]["mlp"]["up"].keys() == {A, B}


def test_a_resumed_training_gives_the_weights_of_a_straight_one(
    config, start, tmp_path, monkeypatch
):
    stage = pipeline.build(config)["dialogue_teacher"]
    check = functools.partial(check_checkpoint, config, start)
    folders = straight_and_killed(stage, directories_of(config), tmp_path, monkeypatch, check)
    one, other = (
        language_model.load(config.backbone, folder, start.vocabulary).params for folder in folders
    )
    assert_same(one, other)
    check_only_changes_were_trained(start.params, one, start.vocabulary.num_words)


def check_checkpoint(config, start, folder):
    """A checkpoint holds low-rank changes, new rows and their optimizer state, nothing else."""
    settings = pipeline.build(config)["dialogue_teacher"].settings
    trained, _ = training_of(start, settings.lora).divided(start.params, jax.random.key(0))
    optimizer = make_optimizer(settings.model.training.optimizer, 100)
    state = parallel.init_state(trained, optimizer, with_ema=False)
    with Checkpoints(folder / CHECKPOINTS) as checkpoints:
        restored = checkpoints.restore(state, trained)
    assert restored is not None and restored.state.step == 3


def check_only_changes_were_trained(before, after, num_words):
    """Every kernel and the rows from `num_words` differ; the rest is the same bit for bit."""
    before, after = flatten_dict(before), flatten_dict(after)
    assert before.keys() == after.keys()
    for path, leaf in before.items():
        changed = np.asarray(leaf) != np.asarray(after[path])
        if path[-1] == "kernel":
            assert changed.any(), path
        elif path[0] in ("embed", "wte"):
            assert not changed[:num_words].any() and changed[num_words:].any(), path
        else:
            assert not changed.any(), path


def test_a_student_with_low_rank_changes_is_evaluated_like_any_other(small_world, tmp_path):
    config = small_world.config(
        runs_dir=str(tmp_path / "runs"),  # its name is that of the world's own run
        student__init="dialogue_teacher",
        student__item_init="title",
        student__lora_rank=RANK,
        student__epochs=1,
    )
    folder = small_world.run(config)
    assert json.loads((folder / "metrics.json").read_text())["metrics"]["ppl"] > 1
    vocabulary = Vocabulary.load(directories_of(config)["vocabulary"])
    teacher, student = (
        language_model.load(
            "dialogpt",
            epath.Path(pipeline.build(config)[part].directory(config.artifacts_dir)),
            vocabulary,
        ).params
        for part in PARTS
    )
    check_only_changes_were_trained(teacher, student, vocabulary.num_words)


# --- memory ---------------------------------------------------------------------------------------


def test_the_optimizer_has_a_state_of_what_is_trained_alone(small_world):
    full = small_world.config(student__init="dialogue_teacher", dialogue_teacher__embed_dim=64)
    low = full.replace({"student.lora_rank": RANK})
    plans = [
        planned_step(each, num_words=2000, num_items=40, num_devices=1) for each in (full, low)
    ]
    assert plans[0].num_parameters == plans[1].num_parameters == plans[0].num_trained
    assert plans[1].num_trained < plans[1].num_parameters / 10
    memory = [
        step_memory(config, plan, Compute(), jax.devices()[:1])
        for config, plan in zip((full, low), plans, strict=True)
    ]
    spared = 2 * (plans[0].num_trained - plans[1].num_trained) * 4  # both moments of Adam
    added = (
        plans[1].num_trained
        + sum(leaf.size for leaf in jax.tree.leaves(plans[1].constants["frozen"]))
        - plans[1].num_parameters
    )
    assert memory[0].arguments - memory[1].arguments == spared - 4 * added
    assert memory[1].total < memory[0].total
