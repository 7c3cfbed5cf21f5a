"""What each backbone, and the recommender that it reads, expects of the other options."""

from __future__ import annotations

from conkd_jax.config.fields import (
    Broken,
    Choices,
    Ranges,
    choices,
    of_part,
    ranges,
    transformer_shape,
)
from conkd_jax.config.options import Config
from conkd_jax.data.batches.plan import BUCKET_MULTIPLE
from conkd_jax.data.rows.picks import pick_room

KGSF_CHOICES: Choices = {"kgsf.word_vectors": ("word2vec", "random")}
# Of a transformer that reads a context of whole words.
ENCODER_DECODER_RANGES: Ranges = {"mlp_dim": (1, None), "dropout": (0, 0.99)}
CONTEXT_RANGES: Ranges = {
    "vocabulary.min_word_count": (1, None),
    "vocabulary.max_context_turns": (1, None),
    "vocabulary.max_context_tokens": (1, None),
}

REVCORE_RANGES: Ranges = {
    "revcore.max_review_tokens": (1, None),
    "revcore.max_retrieved_words": (1, None),
}
_REVIEWS = "RevCore's .pkl or a .jsonl; generated with corpus.name=movieworld"
REDIAL_CHOICES: Choices = {"redial.word_vectors": ("word2vec", "random")}
REDIAL_RANGES: Ranges = {
    "redial.word_dim": (1, None),
    "redial.utterance_dim": (1, None),
    "redial.hidden_dim": (1, None),
    "redial.token_dim": (1, None),
    "vocabulary.min_word_count": (1, None),
}
AUTOREC_RANGES: Ranges = {
    "autorec.hidden_dim": (1, None),
    "autorec.patience": (0, None),
    "sentiment.word_dim": (1, None),
    "sentiment.features": (1, None),
    "sentiment.num_layers": (1, None),
    "sentiment.dropout": (0, 0.99),
    "sentiment.patience": (0, None),
    "sentiment.max_utterances": (1, None),
    "sentiment.max_utterance_tokens": (2, None),  # a word and END
    "sentiment.max_mentions": (1, None),
}


def backbone_rules(config: Config) -> Broken:
    """What breaks the rules of a config's backbone, or of AutoRec where it is the recommender."""
    if config.backbone in ("dialogpt", "recindial"):
        yield from _dialogpt(config)
    if config.backbone == "recindial":
        yield from _recindial(config)
    if config.backbone in ("kgsf", "revcore"):
        yield from _kgsf(config)
    if config.backbone == "revcore":
        yield from _revcore(config)
    if config.backbone == "kbrd":
        yield from _kbrd(config)
    if config.backbone == "redial":
        yield from _redial(config)
    elif config.backbone != "dialogpt":
        yield from _node_vectors(config)
    if config.rec_teacher.architecture == "autorec":
        yield from _autorec(config)


def _dialogpt(config: Config) -> Broken:
    words, teacher = config.vocabulary, config.dialogue_teacher
    if words.lower_case:
        yield "vocabulary.lower_case", "False with the backbone dialogpt, whose BPE is cased"
    response, row = words.max_response_tokens, words.max_row_tokens
    picks = pick_room(words.max_picks or None)
    if row <= 2 * (response + picks):
        longest = f"vocabulary.max_response_tokens ({response})"
        longest += f" + vocabulary.max_picks + 1 ({picks})" if picks else ""
        yield "vocabulary.max_row_tokens", f"more than twice {longest}"
    if config.decode.max_tokens + picks + 1 >= row:
        room = f"vocabulary.max_row_tokens - {2 + picks} ({row - 2 - picks})"
        yield "decode.max_tokens", f"at most {room}, to leave room for the history"
    if teacher.weights == "random":
        yield from transformer_shape(config, "dialogue_teacher")
        if teacher.num_positions < row + -row % BUCKET_MULTIPLE:
            padded = f"vocabulary.max_row_tokens ({row}) rounded up to a multiple of"
            yield "dialogue_teacher.num_positions", f"at least {padded} {BUCKET_MULTIPLE}"
    elif words.tokenizer == "train":
        expected = f"the tokenizer that belongs to the pretrained weights {teacher.weights!r}"
        yield "vocabulary.tokenizer", expected


