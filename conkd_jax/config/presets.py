"""Presets and backbones: the settings behind `--config=FILE.py:PRESET[,backbone=NAME]`.

A file in `configs/` defines one row of a results table. It calls `from_argument` with the text
after the colon and changes the few fields that define its row. Presets differ in data, model sizes
and training lengths, not in the method.
"""

from __future__ import annotations

import importlib.util
import os
import sys

from ml_collections import ConfigDict

from conkd_jax.config.options import BACKBONES, PRESETS, ConfigError, base


def from_argument(argument: str | None = None, backbone: str = "dialogpt") -> ConfigDict:
    """The config of `PRESET[,backbone=NAME]`; by default the paper's.

    Args:
      argument: the text after the colon of --config=FILE.py:…
      backbone: the config file's default backbone.

    Raises:
      ConfigError: the preset, the backbone or a key is unknown.
    """
    config = base()
    config.backbone = backbone
    words = [word.strip() for word in (argument or "").split(",") if word.strip()]
    for word in words:
        key, _, value = word.partition("=")
        if not value and key in PRESETS:
            config.preset = key
        elif key == "backbone" and value in BACKBONES:
            config.backbone = value
        else:
            raise ConfigError(
                f"--config=FILE.py:{argument}: {word!r} is not known. Expected one of "
                f"{', '.join(PRESETS)} and, optionally, backbone={'|'.join(BACKBONES)}, "
                "for example --config=configs/dialogpt_hard.py:mini"
            )
    {"paper": _paper, "small": _mini, "mini": _mini, "demo": _demo}[config.preset](config)
    backbones = {
        "dialogpt": _dialogpt,
        "kgsf": _kgsf,
        "kbrd": _kbrd,
        "recindial": _recindial,
        "redial": _redial,
        "revcore": _revcore,
    }
    backbones[config.backbone](config)
    if config.preset == "small":
        _small(config)
    return config


def load_config_file(filename: str) -> ConfigDict:
    """The config that a file makes, before any override.

    Args:
      filename: path of a config file and, after a colon, its argument, as --config has it.

    Raises:
      ConfigError: there is no such file, or its argument is not known.
    """
    path, _, argument = filename.partition(":")
    spec = importlib.util.spec_from_file_location("config_file", path)
    if spec is None or spec.loader is None or not os.path.isfile(path):
        raise ConfigError(f"--config={filename}: expected a config file, found none")
    module = importlib.util.module_from_spec(spec)
    # Config files import each other as `configs.…`, from the folder that holds configs/.
    root = os.path.abspath(path).rpartition(f"{os.sep}configs{os.sep}")[0]
    if root:
        sys.path.append(root)
    try:
        spec.loader.exec_module(module)
        return module.get_config(argument)
    finally:
        if root:
            sys.path.remove(root)


# --- presets and backbones -----------------------------------------------------------------------


def _paper(c: ConfigDict) -> None:
    """Changes nothing: the dataclasses' defaults are this preset's."""


def _mini(c: ConfigDict) -> None:
    """ReDial from local files, small models from scratch: about an hour on two CPU cores."""
    c.vocabulary.tokenizer = "train"
    c.rec_teacher.epochs = 14
    for part in (c.dialogue_teacher, c.student):
        part.epochs = 8
        part.batch_rows = 16
        part.num_buckets = 6  # on a CPU, compiling more shapes takes longer than it saves
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


def _dialogpt(c: ConfigDict) -> None:
    """Changes nothing: the dataclasses' defaults are this backbone's."""


def _kgsf(c: ConfigDict) -> None:
    """The KGSF backbone in any preset: whole words, one row per response.

    The paper's settings for this backbone are not available. Adam, the learning rate of 1e-3,
    clipping at .1 and batches of 32 are those of KGSF's public code; warm-up, schedule and epochs
    are ours, and η is fitted.
    """
    c.vocabulary.tokenizer = "train"
    c.distill.eta = 0.0
    for part in (c.dialogue_teacher, c.student):
        part.batch_rows = 32  # responses
        part.num_buckets = 4
        part.optimizer.update(
            {"name": "adam", "learning_rate": 1e-3, "weight_decay": 0.0, "b2": 0.999}
        )
        part.optimizer.clip_norm = 0.1
    c.teacher_outputs.batch_rows = 64
    if c.preset == "paper":
        return
    c.vocabulary.min_word_count = 2
    c.vocabulary.max_context_tokens = 128  # about 95 % of the contexts are shorter
    c.kgsf.update({"embed_dim": 128, "mlp_dim": 256})
    c.turn_classifier.update({"num_layers": 1, "epochs": 2})
    for part in (c.dialogue_teacher, c.student):
        part.batch_rows = 64
        part.num_buckets = 2  # on a GPU, each takes most of a minute to compile
        part.epochs = 4  # fewer are needed, thanks to word vectors and graphs
        part.optimizer.learning_rate = 2e-3
    if c.preset == "demo":
        c.kgsf.update({"embed_dim": 32, "mlp_dim": 64})
        for part in (c.dialogue_teacher, c.student):
            part.epochs = 8
            part.optimizer.learning_rate = 3e-3


