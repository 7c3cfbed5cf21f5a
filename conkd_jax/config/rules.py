"""Checks of a config: single fields, combinations of fields, batches against devices.

`validate_config` reports all problems together, in one `ConfigError`, before anything compiles.
"""

from __future__ import annotations

import dataclasses

from conkd_jax.config.backbones import BACKBONES, KNOWN, is_backbone, options_of
from conkd_jax.config.fields import (
    Broken,
    Choices,
    Ranges,
    choices,
    of_part,
    ranges,
    sizes,
    transformer_shape,
    value_of,
)
from conkd_jax.config.options import (
    ARGUMENT_FIELDS,
    SYSTEMS,
    Config,
    ConfigError,
    field_names,
)
from conkd_jax.config.own_data_rules import own_data_rules
from conkd_jax.config.parts import (
    ItemInitConfig,
    LoRAConfig,
    SearchConfig,
    TeacherOutputsConfig,
)
from conkd_jax.config.recommender_rules import recommender_rules
from conkd_jax.distill.gates import GATES
from conkd_jax.eval.tables.paper import ROW_NAMES
from conkd_jax.models.compute import DTYPES

CHOICES: Choices = {
    "system": SYSTEMS,
    "corpus.name": ("redial", "opendialkg", "movieworld", "custom"),
    "corpus.graph_rule": ("kgsf", "kbrd", "all"),
    "vocabulary.item_vocabulary": ("full", "train"),
    "rec_teacher.norm": ("mean", "sum"),
    "rec_teacher.score_over": ("items", "entities"),
    "rec_teacher.context_nodes": ("entities", "items"),
    "rec_teacher.attention_init": ("xavier_normal", "xavier_uniform"),
    "rec_teacher.architecture": ("graph", "autorec"),
    "teacher_outputs.format": ("features", "dense", "topk"),
    "teacher_outputs.dtype": ("bfloat16", "float32"),
    "student.init": ("pretrained", "dialogue_teacher"),
    "decode.item_rule": ("argmax", "mass", "class"),
    "decode.strategy": ("greedy", "sample", "beam"),
    "evaluation.split": ("dev", "valid", "test"),
    "parallel.kind": ("pmap", "mesh"),
    "compute_dtype": DTYPES,
    "rng_impl": ("unsafe_rbg", "rbg", "threefry2x32"),
}
FOLDERS = ("artifacts_dir", "runs_dir")
# The parts with fields of `ItemInitConfig`.
HAVE_ITEM_INIT = ("dialogue_teacher", "student")
ITEM_INIT_CHOICES: Choices = {
    "item_init": ("title", "recommender"),
    "item_init_vectors": ("kernel", "kernel_and_bias"),
    "item_init_map": ("random", "pca", "least_squares"),
}
ITEM_INIT_RANGES: Ranges = {"item_init_scale": (0, None)}
# The parts with fields of `LoRAConfig`, and the backbones of this package that it is for.
HAVE_LORA = ("dialogue_teacher", "student")
LORA_BACKBONES = ("dialogpt", "llama")
LORA_RANGES: Ranges = {"lora_rank": (0, 256), "lora_alpha": (0.001, 10_000)}
SEEDS = (0, 2**32 - 1)
RANGES: Ranges = {
    "seed": SEEDS,
    "teacher_seed": SEEDS,
    "corpus.movieworld_seed": SEEDS,
    "corpus.movieworld_num_movies": (20, 5000),
    "corpus.movieworld_num_dialogues": (20, None),
    "corpus.min_relation_share": (0, 1),
    "vocabulary.bpe_size": (300, None),
    "vocabulary.max_response_tokens": (1, None),
    "vocabulary.max_picks": (0, None),
    "rec_teacher.embed_dim": (1, None),
    "rec_teacher.num_bases": (1, None),
    "rec_teacher.max_neighbors": (0, None),
    "rec_teacher.max_context_entities": (1, None),
    "rec_teacher.max_context_concepts": (1, None),
    "rec_teacher.user_dropout": (0, 0.99),
    "rec_teacher.context_dropout": (0, 0.99),
    "rec_teacher.mim_epochs": (0, None),
    "rec_teacher.mim_weight": (0, None),
    "rec_teacher.patience": (0, None),
    "rec_teacher.ema_decay": (0, 0.99999),
    "dialogue_teacher.dropout": (0, 0.99),
    "turn_classifier.dropout": (0, 0.99),
    "turn_classifier.mlp_dim": (1, None),
    "turn_classifier.max_context_tokens": (1, None),
    "turn_classifier.patience": (0, None),
    "teacher_outputs.num_shards": (1, None),
    "teacher_outputs.batch_rows": (1, None),
    "teacher_outputs.top_k": (1, None),
    "distill.eta": (0, 1),
    "distill.constant": (0, 1),
    "distill.gamma": (0, 1),
    "distill.chunk_size": (1, None),
    "decode.max_tokens": (1, None),
    "decode.item_offset": (-100, 100),
    "decode.temperature": (0.01, 100),
    "decode.top_p": (0, 1),
    "decode.seed": SEEDS,
    "decode.beam_width": (1, 100),
    "decode.length_penalty": (0, 10),
    "decode.batch_size": (1, None),
    "evaluation.max_responses": (0, None),
    "evaluation.num_samples": (0, None),
    "evaluation.bootstrap_resamples": (1, None),
    "parallel.num_devices": (0, None),
    "checkpoint_every": (0, None),
}

