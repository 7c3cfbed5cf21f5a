"""Every option of the program, named once, with what it means.

`base()` is the paper's setting. A preset changes sizes, never meanings. A file in `configs/` is one
row of a results table: it calls `from_argument`, which understands what follows the colon in
`--config=FILE.py:PRESET[,backbone=NAME]`, and changes the few fields that make its row.

Which settings can work is said in `conkd_jax.config_rules`. This module knows no file, no model and
no array: it can be imported and printed anywhere.
"""

from __future__ import annotations

from ml_collections import ConfigDict

from conkd_jax.errors import UserError

ARGUMENT_FIELDS = ("preset", "backbone")  # others follow from them: see from_argument
PRESETS = ("paper", "mini", "demo")
BACKBONES = ("dialogpt", "kgsf")
SYSTEMS = ("dialogue_teacher", "student")


class ConfigError(UserError, ValueError):
    """An option, or a combination of options, that can't work. Raised before anything compiles."""


def _optimizer(learning_rate: float, **overrides) -> ConfigDict:
    """An optimizer part: what `conkd_jax.optimizers` builds an optax chain from."""
    part = ConfigDict()
    part.name = "adamw"  # adamw | adam
    part.learning_rate = learning_rate  # the peak, after warm-up
    part.schedule = "cosine"  # cosine | linear (both down to 0) | constant
    part.warmup_steps = 100  # linear, up to the peak
    part.b1 = 0.9
    part.b2 = 0.98
    part.eps = 1e-8
    part.weight_decay = 0.01  # decoupled; biases and layer norms are left out
    part.clip_norm = 1.0  # global norm, after the sum over devices; 0 = off
    part.accumulate_steps = 1  # micro-batches that one step's batch is cut into
    part.update(overrides)
    return part