def _recindial(config: Config) -> Broken:
    if config.rec_teacher.use_concepts:
        why = "backbone = recindial, whose user vectors are pooled from entities alone"
        yield "rec_teacher.use_concepts", f"False with {why}"


def _node_vectors(config: Config) -> Broken:
    if config.rec_teacher.architecture != "graph":
        why = f"backbone={config.backbone}, which reads the node vectors of a graph"
        yield "rec_teacher.architecture", f"graph with {why}"


def _kgsf(config: Config) -> Broken:
    if not config.rec_teacher.use_concepts:
        yield "rec_teacher.use_concepts", "True with the backbone kgsf, which reads the concepts"
    if config.rec_teacher.context_nodes != "entities":
        yield "rec_teacher.context_nodes", "entities with the backbone kgsf, which reads them all"
    yield from choices(config, KGSF_CHOICES)
    yield from _whole_words(config, "kgsf")


def _kbrd(config: Config) -> Broken:
    if config.rec_teacher.use_concepts:
        yield "rec_teacher.use_concepts", "False with the backbone kbrd, whose user is n(x) alone"
    if config.vocabulary.tokenizer != "train":
        yield "vocabulary.tokenizer", "train with the backbone kbrd, which has no published list"
    yield from ranges(config, {"kbrd.bias_dim": (1, None)})
    yield from _whole_words(config, "kbrd")


def _whole_words(config: Config, part: str) -> Broken:
    """What holds of every encoder-decoder that reads whole words; `part` has its shape."""
    yield from _cased_list(config)
    yield from ranges(config, of_part(config, part, ENCODER_DECODER_RANGES))
    yield from ranges(config, CONTEXT_RANGES)
    yield from transformer_shape(config, part)


def _cased_list(config: Config) -> Broken:
    if config.vocabulary.lower_case and config.vocabulary.tokenizer != "train":
        yield "vocabulary.lower_case", "False with a given list of words, which is cased"


def _revcore(config: Config) -> Broken:
    yield from ranges(config, REVCORE_RANGES)
    if not config.corpus.reviews:
        yield "corpus.reviews", f"{_REVIEWS}, which backbone=revcore reads"
    if config.system == "student" and config.teacher_outputs.format != "dense":
        why = "teacher with backbone=revcore, whose third term of the logits features lack"
        yield "teacher_outputs.format", f"dense for a dialogue {why}"


def review_rules(config: Config) -> Broken:
    """What is wrong with the reviews that a config names."""
    reviews, corpus = config.corpus.reviews, config.corpus.name
    if config.rec_teacher.use_reviews and not reviews:
        yield "rec_teacher.use_reviews", f"False without corpus.reviews ({_REVIEWS})"
    if config.rec_teacher.use_reviews and not config.rec_teacher.use_concepts:
        yield "rec_teacher.use_reviews", "False with rec_teacher.use_concepts = False"
    if reviews and (reviews == "generated") != (corpus == "movieworld"):
        expected = "generated" if corpus == "movieworld" else "a .pkl or .jsonl of reviews"
        yield "corpus.reviews", f'"" or {expected} with corpus.name={corpus}'


def _autorec(config: Config) -> Broken:
    yield from ranges(config, AUTOREC_RANGES)
    if config.rec_teacher.use_inferred_order:
        why = "rec_teacher.architecture=autorec, as no questionnaires are read for that split"
        yield "rec_teacher.use_inferred_order", f"False with {why}"


def _redial(config: Config) -> Broken:
    yield from choices(config, REDIAL_CHOICES)
    yield from ranges(config, REDIAL_RANGES)
    yield from _cased_list(config)
    if config.rec_teacher.architecture != "autorec":
        yield "rec_teacher.architecture", "autorec with backbone=redial, which is built on it"
    for part in ("dialogue_teacher", "student"):
        if getattr(config, part).item_init != "title":
            why = "backbone=redial, whose movies are scored by AutoRec, the recommender itself"
            yield f"{part}.item_init", f"title with {why}, and not by rows of an embedding"
    if config.redial.word_vectors == "word2vec" and config.autorec.use_sentiment:
        width = config.redial.word_dim
        if config.sentiment.word_dim != width:
            yield "sentiment.word_dim", f"redial.word_dim ({width}), as they share word vectors"
