"""Every option a user can get wrong, and every config file with every preset."""

import dataclasses
import importlib.util
import json
import sys
from pathlib import Path

import pytest
from absl import flags
from ml_collections import ConfigDict, config_flags

from conkd_jax import config as conkd
from conkd_jax.config.presets import SMALL_LENGTH
from conkd_jax.config.rules import validate_config, validate_devices
from conkd_jax.distill.gates import GATES

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "configs").rglob("*.py"))

START = ("title", "recommender")

# An ablation, its parent, and the only fields in which the two differ.
ABLATIONS = {
    "configs/ablations/fitted_threshold.py": (
        "configs/dialogpt_hard.py",
        {"distill.eta": (0.6, 0.0)},
    ),
    "configs/ablations/cross_fitted.py": (
        "configs/ablations/fitted_threshold.py",
        {"rec_teacher.cross_fit_folds": (0, 3)},
    ),
    "configs/ablations/inferred_order.py": (
        "configs/ablations/fitted_threshold.py",
        {"dialogue_teacher.use_inferred_order": (False, True)},
    ),
    "configs/ablations/more_distillation.py": (
        "configs/ablations/fitted_threshold.py",
        {"distill.gamma": (0.4, 0.7)},
    ),
    "configs/ablations/mask_mentioned.py": (
        "configs/ablations/fitted_threshold.py",
        {"distill.mask_mentioned": (False, True)},
    ),
    "configs/ablations/oracle_gate.py": (
        "configs/ablations/fitted_threshold.py",
        {"distill.gate": ("hard", "oracle")},
    ),
    "configs/ablations/both_teachers_special_tokens.py": ("configs/kgsf_hard.py", {}),
    "configs/ablations/both_teachers.py": (
        "configs/ablations/both_teachers_special_tokens.py",
        {"student.turn_tags": (True, False)},
    ),
    "configs/ablations/dialogue_teacher.py": (
        "configs/ablations/both_teachers.py",
        {"distill.gate": ("hard", "constant"), "distill.constant": (0.5, 0.0)},
    ),
    "configs/ablations/rec_teacher.py": (
        "configs/ablations/both_teachers.py",
        {"distill.gate": ("hard", "constant"), "distill.constant": (0.5, 1.0)},
    ),
    "configs/ablations/constant_gate.py": (
        "configs/ablations/both_teachers_special_tokens.py",
        {"distill.gate": ("hard", "constant")},
    ),
    "configs/ablations/vanilla.py": (
        "configs/ablations/both_teachers.py",
        {"distill.gamma": (0.4, 0.0)},
    ),
    "configs/ablations/vanilla_special_tokens.py": (
        "configs/ablations/both_teachers_special_tokens.py",
        {"distill.gamma": (0.4, 0.0)},
    ),
    **{
        f"configs/recommender_start/{name}.py": (parent, {"student.item_init": START})
        for name, parent in {
            "vanilla_special_tokens": "configs/ablations/vanilla_special_tokens.py",
            "hard": "configs/dialogpt_hard.py",
            "fitted_threshold": "configs/ablations/fitted_threshold.py",
            "soft": "configs/dialogpt_soft.py",
            "rec_teacher": "configs/ablations/rec_teacher.py",
            "constant_gate": "configs/ablations/constant_gate.py",
        }.items()
    },
    "configs/recommender_start/fine_tuned.py": (
        "configs/dialogpt.py",
        {"dialogue_teacher.item_init": START},
    ),
    **{
        f"configs/sweeps/item_init_{name}.py": (
            "configs/recommender_start/vanilla_special_tokens.py",
            {
                "student.epochs": (None, 3),
                "sweep.field": ("", f"student.item_init_{name}"),
                "sweep.over": ((), over),
            },
        )
        for name, over in {
            "scale": (0.0, 0.75, 1.5, 3.0, 6.0),
            "map": ("random", "pca", "least_squares"),
            "vectors": ("kernel", "kernel_and_bias"),
        }.items()
    },
    "configs/item_first_hard.py": (
        "configs/ablations/fitted_threshold.py",
        {"vocabulary.max_picks": (0, 16)},
    ),
    "configs/item_first.py": ("configs/item_first_hard.py", {"distill.gamma": (0.4, 0.0)}),
    "configs/sweeps/gamma.py": (
        "configs/kgsf_hard.py",
        {"sweep.field": ("", "distill.gamma"), "sweep.over": ((), (0.2, 0.4, 0.6, 0.8))},
    ),
    "configs/sweeps/epochs.py": (
        "configs/dialogpt_hard.py",
        {"sweep.field": ("", "student.epochs")},
    ),
    "configs/sweeps/eta.py": (
        "configs/kgsf_hard.py",
        {
            "sweep.field": ("", "distill.eta"),
            "sweep.over": ((), (0.02, 0.05, 0.1, 0.18, 0.3, 0.5, 0.6)),
        },
    ),
}


