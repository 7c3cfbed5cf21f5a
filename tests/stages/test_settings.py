"""A stage sees the options that its fingerprint is made of, and nothing else of the config."""

import dataclasses
import importlib
import inspect
import sys
import typing

import pytest

from conkd_jax.artifacts.fingerprint import fingerprinted, is_outside_fingerprint
from conkd_jax.artifacts.stage import Stage, in_order
from conkd_jax.config import Config, field_names, from_argument, frozen
from conkd_jax.stages import backbones, pipeline
from tests.fixtures.small_world import get_config

# Fields of settings that no output depends on; a new one needs its reason in its dataclass and a
# line here.
OUTSIDE = {
    "backbone",
    "batch_rows",
    "batch_size",
    "execution",
    "movielens_dir",
    "raw_dir",
    "source",
    "student",
}

# Another value for fields that can't simply be doubled.
OTHER = {
    "preset": "mini",
    "paper_row": "KGSF",
    "system": "dialogue_teacher",
    "corpus.graph_rule": "kbrd",
    "corpus.reviews": "generated",
    "vocabulary.item_vocabulary": "train",
    "vocabulary.tokenizer": "gpt2",
    "parallel.kind": "mesh",
    "rec_teacher.norm": "sum",
    "rec_teacher.score_over": "entities",
    "rec_teacher.architecture": "autorec",
    "rec_teacher.cross_fit_folds": 2,
    "rec_teacher.attention_init": "xavier_uniform",
    "rec_teacher.context_nodes": "items",
    "dialogue_teacher.weights": "gpt2",
    "kgsf.word_vectors": "random",
    "redial.word_vectors": "random",
    "teacher_outputs.format": "dense",
    "teacher_outputs.dtype": "float32",
    "distill.gate": "soft",
    "student.init": "dialogue_teacher",
    "decode.item_rule": "mass",
    "evaluation.split": "dev",
    "rng_impl": "threefry2x32",
    "compute_dtype": "bfloat16",
    "sweep.over": (0.1,),
}
# Other tests change these.
UNREAD = {"autorec.movielens_dir", "backbone", "corpus.name", "corpus.raw_dir", "parallel.kind"}


def other_value(config: Config, field: str) -> object:
    """A value that the field doesn't have."""
    if field in OTHER:
        return OTHER[field]
    value: typing.Any = config
    for name in field.split("."):
        value = getattr(value, name)
    if isinstance(value, bool):
        return not value
    if isinstance(value, str):
        return f"{value}x"
    return value / 2 if isinstance(value, float) and value else value + 1


def stages_of(config: Config) -> dict[str, Stage]:
    """Every stage of a config by its name and its place among those of that name."""
    found: dict[str, list[Stage]] = {}
    for stage in in_order(pipeline.build(config)["evaluation"]):
        found.setdefault(stage.name, []).append(stage)
    return {f"{name} {i}": stage for name, of in found.items() for i, stage in enumerate(of)}


def leaves(settings: object, prefix: str = "") -> dict[str, object]:
    """The fields of settings that enter a fingerprint, by dotted name."""
    if not dataclasses.is_dataclass(settings):
        return {prefix: settings}
    found = {}
    for field in dataclasses.fields(settings):
        if not is_outside_fingerprint(field):
            found |= leaves(getattr(settings, field.name), f"{prefix}.{field.name}")
    return found


def all_dataclasses(settings: object) -> list[object]:
    """A settings object and those inside of it."""
    if not dataclasses.is_dataclass(settings):
        return []
    inside = (getattr(settings, field.name) for field in dataclasses.fields(settings))
    return [settings, *(each for value in inside for each in all_dataclasses(value))]


@pytest.fixture(
    scope="module", params=["dialogpt", "kgsf", "kbrd", "llama", "recindial", "redial", "revcore"]
)
def config(request) -> Config:
    return frozen(get_config(f"demo,backbone={request.param}"))


def test_a_stage_runs_on_its_settings_and_closes_over_nothing(config):
    for stage in stages_of(config).values():
        run = inspect.unwrap(stage.run)  # the tests wrap every function to check its shapes
        assert inspect.isfunction(run), stage.name
        assert run.__closure__ is None and "<locals>" not in run.__qualname__
        assert list(inspect.signature(run).parameters) == ["settings", "directory", "context"]
        assert stage.config_part == fingerprinted(stage.settings)
        assert not any(isinstance(each, Config) for each in all_dataclasses(stage.settings))


def test_settings_are_frozen(config):
    for stage in stages_of(config).values():
        for settings in all_dataclasses(stage.settings):
            name = dataclasses.fields(settings)[0].name
            with pytest.raises(dataclasses.FrozenInstanceError):
                setattr(settings, name, None)


def test_stages_have_one_signature():
    from conkd_jax.stages import (
        corpus,
        dialogue_teacher,
        evaluation,
        rec_teacher,
        student,
        teacher_outputs,
        turn_classifier,
        vocabulary,
    )

    modules = (corpus, dialogue_teacher, evaluation, rec_teacher, student, teacher_outputs)
    for module in (*modules, turn_classifier, vocabulary):
        parameters = inspect.signature(module.stage).parameters.values()
        assert [p.name for p in parameters][:2] == ["config", "stages"], module.__name__
        assert all(p.kind is p.KEYWORD_ONLY for p in list(parameters)[2:]), module.__name__