def _recindial(c: ConfigDict) -> None:
    """The RecInDial backbone in any preset: DialoGPT and a recommender of the mentioned items.

    With published weights, the learning rate is a usual one for fine-tuning GPT-2; the smaller
    presets keep that of their random weights.
    """
    c.rec_teacher.update(
        {"use_concepts": False, "context_nodes": "items", "mim_epochs": 0, "mim_weight": 0.0}
    )
    c.decode.item_rule = "class"
    if c.preset == "paper":
        for part in (c.dialogue_teacher, c.student):
            part.optimizer.learning_rate = 1e-4


def _revcore(c: ConfigDict) -> None:
    """The RevCore backbone in any preset: KGSF's settings, and reviews.

    RevCore's public code keeps KGSF's settings but for batches of 128 pairs in the recommender.
    """
    _kgsf(c)
    c.corpus.reviews = "movie2tokenreview_helpful.pkl"  # RevCore's file, from the raw files
    c.rec_teacher.use_reviews = True
    c.teacher_outputs.format = "dense"  # the third term of its logits has no form that is stored
    if c.preset != "paper":
        c.vocabulary.max_context_tokens = 160  # KGSF's 128, and room for reviews
    if c.preset == "demo":
        c.corpus.reviews = "generated"


def _kbrd(c: ConfigDict) -> None:
    """The KBRD backbone in any preset: its graph, its recommender, its whole history of words.

    Graph rule, recommender, Adam's 3e-3, batches and patience are those of KBRD's public code. Its
    script names no optimizer for the dialogue model; Adam and the rest are KGSF's here, and η is
    fitted.
    """
    _kgsf(c)
    c.corpus.graph_rule = "kbrd"
    c.vocabulary.lower_case = True
    c.vocabulary.max_context_tokens = 1024
    c.rec_teacher.update(
        {
            "use_concepts": False,
            "distinct_targets": True,
            "attention_init": "xavier_uniform",
            "norm": "sum",
            "score_over": "entities",
            "user_dropout": 0.0,
            "context_dropout": 0.0,
            "mim_epochs": 0,
            "mim_weight": 0.0,
            "patience": 5,
            "ema_decay": 0.0,
        }
    )
    c.dialogue_teacher.weighting = "token"
    for part in (c.dialogue_teacher, c.student):
        part.batch_rows = 64
    if c.preset == "paper":
        c.rec_teacher.batch_size = 256
    else:
        c.vocabulary.max_context_tokens = 256  # about 93 % of the histories are shorter
        c.rec_teacher.score_over = "items"  # on a CPU, all entities cost seven times as much
        c.kbrd.update({"embed_dim": 128, "mlp_dim": 256, "bias_dim": 256})
    if c.preset == "demo":
        c.kbrd.update({"embed_dim": 32, "mlp_dim": 64, "bias_dim": 64})
    # Every turn is closed by a token, so the limit on turns never binds.
    c.vocabulary.max_context_turns = c.vocabulary.max_context_tokens


def _redial(c: ConfigDict) -> None:
    """ReDial's backbone in any preset: whole words, one row per response, AutoRec as recommender.

    Adam with 1e-3 is that of the public code; its batches of 4 responses are 32 here. Warm-up,
    schedule, clipping and epochs are ours.
    """
    c.vocabulary.tokenizer = "train"
    c.rec_teacher.architecture = "autorec"
    c.student.item_init = "title"  # its items are scored by AutoRec, not by rows of the embedding
    c.distill.eta = 0.0
    for part in (c.dialogue_teacher, c.student):
        part.batch_rows = 32  # responses
        part.num_buckets = 4
        part.optimizer.update(
            {"name": "adam", "learning_rate": 1e-3, "weight_decay": 0.0, "b2": 0.999}
        )
    c.teacher_outputs.batch_rows = 64
    if c.preset == "paper":
        return
    c.vocabulary.min_word_count = 2
    c.redial.update({"word_dim": 128, "utterance_dim": 128, "hidden_dim": 256, "token_dim": 128})
    c.sentiment.update(
        {"word_dim": 128, "features": 64, "num_layers": 1, "epochs": 12, "patience": 3}
    )
    c.sentiment.optimizer.learning_rate = 1e-3
    c.autorec.hidden_dim = 256
    c.turn_classifier.update({"num_layers": 1, "epochs": 2})
    for part in (c.dialogue_teacher, c.student):
        part.batch_rows = 64
        part.epochs = 6
        part.optimizer.learning_rate = 2e-3
    if c.preset == "demo":
        c.redial.update({"word_dim": 32, "utterance_dim": 32, "hidden_dim": 64, "token_dim": 32})
        c.sentiment.update(
            {"word_dim": 32, "features": 16, "epochs": 4, "max_utterances": 16, "num_buckets": 2}
        )
        c.sentiment.optimizer.learning_rate = 3e-3
        c.autorec.update({"hidden_dim": 64, "epochs": 10})
        for part in (c.dialogue_teacher, c.student):
            part.num_buckets = 2
            part.epochs = 8
            part.optimizer.learning_rate = 3e-3