def read(name: str, argument: str = "") -> ConfigDict:
    spec = importlib.util.spec_from_file_location("a_config", ROOT / name)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_config(argument)


def with_field(field: str, value, argument: str = "mini") -> conkd.Config:
    return conkd.frozen(conkd.from_argument(argument)).replace({field: value})


def checked(name: str, argument: str = "") -> conkd.Config:
    return validate_config(conkd.frozen(read(name, argument)))


def differences(first: ConfigDict, second: ConfigDict) -> dict:
    """{dotted field: (value of the first, value of the second)} where they differ."""
    found = {}
    for field in conkd.field_names(first) | conkd.field_names(second):
        if field == "paper_row":  # it says which row of a table a config is, and changes no number
            continue
        values = []
        for node in (first, second):
            for key in field.split("."):
                node = node[key]
            values.append(node)
        if values[0] != values[1]:
            found[field] = tuple(values)
    return found


# --- single fields -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "field, value, expected",
    [
        ("paper_row", "KBRD 2", '"" or a row of the paper (ReDial, KBRD, '),
        ("distill.eta", 1.2, "a number from 0 to 1"),
        ("distill.eta", -0.1, "a number from 0 to 1"),
        ("distill.gamma", 2.0, "a number from 0 to 1"),
        ("distill.constant", -1.0, "a number from 0 to 1"),
        ("distill.gate", "medium", "hard, soft, constant, oracle, or package.module:function"),
        ("dialogue_teacher.dropout", 1.0, "a number from 0 to 0.99"),
        ("vocabulary.max_response_tokens", 0, "1 or more"),
        ("vocabulary.bpe_size", 100, "300 or more"),
        ("vocabulary.max_row_tokens", 60, "more than twice vocabulary.max_response_tokens (30)"),
        ("vocabulary.max_picks", -1, "0 or more"),
        ("decode.max_tokens", 0, "1 or more"),
        ("decode.strategy", "best", "one of greedy, sample, beam"),
        ("decode.temperature", 0.0, "a number from 0.01 to 100"),
        ("decode.temperature", 0.7, "1.0, since only decode.strategy = sample reads another value"),
        ("decode.top_p", 1.1, "a number from 0 to 1"),
        ("decode.beam_width", 8, "4, since only decode.strategy = beam reads another value"),
        ("decode.max_tokens", 511, "at most vocabulary.max_row_tokens - 2 (510)"),
        ("rec_teacher.cross_fit_folds", 1, "0 (off), or 2 or more"),
        ("rec_teacher.mim_epochs", 14, "less than rec_teacher.epochs (14)"),
        ("rec_teacher.norm", "median", "one of mean, sum"),
        ("rec_teacher.attention_init", "zeros", "one of xavier_normal, xavier_uniform"),
        ("rec_teacher.context_nodes", "movies", "one of entities, items"),
        ("rec_teacher.architecture", "tree", "one of graph, autorec"),
        ("dialogue_teacher.num_heads", 5, "a multiple of dialogue_teacher.num_heads (5)"),
        ("dialogue_teacher.num_heads", 0, "1 or more"),
        ("turn_classifier.num_heads", 3, "a multiple of turn_classifier.num_heads (3)"),
        ("dialogue_teacher.num_positions", 100, "at least vocabulary.max_row_tokens (512)"),
        ("dialogue_teacher.num_buckets", 0, "1 or more"),
        ("student.epochs", 0, "a number from 1 to 100000"),
        ("dialogue_teacher.epochs", 10**12, "a number from 1 to 100000"),
        ("dialogue_teacher.batch_rows", 10**10, "a number of at most 2,147,483,647"),
        ("artifacts_dir", "", "a folder"),
        ("runs_dir", " ", "a folder"),
        ("student.batch_rows", 0, "1 or more"),
        ("student.weighting", "words", "one of sample, token"),
        ("student.optimizer.schedule", "square", "one of cosine, linear, constant"),
        ("turn_classifier.optimizer.accumulate_steps", 0, "1 or more"),
        ("teacher_outputs.format", "sparse", "one of features, dense, topk"),
        ("teacher_outputs.top_k", 0, "1 or more"),
        ("teacher_outputs.num_shards", 0, "1 or more"),
        ("evaluation.split", "train", "one of dev, valid, test"),
        ("evaluation.max_responses", -1, "0 or more"),
        ("parallel.num_devices", -1, "0 or more"),
        ("parallel.kind", "fsdp", "one of pmap, mesh"),
        ("corpus.name", "imdb", "one of redial, opendialkg, movieworld, custom"),
        ("corpus.movieworld_num_movies", 3, "a number from 20 to 5000"),
        ("corpus.movieworld_num_dialogues", 3, "20 or more"),
        ("compute_dtype", "float16", "one of float32, bfloat16"),
        ("compute_dtype", "auto", "one of float32, bfloat16"),
        ("rng_impl", "dice", "one of unsafe_rbg, rbg, threefry2x32"),
        ("seed", -1, "a number from 0 to"),
        ("teacher_seed", 2**32, "a number from 0 to"),
        ("evaluation.bootstrap_resamples", 0, "1 or more"),
        ("student.optimizer.b1", 1.5, "a number from 0 to"),
        ("turn_classifier.optimizer.weight_decay", 0.1, "0 with adam"),
        ("checkpoint_every", -1, "0 or more"),
        ("rec_teacher.embed_dim", 0, "1 or more"),
        ("rec_teacher.max_context_concepts", -1, "1 or more"),
        ("rec_teacher.patience", -1, "0 or more"),
        ("rec_teacher.optimizer.learning_rate", -1.0, "0 or more"),
        ("student.optimizer.clip_norm", -1.0, "0 or more"),
        ("student.item_init_scale", float("inf"), "0 or more"),
        ("turn_classifier.max_context_tokens", 0, "1 or more"),
        ("dialogue_teacher.num_positions", 511, "at least vocabulary.max_row_tokens (512)"),
    ],
)
def test_a_bad_value_is_refused(field, value, expected):
    """The message names a field, what it may hold and what it holds."""
    with pytest.raises(conkd.ConfigError) as error:
        validate_config(with_field(field, value))
    message = str(error.value)
    assert f"expected {expected}" in message and f"config.{field.split('.')[0]}" in message
    assert "got" in message and message.count("config.") <= 2


