"""Stage `sentiment`: learns from ReDial's questionnaires what a dialogue says about its movies.

Six losses, of three questions in the forms of both speakers. Once trained, the model is frozen:
AutoRec and ReDial's dialogue model read the probability that the seeker likes each movie.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath

from conkd_jax.artifacts.fingerprint import outside_fingerprint, view
from conkd_jax.artifacts.stage import Context, Stage
from conkd_jax.config import Config
from conkd_jax.config.parts import SentimentTraining
from conkd_jax.data.batches.loader import Batch
from conkd_jax.data.batches.plan import BatchPlan, quantile_buckets
from conkd_jax.data.corpus import Corpus, Dialogue
from conkd_jax.data.questionnaires import Questionnaires, read_questionnaires
from conkd_jax.data.rows.contract import FILL
from conkd_jax.data.rows.utterances import Histories, HistoryLimits, build_histories
from conkd_jax.data.vocabulary import Vocabulary
from conkd_jax.io.files import write_json
from conkd_jax.models.compute import Compute
from conkd_jax.models.sentiment import (
    LIKED_WEIGHTS,
    NUM_ANSWERS,
    NUM_LOGITS,
    Sentiment,
    SentimentSpec,
    answer_losses,
    final_answers,
    split_answers,
)
from conkd_jax.runtime import parallel
from conkd_jax.stages import backbones
from conkd_jax.stages.backbones.kgsf import WholeWordSettings, read_word_vectors
from conkd_jax.stages.rec_teacher import without_fold
from conkd_jax.stages.training import (
    EXECUTION_CHANGES_NO_RESULT,
    Execution,
    compute_setting,
    make_loader,
    train,
)
from conkd_jax.training import checkpoint, loop
from conkd_jax.typing import Params

VERSION = 1
SHAPE_FILE, VOCABULARY = "sentiment.json", "vocabulary"
UNKNOWN = -1  # the answer about a movie that is not in both forms
SCORING_BATCH = 16  # dialogues at a time
CURVES = ("loss", "initiator_liked_accuracy", "initiator_liked_base")  # on dev, every epoch


@dataclasses.dataclass(frozen=True)
class SentimentSettings:
    """Settings of a sentiment model.

    Attributes:
      model: the model and its training.
      limits: what of a dialogue is read.
      seed: config.teacher_seed.
      rng_impl: generator of the dropout keys.
      word_vectors: "word2vec" if the word vectors start from those of the vocabulary, else None.
      fold: (k, K) trains without part k of K parts of the training split; None trains on all of it.
      compute_dtype: the type of the products in training (`compute_setting`). A trained sentiment
        model computes in float32.
      execution: devices and checkpoints.
    """

    model: SentimentTraining
    limits: HistoryLimits
    seed: int
    rng_impl: str
    word_vectors: str | None
    fold: tuple[int, int] | None
    compute_dtype: str | None  # not "float32": an artifact of float32 has its old fingerprint
    execution: Execution = outside_fingerprint(because=EXECUTION_CHANGES_NO_RESULT)


def stage(config: Config, stages: Mapping[str, Stage], *, fold: int | None = None) -> Stage:
    """The sentiment model of a config.

    Args:
      config: the whole config.
      stages: `corpus`, `vocabulary` and `questionnaires`.
      fold: for cross-fitting, the part of train that is left out. The recommender of a fold must
        not have seen its dialogues in any way, and what a sentiment model says about a dialogue
        that it was trained on is close to that dialogue's questionnaire.
    """
    words = backbones.named(config.backbone).word_settings(config)
    has_vectors = isinstance(words, WholeWordSettings) and words.embed_dim is not None
    settings = SentimentSettings(
        model=view(config.sentiment, SentimentTraining),
        limits=view(config.sentiment, HistoryLimits),
        seed=config.teacher_seed,
        rng_impl=config.rng_impl,
        word_vectors="word2vec" if has_vectors else None,
        fold=None if fold is None else (fold, config.rec_teacher.cross_fit_folds),
        compute_dtype=compute_setting(config),
        execution=Execution.of(config),
    )
    inputs = {name: stages[name] for name in ("corpus", "vocabulary", "questionnaires")}
    return Stage("sentiment", VERSION, settings, inputs, run)


def run(settings: SentimentSettings, directory: epath.Path, context: Context) -> dict[str, Any]:
    """Trains the model, keeps the step of lowest dev loss, and saves it with its vocabulary."""
    corpus = Corpus.open(context.inputs["corpus"])
    vocabulary = Vocabulary.load(context.inputs["vocabulary"])
    forms = read_questionnaires(context.inputs["questionnaires"])
    dialogues = {
        split: corpus.dialogues(split)
        for split in ("train", "dev", "valid")
        if split in corpus.splits
    }
    dialogues["train"] = without_fold(dialogues["train"], settings.fold)
    examples = {
        split: build_examples(of_split, vocabulary, forms, settings.limits)
        for split, of_split in dialogues.items()
    }
    part = settings.model
    spec = SentimentSpec(part.word_dim, part.features, part.num_layers, part.dropout)
    model = Sentiment(spec, vocabulary.num_rows)
    vectors = None
    if settings.word_vectors is not None:
        vectors = read_word_vectors(context.inputs["vocabulary"])
    result = train(
        make_task(model, settings, examples["train"], examples["dev"], vectors),
        part.optimizer,
        seed=settings.seed,
        rng_impl=settings.rng_impl,
        directory=directory,
        execution=settings.execution,
    )
    save(directory, TrainedSentiment(model, result.params, vocabulary, settings.limits))
    metrics = dict(result.metrics)
    for split, found in examples.items():
        metrics[f"{split}_movies"] = found.num_movies
    if "valid" in examples:
        scored = score(model, result.params, examples["valid"])
        metrics |= {f"valid_{name}": value for name, value in scored.items()}
    return metrics


# --- the trained model ---------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class TrainedSentiment:
    """A sentiment model with its weights, its vocabulary, and what it reads of a history."""

    model: Sentiment
    params: Params
    vocabulary: Vocabulary
    limits: HistoryLimits


def save(directory: epath.Path, sentiment: TrainedSentiment) -> None:
    """Writes the files that `load` reads; called by every process."""
    checkpoint.save(directory / "params", sentiment.params)
    if parallel.is_first_process():
        shape = {
            "spec": dataclasses.asdict(sentiment.model.spec),
            "limits": dataclasses.asdict(sentiment.limits),
        }
        write_json(directory / SHAPE_FILE, shape, indent=2)
        sentiment.vocabulary.save(directory / VOCABULARY)


def load(directory: epath.Path) -> TrainedSentiment:
    """Reopens what `save` wrote."""
    shape = json.loads((directory / SHAPE_FILE).read_text())
    vocabulary = Vocabulary.load(directory / VOCABULARY)
    model = Sentiment(SentimentSpec(**shape["spec"]), vocabulary.num_rows)
    limits = HistoryLimits(**shape["limits"])
    return TrainedSentiment(model, checkpoint.load(directory / "params"), vocabulary, limits)


# --- training ------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Examples:
    """Whole dialogues, and the six answers about each movie in them.

    Attributes:
      histories: of the dialogues in which a movie has answers.
      answers: [N, P, 6] in the order of a history's movies; UNKNOWN without an answer.
    """

    histories: Histories
    answers: np.ndarray

    @property
    def num_movies(self) -> int:
        """The number of pairs (dialogue, movie) with answers."""
        return int((self.answers[..., 0] != UNKNOWN).sum())


def build_examples(
    dialogues: Sequence[Dialogue],
    vocabulary: Vocabulary,
    forms: Questionnaires,
    limits: HistoryLimits,
) -> Examples:
    """The dialogues with a movie that both forms answer for, and these answers."""
    histories = build_histories(dialogues, vocabulary, limits, whole=True)
    answers = np.full((len(histories), limits.max_mentions, NUM_ANSWERS), UNKNOWN, np.int32)
    for row, ((conversation, _), history) in enumerate(
        zip(histories.keys, histories.histories, strict=True)
    ):
        given = forms.answers_of_both(conversation)
        for place, item in enumerate(history.movies):
            if (movie := int(vocabulary.item_ids[item])) in given:
                answers[row, place] = given[movie]
    chosen = np.flatnonzero((answers[..., 0] != UNKNOWN).any(axis=1))
    return Examples(histories.take(chosen), answers[chosen])


class SentimentBatches:
    """Assembles dialogues into one device's arrays (the loader's `assemble`).

    Arrays: those of `Histories.inputs`; `answers` [b, P, 6]; `weights` [b, P, 6], which sum to 6
    over the global batch. Each loss is a mean, over the answered movies of the batch, or weighted
    by `LIKED_WEIGHTS`.
    """

    def __init__(self, examples: Examples):
        self.examples = examples

    def __call__(self, row_ids: np.ndarray, bucket_length: int, step_rows: np.ndarray) -> Batch:
        """The arrays for the given dialogues; FILL stands for padding."""
        answers = self.examples.answers
        whole = answer_weights(answers[step_rows[step_rows != FILL]]).sum(axis=(0, 1))  # [6]
        is_real = (row_ids != FILL)[:, None, None]
        own = answers[np.maximum(row_ids, 0)]
        weights = np.where(is_real, answer_weights(own), 0.0) / whole
        return {
            **self.examples.histories.inputs(row_ids, bucket_length, 0),
            "answers": np.maximum(own, 0),
            "weights": weights.astype(np.float32),
        }


def answer_weights(answers: np.ndarray) -> np.ndarray:
    """The weight of each answer in its loss, [N, P, 6]: 1, that of a class, or 0 without one."""
    weights = (answers != UNKNOWN).astype(np.float64)
    for column in (2, 5):  # liked, in both forms
        weights[..., column] *= np.array(LIKED_WEIGHTS)[np.maximum(answers[..., column], 0)]
    return weights


def make_loss(model: Sentiment) -> parallel.Loss:
    """The sum of the six losses of one device's micro-batch."""

    def loss(params, batch, rng, constants):
        logits: Any = model.apply(
            {"params": params}, batch, deterministic=False, rngs={"dropout": rng}
        )
        logits = final_answers(logits, batch["utterance_ends"])
        losses = jnp.stack(list(answer_losses(logits, batch["answers"]).values()), axis=-1)
        tokens = (batch["utterance_ends"].max(axis=1) + 1).sum()
        return (losses * batch["weights"]).sum(), {"tokens": (tokens, tokens)}

    return loss