# Of the demo: they address artifacts on users' disks, so only a stage's new VERSION, or another
# default of an option, may change them.
FINGERPRINTS = {
    "dialogpt": {
        "corpus": "b773488bbaa8d3e7",
        "vocabulary": "f496307c842b48ff",
        "rec_teacher": "12b4294a09e5ee42",
        "dialogue_teacher": "46931cc209d79766",
        "teacher_outputs": "b8b7a2edf35c1717",
        "student": "279f49045f305e2f",
        "turn_classifier": "7ea96bf0f0dcc4ec",
        "evaluation": "e4cab8d637c5b463",
    },
    "kgsf": {
        "corpus": "b773488bbaa8d3e7",
        "vocabulary": "134873c067efa3a0",
        "rec_teacher": "12b4294a09e5ee42",
        "dialogue_teacher": "6e8b4911e651a70c",
        "teacher_outputs": "d626d3f8bf6b644d",
        "student": "b613baec68083037",
        "turn_classifier": "aec7a2c36bb9acdd",
        "evaluation": "28edbf858e6c79f3",
    },
}


@pytest.mark.parametrize("backbone", ["dialogpt", "kgsf"])
def test_fingerprints_of_the_demo_are_pinned(backbone):
    stages = pipeline.build(frozen(from_argument("demo", backbone)))
    assert {name: stage.fingerprint for name, stage in stages.items()} == FINGERPRINTS[backbone]


def test_the_number_of_kept_targets_counts_where_they_are_kept(config):
    """Stores of other formats have the fingerprints that they had before there were any."""

    def fingerprint(**fields):
        changed = config.replace({f"teacher_outputs.{name}": v for name, v in fields.items()})
        return pipeline.build(changed)["teacher_outputs"].fingerprint

    for format in ("features", "dense"):
        assert fingerprint(format=format, top_k=7) == fingerprint(format=format)
    found = {fingerprint(format="topk", top_k=k) for k in (7, 64)}
    assert len(found | {fingerprint(format="features"), fingerprint(format="dense")}) == 4


def test_only_declared_fields_stay_outside_the_fingerprint(config):
    found = {
        field.name
        for stage in stages_of(config).values()
        for settings in all_dataclasses(stage.settings)
        for field in dataclasses.fields(settings)
        if is_outside_fingerprint(field)
    }
    assert found <= OUTSIDE


def test_what_a_stage_can_see_decides_its_fingerprint(config):
    """Change each option: a stage has another fingerprint exactly where it sees the change."""
    before = stages_of(config)
    seen = set()
    for name in sorted(field_names(config) - UNREAD):
        after = stages_of(config.replace({name: other_value(config, name)}))
        for key in before.keys() & after.keys():
            one, other = before[key], after[key]
            sees = leaves(one.settings) != leaves(other.settings)
            inputs = one.input_fingerprints != other.input_fingerprints
            assert (one.fingerprint != other.fingerprint) == (sees or inputs), (name, key)
            seen |= {name} if sees else set()
    # Options that change how and where a run happens, never a result.
    assert not seen & {
        "artifacts_dir",
        "checkpoint_every",
        "decode.batch_size",
        "distill.chunk_size",
        "evaluation.num_samples",
        "paper_row",
        "parallel.kind",
        "parallel.num_devices",
        "parallel.remat",
        "preset",
        "runs_dir",
        "teacher_outputs.batch_rows",
    }
    assert {"seed", "teacher_seed", "distill.gate", "distill.gamma", "rng_impl"} <= seen
    assert "compute_dtype" in seen


@pytest.mark.parametrize("backbone", ["kgsf", "kbrd", "redial", "revcore"])
def test_case_makes_another_word_list(backbone):
    config = frozen(get_config(f"demo,backbone={backbone}"))
    name = "vocabulary.lower_case"
    other = config.replace({name: other_value(config, name)})
    one, two = (pipeline.build(each)["vocabulary"].fingerprint for each in (config, other))
    assert one != two


def test_another_backbone_has_artifacts_of_its_own(config, monkeypatch):
    """Even if it is a copy of an existing one, field by field."""
    module = importlib.import_module(f"conkd_jax.stages.backbones.{config.backbone}")
    monkeypatch.setitem(sys.modules, "conkd_jax.stages.backbones.copy", module)
    monkeypatch.setattr(backbones, "BACKBONES", (*backbones.BACKBONES, "copy"))
    before, after = stages_of(config), stages_of(config.replace({"backbone": "copy"}))
    same = {name for name in before if before[name].fingerprint == after[name].fingerprint}
    # AutoRec reads words, so it has artifacts for each vocabulary.
    is_autorec = config.rec_teacher.architecture == "autorec"
    assert same == {"corpus 0", "questionnaires 0" if is_autorec else "rec_teacher 0"}