def test_a_message_names_field_expected_and_got():
    with pytest.raises(conkd.ConfigError) as error:
        validate_config(with_field("distill.eta", 1.2))
    assert str(error.value) == "config.distill.eta: expected a number from 0 to 1, got 1.2"


def test_positions_hold_what_rows_are_padded_to():
    config = with_field("vocabulary.max_row_tokens", 500)
    validate_config(config.replace({"dialogue_teacher.num_positions": 512}))
    with pytest.raises(conkd.ConfigError, match=r"\(500\) rounded up to a multiple of 16, got 500"):
        validate_config(config.replace({"dialogue_teacher.num_positions": 500}))


def test_rows_hold_picks_beside_a_text():
    config = with_field("vocabulary.max_picks", 12)
    validate_config(config.replace({"vocabulary.max_row_tokens": 87}))
    with pytest.raises(
        conkd.ConfigError, match=r"twice .* \(30\) \+ .*max_picks \+ 1 \(13\), got 86"
    ):
        validate_config(config.replace({"vocabulary.max_row_tokens": 86}))
    with pytest.raises(conkd.ConfigError, match=r"max_row_tokens - 15 \(497\)"):
        validate_config(config.replace({"decode.max_tokens": 498}))


def test_every_broken_field_is_told_at_once():
    config = with_field("distill.eta", 1.2).replace({"distill.gamma": -1.0})
    with pytest.raises(conkd.ConfigError, match=r"config\.distill\.eta.*; config\.distill\.gamma"):
        validate_config(config)


