"""All options of the program: a typed config, and the mutable form that config files edit.

`Config` holds the options of a run and, by part, those of its stages (`parts`); the defaults are
the paper's setting. The program reads a `Config`, which is frozen and typed. A config file edits a
mutable `ml_collections.ConfigDict` of the same fields (`base`), since `--config.PART.FIELD=VALUE`
needs one; `frozen` converts it to a `Config`.

This module imports no model and no array library, so that a config can be read anywhere.
"""

from __future__ import annotations

import dataclasses
import json
import os
import typing
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from conkd_jax.config.parts import (
    AutoRecConfig,
    CorpusConfig,
    DecodeConfig,
    DialogueTeacherConfig,
    DistillConfig,
    EvaluationConfig,
    KBRDConfig,
    KGSFConfig,
    LlamaConfig,
    LoRAConfig,
    ParallelConfig,
    RecTeacherConfig,
    ReDialConfig,
    RevCoreConfig,
    SearchConfig,
    SentimentConfig,
    StudentConfig,
    SweepConfig,
    TeacherOutputsConfig,
    TurnClassifierConfig,
    VocabularyConfig,
)
from conkd_jax.errors import UserError

ARGUMENT_FIELDS = ("preset", "backbone")  # they determine other defaults, see from_argument
PRESETS = ("paper", "small", "mini", "demo")


def field_names(config: ConfigDict | Any) -> set[str]:
    """The dotted names of all fields of a config or of a part of it."""
    if not isinstance(config, ConfigDict):
        config = ConfigDict(dataclasses.asdict(config))
    names = set()
    for key, value in config.items():
        inside = field_names(value) if isinstance(value, ConfigDict) else {""}
        names |= {f"{key}.{name}".rstrip(".") for name in inside}
    return names


# Fields that runs of earlier versions lack. Their defaults must mean what those versions did.
ADDED_FIELDS = frozenset(
    {
        "compute_dtype",
        "corpus.min_relation_share",
        "corpus.reviews",
        "decode.item_offset",
        *(f"decode.{name}" for name in field_names(SearchConfig())),
        "dialogue_teacher.use_inferred_order",
        "distill.mask_mentioned",
        "paper_row",
        "parallel.remat",
        "teacher_outputs.top_k",
        *(
            f"{part}.item_init{of}"
            for part in ("dialogue_teacher", "student")
            for of in ("", "_vectors", "_map", "_scale")
        ),
        *(
            f"rec_teacher.{of}"
            for of in (
                *("architecture", "use_concepts", "use_reviews", "context_nodes"),
                *("distinct_targets", "attention_init", "max_neighbors"),
            )
        ),
        *(
            f"{part}.{name}"
            for part in ("dialogue_teacher", "student")
            for name in field_names(LoRAConfig())
        ),
        "vocabulary.max_picks",
        "vocabulary.lower_case",
        *(
            f"{part}.{name}"
            for part, added in (
                ("kbrd", KBRDConfig()),
                ("revcore", RevCoreConfig()),
                ("redial", ReDialConfig()),
                ("sentiment", SentimentConfig()),
                ("autorec", AutoRecConfig()),
                ("llama", LlamaConfig()),
            )
            for name in field_names(added)
        ),
    }
)
SYSTEMS = ("dialogue_teacher", "student")


class ConfigError(UserError, ValueError):
    """An option, or a combination of options, that can't work."""


