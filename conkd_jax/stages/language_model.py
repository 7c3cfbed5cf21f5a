"""The one way a language model is trained here: teacher and student differ in data, not in code.

A dialogue teacher is a GPT-2 trained by NLL on rows without tags; a student is a GPT-2 trained by
the gated KD loss on rows with tags. Both are the same `Task` for the one loop: features at the
response tokens, a head, and `fused_gated_kd_loss`, whose teachers are simply absent for the former.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator

import jax
import numpy as np
from etils import epath

from conkd_jax import checkpoint, loop, parallel
from conkd_jax.config import ConfigError
from conkd_jax.data.batches import FILL, GPT2Batches, Loader, Plan, quantile_buckets
from conkd_jax.data.rows import Rows
from conkd_jax.data.vocabulary import Vocabulary
from conkd_jax.distill.fused import fused_gated_kd_loss
from conkd_jax.eval.scoring import response_features, score_tokens
from conkd_jax.models import gpt2

SPEC_FILE = "model.json"
SCORING_BUCKETS = 8  # more than in training: no gradient is compiled
STORE_CACHE_BYTES = 2 << 30  # a store up to this size is read into memory once


@dataclasses.dataclass(frozen=True)
class LanguageModel:
    """A GPT-2, its weights and the vocabulary that its rows belong to."""

    model: gpt2.GPT2
    params: dict
    vocabulary: Vocabulary

    @property
    def num_targets(self) -> int:
        return self.vocabulary.num_targets

    def head(self):
        return self.model.head(self.params, self.num_targets)

    def score(self, rows: Rows, form: str, batch_rows: int, progress=iter):
        """Teacher-forced scores of every response of `rows` (see `eval.scoring`)."""
        return score_tokens(
            self.model,
            self.params,
            sequential(rows, self.vocabulary, form, batch_rows),
            num_words=self.vocabulary.num_words,
            num_targets=self.num_targets,
            progress=progress,
        )


def initial(part, vocabulary: Vocabulary, seed: int, rng_impl: str) -> LanguageModel:
    """The model before any training on dialogues: named weights and new item rows, or random ones.

    Args:
      part: the `dialogue_teacher` part of a config: weights and sizes, of students too.
      vocabulary: gives the number of rows and every title's sub-words.
      seed, rng_impl: of the random parts.

    Raises:
      ConfigError: the named weights can't be read.
    """
    rng = jax.random.key(seed, impl=rng_impl)
    if part.weights == "random":
        spec = gpt2.GPT2Spec(
            num_layers=part.num_layers,
            embed_dim=part.embed_dim,
            num_heads=part.num_heads,
            num_positions=part.num_positions,
            dropout=part.dropout,
        )
        model = gpt2.GPT2(spec, vocabulary.num_rows)
        return LanguageModel(model, model.init(rng), vocabulary)
    try:
        spec, params = gpt2.load_pretrained(part.weights)
    except (FileNotFoundError, ValueError) as error:
        raise ConfigError(f"config.dialogue_teacher.weights: {error}") from error
    spec = dataclasses.replace(spec, dropout=part.dropout)
    titles = [vocabulary.title_token_ids(item) for item in range(vocabulary.num_items)]
    params = gpt2.extend_embedding(params, vocabulary.num_words, titles, vocabulary.num_rows, rng)
    return LanguageModel(gpt2.GPT2(spec, vocabulary.num_rows), params, vocabulary)


def save(language_model: LanguageModel, directory: epath.Path) -> None:
    """Writes weights and sizes of a trained model as an artifact's content."""
    spec = dataclasses.asdict(language_model.model.spec)
    checkpoint.save(directory / "params", language_model.params)
    if jax.process_index() == 0:
        (directory / SPEC_FILE).write_text(json.dumps(spec, indent=2))


def load(directory: epath.Path, vocabulary: Vocabulary) -> LanguageModel:
    """Reads what `save` wrote."""
    spec = gpt2.GPT2Spec(**json.loads((directory / SPEC_FILE).read_text()))
    model = gpt2.GPT2(spec, vocabulary.num_rows)
    return LanguageModel(model, checkpoint.load(directory / "params"), vocabulary)


def loader(
    config, part, rows: Rows, vocabulary: Vocabulary, form: str, *, seed: int, store=None
) -> Loader:
    """Training batches of whole-dialogue rows, a pure function of (seed, step, host)."""
    lengths = rows.lengths
    plan = Plan(lengths, part.batch_rows, quantile_buckets(lengths, part.num_buckets), seed)
    assemble = GPT2Batches(
        rows,
        vocabulary,
        plan,
        form,
        weighting=part.weighting,
        store=store,
        cache_in_memory=STORE_CACHE_BYTES,
    )
    return Loader(
        plan,
        assemble,
        parallel.num_devices(config.parallel.num_devices),
        part.optimizer.accumulate_steps,
        jax.process_index(),
        jax.process_count(),
    )