# The parts of the config that describe a training, and the limits of the fields they share.
TRAINED = ("rec_teacher", "dialogue_teacher", "turn_classifier", "student")
TRAINED_CHOICES: Choices = {
    "weighting": ("sample", "token"),
    "optimizer.name": ("adamw", "adam"),
    "optimizer.schedule": ("cosine", "linear", "constant"),
}
TRAINED_RANGES: Ranges = {
    "epochs": (1, 100_000),
    "batch_rows": (1, None),
    "batch_size": (1, None),
    "num_buckets": (1, None),
    "optimizer.accumulate_steps": (1, None),
    "optimizer.learning_rate": (0, None),
    "optimizer.warmup_steps": (0, None),
    "optimizer.b1": (0, 0.999999),
    "optimizer.b2": (0, 0.999999),
    "optimizer.eps": (0, None),
    "optimizer.weight_decay": (0, None),
    "optimizer.clip_norm": (0, None),
}

# The strategy of decoding that reads a field.
OF_STRATEGY = {
    "temperature": "sample",
    "top_p": "sample",
    "seed": "sample",
    "beam_width": "beam",
    "length_penalty": "beam",
}


def trained_parts(config: Config) -> tuple[str, ...]:
    """The parts of a config that describe a training.

    Those of AutoRec and of the sentiment model only where they are used.
    """
    if config.rec_teacher.architecture != "autorec":
        return TRAINED
    return (
        (*TRAINED, "sentiment", "autorec")
        if config.autorec.use_sentiment
        else (*TRAINED, "autorec")
    )


def validate_config(config: Config) -> Config:
    """Checks single fields and combinations of fields; returns the config.

    Raises:
      ConfigError: lists every invalid field with the expected and the actual value, or says why a
        backbone of the user's own can't be used.
    """
    broken = [*choices(config, CHOICES), *ranges(config, RANGES), *_across_fields(config)]
    broken += sizes(config, [field for field, limits in RANGES.items() if limits == SEEDS])
    broken += [(name, "a folder") for name in FOLDERS if not getattr(config, name).strip()]
    for part in trained_parts(config):
        broken += choices(config, of_part(config, part, TRAINED_CHOICES))
        broken += ranges(config, of_part(config, part, TRAINED_RANGES))
        optimizer = getattr(config, part).optimizer
        if optimizer.name == "adam" and optimizer.weight_decay:
            broken += [(f"{part}.optimizer.weight_decay", "0 with adam, or adamw as the optimizer")]
    for part in HAVE_ITEM_INIT:
        broken += choices(config, of_part(config, part, ITEM_INIT_CHOICES))
        broken += ranges(config, of_part(config, part, ITEM_INIT_RANGES))
        broken += _item_init(config, part)
    for part in HAVE_LORA:
        broken += ranges(config, of_part(config, part, LORA_RANGES))
        broken += _lora(config, part)
    broken += transformer_shape(config, "turn_classifier")
    if is_backbone(config.backbone):
        broken += options_of(config.backbone).check(config)
    else:
        broken += [("backbone", KNOWN)]
    if broken:
        raise ConfigError(
            "; ".join(
                f"config.{field}: expected {expected}, got {value_of(config, field)!r}"
                for field, expected in broken
            )
        )
    return config


def runs_of_sweep(config: Config) -> dict[str, Config]:
    """The runs of a sweep, checked, by label ("eta=0.3"); without a sweep, {"": config}.

    Raises:
      ConfigError: one of the values is invalid for the swept field.
    """
    field = config.sweep.field
    if not field:
        return {"": config}
    found = {}
    for value in config.sweep.over:
        try:
            single = config.replace({field: value, "sweep.field": "", "sweep.over": ()})
        except ConfigError as error:
            raise ConfigError(
                f"config.sweep.over: {value!r} is not a value of {field}: {error}"
            ) from error
        found[f"{field.rsplit('.', 1)[-1]}={value}"] = validate_config(single)
    return found


