"""The one way a language model is trained here: teacher and student differ in data, not in code.

A dialogue teacher is trained by NLL on rows without tags; a student is the same model, trained by
the gated KD loss on rows with tags. Both are the same `Task` for the one loop: features at the
response tokens, a head, and `fused_gated_kd_loss`, whose teachers are simply absent for the former.
Which model that is, a GPT-2 or KGSF's, only `stages.backbones` knows.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping

import jax
import numpy as np
from etils import epath

from conkd_jax import checkpoint, loop, optimizers, parallel
from conkd_jax.config import ConfigError
from conkd_jax.data.batches import LanguageModelBatches, Loader, Plan, quantile_buckets
from conkd_jax.data.rows.contract import FILL, Rows
from conkd_jax.data.vocabulary import Vocabulary
from conkd_jax.distill.fused import fused_gated_kd_loss
from conkd_jax.distill.gates import open_gate
from conkd_jax.eval.scoring import response_features, score_tokens
from conkd_jax.models.backbone import Backbone
from conkd_jax.stages import backbones

SPEC_FILE, PARAMS, FROZEN = "model.json", "params", "frozen"
SCORING_BUCKETS = 4  # lengths that rows are padded to for scoring
STORE_CACHE_BYTES = 2 << 30  # a store up to this size is read into memory once


@dataclasses.dataclass(frozen=True)
class LanguageModel:
    """A model, its weights and the vocabulary that its rows belong to.

    Attributes:
      model: the architecture.
      params: what is trained.
      vocabulary: whose tokens the rows are made of.
      frozen: arrays that the model reads and no training changes, beside `params`.
    """

    model: Backbone
    params: dict
    vocabulary: Vocabulary
    frozen: dict = dataclasses.field(default_factory=dict)

    @property
    def variables(self) -> dict:
        """All arrays: what the model's functions take."""
        return {**self.params, **self.frozen}

    @property
    def num_targets(self) -> int:
        return self.vocabulary.num_targets

    def head(self):
        return self.model.head(self.variables, self.num_targets)

    def score(self, rows: Rows, form: str, batch_rows: int, progress=iter):
        """Teacher-forced scores of every response of `rows` (see `eval.scoring`)."""
        return score_tokens(
            self.model,
            self.variables,
            sequential(rows, self.vocabulary, form, batch_rows),
            num_words=self.vocabulary.num_words,
            num_targets=self.num_targets,
            progress=progress,
        )


def initial(
    config, inputs: Mapping[str, epath.Path], vocabulary: Vocabulary, seed: int
) -> LanguageModel:
    """The model of a config before any training on dialogues, as its backbone makes it.

    Args:
      inputs: artifact folders by stage name.
      seed: of the random parts.

    Raises:
      ConfigError: the named weights can't be read.
    """
    model, params, frozen = backbones.of(config).initial(config, inputs, vocabulary, seed)
    return LanguageModel(model, params, vocabulary, frozen)


def save(language_model: LanguageModel, directory: epath.Path) -> None:
    """Writes weights and sizes of a trained model as an artifact's content."""
    spec = dataclasses.asdict(language_model.model.spec)
    checkpoint.save(directory / PARAMS, language_model.params)
    if language_model.frozen:
        checkpoint.save(directory / FROZEN, language_model.frozen)
    if jax.process_index() == 0:
        (directory / SPEC_FILE).write_text(json.dumps(spec, indent=2))


def load(config, directory: epath.Path, vocabulary: Vocabulary) -> LanguageModel:
    """Reads what `save` wrote for a model of the config's backbone."""
    spec = json.loads((directory / SPEC_FILE).read_text())
    frozen = checkpoint.load(directory / FROZEN) if (directory / FROZEN).exists() else {}
    model = backbones.of(config).model_of(spec, vocabulary)
    return LanguageModel(model, checkpoint.load(directory / PARAMS), vocabulary, frozen)


def check_schedule(config, name: str, rows: Rows) -> None:
    """Holds a part's learning rates to the length of its training on some rows.

    Raises:
      ConfigError: they can't work for so many steps; names the field.
    """
    part, lengths = config[name], rows.lengths
    plan = Plan(lengths, part.batch_rows, quantile_buckets(lengths, part.num_buckets), seed=0)
    try:
        optimizers.make_optimizer(part.optimizer, part.epochs * plan.steps_per_epoch)
    except ValueError as error:
        raise ConfigError(f"config.{name}.{error}") from error


def loader(
    config, part, rows: Rows, vocabulary: Vocabulary, form: str, *, seed: int, store=None
) -> Loader:
    """Training batches of rows, a pure function of (seed, step, host)."""
    lengths = rows.lengths
    plan = Plan(lengths, part.batch_rows, quantile_buckets(lengths, part.num_buckets), seed)
    assemble = LanguageModelBatches(
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
    assemble = LanguageModelBatches(rows, vocabulary, plan, form)
    wanted = range(rows.num_rows) if row_range is None else row_range
    for bucket in plan.bucket_lengths:
        members = plan.rows_of(bucket)
        members = members[(members >= wanted.start) & (members < wanted.stop)]
        for start in range(0, len(members), batch_rows):
            row_ids = members[start : start + batch_rows]
            filled = np.full(batch_rows, FILL, np.int64)
            filled[: len(row_ids)] = row_ids
            yield rows.responses_of(row_ids), assemble(filled, bucket, filled)


@dataclasses.dataclass(frozen=True)
class Distillation:
    """What a student's loss needs beyond labels.

    Attributes:
      gate: maps the stored item mass [N], and the teacher's distribution if it asks, to λ [N].
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
        constants={
            "frozen": start.frozen,
            **({} if distillation is None else distillation.constants),
        },
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
        variables = {**params, **constants["frozen"]}
        if distillation is not None:
            teacher = distillation.teacher(batch, constants)
            gate = open_gate(
                distillation.gate, batch["item_mass"], teacher, vocabulary.num_targets
            )  # [N]
            given = {
                "teacher": teacher,
                "rec_logits": distillation.rec_logits(batch, constants),
                "response_index": batch["response_index"],
                "gate": gate,
                "gamma": distillation.gamma,
            }
            mask = batch["loss_mask"]
            metrics["gate"] = ((gate * mask).sum(), mask.sum())
        total, nll = fused_gated_kd_loss(
            response_features(model, variables, batch, rng),
            model.head(variables, vocabulary.num_targets),
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