def base() -> ConfigDict:
    """The paper's setting: ReDial, DialoGPT-small, one option a line."""
    c = ConfigDict()
    # These two are said behind the colon of --config, since others follow from them.
    c.preset = "paper"  # paper | mini | demo
    c.backbone = "dialogpt"  # the language model of dialogue teacher and student: dialogpt | kgsf
    c.system = "student"  # what is scored: student (ConKD) | dialogue_teacher (fine-tuned alone)
    c.seed = 0  # the student: initialisation, dropout, order of batches
    c.teacher_seed = 0  # teachers, turn classifier, store: shared by all student seeds
    c.artifacts_dir = "artifacts"  # what stages leave, shared by every run; may be gs://…
    c.runs_dir = "runs"  # what one invocation leaves

    c.corpus = ConfigDict()
    c.corpus.name = "redial"  # redial | movieworld (synthetic, generated)
    c.corpus.raw_dir = ""  # raw ReDial and graph files; empty = $CONKD_RAW_DIR
    c.corpus.graph_rule = "kgsf"  # kgsf (46 relations) | kbrd (35): which relations are kept
    c.corpus.movieworld_seed = 0
    c.corpus.movieworld_num_movies = 120
    c.corpus.movieworld_num_dialogues = 500

    c.vocabulary = ConfigDict()
    c.vocabulary.tokenizer = "microsoft/DialoGPT-small"  # hub name, local folder, or "train"; kgsf:
    # "train", or the path of KGSF's word2index_redial.json
    c.vocabulary.bpe_size = 4096  # dialogpt: words V when the BPE is trained on the corpus
    c.vocabulary.min_word_count = 1  # kgsf: a rarer word is <unk>
    c.vocabulary.item_vocabulary = (
        "full"  # full (all movies) | train (those named in the train split)
    )
    c.vocabulary.max_row_tokens = 512  # dialogpt: a row is a dialogue, or a piece of a longer one
    c.vocabulary.max_context_turns = 5  # kgsf: turns that the encoder reads
    c.vocabulary.max_context_tokens = 256  # kgsf: the last ones of them
    c.vocabulary.max_response_tokens = 30  # T at most; a longer response keeps its head

    c.rec_teacher = ConfigDict()
    c.rec_teacher.embed_dim = 128
    c.rec_teacher.num_bases = 8  # R-GCN basis decomposition
    c.rec_teacher.norm = "mean"  # Z_{e,r} of eq. 2: mean (over neighbours of r) | sum (1)
    c.rec_teacher.gcn_relu = False  # eq. 13's ReLU; the public code has none
    c.rec_teacher.score_over = "items"  # softmax of eq. 4: items | entities
    c.rec_teacher.max_context_entities = 50  # the last ones, de-duplicated, of the whole history
    c.rec_teacher.max_context_concepts = 48
    c.rec_teacher.user_dropout = 0.4  # on the user vector p_u
    c.rec_teacher.context_dropout = 0.3  # chance that one context entity or concept is left out
    c.rec_teacher.mim_epochs = 3  # mutual information maximisation alone, first
    c.rec_teacher.mim_weight = 0.025  # its weight afterwards
    c.rec_teacher.epochs = 20  # at most, MIM included
    c.rec_teacher.patience = 3  # epochs without a better dev cross-entropy; more than mim_epochs
    c.rec_teacher.ema_decay = 0.98  # of the weights that are scored and kept; 0 = off
    c.rec_teacher.batch_size = 512  # samples (turn, movie)
    c.rec_teacher.use_inferred_order = False  # train on train_inferred_order.jsonl too
    c.rec_teacher.cross_fit_folds = (
        0  # K > 1: label each part of train by a teacher that never saw it
    )
    c.rec_teacher.optimizer = _optimizer(
        3e-3, name="adam", schedule="constant", warmup_steps=0, b2=0.999, weight_decay=0.0
    )

    c.dialogue_teacher = ConfigDict()
    c.dialogue_teacher.weights = "microsoft/DialoGPT-small"  # hub name, local folder, or "random"
    c.dialogue_teacher.num_layers = 12  # these four only with random weights; kgsf has its own
    c.dialogue_teacher.embed_dim = 768
    c.dialogue_teacher.num_heads = 12
    c.dialogue_teacher.num_positions = 1024
    c.dialogue_teacher.dropout = 0.1  # dialogpt
    c.dialogue_teacher.epochs = 20
    c.dialogue_teacher.batch_rows = 8  # dialogues; about 43 responses (the paper's batch is 32)
    c.dialogue_teacher.num_buckets = 12  # lengths that rows are padded to; 12 waste under 10 %
    c.dialogue_teacher.weighting = "sample"  # sample (1/T a response, eqs. 8-9) | token
    c.dialogue_teacher.optimizer = _optimizer(1e-3)

    c.kgsf = ConfigDict()  # the shape of KGSF's dialogue model, teacher and student
    c.kgsf.num_layers = 2  # of the encoder, and of the decoder
    c.kgsf.embed_dim = 300
    c.kgsf.num_heads = 2
    c.kgsf.mlp_dim = 300
    c.kgsf.dropout = 0.1
    c.kgsf.word_vectors = "word2vec"  # word2vec (trained on the corpus) | random

    c.turn_classifier = ConfigDict()
    c.turn_classifier.num_layers = 2
    c.turn_classifier.num_heads = 2
    c.turn_classifier.embed_dim = 300
    c.turn_classifier.mlp_dim = 300
    c.turn_classifier.dropout = 0.1
    c.turn_classifier.max_context_tokens = 256
    c.turn_classifier.epochs = 5
    c.turn_classifier.patience = 2
    c.turn_classifier.batch_size = 32
    c.turn_classifier.num_buckets = 4
    c.turn_classifier.optimizer = _optimizer(1e-3, name="adam", warmup_steps=0, weight_decay=0.0)

    c.teacher_outputs = ConfigDict()
    c.teacher_outputs.format = (
        "features"  # features (head(features) is the teacher) | dense (logits)
    )
    c.teacher_outputs.dtype = "bfloat16"  # of what is stored; λ and the normaliser are float32
    c.teacher_outputs.num_shards = 8  # whatever the number of hosts
    c.teacher_outputs.batch_rows = 16

    c.distill = ConfigDict()
    c.distill.gate = "hard"  # hard (eq. 6) | soft (eq. 7) | constant | package.module:function
    c.distill.eta = 0.6  # hard gate's threshold on the item mass; 0 = fitted to the dev split (the
    # best F1 on item steps)
    c.distill.constant = 0.5  # λ of the constant gate
    c.distill.gamma = 0.4  # weight of distillation in eq. 10; 1 - γ is the label's
    c.distill.chunk_size = 256  # response tokens at a time in the fused head

    c.student = ConfigDict()
    c.student.init = "pretrained"  # pretrained (as the dialogue teacher began) | dialogue_teacher
    c.student.turn_tags = True  # [REC]/[GEN] opens every recommender turn
    c.student.epochs = 20
    c.student.batch_rows = 8
    c.student.num_buckets = 12
    c.student.weighting = "sample"
    c.student.optimizer = _optimizer(1e-3)

    c.decode = ConfigDict()
    c.decode.item_rule = "argmax"  # argmax | mass (best item whenever the item mass is over .5)
    c.decode.allow_mentioned_items = True  # False: no item that the dialogue has named before
    c.decode.allow_repeated_items = True  # False: no item twice in one response
    c.decode.max_tokens = 30
    c.decode.batch_size = 64

    c.evaluation = ConfigDict()
    c.evaluation.split = "test"  # dev | valid | test
    c.evaluation.max_responses = 0  # 0 = all
    c.evaluation.num_samples = 12  # dialogues' responses shown in samples.md
    c.evaluation.bootstrap_resamples = 1000

    c.sweep = ConfigDict()  # one run for each value of one field, then a table and a figure
    c.sweep.field = ""  # a dotted field, for example "distill.eta"; empty = a single run
    c.sweep.over = ()

    c.parallel = ConfigDict()
    c.parallel.kind = "pmap"
    c.parallel.num_devices = 0  # 0 = all of them

    c.checkpoint_every = 200  # steps
    c.rng_impl = (
        "unsafe_rbg"  # generator of the dropout keys; threefry2x32 is the slow, portable one
    )
    return c.lock()