def test_pretrained_weights_need_their_own_tokenizer():
    config = with_field("dialogue_teacher.weights", "some/model")
    with pytest.raises(conkd.ConfigError, match="config.vocabulary.tokenizer: .*'some/model'"):
        validate_config(config)


def test_validate_gives_the_config_back():
    config = conkd.frozen(conkd.from_argument("demo"))
    assert validate_config(config) is config


def test_a_backbone_is_held_to_its_own_fields():
    """GPT-2's rows bind no KGSF."""
    config = with_field("vocabulary.max_response_tokens", 300, "mini,backbone=kgsf")
    assert validate_config(config) is config
    with pytest.raises(conkd.ConfigError, match="config.vocabulary.max_row_tokens"):
        validate_config(with_field("vocabulary.max_response_tokens", 300))


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("rec_teacher.architecture", "graph", "autorec with backbone=redial"),
        ("parallel.remat", True, "False with backbone=redial"),
        ("redial.hidden_dim", 0, "1 or more"),
        ("redial.word_vectors", "glove", "one of word2vec, random"),
        ("sentiment.word_dim", 100, "redial.word_dim (128), as they share word vectors"),
        ("sentiment.max_utterance_tokens", 1, "2 or more"),
        ("sentiment.dropout", 1.0, "a number from 0 to 0.99"),
        ("sentiment.optimizer.schedule", "square", "one of cosine, linear, constant"),
        ("autorec.hidden_dim", 0, "1 or more"),
        ("autorec.epochs", 0, "a number from 1 to 100000"),
        ("rec_teacher.use_inferred_order", True, "False with rec_teacher.architecture=autorec"),
        ("student.item_init", "recommender", "title with backbone=redial, whose movies are scored"),
        ("dialogue_teacher.item_init", "recommender", "title with backbone=redial"),
    ],
)
def test_a_bad_value_of_redial_is_refused(field, value, expected):
    with pytest.raises(conkd.ConfigError) as error:
        validate_config(with_field(field, value, "mini,backbone=redial"))
    assert f"config.{field}: expected {expected}" in str(error.value)


def test_a_sentiment_model_that_is_not_trained_binds_nothing():
    config = with_field("autorec.use_sentiment", False, "mini,backbone=redial")
    validate_config(config.replace({"sentiment.epochs": 0, "sentiment.word_dim": 100}))


def test_what_autorec_alone_reads_binds_no_other_recommender():
    validate_config(with_field("autorec.hidden_dim", 0))
    with pytest.raises(conkd.ConfigError, match="graph with backbone=kgsf"):
        validate_config(with_field("rec_teacher.architecture", "autorec", "mini,backbone=kgsf"))


# --- devices -----------------------------------------------------------------------------------