def make_task(
    model: Sentiment,
    settings: SentimentSettings,
    train_examples: Examples,
    dev_examples: Examples,
    word_vectors: np.ndarray | None = None,
) -> loop.Task:
    """The task of the loop; the sum of the dev losses selects the step."""
    part = settings.model
    trained = model.clone(dtype=jnp.dtype(settings.compute_dtype or Compute.dtype))
    plan = batch_plan(part, train_examples, settings.seed)
    batches = SentimentBatches(train_examples)

    def init(rng: jax.Array) -> Params:
        example = train_examples.histories.inputs(np.zeros(1, np.int64), plan.bucket_lengths[-1], 0)
        params = jax.jit(model.init)(rng, example)["params"]
        if word_vectors is not None:
            params = {**params, "words": {"embedding": jnp.asarray(word_vectors)}}
        return params

    def evaluate(params: Params) -> dict[str, float]:
        scored = score(model, params, dev_examples)
        return {f"dev_{name}": scored[name] for name in CURVES}

    return loop.Task(
        name="sentiment",
        init=init,
        loss=make_loss(trained),
        loader=make_loader(plan, batches, part.optimizer, settings.execution),
        num_steps=part.epochs * plan.steps_per_epoch,
        evaluate=evaluate,
        evaluate_every=plan.steps_per_epoch,
        select=("dev_loss", "min"),
        patience=part.patience,
    )