def validate_devices(config: Config, num_devices: int) -> None:
    """Checks that every batch can be split over the devices.

    Raises:
      ConfigError: names the field, the devices and the next larger size that fits.
    """
    for name in trained_parts(config):
        part = getattr(config, name)
        field = "batch_rows" if hasattr(part, "batch_rows") else "batch_size"
        batch = getattr(part, field)
        unit = num_devices * part.optimizer.accumulate_steps
        if batch % unit:
            raise ConfigError(
                f"config.{name}.{field}: expected a multiple of {unit} ({num_devices} devices x "
                f"{part.optimizer.accumulate_steps} micro-batches), got {batch}. Use "
                f"--config.{name}.{field}={-(-batch // unit) * unit} or fewer devices "
                "(--config.parallel.num_devices)"
            )


# --- checks ----------------------------------------------------------------------------------


def _across_fields(config: Config) -> Broken:
    rec_teacher, gate = config.rec_teacher, config.distill.gate
    if rec_teacher.cross_fit_folds != 0 and rec_teacher.cross_fit_folds < 2:
        yield "rec_teacher.cross_fit_folds", "0 (off), or 2 or more"
    if rec_teacher.mim_epochs >= rec_teacher.epochs:
        limit = f"less than rec_teacher.epochs ({rec_teacher.epochs}), which include them"
        yield "rec_teacher.mim_epochs", limit
    for field in ("mim_epochs", "mim_weight"):
        if getattr(rec_teacher, field) and not rec_teacher.use_concepts:
            why = "rec_teacher.use_concepts = False, as MIM compares concepts with entities"
            yield f"rec_teacher.{field}", f"0 with {why}"
    for part in ("rec_teacher", "dialogue_teacher"):
        if getattr(config, part).use_inferred_order and config.corpus.name != "redial":
            why = "as only corpus.name=redial has dialogues with an inferred order"
            yield f"{part}.use_inferred_order", f"False, {why}"
    yield from recommender_rules(config)
    yield from own_data_rules(config)
    for field, strategy in OF_STRATEGY.items():
        default = getattr(SearchConfig(), field)
        if config.decode.strategy != strategy and getattr(config.decode, field) != default:
            why = f"only decode.strategy = {strategy} reads another value"
            yield f"decode.{field}", f"{default}, since {why} (it is {config.decode.strategy})"
    outputs, kept = config.teacher_outputs, TeacherOutputsConfig().top_k
    if outputs.format != "topk" and outputs.top_k != kept:
        why = "since only teacher_outputs.format = topk reads another value"
        yield "teacher_outputs.top_k", f"{kept}, {why} (it is {outputs.format})"
    if config.paper_row not in ("", *ROW_NAMES):
        yield "paper_row", f'"" or a row of the paper ({", ".join(ROW_NAMES)})'
    if gate not in GATES and ":" not in gate:
        yield "distill.gate", f"{', '.join(GATES)}, or package.module:function"
    swept, over = config.sweep.field, config.sweep.over
    if swept and (swept not in field_names(config) or swept in ARGUMENT_FIELDS):
        yield "sweep.field", f"the dotted name of a field other than {' or '.join(ARGUMENT_FIELDS)}"
    is_plain = all(isinstance(value, (bool, int, float, str)) for value in over)
    if swept and not (is_plain and 0 < len(over) == len(set(over))):
        yield "sweep.over", "one or more distinct values, each a number or a text"


def _item_init(config: Config, part: str) -> Broken:
    given = getattr(config, part)
    if given.item_init == "title":
        for field, default in dataclasses.asdict(ItemInitConfig()).items():
            if getattr(given, field) != default:
                why = f"no effect with {part}.item_init = title, which has no vectors"
                yield f"{part}.{field}", f"{default}, since another value has {why}"
    elif part == "student" and given.init == "dialogue_teacher":
        why = "student.init = dialogue_teacher, whose item rows are trained already"
        use = "dialogue_teacher.item_init starts those from the recommender"
        yield "student.item_init", f"title with {why} ({use})"


def _lora(config: Config, part: str) -> Broken:
    given, default = getattr(config, part), LoRAConfig()
    if given.lora_rank == 0:
        if given.lora_alpha != default.lora_alpha:
            why = f"as {part}.lora_rank = 0 trains all parameters, without α"
            yield f"{part}.lora_alpha", f"{default.lora_alpha}, {why}"
        return
    if config.backbone in BACKBONES and config.backbone not in LORA_BACKBONES:
        known = " and ".join(LORA_BACKBONES)
        yield f"{part}.lora_rank", f"0 with the backbone {config.backbone}, as LoRA is for {known}"
        return
    continues = part == "student" and given.init == "dialogue_teacher"
    if config.dialogue_teacher.weights == "random" and not continues:
        why = "which would stay random but for changes of a low rank"
        yield f"{part}.lora_rank", f"0 with dialogue_teacher.weights = random, {why}"
