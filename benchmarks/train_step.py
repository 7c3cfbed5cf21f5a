"""One step of training: with both teachers, with the NLL alone, and the same in PyTorch.

    python -m benchmarks.train_step --json=docs/results/benchmarks/train_step.json

A step is what a training repeats: features of a batch of dialogues, the loss at the response
tokens, all gradients, clipping and AdamW. Ours is the step that `conkd_jax.train` runs, made by the
same functions. The peer is Hugging Face's GPT-2 with PyTorch's fused attention, to which the usual
economy is added: logits are made at response tokens only. Its ConKD loss is written down as in a
first implementation (`benchmarks.kd_head`), from the teacher's stored features.

All start from one checkpoint, without dropout, and have to agree on the loss and on the gradient of
every parameter before any step is timed.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import tempfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from benchmarks import side_by_side
from benchmarks.random_gpt2 import SIZES, GPT2Size, make_model, random_tokens, write_checkpoint
from benchmarks.report import Bound, Report, read_options
from benchmarks.side_by_side import Contender, Run, use_torch
from conkd_jax.config import OptimizerConfig
from conkd_jax.data.teacher_store.schema import TeacherHeads
from conkd_jax.models.gpt2 import GPT2, load_pretrained
from conkd_jax.runtime import parallel
from conkd_jax.stages.language_model import LanguageModel
from conkd_jax.stages.language_model_training import make_loss
from conkd_jax.stages.student import GateSettings, distillation_from
from conkd_jax.stages.train_step_memory import vocabulary_of_size
from conkd_jax.training import layouts, optimizers

GAMMA, ETA = 0.4, 0.6
USER_DIM = 128  # of the recommender's vectors
RESPONSE = 16  # tokens of every response; contexts are about three times as long
CHUNK_SIZE = 256
OPTIMIZER = OptimizerConfig(learning_rate=1e-3)
NUM_STEPS = 10_000  # of the schedule

NLL, CONKD = "conkd_jax, NLL", "conkd_jax, ConKD"
TORCH_NLL, TORCH_CONKD = "Hugging Face + PyTorch, NLL", "Hugging Face + PyTorch, ConKD"


@dataclasses.dataclass(frozen=True)
class Batch:
    """The size of a batch, and the target of ConKD's time over the NLL's."""

    model: str
    num_rows: int
    length: int
    bound: Bound | None = None


CASES = {
    "full": (
        Batch("mini", 16, 160, Bound(1.25, stretch=1.12)),
        Batch("small", 2, 256, Bound(1.25, stretch=1.12)),
    ),
    "tiny": (Batch("tiny", 2, 64),),
}


def make_batch(size: GPT2Size, batch: Batch, seed: int = 0) -> dict[str, np.ndarray]:
    """A micro-batch as `LanguageModelBatches` makes it, in which every fourth token is a target."""
    rng = np.random.default_rng(seed)
    input_ids = random_tokens(size, (batch.num_rows, batch.length), seed)
    ends = np.arange(4 * RESPONSE, batch.length + 1, 4 * RESPONSE)
    within = (ends[:, None] - RESPONSE + np.arange(RESPONSE)).ravel()  # places of labels in a row
    rows = np.arange(batch.num_rows)[:, None] * batch.length
    labels = rng.integers(0, size.num_targets, (batch.num_rows, len(within)), dtype=np.int32)
    input_ids[:, within] = labels
    num_responses = batch.num_rows * len(ends)
    n = labels.size
    return {
        "input_ids": input_ids,
        "feature_index": (rows + within - 1).ravel().astype(np.int32),
        "labels": labels.ravel(),
        "weights": np.full(n, 1 / (RESPONSE * num_responses), np.float32),
        "loss_mask": np.ones(n, np.float32),
        "response_index": np.repeat(np.arange(num_responses, dtype=np.int32), RESPONSE),
        "num_tokens": np.array(n, np.int32),
        "response_id": np.arange(num_responses, dtype=np.int32),
        "teacher_features": rng.standard_normal((n, size.width), dtype=np.float32),
        "item_mass": rng.random(n, dtype=np.float32),
        "user_vectors": rng.standard_normal((num_responses, USER_DIM), dtype=np.float32),
        "rec_head_index": np.zeros(num_responses, np.int32),
    }


def make_heads(size: GPT2Size, seed: int = 1) -> TeacherHeads:
    """The output layers of both teachers."""
    rng = np.random.default_rng(seed)

    def normal(*shape: int) -> np.ndarray:
        return 0.1 * rng.standard_normal(shape, dtype=np.float32)

    return TeacherHeads(
        rec_kernels=normal(1, USER_DIM, size.num_items),
        rec_biases=normal(1, size.num_items),
        dialogue_kernel=normal(size.width, size.num_targets),
        dialogue_bias=np.zeros(size.num_targets, np.float32),
    )


def with_log_normalizer(batch: Mapping[str, np.ndarray], heads: TeacherHeads) -> dict[str, Any]:
    """The batch with the teacher's log-normaliser, which the store holds as well."""
    found = []
    for chunk in np.array_split(batch["teacher_features"], -(-len(batch["labels"]) // CHUNK_SIZE)):
        logits = chunk @ heads.dialogue_kernel
        top = logits.max(1)
        found.append(top + np.log(np.exp(logits - top[:, None]).sum(1)))
    return {**batch, "teacher_log_normalizer": np.concatenate(found)}


# --- ours ------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Ours:
    """The pieces of this project's step.

    Attributes:
      start: the model before the first step.
      loss: of one micro-batch.
      constants: what every step reads.
      batch: one micro-batch.
    """

    start: LanguageModel
    loss: parallel.Loss
    constants: dict[str, Any]
    batch: dict[str, Any]

    @classmethod
    def of(cls, size: GPT2Size, folder: str, batch: Mapping, heads: TeacherHeads | None) -> Ours:
        """The pieces for the gated distillation loss or, without teachers' heads, the NLL."""
        spec, params = load_pretrained(folder)
        spec = dataclasses.replace(spec, dropout=0.0)
        vocabulary = vocabulary_of_size(size.num_words, size.num_items)
        start = LanguageModel(GPT2(spec, size.num_targets), params, vocabulary)
        taught, constants = None, {}
        if heads is not None:
            gate = GateSettings(gamma=GAMMA, gate="hard", eta=ETA)
            taught = distillation_from(gate, heads, format="features", fitted_eta=None)
            constants = taught.constants
        loss = make_loss(start, CHUNK_SIZE, taught)
        return cls(start, loss, {"frozen": {}, **constants}, dict(batch))

    def gradients(self) -> tuple[Any, Any]:
        """The loss and the gradient of every parameter."""

        def loss(params, batch, constants):
            return self.loss(params, batch, jax.random.key(0), constants)[0]

        return jax.jit(jax.value_and_grad(loss))(self.start.params, self.batch, self.constants)

    def step(self) -> Run:
        """A function that does one step after the other."""
        layout = layouts.layout_of("pmap", jax.devices()[:1])
        optimizer = optimizers.make_optimizer(OPTIMIZER, NUM_STEPS)
        update = layout.train_step(self.loss, optimizer)
        params = self.start.params
        state = layout.put(parallel.TrainState(params, optimizer.init(params), np.int32(0)))
        key = jax.random.key_data(jax.random.key(0))
        fixed = layout.put({"key": key, "constants": self.constants})
        batch = layout.put_batch(
            jax.tree.map(lambda leaf: np.asarray(leaf)[None, None], self.batch)
        )

        def run():
            nonlocal state
            state, metrics = update(state, batch, fixed)
            return jax.block_until_ready((state.step, metrics["loss"]))

        return run


# --- the peer --------------------------------------------------------------------------------


class Torch:
    """Hugging Face's GPT-2 and PyTorch's AdamW."""

    def __init__(self, size: GPT2Size, batch: Mapping[str, Any], heads: TeacherHeads | None):
        self._torch, self._size = use_torch(), size
        self._model = make_model(size)
        self._batch = {name: self._torch.from_numpy(np.asarray(v)) for name, v in batch.items()}
        self._heads = heads and {
            name: self._torch.from_numpy(value)
            for name, value in vars(heads).items()
            if value is not None
        }

    def _loss(self) -> Any:
        torch, batch = self._torch, self._batch
        states = self._model.transformer(batch["input_ids"].long()).last_hidden_state
        features = states.reshape(-1, states.shape[-1])[batch["feature_index"].long()]
        log_probs = torch.log_softmax(features @ self._model.lm_head.weight.T, -1)
        losses = -log_probs.gather(1, batch["labels"].long()[:, None])[:, 0]
        if self._heads is not None:
            with torch.no_grad():
                dialogue = torch.softmax(
                    batch["teacher_features"] @ self._heads["dialogue_kernel"], -1
                )
                rec = batch["user_vectors"] @ self._heads["rec_kernels"][0]
                rec = torch.softmax(rec + self._heads["rec_biases"][0], -1)
                rec = rec[batch["response_index"].long()]
            gate = (batch["item_mass"] >= ETA).float()
            dialogue_kd = -(dialogue * log_probs).sum(-1)
            rec_kd = -(rec * log_probs[:, self._size.num_words :]).sum(-1)
            losses = (1 - GAMMA) * losses + GAMMA * ((1 - gate) * dialogue_kd + gate * rec_kd)
        return (batch["weights"] * losses).sum()

    def gradients(self) -> tuple[Any, Any]:
        """The loss, and the gradients in the layout of our parameters."""
        loss = self._loss()
        loss.backward()
        gradients = make_model(self._size)
        with self._torch.no_grad():
            for name, parameter in gradients.named_parameters():
                parameter.copy_(self._model.get_parameter(name).grad)
        self._model.zero_grad()
        with tempfile.TemporaryDirectory() as folder:  # a checkpoint of gradients
            gradients.save_pretrained(folder)
            return loss.detach(), load_pretrained(folder)[1]

    def step(self) -> Run:
        """A function that does one step after the other."""
        torch, parameters = self._torch, list(self._model.parameters())
        optimizer = torch.optim.AdamW(
            parameters,
            OPTIMIZER.learning_rate,
            (OPTIMIZER.b1, OPTIMIZER.b2),
            OPTIMIZER.eps,
            OPTIMIZER.weight_decay,
        )

        def run():
            optimizer.zero_grad(set_to_none=True)
            loss = self._loss()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, OPTIMIZER.clip_norm)
            optimizer.step()
            return loss.detach()

        return run


# --- the comparison --------------------------------------------------------------------------


def make_contenders(size: GPT2Size, folder: str, batch: Mapping[str, Any], heads: TeacherHeads):
    """Two of ours and two of the peer: with the NLL, and with both teachers."""

    def contender(name: str, package: str, work: str, make: Callable[[], Any]) -> Contender:
        made = functools.cache(make)
        return Contender(
            name, lambda: made().step(), package, work=work, outputs=lambda: made().gradients()
        )

    return [
        contender(NLL, "", "NLL", lambda: Ours.of(size, folder, batch, None)),
        contender(CONKD, "", "ConKD", lambda: Ours.of(size, folder, batch, heads)),
        contender(TORCH_NLL, "torch", "NLL", lambda: Torch(size, batch, None)),
        contender(TORCH_CONKD, "torch", "ConKD", lambda: Torch(size, batch, heads)),
    ]


def add_case(report: Report, options: argparse.Namespace, batch: Batch) -> None:
    """Adds the steps of one size."""
    size = SIZES[batch.model]
    heads = make_heads(size)
    arrays = with_log_normalizer(make_batch(size, batch), heads)
    with tempfile.TemporaryDirectory() as folder:
        write_checkpoint(make_model(size), folder, size)
        contenders = make_contenders(size, folder, arrays, heads)
        found = side_by_side.measure_time(contenders, options.rounds, options.pause)
    facts = {
        "rows": batch.num_rows,
        "tokens": batch.length,
        "targets": len(arrays["labels"]),
        "Y": size.num_targets,
    }
    case = report.case(batch.model, facts, found)
    case.ratio("seconds", CONKD, NLL, batch.bound)
    case.ratio("seconds", NLL, TORCH_NLL)
    case.ratio("seconds", CONKD, TORCH_CONKD)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns its exit status."""
    options = read_options(__doc__, CASES, argv)
    report = Report("train_step", options)
    for batch in CASES[options.size]:
        add_case(report, options, batch)
    return report.finish()


if __name__ == "__main__":
    raise SystemExit(main())
