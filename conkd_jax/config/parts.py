"""The parts of a `Config`: every option of a stage, with its type, default and meaning.

The defaults are the paper's setting. The comment after a field is what `--help` shows of it.
"""

from __future__ import annotations

import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """An optimizer, as `conkd_jax.training.optimizers` builds it from optax transforms."""

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

    name: str = "redial"  # redial | opendialkg | movieworld (synthetic, generated) | custom (your
    # own data)
    raw_dir: str = ""  # folder of the raw files, dialogues and graphs, empty = $CONKD_RAW_DIR; for
    # custom the folder that `conkd-data check` passes
    graph_rule: str = "kgsf"  # relations kept: kgsf (46 of ReDial's 214) | kbrd (35) | all
    reviews: str = ""  # reviews of items, for revcore: RevCore's .pkl or a .jsonl, by path or by
    # its name in raw_dir | generated (movieworld); empty = none
    movieworld_seed: int = 0  # seed of the synthetic movies, people, tastes and dialogues
    movieworld_num_movies: int = 120
    movieworld_num_dialogues: int = 500  # over all splits
    min_relation_share: float = 0.0  # custom: the least share of the triples that a relation of the
    # graph must have to be kept; 0 = all relations


@dataclasses.dataclass(frozen=True)
class VocabularyConfig:
    """Words, items, and the lengths that dialogues are cut to."""

    tokenizer: str = "microsoft/DialoGPT-small"  # hub name, local folder, or "train"; for llama
    # also a .gguf file or "package:NAME", the one in an installed package; for kgsf, redial and
    # revcore "train" or the path of KGSF's word2index_redial.json; for kbrd "train"
    bpe_size: int = 4096  # dialogpt, recindial, llama: |V| when the BPE is trained on the corpus
    min_word_count: int = 1  # whole words (all but dialogpt, recindial, llama): a word seen less
    # often becomes <unk>
    lower_case: bool = False  # whole words: they are lower-cased, as by default for kbrd
    item_vocabulary: str = "full"  # full (all items) | train (those mentioned in the train split)
    max_row_tokens: int = 512  # dialogpt, llama: a row is a dialogue, or a piece of a longer one
    max_context_turns: int = 5  # kgsf, kbrd, revcore: number of last turns that the encoder reads
    max_context_tokens: int = 256  # kgsf, kbrd, revcore: number of last tokens of those turns
    max_response_tokens: int = 30  # longest T; longer responses are cut off
    max_picks: int = 0  # item first: a response lists its items, at most so many, before its text,
    # which max_response_tokens limits alone; not in the paper. 0 = off


@dataclasses.dataclass(frozen=True)
class RecommenderConfig:
    """The recommendation teacher: KGSF's recommender, or KBRD's, and its training."""

    embed_dim: int = 128
    num_bases: int = 8  # basis matrices of the R-GCN's basis decomposition
    norm: str = "mean"  # Z_{e,r} of eq. 2: mean (number of r-neighbours) | sum (1)
    max_neighbors: int = 0  # K > 0: a node receives from at most K neighbours of each relation,
    # drawn once at random; for graphs that do not fit a device. Not in the paper. 0 = all of them
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
    batch_size: int = 512  # pairs (turn, item)
    use_inferred_order: bool = False  # also train on train_inferred_order.jsonl
    use_reviews: bool = False  # True: the concepts of a context include those of the reviews of its
    # items (RevCore's recommender); needs corpus.reviews
    use_concepts: bool = True  # False: KBRD's recommender, p_u = n(x); no concepts, gate or MIM
    context_nodes: str = "entities"  # what a context consists of: entities (every node that was
    # mentioned) | items (the items alone, as in RecInDial)
    distinct_targets: bool = False  # True: an item that a response repeats is one training pair
    attention_init: str = "xavier_normal"  # of the attentive pooling: xavier_normal (KGSF) |
    # xavier_uniform (KBRD), both with gain 1.414
    optimizer: OptimizerConfig = OptimizerConfig(
        3e-3, name="adam", schedule="constant", warmup_steps=0, b2=0.999, weight_decay=0.0
    )


@dataclasses.dataclass(frozen=True)
class RecTeacherConfig(RecommenderConfig):
    """The recommendation teacher, and how it labels the training responses."""

    cross_fit_folds: int = 0  # K > 1: split train into K parts; each is labelled by a recommender
    # trained on the others (with autorec, so is the sentiment model that it reads). 0 = off
    architecture: str = "graph"  # graph (the options of this part) | autorec (ReDial's; those of
    # config.autorec and config.sentiment)


@dataclasses.dataclass(frozen=True)
class LanguageModelTraining:
    """The training of a language model, teacher or student."""

    epochs: int = 20
    batch_rows: int = 8  # dialogpt, llama: dialogues, about 43 responses (the paper's batch is 32);
    # backbones of whole words: responses
    num_buckets: int = 12  # lengths that rows are padded to; with 12, padding is below 10 %
    weighting: str = "sample"  # sample (1/T per response, eqs. 8-9) | token
    optimizer: OptimizerConfig = OptimizerConfig(1e-3)