@dataclasses.dataclass(frozen=True)
class Config:
    """All options; the defaults are the paper's setting: ReDial, DialoGPT-small."""

    preset: str = "paper"  # paper | small | mini | demo; set after the colon of --config
    backbone: str = "dialogpt"  # language model of dialogue teacher and student: dialogpt | kgsf |
    # kbrd | llama | recindial | redial | revcore | package.module:name (your own); it is applied
    # before all other fields, also when it is given as --config.backbone
    system: str = "student"  # what is scored: student (ConKD) | dialogue_teacher (no distillation)
    paper_row: str = ""  # the row of the paper's tables to compare with; empty = none
    seed: int = 0  # of the student: initialisation, dropout, order of batches
    teacher_seed: int = 0  # of teachers and turn classifier; students of all seeds share them
    artifacts_dir: str = "artifacts"  # outputs of the stages, shared by all runs; may be gs://…
    runs_dir: str = "runs"  # results, one folder per run
    corpus: CorpusConfig = CorpusConfig()
    vocabulary: VocabularyConfig = VocabularyConfig()
    rec_teacher: RecTeacherConfig = RecTeacherConfig()
    dialogue_teacher: DialogueTeacherConfig = DialogueTeacherConfig()
    llama: LlamaConfig = LlamaConfig()
    kgsf: KGSFConfig = KGSFConfig()
    revcore: RevCoreConfig = RevCoreConfig()
    kbrd: KBRDConfig = KBRDConfig()
    redial: ReDialConfig = ReDialConfig()
    sentiment: SentimentConfig = SentimentConfig()
    autorec: AutoRecConfig = AutoRecConfig()
    turn_classifier: TurnClassifierConfig = TurnClassifierConfig()
    teacher_outputs: TeacherOutputsConfig = TeacherOutputsConfig()
    distill: DistillConfig = DistillConfig()
    student: StudentConfig = StudentConfig()
    decode: DecodeConfig = DecodeConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    sweep: SweepConfig = SweepConfig()
    parallel: ParallelConfig = ParallelConfig()
    checkpoint_every: int = 200  # steps
    rng_impl: str = "unsafe_rbg"  # generator of the dropout keys; threefry2x32 is slower, portable
    compute_dtype: str = "float32"  # type of all models' products in training, and of those of
    # language models and turn classifier in scoring and decoding: float32 | bfloat16, for GPUs and
    # TPUs. Parameters, optimizer, softmaxes, layer norms, sums over edges and of the loss stay
    # float32. It changes results, so it is never chosen by the device

    def to_dict(self) -> dict[str, Any]:
        """All options as plain JSON, as in a run's `config.json`."""
        return json.loads(json.dumps(dataclasses.asdict(self)))

    def flat(self) -> dict[str, Any]:
        """All options by dotted name."""
        return _flat(self.to_dict())

    @classmethod
    def from_dict(cls, options: Mapping[str, Any]) -> Config:
        """Reads the result of `to_dict`; the fields in `ADDED_FIELDS` may be missing.

        Raises:
          ConfigError: an option is missing, unknown, or of another type.
        """
        config = base()
        missing = field_names(config) - field_names(ConfigDict(options)) - ADDED_FIELDS
        if missing:
            raise ConfigError(f"it lacks {', '.join(sorted(missing))}")
        try:
            config.update(options)
        except (KeyError, AttributeError, TypeError, ValueError) as error:
            raise ConfigError(str(error)) from error
        return frozen(config)

    def differences(self, other: Config) -> dict[str, Any]:
        """The fields that differ from another config, by dotted name, with this config's values."""
        ours, theirs = self.flat(), other.flat()
        return {name: value for name, value in ours.items() if value != theirs[name]}

    def replace(self, fields: Mapping[str, Any]) -> Config:
        """Returns a copy with other values, with types checked as on the command line.

        Args:
          fields: values by dotted names, for example {"distill.gamma": 0.2}.

        Raises:
          ConfigError: there is no such field, or the value has another type.
        """
        editable = ConfigDict(dataclasses.asdict(self)).lock()
        for field, value in fields.items():
            try:
                editable.update_from_flattened_dict({field: value})
            except (KeyError, AttributeError) as error:
                raise ConfigError(f"config has no field {field!r}") from error
            except (TypeError, ValueError) as error:
                raise ConfigError(f"config.{field}: can't be {value!r}: {error}") from None
        return frozen(editable)


# --- the mutable form ----------------------------------------------------------------------------


def base() -> ConfigDict:
    """The paper's setting as a mutable config; locked, so that a misspelt field fails."""
    return ConfigDict(dataclasses.asdict(Config())).lock()


def frozen(config: ConfigDict) -> Config:
    """The typed, immutable form of a config; a "~" that begins a path is the home folder.

    Raises:
      ConfigError: a field is missing, unknown, or None.
    """
    return _typed(Config, config, "config")


def _typed(kind: type[Any], values: Any, where: str) -> Any:
    hints = typing.get_type_hints(kind)
    if not isinstance(values, ConfigDict):
        raise ConfigError(f"{where}: expected fields {', '.join(hints)}, got {values!r}")
    if clash := sorted(hints.keys() ^ set(values.keys())):
        raise ConfigError(f"{where}: missing or unknown fields: {', '.join(clash)}")
    parts = {name: values[name] for name in hints}
    for name, hint in hints.items():
        if dataclasses.is_dataclass(hint):
            parts[name] = _typed(typing.cast(type, hint), parts[name], f"{where}.{name}")
        elif isinstance(parts[name], str):  # of a path
            parts[name] = os.path.expanduser(parts[name])
        elif parts[name] is None:  # the one value that ConfigDict takes for any type
            expected = getattr(hint, "__name__", hint)
            raise ConfigError(f"{where}.{name}: expected a value of type {expected}, got None")
    return kind(**parts)


def _flat(options: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Values by dotted name."""
    found: dict[str, Any] = {}
    for name, value in options.items():
        is_part = isinstance(value, Mapping)
        found |= _flat(value, f"{prefix}{name}.") if is_part else {prefix + name: value}
    return found
