"""Every option of the program, defined once: its name, type, default and meaning.

The dataclasses below hold the paper's setting. The program reads a `Config`, which is frozen and
typed. A config file edits a mutable `ml_collections.ConfigDict` of the same fields (`base`), since
`--config.PART.FIELD=VALUE` needs one; `frozen` converts it to a `Config`.

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

from conkd_jax.errors import UserError

ARGUMENT_FIELDS = ("preset", "backbone")  # they determine other defaults, see from_argument
PRESETS = ("paper", "mini", "demo")
BACKBONES = ("dialogpt", "kgsf")
# Fields that runs of earlier versions lack. Their defaults must mean what those versions did.
ADDED_FIELDS = frozenset({"decode.item_offset", "paper_row", "student.item_init"})
SYSTEMS = ("dialogue_teacher", "student")


class ConfigError(UserError, ValueError):
    """An option, or a combination of options, that can't work."""


# --- the parts -----------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """An optimizer, as `conkd_jax.optimizers` builds it from optax transforms."""

    learning_rate: float  # the peak, after warm-up
    name: str = "adamw"  # adamw | adam
    schedule: str = "cosine"  # cosine | linear (both decay to 0) | constant
    warmup_steps: int = 100  # linear, up to the peak
    b1: float = 0.9
    b2: float = 0.98
    eps: float = 1e-8
    weight_decay: float = 0.01  # decoupled; not applied to biases and layer norms
    clip_norm: float = 1.0  # global norm, after the sum over devices; 0 = off
    accumulate_steps: int = 1  # micro-batches that a step's batch is split into


@dataclasses.dataclass(frozen=True)
class CorpusConfig:
    """Dialogues and graphs."""

    name: str = "redial"  # redial | movieworld (synthetic, generated)
    raw_dir: str = ""  # folder of the raw ReDial and graph files; empty = $CONKD_RAW_DIR
    graph_rule: str = "kgsf"  # relations kept: kgsf (46 of ReDial's 214) | kbrd (35) | all
    movieworld_seed: int = 0  # seed of the synthetic movies, people, tastes and dialogues
    movieworld_num_movies: int = 120
    movieworld_num_dialogues: int = 500  # over all splits


@dataclasses.dataclass(frozen=True)
class VocabularyConfig:
    """Words, items, and the lengths that dialogues are cut to."""

    tokenizer: str = "microsoft/DialoGPT-small"  # hub name, local folder, or "train"; for kgsf
    # "train" or the path of KGSF's word2index_redial.json
    bpe_size: int = 4096  # dialogpt: |V| when the BPE is trained on the corpus
    min_word_count: int = 1  # kgsf: a word seen less often becomes <unk>
    item_vocabulary: str = "full"  # full (all movies) | train (those mentioned in the train split)
    max_row_tokens: int = 512  # dialogpt: a row is a dialogue, or a piece of a longer one
    max_context_turns: int = 5  # kgsf: number of last turns that the encoder reads
    max_context_tokens: int = 256  # kgsf: number of last tokens of those turns
    max_response_tokens: int = 30  # longest T; longer responses are cut off


@dataclasses.dataclass(frozen=True)
class RecommenderConfig:
    """The recommendation teacher: KGSF's recommender and its training."""

    embed_dim: int = 128
    num_bases: int = 8  # basis matrices of the R-GCN's basis decomposition
    norm: str = "mean"  # Z_{e,r} of eq. 2: mean (number of r-neighbours) | sum (1)
    gcn_relu: bool = False  # the ReLU of eq. 13; the public code has none
    score_over: str = "items"  # softmax of eq. 4 over: items | entities
    max_context_entities: int = 50  # the last distinct ones in the whole history
    max_context_concepts: int = 48  # the same
    user_dropout: float = 0.4  # on the user vector p_u
    context_dropout: float = 0.3  # probability that a context entity or concept is dropped
    mim_epochs: int = 3  # first epochs, trained by mutual information maximisation (MIM) alone
    mim_weight: float = 0.025  # weight of the MIM loss afterwards
    epochs: int = 20  # at most; includes those of MIM
    patience: int = 3  # epochs without a better dev cross-entropy, at least mim_epochs + 1; 0 = off
    ema_decay: float = 0.98  # moving average of the weights, which is scored and kept; 0 = off
    batch_size: int = 512  # pairs (turn, movie)
    use_inferred_order: bool = False  # also train on train_inferred_order.jsonl
    optimizer: OptimizerConfig = OptimizerConfig(
        3e-3, name="adam", schedule="constant", warmup_steps=0, b2=0.999, weight_decay=0.0
    )


@dataclasses.dataclass(frozen=True)
class RecTeacherConfig(RecommenderConfig):
    """The recommendation teacher, and how it labels the training responses."""

    cross_fit_folds: int = 0  # K > 1: split train into K parts; each is labelled by a recommender
    # trained on the others. 0 = off


@dataclasses.dataclass(frozen=True)
class LanguageModelTraining:
    """The training of a language model, teacher or student."""

    epochs: int = 20
    batch_rows: int = 8  # dialogpt: dialogues, about 43 responses (the paper's batch is 32);
    # kgsf: responses
    num_buckets: int = 12  # lengths that rows are padded to; with 12, padding is below 10 %
    weighting: str = "sample"  # sample (1/T per response, eqs. 8-9) | token
    optimizer: OptimizerConfig = OptimizerConfig(1e-3)