def sequential(
    rows: Rows,
    vocabulary: Vocabulary,
    form: str,
    batch_rows: int,
    row_range: range | None = None,
) -> Iterator[tuple[np.ndarray, dict[str, np.ndarray]]]:
    """Every row of a range once, in a fixed order, for scoring.

    Yields:
      Response ids [G], in the order of the batch's targets, and one device's micro-batch.
    """
    lengths = rows.lengths
    plan = Plan(lengths, batch_rows, quantile_buckets(lengths, SCORING_BUCKETS), seed=0)
    assemble = GPT2Batches(rows, vocabulary, plan, form)
    wanted = range(rows.num_rows) if row_range is None else row_range
    for bucket in plan.bucket_lengths:
        members = plan.rows_of(bucket)
        members = members[(members >= wanted.start) & (members < wanted.stop)]
        for start in range(0, len(members), batch_rows):
            row_ids = members[start : start + batch_rows]
            responses = [np.arange(*rows.row_offsets[row : row + 2]) for row in row_ids]
            filled = np.full(batch_rows, FILL, np.int64)
            filled[: len(row_ids)] = row_ids
            yield np.concatenate(responses), assemble(filled, bucket, filled)


@dataclasses.dataclass(frozen=True)
class Distillation:
    """What a student's loss needs beyond labels.

    Attributes:
      gate: maps the stored item mass [N] to λ [N].
      gamma: γ of eq. 10.
      teacher: builds the fused loss's dialogue teacher from (batch, constants).
      rec_logits: recommender logits [G, I] from (batch, constants).
      constants: both teachers' heads, replicated on the devices.
    """

    gate: Callable
    gamma: float
    teacher: Callable
    rec_logits: Callable
    constants: dict


def train(
    name: str,
    start: LanguageModel,
    batches: Loader,
    part,
    *,
    config,
    seed: int,
    directory: epath.Path,
    dev: Rows,
    form: str,
    keep: str,
    distillation: Distillation | None = None,
) -> tuple[LanguageModel, loop.Result]:
    """Trains `start` on `batches`: by the gated KD loss where `distillation` is given, else by NLL.

    Args:
      part: epochs and optimizer.
      dev: rows whose teacher-forced scores close every epoch.
      form: of the dev rows, "teacher" or "student".
      keep: "best" (lowest dev NLL) or "last".
    """
    steps_per_epoch = batches.plan.steps_per_epoch

    def evaluate(params) -> dict[str, float]:
        scored = dataclasses.replace(start, params=params).score(dev, form, part.batch_rows)
        return {f"dev_{key}": value for key, value in scored.summary().items()}

    task = loop.Task(
        name=name,
        init=lambda rng: start.params,
        loss=make_loss(start, config.distill.chunk_size, distillation),
        constants={} if distillation is None else distillation.constants,
        loader=batches,
        num_steps=part.epochs * steps_per_epoch,
        evaluate=evaluate,
        evaluate_every=steps_per_epoch,
        select=("dev_nll", "min") if keep == "best" else None,
    )
    result = loop.train(
        task,
        part.optimizer,
        seed=seed,
        directory=directory,
        log_dir=directory / "tensorboard",
        num_devices=config.parallel.num_devices,
        checkpoint_every=config.checkpoint_every,
        rng_impl=config.rng_impl,
    )
    return dataclasses.replace(start, params=result.params), result


def make_loss(
    start: LanguageModel, chunk_size: int, distillation: Distillation | None = None
) -> parallel.Loss:
    """The loss of one device's micro-batch: features at the response tokens, head, gated KD."""
    vocabulary, model = start.vocabulary, start.model

    def loss(params, batch, rng, constants):
        given, metrics = {}, {}
        if distillation is not None:
            gate = distillation.gate(batch["item_mass"])  # [N]
            given = {
                "teacher": distillation.teacher(batch, constants),
                "rec_logits": distillation.rec_logits(batch, constants),
                "response_index": batch["response_index"],
                "gate": gate,
                "gamma": distillation.gamma,
            }
            mask = batch["loss_mask"]
            metrics["gate"] = ((gate * mask).sum(), mask.sum())
        total, nll = fused_gated_kd_loss(
            response_features(model, params, batch, rng),
            model.head(params, vocabulary.num_targets),
            batch["labels"],
            batch["weights"],
            num_tokens=batch["num_tokens"],
            num_words=vocabulary.num_words,
            chunk_size=chunk_size,
            **given,
        )
        metrics["nll"] = (nll, batch["weights"].sum())
        metrics["tokens"] = (batch["num_tokens"], batch["num_tokens"])
        return total, metrics

    return loss
