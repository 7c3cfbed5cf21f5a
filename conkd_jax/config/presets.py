"""Presets: the settings behind `--config=FILE.py:PRESET[,backbone=NAME][,corpus=NAME]`.

A file in `configs/` defines one row of a results table. It calls `from_argument` with the text
after the colon and changes the few fields that define its row. Presets differ in data, model sizes
and training lengths, not in the method. What a backbone sets in each of them is in its own module
(`config/backbones/`).
"""

from __future__ import annotations

import importlib.util
import os

from ml_collections import ConfigDict

from conkd_jax.config.backbones import BACKBONES, is_backbone, options_of
from conkd_jax.config.files import importable, names_like, resolved
from conkd_jax.config.options import PRESETS, ConfigError, base


def from_argument(argument: str | None = None, backbone: str = "dialogpt") -> ConfigDict:
    """The config of `PRESET[,backbone=NAME][,corpus=NAME]`; by default the paper's.

    Args:
      argument: the text after the colon of --config=FILE.py:…
      backbone: the config file's default backbone, by its name or as "package.module:name".

    Raises:
      ConfigError: the preset, the backbone, the corpus or a key is unknown, a backbone of the
        user's own can't be found, or a corpus is given for `:demo`.
    """
    config, corpus = base(), ""
    config.backbone = backbone
    words = [word.strip() for word in (argument or "").split(",") if word.strip()]
    for word in words:
        key, _, value = word.partition("=")
        if not value and key in PRESETS:
            config.preset = key
        elif key == "backbone" and is_backbone(value):
            config.backbone = value
        elif key == "corpus" and value in CORPUS_PRESETS:
            corpus = value
        else:
            raise ConfigError(
                f"--config=FILE.py:{argument}: {word!r} is not known. Expected one of "
                f"{', '.join(PRESETS)} and, optionally, backbone={'|'.join(BACKBONES)} or one of "
                f"your own, backbone=package.module:name, and corpus={'|'.join(CORPUS_PRESETS)}, "
                "for example --config=configs/dialogpt_hard.py:mini"
            )
    {"paper": _paper, "small": _mini, "mini": _mini, "demo": _demo}[config.preset](config)
    options_of(config.backbone).presets(config)
    if config.preset == "small":
        _small(config)
    if corpus and config.preset == "demo":
        raise ConfigError(
            f"--config=FILE.py:{argument}: expected corpus=… with {', '.join(PRESETS[:-1])}, as "
            "demo is about a corpus of its own, which is generated"
        )
    if corpus:
        CORPUS_PRESETS[corpus](config)
    return config


def load_config_file(filename: str) -> ConfigDict:
    """The config that a file makes, before any override.

    Args:
      filename: path or name of a config file and, after a colon, its argument, as --config has it.

    Raises:
      ConfigError: there is no such file, or its argument is not known.
    """
    path, _, argument = resolved(filename).partition(":")
    spec = importlib.util.spec_from_file_location("config_file", path)
    if spec is None or spec.loader is None or not os.path.isfile(path):
        raise ConfigError(
            f"--config={filename}: expected a config file, found none. {names_like(filename)}"
        )
    module = importlib.util.module_from_spec(spec)
    with importable(path):
        spec.loader.exec_module(module)
        return module.get_config(argument)


# --- presets -------------------------------------------------------------------------------------


def _paper(c: ConfigDict) -> None:
    """Changes nothing: the dataclasses' defaults are this preset's."""


def _mini(c: ConfigDict) -> None:
    """ReDial from local files, small models from scratch: one to two hours on two CPU cores."""
    c.vocabulary.tokenizer = "train"
    c.rec_teacher.epochs = 14
    for part in (c.dialogue_teacher, c.student):
        part.epochs = 8
        part.batch_rows = 16
        part.num_buckets = 6  # more pad less, but on a CPU save little beyond what they compile
        part.optimizer.learning_rate = 2e-3
    c.dialogue_teacher.update(
        {
            "weights": "random",
            "num_layers": 2,
            "embed_dim": 192,
            "num_heads": 4,
            "num_positions": 512,
        }
    )
    c.turn_classifier.update(
        {"embed_dim": 128, "mlp_dim": 256, "max_context_tokens": 96, "epochs": 3, "batch_size": 64}
    )
    c.evaluation.split = "valid"
    c.checkpoint_every = 100


SMALL_LENGTH = 2
"""Epochs of `:small` for each of `:mini`'s, with any backbone: 16 for DialoGPT and 8 for KGSF.

To be settled by dev: `configs/sweeps/epochs.py` trains students of several lengths, and `python -m
conkd_jax.tables --curves` shows at which of them NLL and hit@50 turn."""


def _small(c: ConfigDict) -> None:
    """The models and data of `:mini`, trained `SMALL_LENGTH` times as long, at twice its cost.

    Dialogue teacher and student alike, since the teacher is a row of its own, the fine-tuned model.
    Recommender and turn classifier, which stop when dev does, are those of `:mini`.
    """
    for part in (c.dialogue_teacher, c.student):
        part.epochs *= SMALL_LENGTH


def _demo(c: ConfigDict) -> None:
    """MovieWorld and tiny models: the whole pipeline in about five minutes, without downloads."""
    _mini(c)
    c.corpus.name = "movieworld"
    c.corpus.movieworld_num_dialogues = 1000
    c.vocabulary.bpe_size = 700
    c.vocabulary.max_row_tokens = 128
    c.rec_teacher.update({"embed_dim": 32, "num_bases": 4, "epochs": 12, "batch_size": 128})
    c.dialogue_teacher.update(
        {"embed_dim": 64, "num_heads": 2, "num_positions": 128, "num_buckets": 2}
    )
    c.student.num_buckets = 2
    c.turn_classifier.update({"embed_dim": 32, "mlp_dim": 64, "num_buckets": 2})
    for part in (c.dialogue_teacher, c.student):
        part.epochs = 4
        part.batch_rows = 4  # many small steps: which movies go together is learned late
        part.optimizer.learning_rate = 4e-3
        part.optimizer.warmup_steps = 20
    # With so few steps, which movies are alike is not learned from text or distillation alone.
    c.student.item_init = "recommender"
    c.teacher_outputs.num_shards = 2
    c.evaluation.bootstrap_resamples = 200


# --- corpora -------------------------------------------------------------------------------------


def _redial(c: ConfigDict) -> None:
    """Changes nothing: the defaults are for ReDial."""


def _opendialkg(c: ConfigDict) -> None:
    """OpenDialKG's files, and all relations of its graph, a quarter of the size of ReDial's."""
    c.corpus.name = "opendialkg"
    c.corpus.graph_rule = "all"


CORPUS_PRESETS = {"redial": _redial, "opendialkg": _opendialkg}
"""The corpora that `corpus=NAME` knows, and what each sets after preset and backbone."""