@dataclasses.dataclass(frozen=True)
class ItemInitConfig:
    """Where the item rows of a language model start; not in the paper."""

    item_init: str = "title"  # title (as the backbone starts them) |
    # recommender (the same plus s σ n̂ Q: the recommender's item vectors n̂, mapped by Q)
    item_init_vectors: str = "kernel"  # with recommender: kernel (n_i of eq. 4) |
    # kernel_and_bias (the item's bias as one more entry)
    item_init_map: str = "random"  # Q: random (orthogonal) | pca (principal axes onto the first
    # axes) | least_squares (the map that best predicts the words of an item's title)
    item_init_scale: float = 3.0  # s, in units of σ, the standard deviation of the embedding


@dataclasses.dataclass(frozen=True)
class LoRAConfig:
    """Whether all parameters are trained, or low-rank changes of pretrained weights (LoRA).

    With rank r > 0, a linear layer of attention or MLP has the weight W + (α/r) A B, of which A
    [in, r] and B [r, out] are trained and the pretrained W is not. The rows of items, tags and
    padding are trained as well; rows of words, norms and biases are not. Gradients, optimizer state
    and checkpoints have the size of what is trained. The stage saves the sum, so what reads its
    model sees ordinary weights. For dialogpt and llama with pretrained weights; not in the paper.
    """

    lora_rank: int = 0  # r of LoRA, for example 8; 0 = off: all parameters are trained
    lora_alpha: float = 16.0  # with lora_rank > 0: α; the change of a weight is (α/r) A B


@dataclasses.dataclass(frozen=True)
class DialogueTeacherConfig(LoRAConfig, ItemInitConfig, LanguageModelTraining):
    """The dialogue teacher, and the shape of DialoGPT or Llama in teacher and student."""

    weights: str = "microsoft/DialoGPT-small"  # hub name, local folder, or "random"; for llama also
    # a .gguf file or "package:NAME", the one in an installed package
    num_layers: int = 12  # the shape is used with random weights only; other backbones have a part
    # of their own
    embed_dim: int = 768
    num_heads: int = 12
    num_positions: int = 1024
    dropout: float = 0.1
    use_inferred_order: bool = False  # also train on train_inferred_order.jsonl (not in the paper)


@dataclasses.dataclass(frozen=True)
class LlamaConfig:
    """The rest of the shape of Llama; with the shape in `dialogue_teacher`, for random weights."""

    num_kv_heads: int = 4  # heads of keys and values; divides dialogue_teacher.num_heads
    mlp_dim: int = 2048  # hidden width of the MLP
    rope_theta: float = 10_000.0  # θ of the rotary positions
    tied: bool = True  # whether the output layer is the embedding


@dataclasses.dataclass(frozen=True)
class EncoderDecoderConfig:
    """The shape of a transformer with encoder and decoder."""

    num_layers: int = 2  # in encoder and decoder each
    embed_dim: int = 300
    num_heads: int = 2
    mlp_dim: int = 300
    dropout: float = 0.1


@dataclasses.dataclass(frozen=True)
class KGSFConfig(EncoderDecoderConfig):
    """The shape of KGSF's dialogue model in teacher and student."""

    word_vectors: str = "word2vec"  # word2vec (trained on the corpus) | random


@dataclasses.dataclass(frozen=True)
class RevCoreConfig:
    """How RevCore's dialogue model reads reviews; its shape is that of `kgsf`."""

    max_review_tokens: int = 20  # the first ones of each review
    max_retrieved_words: int = 100  # of a context's reviews: the last distinct words, which the
    # third term of the logits can raise


@dataclasses.dataclass(frozen=True)
class KBRDConfig(EncoderDecoderConfig):
    """The shape of KBRD's dialogue model in teacher and student."""

    bias_dim: int = 512  # hidden width of the vocabulary bias


@dataclasses.dataclass(frozen=True)
class ReDialConfig:
    """The shape of ReDial's dialogue model in teacher and student."""

    word_dim: int = 300  # word vectors of the encoder
    utterance_dim: int = 256  # each direction of the GRU over the tokens of an utterance
    hidden_dim: int = 256  # of the GRU over utterances and of the decoder
    token_dim: int = 512  # embedding that the decoder reads
    word_vectors: str = "word2vec"  # word2vec (trained on the corpus) | random; also of sentiment


@dataclasses.dataclass(frozen=True)
class HistoryConfig:
    """What ReDial's networks read of a history."""

    max_utterances: int = 40  # the last ones; an utterance is a merged turn
    max_utterance_tokens: int = 80  # the first ones
    max_mentions: int = 16  # pairs (utterance, item), the last ones; ReDial: 99 % have up to 12