@dataclasses.dataclass(frozen=True)
class DialogueTeacherConfig(LanguageModelTraining):
    """The dialogue teacher, and the shape of DialoGPT in teacher and student."""

    weights: str = "microsoft/DialoGPT-small"  # hub name, local folder, or "random"
    num_layers: int = 12  # the shape is used with random weights only; for kgsf, see config.kgsf
    embed_dim: int = 768
    num_heads: int = 12
    num_positions: int = 1024
    dropout: float = 0.1


@dataclasses.dataclass(frozen=True)
class KGSFConfig:
    """The shape of KGSF's dialogue model in teacher and student."""

    num_layers: int = 2  # in encoder and decoder each
    embed_dim: int = 300
    num_heads: int = 2
    mlp_dim: int = 300
    dropout: float = 0.1
    word_vectors: str = "word2vec"  # word2vec (trained on the corpus) | random


@dataclasses.dataclass(frozen=True)
class TurnClassifierConfig:
    """The classifier that predicts [REC] or [GEN] from the history (eq. 12)."""

    num_layers: int = 2
    num_heads: int = 2
    embed_dim: int = 300
    mlp_dim: int = 300
    dropout: float = 0.1
    max_context_tokens: int = 256
    epochs: int = 5
    patience: int = 2
    batch_size: int = 32
    num_buckets: int = 4
    optimizer: OptimizerConfig = OptimizerConfig(
        1e-3, name="adam", warmup_steps=0, weight_decay=0.0
    )


@dataclasses.dataclass(frozen=True)
class TeacherOutputsConfig:
    """The teacher store."""

    format: str = "features"  # features (the teacher is head(features)) | dense (its logits)
    dtype: str = "bfloat16"  # of features or logits; λ and the log-normaliser are float32
    num_shards: int = 8  # independent of the number of hosts
    batch_rows: int = 16


@dataclasses.dataclass(frozen=True)
class DistillConfig:
    """The gate and the gated distillation loss."""

    gate: str = "hard"  # hard (eq. 6) | soft (eq. 7) | constant | package.module:function
    eta: float = 0.6  # the hard gate's threshold on the item mass; 0 = fitted to the dev split
    # (best F1 on item steps)
    constant: float = 0.5  # λ of the constant gate
    gamma: float = 0.4  # weight of distillation in eq. 10; the label has weight 1 - γ
    chunk_size: int = 256  # response tokens at a time in the fused head


@dataclasses.dataclass(frozen=True)
class StudentTraining(LanguageModelTraining):
    """The training of the student, and its form."""

    init: str = "pretrained"  # pretrained (as the dialogue teacher starts) | dialogue_teacher
    turn_tags: bool = True  # every recommender turn starts with [REC] or [GEN]


@dataclasses.dataclass(frozen=True)
class StudentConfig(StudentTraining):
    """The student."""

    item_init: str = "title"  # where item rows start: title (as the backbone starts them) |
    # recommender (the same plus the recommender's item vectors; not in the paper)


@dataclasses.dataclass(frozen=True)
class DecodingRules:
    """What a response may contain."""

    item_rule: str = "argmax"  # argmax | mass (best item whenever the item mass exceeds .5)
    allow_mentioned_items: bool = True  # False: no item that the dialogue mentioned before
    allow_repeated_items: bool = True  # False: no item twice in a response
    max_tokens: int = 30


@dataclasses.dataclass(frozen=True)
class DecodeConfig(DecodingRules):
    """How responses are generated."""

    item_offset: float = 0.0  # added to the logit of every item: above 0, more items are named
    batch_size: int = 64


@dataclasses.dataclass(frozen=True)
class EvaluationConfig:
    """What is scored."""

    split: str = "test"  # dev | valid | test
    max_responses: int = 0  # 0 = all
    num_samples: int = 12  # responses shown in samples.md
    bootstrap_resamples: int = 1000


@dataclasses.dataclass(frozen=True)
class SweepConfig:
    """A sweep: one run for each value of a field, then a table and a figure."""

    field: str = ""  # a dotted field, for example "distill.eta"; empty = a single run
    over: tuple[Any, ...] = ()


@dataclasses.dataclass(frozen=True)
class ParallelConfig:
    """Devices."""

    kind: str = "pmap"  # pmap (parameters replicated, batch split)
    num_devices: int = 0  # 0 = all


@dataclasses.dataclass(frozen=True)
class Config:
    """All options; the defaults are the paper's setting: ReDial, DialoGPT-small."""

    preset: str = "paper"  # paper | mini | demo; set after the colon of --config
    backbone: str = "dialogpt"  # language model of dialogue teacher and student: dialogpt | kgsf;
    # set after the colon of --config
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
    kgsf: KGSFConfig = KGSFConfig()
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

    def to_dict(self) -> dict[str, Any]:
        """All options as plain JSON, as in a run's `config.json`."""
        return json.loads(json.dumps(dataclasses.asdict(self)))

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
        ours, theirs = _flat(self.to_dict()), _flat(other.to_dict())
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


def field_names(config: ConfigDict | Any) -> set[str]:
    """The dotted names of all fields of a config or of a part of it."""
    if not isinstance(config, ConfigDict):
        config = ConfigDict(dataclasses.asdict(config))
    names = set()
    for key, value in config.items():
        inside = field_names(value) if isinstance(value, ConfigDict) else {""}
        names |= {f"{key}.{name}".rstrip(".") for name in inside}
    return names


def _flat(options: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Values by dotted name."""
    found: dict[str, Any] = {}
    for name, value in options.items():
        is_part = isinstance(value, Mapping)
        found |= _flat(value, f"{prefix}{name}.") if is_part else {prefix + name: value}
    return found