def batch_plan(part: SentimentTraining, examples: Examples, seed: int) -> BatchPlan:
    """The dialogues of each step, and the lengths that they are padded to."""
    lengths = examples.histories.lengths
    return BatchPlan(lengths, part.batch_size, quantile_buckets(lengths, part.num_buckets), seed)


def score(model: Sentiment, params: Params, examples: Examples) -> dict[str, float]:
    """The loss and the accuracy of all answers.

    Returns:
      The sum of the six losses (`loss`); for each question and form the `accuracy` and that of the
      commonest answer (`base`).
    """
    lengths = examples.histories.lengths
    buckets = quantile_buckets(lengths, 4)
    plan = BatchPlan(lengths, SCORING_BATCH, buckets, seed=0)
    assemble = SentimentBatches(examples)
    found: dict[str, list[np.ndarray]] = {"losses": [], "right": [], "answers": []}
    for step in range(plan.steps_per_epoch):
        row_ids, length = plan.step(step)
        batch = assemble(row_ids, length, row_ids)
        losses, right = _scores(params, batch, model=model)
        is_known = (batch["weights"][..., 0] > 0).reshape(-1)
        found["losses"].append(np.asarray(losses).reshape(-1, NUM_ANSWERS)[is_known])
        found["right"].append(np.asarray(right).reshape(-1, NUM_ANSWERS)[is_known])
        found["answers"].append(batch["answers"].reshape(-1, NUM_ANSWERS)[is_known])
    whole = {name: np.concatenate(parts) for name, parts in found.items()}
    weights = answer_weights(whole["answers"])
    means = (whole["losses"] * weights).sum(axis=0) / weights.sum(axis=0)
    metrics = {"loss": float(means.sum())}
    for index, name in enumerate(split_answers(jnp.zeros((1, NUM_LOGITS)))):
        answers = whole["answers"][:, index]
        metrics[f"{name}_accuracy"] = float(whole["right"][:, index].mean())
        metrics[f"{name}_base"] = float(np.bincount(answers).max() / len(answers))
    return metrics


@functools.partial(jax.jit, static_argnames="model")
def _scores(params, batch, *, model: Sentiment):
    """The losses [B, P, 6] of every movie, and whether each answer is right."""
    logits: Any = model.apply({"params": params}, batch)
    logits = final_answers(logits, batch["utterance_ends"])
    chosen = [
        (part[..., 0] > 0) if part.shape[-1] == 1 else part.argmax(axis=-1)
        for part in split_answers(logits).values()
    ]
    losses = jnp.stack(list(answer_losses(logits, batch["answers"]).values()), axis=-1)
    return losses, jnp.stack(chosen, axis=-1) == batch["answers"]