@dataclasses.dataclass(frozen=True)
class SentimentTraining:
    """The sentiment model of ReDial and its training on the questionnaires."""

    word_dim: int = 300
    features: int = 512  # of the GRUs over tokens (each direction) and over utterances
    num_layers: int = 2  # of each
    dropout: float = 0.4
    epochs: int = 50  # at most
    patience: int = 5  # epochs without a better dev loss; 0 = off
    batch_size: int = 8  # dialogues, each with about 5 items
    num_buckets: int = 4  # lengths that dialogues are padded to
    optimizer: OptimizerConfig = OptimizerConfig(
        1e-4, name="adam", schedule="constant", warmup_steps=0, b2=0.999, weight_decay=0.0
    )


@dataclasses.dataclass(frozen=True)
class SentimentConfig(SentimentTraining, HistoryConfig):
    """The sentiment model, and what it reads of a history, as AutoRec and the dialogue model do."""


@dataclasses.dataclass(frozen=True)
class AutoRecTraining:
    """ReDial's recommender and its training on what seekers like."""

    hidden_dim: int = 1000
    use_sentiment: bool = True  # False: every mentioned item counts as liked, and no sentiment
    # model is trained
    epochs: int = 50  # at most; those of MovieLens are as many again
    patience: int = 5  # epochs without a smaller dev error; 0 = off
    batch_size: int = 64  # users (dialogues)
    optimizer: OptimizerConfig = OptimizerConfig(
        1e-3, name="adam", schedule="constant", warmup_steps=0, b2=0.999, weight_decay=0.0
    )


@dataclasses.dataclass(frozen=True)
class AutoRecConfig(AutoRecTraining):
    """ReDial's recommender, and the ratings that it is pretrained on."""

    movielens_dir: str = ""  # folder of MovieLens with ratings.csv and movies.csv; empty = without


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

    format: str = "features"  # features (the teacher is head(features)) | dense (its logits) |
    # topk (its largest log-probabilities; the probability of other targets is lost)
    top_k: int = 64  # with topk: K, the targets of each token that are kept; all if there are fewer
    dtype: str = "bfloat16"  # of what is kept of each token; λ and the log-normaliser are float32
    num_shards: int = 8  # independent of the number of hosts
    batch_rows: int = 16


@dataclasses.dataclass(frozen=True)
class DistillConfig:
    """The gate and the gated distillation loss."""

    gate: str = "hard"  # hard (eq. 6) | soft (eq. 7) | constant | oracle (1 where the gold
    # token is an item) | package.module:function
    eta: float = 0.6  # the hard gate's threshold on the item mass; 0 = fitted to the dev split
    # (best F1 on item steps)
    constant: float = 0.5  # λ of the constant gate
    gamma: float = 0.4  # weight of distillation in eq. 10; the label has weight 1 - γ
    mask_mentioned: bool = False  # True: the recommender's distribution is masked to items that the
    # dialogue has not mentioned before the response (not in the paper)
    chunk_size: int = 256  # response tokens at a time in the fused head


@dataclasses.dataclass(frozen=True)
class StudentTraining(LanguageModelTraining):
    """The training of the student, and its form."""

    init: str = "pretrained"  # pretrained (as the dialogue teacher starts) | dialogue_teacher
    turn_tags: bool = True  # every recommender turn starts with [REC] or [GEN]


@dataclasses.dataclass(frozen=True)
class StudentConfig(LoRAConfig, ItemInitConfig, StudentTraining):
    """The student."""


@dataclasses.dataclass(frozen=True)
class DecodingRules:
    """What a response may contain."""

    item_rule: str = "argmax"  # argmax | mass (best item whenever the item mass exceeds .5) |
    # class (the same, else the best word); forbidden items count for no mass
    allow_mentioned_items: bool = True  # False: no item that the dialogue mentioned before
    allow_repeated_items: bool = True  # False: no item twice in a response
    max_tokens: int = 30


@dataclasses.dataclass(frozen=True)
class SearchConfig:
    """How a response is chosen among those that the rules allow; not in the paper."""

    strategy: str = "greedy"  # greedy (the most probable token at each step) | sample (a random
    # one) | beam (of several responses, the one with the best score)
    temperature: float = 1.0  # with sample: τ; a token is drawn in proportion to P^(1/τ)
    top_p: float = 1.0  # with sample: only the fewest tokens that together have this probability
    seed: int = 0  # with sample: of the random numbers, which depend on it and the response alone
    beam_width: int = 4  # with beam: responses that are kept at every step
    length_penalty: float = 1.0  # with beam: α of the score log P / T^α for T tokens; 0 = log P


@dataclasses.dataclass(frozen=True)
class DecodeConfig(SearchConfig, DecodingRules):
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
    """Devices and their memory."""

    kind: str = "pmap"  # pmap: every device holds all parameters and the optimizer's state; mesh:
    # each holds a part of them (FSDP), for models that outgrow a device. Both split the batch
    num_devices: int = 0  # 0 = all
    remat: bool = False  # True: the backward pass computes the layers of the language model again
    # instead of keeping them; less memory, about a third more arithmetic, the same gradients