def _mini(c: ConfigDict) -> None:
    """ReDial from the files at hand and small models from scratch: one hour on two CPU cores."""
    c.vocabulary.tokenizer = "train"
    c.rec_teacher.epochs = 14
    for part in (c.dialogue_teacher, c.student):
        part.epochs = 8
        part.batch_rows = 16
        part.num_buckets = 6  # a CPU compiles for longer than it would save
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


def _kgsf(c: ConfigDict) -> None:
    """The KGSF backbone in a preset: words, one row a response.

    The paper's appendix with this backbone's settings can't be recovered. Adam, 1e-3, clip .1 and
    batch 32 are the public KGSF's; warm-up, schedule and epochs are ours, and η is fitted.
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
    c.vocabulary.max_context_tokens = 128  # all that 19 of 20 contexts have
    c.kgsf.update({"embed_dim": 128, "mlp_dim": 256})
    c.turn_classifier.update({"num_layers": 1, "epochs": 2})
    for part in (c.dialogue_teacher, c.student):
        part.batch_rows = 64
        part.num_buckets = 2  # a GPU compiles each for most of a minute
        part.epochs = 4  # word vectors and graphs give it a head start
        part.optimizer.learning_rate = 2e-3
    if c.preset == "demo":
        c.kgsf.update({"embed_dim": 32, "mlp_dim": 64})
        for part in (c.dialogue_teacher, c.student):
            part.epochs = 8
            part.optimizer.learning_rate = 3e-3


def _demo(c: ConfigDict) -> None:
    """MovieWorld and tiny models: the whole pipeline in five minutes, no download, no data."""
    _mini(c)
    c.corpus.name = "movieworld"
    c.vocabulary.bpe_size = 600
    c.vocabulary.max_row_tokens = 256
    c.rec_teacher.update({"embed_dim": 32, "num_bases": 4, "epochs": 12, "batch_size": 128})
    c.dialogue_teacher.update(
        {"embed_dim": 64, "num_heads": 2, "num_positions": 256, "num_buckets": 2}
    )
    c.student.num_buckets = 2
    c.turn_classifier.update({"embed_dim": 32, "mlp_dim": 64, "num_buckets": 2})
    for part in (c.dialogue_teacher, c.student):
        part.epochs = 12
        part.optimizer.learning_rate = 3e-3
        part.optimizer.warmup_steps = 20
    c.teacher_outputs.num_shards = 2
    c.evaluation.bootstrap_resamples = 200


def from_argument(argument: str | None = None, backbone: str = "dialogpt") -> ConfigDict:
    """The configuration that `PRESET[,backbone=NAME]` names; an empty argument is the paper's.

    Args:
      argument: what follows the colon of --config=FILE.py:…
      backbone: the row's own, where the argument names none.

    Raises:
      ConfigError: if the preset or a key is not known.
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
    {"paper": _as_it_is, "mini": _mini, "demo": _demo}[config.preset](config)
    {"dialogpt": _as_it_is, "kgsf": _kgsf}[config.backbone](config)
    return config


def _as_it_is(c: ConfigDict) -> None:
    """`base()` is the paper's preset, and has DialoGPT."""


def field_names(config: ConfigDict) -> set[str]:
    """Dotted names of all fields."""
    names = set()
    for key, value in config.items():
        inside = field_names(value) if isinstance(value, ConfigDict) else {""}
        names |= {f"{key}.{name}".rstrip(".") for name in inside}
    return names