@pytest.mark.parametrize("num_devices, accumulate", [(32, 1), (3, 1), (8, 4)])
def test_more_devices_than_rows_are_refused(num_devices, accumulate):
    config = conkd.frozen(conkd.from_argument("mini")).replace(  # 16 rows per batch
        {
            "dialogue_teacher.optimizer.accumulate_steps": accumulate,
            "rec_teacher.batch_size": 96,  # a multiple of every number of devices here
        }
    )
    unit = num_devices * accumulate
    with pytest.raises(conkd.ConfigError) as error:
        validate_devices(config, num_devices)
    message = str(error.value)
    assert f"config.dialogue_teacher.batch_rows: expected a multiple of {unit}" in message
    assert "got 16" in message
    advised = int(message.split("batch_rows=")[1].split(" ")[0])
    assert advised >= 16 and advised % unit == 0


def test_batches_that_fit_the_devices_pass():
    validate_devices(conkd.frozen(conkd.from_argument("mini")), 8)


# --- arguments and options ---------------------------------------------------------------------


@pytest.mark.parametrize("argument", ["tiny", "mini,demoo", "backbone=lstm", "mini,size=3", "="])
def test_unknown_arguments_are_refused(argument):
    with pytest.raises(conkd.ConfigError) as error:
        conkd.from_argument(argument)
    message = str(error.value)
    assert "is not known" in message and "paper, small, mini, demo" in message
    assert "--config=configs/dialogpt_hard.py:mini" in message


def test_arguments_name_preset_and_backbone():
    assert conkd.from_argument().preset == conkd.from_argument("").preset == "paper"
    assert conkd.from_argument("mini").preset == "mini"
    both = conkd.from_argument(" demo , backbone=dialogpt ")
    assert (both.preset, both.backbone) == ("demo", "dialogpt")


def test_an_argument_names_the_corpus():
    own, other = (conkd.from_argument(f"mini{of}") for of in ("", ",corpus=opendialkg"))
    assert differences(own, other) == {
        "corpus.name": ("redial", "opendialkg"),
        "corpus.graph_rule": ("kgsf", "all"),
    }
    assert not differences(own, conkd.from_argument("mini,corpus=redial"))
    kbrd = conkd.from_argument("backbone=kbrd,corpus=opendialkg")
    assert kbrd.corpus.graph_rule == "all"  # the corpus' rule, not the backbone's for ReDial


def test_the_generated_corpus_of_demo_is_not_another():
    with pytest.raises(conkd.ConfigError, match="expected corpus=… with paper, small, mini"):
        conkd.from_argument("demo,corpus=opendialkg")


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("configs/revcore.py", "config.corpus.reviews"),
        ("configs/redial.py", "config.rec_teacher.architecture: expected graph"),
    ],
)
def test_what_another_corpus_lacks_is_said(name, field):
    with pytest.raises(conkd.ConfigError, match=f"{field}.*corpus.name=opendialkg"):
        checked(name, "mini,corpus=opendialkg")


@pytest.mark.parametrize("name", ["kgsf_hard", "dialogpt_hard", "kbrd_hard", "recindial_hard"])
def test_rows_on_another_corpus_are_valid(name):
    assert checked(f"configs/{name}.py", "mini,corpus=opendialkg").corpus.name == "opendialkg"


@pytest.mark.parametrize("backbone", conkd.BACKBONES)
def test_small_is_mini_trained_for_longer(backbone):
    """Its recommender and classifier are mini's artifacts; both language models are its own."""
    small, mini = (
        conkd.from_argument(f"{preset},backbone={backbone}") for preset in ("small", "mini")
    )
    found = differences(small, mini)
    assert found.pop("preset") == ("small", "mini")
    epochs = mini.student.epochs
    assert found == {
        f"{part}.epochs": (SMALL_LENGTH * epochs, epochs)
        for part in ("dialogue_teacher", "student")
    }


