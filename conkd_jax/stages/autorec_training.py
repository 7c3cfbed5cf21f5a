"""AutoRec as the recommender of the stage `rec_teacher`, trained on what seekers like.

The ratings are the answers to "liked" in the seekers' forms, 1 or 0. Before that, it is pretrained
on MovieLens if the user has it. Both trainings use the same loop.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath

from conkd_jax.artifacts.fingerprint import digest_files, outside_fingerprint, view
from conkd_jax.artifacts.stage import Context, Stage
from conkd_jax.config import Config, ConfigError
from conkd_jax.config.parts import AutoRecTraining
from conkd_jax.data.batches.loader import Batch
from conkd_jax.data.batches.plan import BatchPlan
from conkd_jax.data.corpus import Corpus, Dialogue
from conkd_jax.data.movielens import MovieLensError, Ratings, find_movielens, read_movielens
from conkd_jax.data.questionnaires import Questionnaires, read_questionnaires
from conkd_jax.data.rows.contract import FILL
from conkd_jax.data.rows.utterances import HistoryLimits
from conkd_jax.data.vocabulary import Vocabulary
from conkd_jax.io import terminal
from conkd_jax.io.files import by_hash
from conkd_jax.models.compute import Compute
from conkd_jax.models.recommenders import autorec
from conkd_jax.runtime import parallel
from conkd_jax.stages import sentiment
from conkd_jax.stages.autorec import AutoRecSpec, TrainedAutoRec, save
from conkd_jax.stages.rec_teacher import without_fold
from conkd_jax.stages.systems.recall import score
from conkd_jax.stages.training import (
    EXECUTION_CHANGES_NO_RESULT,
    Execution,
    compute_setting,
    make_loader,
    train,
)
from conkd_jax.training import loop
from conkd_jax.typing import Params

VERSION = 1
SCORED_SPLITS = ("dev", "valid")
MAX_RATINGS = 256  # of a MovieLens user, drawn by index; ReDial's dialogues have at most 30
HELD_OUT_USERS = 50  # one MovieLens user in so many selects the step


@dataclasses.dataclass(frozen=True)
class AutoRecSettings:
    """Settings of an AutoRec recommender.

    Attributes:
      model: the network and its training.
      movielens: the hashes of the MovieLens files; None without them.
      seed: config.teacher_seed.
      rng_impl: generator of the random subsets.
      fold: (k, K) trains without part k of K parts of the training split; None trains on all of it.
      limits: what is read of a history, if there is no sentiment model; else None, since AutoRec
        reads what the sentiment model does.
      compute_dtype: the type of the products in training (`compute_setting`). A trained AutoRec
        computes in float32.
      movielens_dir: the folder of the files.
      execution: devices and checkpoints.
    """

    model: AutoRecTraining
    movielens: Mapping[str, str] | None
    seed: int
    rng_impl: str
    fold: tuple[int, int] | None
    limits: HistoryLimits | None
    compute_dtype: str | None  # not "float32": an artifact of float32 has its old fingerprint
    movielens_dir: str = outside_fingerprint(because="the files enter by content, as movielens")
    execution: Execution = outside_fingerprint(because=EXECUTION_CHANGES_NO_RESULT)


def stage(config: Config, stages: Mapping[str, Stage], *, fold: int | None = None) -> Stage:
    """The AutoRec recommender of a config; arguments as in `rec_teacher.stage`.

    Raises:
      ConfigError: the MovieLens files are missing.
    """
    part, folder = config.rec_teacher, config.autorec.movielens_dir
    hears = config.autorec.use_sentiment
    try:
        movielens = digest_files(find_movielens(folder)) if folder else None
    except MovieLensError as error:
        raise ConfigError(f"config.autorec.movielens_dir: {error}") from error
    settings = AutoRecSettings(
        model=view(config.autorec, AutoRecTraining),
        movielens=movielens,
        seed=config.teacher_seed,
        rng_impl=config.rng_impl,
        fold=None if fold is None else (fold, part.cross_fit_folds),
        limits=None if hears else view(config.sentiment, HistoryLimits),
        compute_dtype=compute_setting(config),
        movielens_dir=folder,
        execution=Execution.of(config),
    )
    wanted = ("corpus", "questionnaires", "sentiment" if hears else "vocabulary")
    return Stage("rec_teacher", VERSION, settings, {name: stages[name] for name in wanted}, run)


def run(
    settings: AutoRecSettings, directory: epath.Path, context: Context
) -> dict[str, int | float]:
    """Trains AutoRec and keeps the parameters with the smallest leave-one-out error on dev.

    Returns:
      Metrics of every scored split (see `recommender.score`), and the step that was kept.
    """
    corpus = Corpus.open(context.inputs["corpus"])
    forms = read_questionnaires(context.inputs["questionnaires"])
    dialogues = without_fold(corpus.dialogues("train"), settings.fold)
    likes = {
        split: seeker_ratings(given, forms, corpus)
        for split, given in (("train", dialogues), ("dev", corpus.dialogues("dev")))
    }
    part = settings.model
    start, metrics = None, {}
    if settings.movielens is not None:
        start, metrics = _pretrained(settings, corpus, directory)
    elif parallel.is_first_process():
        terminal.say(
            "rec_teacher: AutoRec is trained on ReDial's questionnaires alone, without MovieLens "
            "(config.autorec.movielens_dir)"
        )
    task = make_task(
        part,
        "rec_teacher",
        likes["train"],
        likes["dev"],
        settings.seed,
        settings.execution,
        start,
        settings.compute_dtype,
    )
    result = _train(settings, task, directory)
    spec, heard = _listener(settings, context.inputs)
    trained = TrainedAutoRec(spec, result.params, heard)
    metrics |= {"num_samples": len(likes["train"].items), "best_step": result.step}
    for split in SCORED_SPLITS:
        if split in corpus.splits:
            scored = score(trained, corpus, split)
            metrics |= {f"{split}_{name}": value for name, value in scored.items()}
    save(directory, trained, metrics)
    return metrics


def _listener(
    settings: AutoRecSettings, inputs: Mapping[str, epath.Path]
) -> tuple[AutoRecSpec, Params]:
    """What is read of a history, and the parameters of the sentiment model, {} without one."""
    width = settings.model.hidden_dim
    if settings.limits is not None:
        vocabulary = Vocabulary.load(inputs["vocabulary"])
        return AutoRecSpec(width, settings.limits, vocabulary, sentiment=None), {}
    heard = sentiment.load(inputs["sentiment"])
    return AutoRecSpec(width, heard.limits, heard.vocabulary, heard.model.spec), heard.params


def _train(settings: AutoRecSettings, task: loop.Task, directory: epath.Path) -> loop.Result:
    return train(
        task,
        settings.model.optimizer,
        seed=settings.seed,
        rng_impl=settings.rng_impl,
        directory=directory,
        execution=settings.execution,
    )


def _pretrained(
    settings: AutoRecSettings, corpus: Corpus, directory: epath.Path
) -> tuple[Params, dict[str, int | float]]:
    """Parameters trained on MovieLens, and what was matched."""
    ratings = read_movielens(settings.movielens_dir, corpus.items.titles)
    matched = ratings.num_matched / ratings.num_movies
    if parallel.is_first_process():
        terminal.say(
            f"rec_teacher: MovieLens has ratings of {ratings.num_matched:,} of "
            f"{ratings.num_movies:,} movies ({matched:.1%}), by {len(ratings.items):,} users"
        )
    users = range(len(ratings.items))
    is_held_out = np.array([by_hash(f"user:{user}", HELD_OUT_USERS) == 0 for user in users])
    seen, held_out = (_chosen(ratings, chosen) for chosen in (~is_held_out, is_held_out))
    task = make_task(
        settings.model,
        "movielens",
        seen,
        held_out,
        settings.seed,
        settings.execution,
        compute_dtype=settings.compute_dtype,
    )
    result = _train(settings, task, directory / "movielens")
    return result.params, {"movielens_match_rate": matched, "movielens_best_step": result.step}


def _chosen(ratings: Ratings, is_chosen: np.ndarray) -> Ratings:
    """The ratings of some users, of each at most `MAX_RATINGS`, spread evenly over the movies."""
    items, values = [], []
    for user in np.flatnonzero(is_chosen):
        count = len(ratings.items[user])
        kept = np.unique(np.linspace(0, count - 1, min(count, MAX_RATINGS)).astype(int))
        items.append(ratings.items[user][kept])
        values.append(ratings.ratings[user][kept])
    return dataclasses.replace(ratings, items=items, ratings=values)


def seeker_ratings(dialogues: Sequence[Dialogue], forms: Questionnaires, corpus: Corpus) -> Ratings:
    """What the seekers like (1) and dislike (0); dialogues without an answer are left out."""
    candidate_of = {movie: index for index, movie in enumerate(corpus.items.item_ids.tolist())}
    items, ratings = [], []
    for dialogue in dialogues:
        likes = forms.seeker_likes(dialogue.conversation_id)
        known = {candidate_of[m]: like for m, like in likes.items() if m in candidate_of}
        if known:
            items.append(np.array(list(known), np.int32))
            ratings.append(np.array(list(known.values()), np.float32))
    matched = len({item for of_user in items for item in of_user.tolist()})
    return Ratings(items, ratings, matched, len(candidate_of))


class RatingBatches:
    """Assembles users into one device's arrays (the loader's `assemble`).

    Arrays: `items` [b, K], -1 for padding; `ratings` [b, K]; `weights` [b], 1 / users in the global
    batch, 0 for padding.
    """

    def __init__(self, ratings: Ratings):
        width = max(len(items) for items in ratings.items)
        self.items = np.full((len(ratings.items), width), -1, np.int32)
        self.ratings = np.zeros((len(ratings.items), width), np.float32)
        for user, (items, values) in enumerate(zip(ratings.items, ratings.ratings, strict=True)):
            self.items[user, : len(items)] = items
            self.ratings[user, : len(items)] = values

    def __call__(self, row_ids: np.ndarray, bucket_length: int, step_rows: np.ndarray) -> Batch:
        """The arrays for the given users; FILL stands for padding."""
        del bucket_length  # all users are padded to the same number of ratings
        is_real = row_ids != FILL
        weight = 1.0 / np.count_nonzero(step_rows != FILL)
        return {
            "items": np.where(is_real[:, None], self.items[row_ids], -1).astype(np.int32),
            "ratings": self.ratings[row_ids],
            "weights": np.where(is_real, weight, 0.0).astype(np.float32),
        }


def rating_loss(params, batch, rng, constants, *, dtype: str = Compute.dtype):
    """Σ over all ratings of a user of (σ(ŷ) - r)², where AutoRec sees a random part of them.

    The size of that part is drawn for each user, from none to all. The products are of type
    `dtype`.
    """
    size = batch["items"].shape
    one, other = jax.random.split(rng)
    share = jax.random.uniform(one, (size[0], 1))
    is_seen = jax.random.uniform(other, size) < share
    seen = jnp.where(is_seen, batch["items"], -1)
    users = autorec.user_vectors(params, seen, batch["ratings"], dtype)
    predicted = autorec.scores(params, users, dtype)
    errors = autorec.squared_error(predicted, batch["items"], batch["ratings"])
    count = (batch["items"] >= 0).sum()
    return (errors * batch["weights"]).sum(), {"tokens": (count, count)}


def leave_one_out_error(params: Params, batches: RatingBatches, batch_size: int = 64) -> float:
    """The mean of (σ(ŷ_j) - r_j)² over all ratings, each predicted from the user's others."""
    total, count = 0.0, 0
    for start in range(0, len(batches.items), batch_size):
        part = slice(start, start + batch_size)
        items, ratings = batches.items[part], batches.ratings[part]
        short = ((0, batch_size - len(items)), (0, 0))
        items = np.pad(items, short, constant_values=-1)
        errors = _left_out_errors(params, items, np.pad(ratings, short))
        total += float(errors.sum())
        count += int((items >= 0).sum())
    return total / max(count, 1)


@jax.jit
def _left_out_errors(params, items, ratings):
    """[B, K] the squared error of each rating, without it in the input."""

    def without(place):
        seen = jnp.where(jnp.arange(items.shape[1]) == place, -1, items)
        predicted = autorec.scores(params, autorec.user_vectors(params, seen, ratings))
        is_target = jnp.broadcast_to(jnp.arange(items.shape[1]) == place, items.shape)
        return autorec.squared_error(predicted, items, ratings, is_target)

    return jax.lax.map(without, jnp.arange(items.shape[1]))


def make_task(
    part: AutoRecTraining,
    name: str,
    ratings: Ratings,
    held_out: Ratings,
    seed: int,
    execution: Execution,
    start: Params | None = None,
    compute_dtype: str | None = None,
) -> loop.Task:
    """The task of the loop; the leave-one-out error of the held-out users selects the step.

    Args:
      part: the network and its training.
      name: for messages.
      ratings: of the users that are trained on.
      held_out: of those that select the step.
      seed: of the order of the users.
      execution: devices.
      start: parameters to start from; None draws them.
      compute_dtype: the type of the products in training; None for float32.

    Raises:
      ConfigError: there are no ratings to train on, or none to select by.
    """
    for which, given in (("train on", ratings), ("select the step by", held_out)):
        if not given.items:
            raise ConfigError(
                f"config.rec_teacher.architecture: autorec expects ratings to {which}, found none"
            )
    plan = BatchPlan(np.ones(len(ratings.items)), part.batch_size, (1,), seed)
    loader = make_loader(plan, RatingBatches(ratings), part.optimizer, execution)
    dev = RatingBatches(held_out)

    def init(rng: jax.Array) -> Params:
        if start is not None:
            return start
        return autorec.init_autorec(rng, ratings.num_movies, part.hidden_dim)

    def evaluate(params: Any) -> dict[str, float]:
        return {"dev_error": leave_one_out_error(params, dev)}

    return loop.Task(
        name=name,
        init=init,
        loss=functools.partial(rating_loss, dtype=compute_dtype or Compute.dtype),
        loader=loader,
        num_steps=part.epochs * plan.steps_per_epoch,
        evaluate=evaluate,
        evaluate_every=plan.steps_per_epoch,
        select=("dev_error", "min"),
        patience=part.patience,
    )