def test_the_sweep_over_epochs_begins_with_the_preset_s():
    for preset, backbone in (("mini", "dialogpt"), ("mini", "kgsf"), ("small", "kgsf")):
        config = checked("configs/sweeps/epochs.py", f"{preset},backbone={backbone}")
        epochs = config.student.epochs
        assert config.sweep.over == (epochs, 2 * epochs, 4 * epochs, 8 * epochs)
        assert config.evaluation.split == "dev"


@pytest.mark.parametrize("field", ["distill.etta", "student.bacth_rows", "decod.max_tokens"])
def test_a_misspelt_option_is_corrected(monkeypatch, field):
    argv = ["train", f"--config={ROOT}/configs/dialogpt_hard.py:demo", f"--config.{field}=1"]
    monkeypatch.setattr(sys, "argv", argv)
    values = flags.FlagValues()
    config_flags.DEFINE_config_file("config", flag_values=values, lock_config=True)
    with pytest.raises((KeyError, AttributeError), match="Did you mean"):
        values(argv)


def test_a_config_file_can_t_invent_an_option():
    config = conkd.base()
    with pytest.raises((KeyError, AttributeError), match='Did you mean "gate"'):
        config.distill.gat = "soft"


# --- the typed form ------------------------------------------------------------------------------


def test_the_typed_form_has_every_option_of_the_mutable_one():
    config = conkd.from_argument("mini,backbone=kgsf")
    typed = conkd.frozen(config)
    assert conkd.field_names(typed) == conkd.field_names(config)
    assert typed.to_dict() == json.loads(config.to_json_best_effort())
    assert conkd.Config.from_dict(typed.to_dict()) == typed


@pytest.mark.parametrize(
    ("part", "field", "message"),
    [
        ("distill", "gamma", "config.distill.gamma: expected a value of type float, got None"),
        ("student", "optimizer", "config.student.optimizer: expected fields .*, got None"),
    ],
)
def test_none_is_no_value(part, field, message):
    """The mutable form takes None for any type."""
    config = conkd.base()
    config[part][field] = None
    with pytest.raises(conkd.ConfigError, match=message):
        conkd.frozen(config)


def test_a_path_may_begin_with_the_home_folder(monkeypatch):
    monkeypatch.setenv("HOME", "/users/me")
    config = conkd.base()
    config.corpus.raw_dir, config.artifacts_dir = "~/data", "~"
    typed = conkd.frozen(config)
    assert (typed.corpus.raw_dir, typed.artifacts_dir) == ("/users/me/data", "/users/me")
    assert typed.replace({"dialogue_teacher.weights": "~/gpt2"}).dialogue_teacher.weights == (
        "/users/me/gpt2"
    )


def test_an_option_of_the_typed_form_can_t_be_set():
    with pytest.raises(dataclasses.FrozenInstanceError):
        conkd.Config().distill.gamma = 0.2


def test_replace_checks_names_and_types():
    config = conkd.Config()
    assert config.replace({"distill.gamma": 1}).distill.gamma == 1.0
    with pytest.raises(conkd.ConfigError, match="config has no field 'distill.gama'"):
        config.replace({"distill.gama": 0.2})
    with pytest.raises(conkd.ConfigError, match="config.student.epochs: can't be 1.5"):
        config.replace({"student.epochs": 1.5})


def test_a_config_that_was_written_before_paper_row_is_read():
    options = conkd.Config().to_dict()
    del options["paper_row"]
    assert conkd.Config.from_dict(options) == conkd.Config()
    del options["seed"]
    with pytest.raises(conkd.ConfigError, match="it lacks seed"):
        conkd.Config.from_dict(options)


# --- the files in configs/ -----------------------------------------------------------------------


# Rows of ReDial alone: their demo, on MovieWorld, is refused.
NO_DEMO = "configs/ablations/inferred_order.py"
PRESETS_OF_CONFIGS = [
    (name, preset)
    for name in CONFIGS
    for preset in conkd.PRESETS
    if (name, preset) != (NO_DEMO, "demo")
]


@pytest.mark.parametrize("name, preset", PRESETS_OF_CONFIGS)
def test_every_config_is_valid(name, preset):
    config = checked(name, preset)
    validate_devices(config, 1)
    assert config.preset == preset


@pytest.mark.parametrize("name", CONFIGS)
def test_a_config_without_argument_is_the_paper_s(name):
    assert read(name) == read(name, "paper")


@pytest.mark.parametrize("preset", conkd.PRESETS)
@pytest.mark.parametrize("name", [name for name in CONFIGS if name.count("/") > 1])
def test_an_ablation_is_its_parent_but_for_its_fields(name, preset):
    assert name in ABLATIONS, f"name the parent of {name}, and what differs, in ABLATIONS"
    parent, changed = ABLATIONS[name]
    argument = preset
    if "/recommender_start/" in name:  # of either backbone by default, while the parents differ
        argument += ",backbone=dialogpt"
    before, after = read(parent, argument), read(name, argument)
    found = differences(before, after)
    changed = {
        field: (before.student.epochs, values[1]) if field == "student.epochs" else values
        for field, values in changed.items()
        # the students of MovieWorld have this start in every row
        if (field, preset) != ("student.item_init", "demo")
    }
    if name == "configs/sweeps/epochs.py":
        found.pop("sweep.over")  # multiples of the preset's, which another test checks
    if name.startswith("configs/sweeps/"):
        assert found.pop("evaluation.split")[1] == "dev"  # never chosen on what is reported
    assert found == changed


def test_conkd_is_distilled_into_the_row_kbrd():
    row, hard = read("configs/kbrd.py"), read("configs/kbrd_hard.py")
    assert differences(row, hard) == {"system": ("dialogue_teacher", "student")}


def test_rows_of_the_paper_differ_in_what_they_are_named_for():
    hard = read("configs/dialogpt_hard.py")
    soft = read("configs/dialogpt_soft.py")
    teacher = read("configs/dialogpt.py")
    assert differences(hard, soft) == {"distill.gate": ("hard", "soft")}
    assert differences(hard, teacher) == {"system": ("student", "dialogue_teacher")}
    hard, teacher = (read(f"configs/recindial{row}.py") for row in ("_hard", ""))
    assert differences(hard, teacher) == {
        "system": ("student", "dialogue_teacher"),
        "distill.eta": (0.0, 0.6),
    }
    hard, soft, teacher = (read(f"configs/kgsf{row}.py") for row in ("_hard", "_soft", ""))
    assert differences(hard, soft) == {"distill.gate": ("hard", "soft")}
    assert differences(hard, teacher) == {"system": ("student", "dialogue_teacher")}


@pytest.mark.parametrize(
    "name, preset", [pair for pair in PRESETS_OF_CONFIGS if "/ablations/" in pair[0]]
)
def test_an_ablation_of_either_backbone_is_valid(name, preset):
    for backbone in conkd.BACKBONES:
        config = checked(name, f"{preset},backbone={backbone}")
        assert config.backbone == backbone


@pytest.mark.parametrize("part", ["rec_teacher", "dialogue_teacher"])
def test_movieworld_has_no_dialogues_of_an_inferred_order(part):
    field = f"{part}.use_inferred_order"
    with pytest.raises(conkd.ConfigError, match=f"config.{field}: expected False, as only corpus"):
        validate_config(with_field(field, True, "demo"))
    assert validate_config(with_field(field, True, "mini"))
    with pytest.raises(conkd.ConfigError, match="inferred order"):
        checked(NO_DEMO, "demo")


def test_a_gate_that_is_registered_may_be_named(monkeypatch):
    monkeypatch.setitem(GATES, "square", lambda mass: mass**2)
    assert validate_config(with_field("distill.gate", "square")).distill.gate == "square"
    with pytest.raises(conkd.ConfigError, match="hard, soft, constant, oracle, square, or package"):
        validate_config(with_field("distill.gate", "cube"))
