"""The fused gated-KD head against straightforward code for the same loss.

    python -m benchmarks.kd_head --json=docs/results/benchmarks/kd_head.json

Each contender computes one loss (eqs. 8 to 11) and its gradients with respect to the student's
features and its table, the rows of a tied embedding. The dialogue teacher is read in one of two
forms: its stored logits, or its stored features, from which its head makes logits again. Ours never
holds the logits of all tokens. The peers:

* PyTorch naive and JAX naive hold them, write the equations down and leave the rest to automatic
  differentiation, as a first implementation would.
* PyTorch chunked is the closed form of the same gradients, in chunks and in place: PyTorch at its
  best, written here because no library has this loss.
* Liger's FusedLinearJSD with β = 0 is the nearest that a library has: a hard and a soft target from
  hidden states, but no gate and no second teacher. Ours is measured without them as well, and
  Liger's Kullback-Leibler divergence becomes our cross-entropy by adding the teacher's entropy.

What no implementation from features can leave out are four products of matrices: the logits of
student and teacher, and the gradients of features and table. Alone, without a softmax between them,
they are measured as well, as a bound of what fusing can reach.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import products, side_by_side
from benchmarks.report import Bound, Report, read_options
from benchmarks.side_by_side import Compiled, Contender, Run, use_torch
from conkd_jax.distill.fused import fused_gated_kd_loss
from conkd_jax.distill.head import Head
from conkd_jax.distill.losses import gated_kd_loss
from conkd_jax.distill.teachers import TeacherFeatures, TeacherLogits

GAMMA = 0.4
CHUNK_SIZE = 256  # tokens, of ours and of the chunked peers

FROM_LOGITS = "conkd_jax, from logits"
FROM_FEATURES = "conkd_jax, from features"
UNGATED = "conkd_jax, one teacher, from features"
TORCH_FROM_LOGITS = "PyTorch naive, from logits"
TORCH_FROM_FEATURES = "PyTorch naive, from features"
JAX_FROM_LOGITS = "JAX naive, from logits"
JAX_FROM_FEATURES = "JAX naive, from features"
CHUNKED = "PyTorch chunked closed form, from features"
LIGER = "Liger FusedLinearJSD, one teacher"
JAX_PRODUCTS = "JAX, the four products alone"
TORCH_PRODUCTS = "PyTorch, the four products alone"

ROUNDS_OF_PRODUCTS = 3
PAIRS = (
    (FROM_LOGITS, TORCH_FROM_LOGITS),
    (FROM_LOGITS, JAX_FROM_LOGITS),
    (FROM_FEATURES, TORCH_FROM_FEATURES),
    (FROM_FEATURES, JAX_FROM_FEATURES),
    (FROM_FEATURES, CHUNKED),
    (UNGATED, LIGER),
)
BOUNDED_BY = ((FROM_FEATURES, JAX_PRODUCTS), (CHUNKED, TORCH_PRODUCTS))


@dataclasses.dataclass(frozen=True)
class Shape:
    """One size of the head.

    Attributes:
      num_tokens: N, response tokens of a batch.
      num_words: |V|.
      num_items: |I|; Y = V + I.
      width: F, of features.
      num_responses: G, over which the recommender's rows are shared.
    """

    num_tokens: int
    num_words: int
    num_items: int
    width: int
    num_responses: int

    @property
    def facts(self) -> dict[str, int]:
        """For tables."""
        return {"N": self.num_tokens, "Y": self.num_words + self.num_items, "F": self.width}


def of_paper(num_tokens: int) -> Shape:
    """DialoGPT-small's head with ReDial's items: Y = 57,216."""
    return Shape(num_tokens, 50_292, 6_924, 768, 64)


TIMES = {  # size -> (case, shape, targets of its ratios of times)
    "full": (
        ("the mini preset", Shape(1536, 4224, 6924, 192, 128), {}),
        ("paper, N = 256", of_paper(256), {}),
        ("paper, N = 512", of_paper(512), {}),
        (
            "paper, N = 1,024",
            of_paper(1024),
            {
                (FROM_LOGITS, TORCH_FROM_LOGITS): Bound(0.60, stretch=0.40),
                (FROM_FEATURES, CHUNKED): Bound(0.70, stretch=0.50),
            },
        ),
    ),
    "tiny": (("tiny", Shape(40, 50, 14, 8, 4), {}),),
}
MEMORY = {  # size -> shapes; all contenders are measured at the second, two at every shape
    "full": (of_paper(1024), of_paper(2048), of_paper(4096)),
    "tiny": (),
}
AT_EVERY_SHAPE = (FROM_FEATURES, TORCH_FROM_FEATURES)
MEMORY_BOUND, GROWTH_BOUND = Bound(0.20, stretch=0.12), Bound(1.1, stretch=1.0)


def make_inputs(shape: Shape, seed: int = 0) -> dict[str, np.ndarray]:
    """The arrays of one random batch."""
    rng = np.random.default_rng(seed)

    def normal(*size: int) -> np.ndarray:
        return 0.3 * rng.standard_normal(size, dtype=np.float32)

    n, num_targets = shape.num_tokens, shape.num_words + shape.num_items
    return {
        "features": normal(n, shape.width),
        "table": normal(num_targets, shape.width),
        "labels": rng.integers(0, num_targets, n, dtype=np.int32),
        "weights": np.full(n, 1 / n, np.float32),
        "gate": rng.random(n, dtype=np.float32),
        "rec_logits": normal(shape.num_responses, shape.num_items),
        "response_index": np.sort(rng.integers(0, shape.num_responses, n, dtype=np.int32)),
        "teacher_features": normal(n, shape.width),
        "teacher_kernel": normal(shape.width, num_targets),  # as the store holds it
    }


def with_logits(inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The same batch with the teacher's logits in place of its features and table."""
    kept = {name: value for name, value in inputs.items() if not name.startswith("teacher_")}
    return kept | {"teacher_logits": inputs["teacher_features"] @ inputs["teacher_kernel"]}


# --- ours ------------------------------------------------------------------------------------


def fused_loss(batch: Mapping[str, Any], num_words: int, is_gated: bool = True) -> jax.Array:
    """The loss by the fused head; without the gate, the dialogue teacher is the only one."""
    bias = jnp.zeros(batch["table"].shape[0])
    if "teacher_logits" in batch:
        teacher = TeacherLogits(batch["teacher_logits"])
    else:
        teacher = TeacherFeatures(batch["teacher_features"], Head(batch["teacher_kernel"], bias))
    rec = {name: batch[name] for name in ("rec_logits", "response_index", "gate")}
    loss, _ = fused_gated_kd_loss(
        batch["features"],
        Head(batch["table"].T, bias),
        batch["labels"],
        batch["weights"],
        num_tokens=batch["features"].shape[0],
        num_words=num_words,
        chunk_size=CHUNK_SIZE,
        teacher=teacher,
        gamma=GAMMA,
        **(rec if is_gated else {}),
    )
    return loss


def in_jax(loss: Callable[..., jax.Array], inputs: Mapping[str, np.ndarray]) -> Run:
    """A loss and its gradients, compiled."""
    batch = {name: jnp.asarray(value) for name, value in inputs.items()}

    def step(features, table, rest):
        value, gradients = jax.value_and_grad(
            lambda features, table: loss({**rest, "features": features, "table": table}), (0, 1)
        )(features, table)
        return value, *gradients

    return Compiled(step, batch.pop("features"), batch.pop("table"), batch)


# --- peers -----------------------------------------------------------------------------------


def naive_loss(batch: Mapping[str, Any], num_words: int) -> jax.Array:
    """The loss by eqs. 8-11 on whole arrays of logits."""
    teacher_logits = batch.get("teacher_logits")
    if teacher_logits is None:
        teacher_logits = batch["teacher_features"] @ batch["teacher_kernel"]
    losses = gated_kd_loss(
        batch["features"] @ batch["table"].T,
        batch["labels"],
        teacher_logits,
        batch["rec_logits"][batch["response_index"]],
        batch["gate"],
        GAMMA,
        num_words,
    )
    return jnp.sum(batch["weights"] * losses)


def torch_naive(inputs: Mapping[str, np.ndarray], num_words: int) -> Run:
    """The same by PyTorch's autograd."""
    torch = use_torch()
    batch = {name: torch.from_numpy(value) for name, value in inputs.items()}
    features = batch["features"].requires_grad_()
    table = batch["table"].requires_grad_()
    labels, index = batch["labels"].long(), batch["response_index"].long()

    def run():
        with torch.no_grad():
            logits = batch.get("teacher_logits")
            if logits is None:
                logits = batch["teacher_features"] @ batch["teacher_kernel"]
            dialogue = torch.softmax(logits, -1)
            rec = torch.softmax(batch["rec_logits"], -1)[index]
        log_probs = torch.log_softmax(features @ table.T, -1)
        nll = -log_probs.gather(1, labels[:, None])[:, 0]
        dialogue_kd = -(dialogue * log_probs).sum(-1)
        rec_kd = -(rec * log_probs[:, num_words:]).sum(-1)
        gate = batch["gate"]
        kd = (1 - gate) * dialogue_kd + gate * rec_kd
        loss = (batch["weights"] * ((1 - GAMMA) * nll + GAMMA * kd)).sum()
        return loss.detach(), *torch.autograd.grad(loss, (features, table))

    return run


def torch_chunked(inputs: Mapping[str, np.ndarray], num_words: int) -> Run:
    """The same by the closed-form gradient, chunked and in place."""
    torch = use_torch()
    batch = {name: torch.from_numpy(value) for name, value in inputs.items()}
    labels, index = batch["labels"].long(), batch["response_index"].long()
    features, table = batch["features"], batch["table"]

    @torch.no_grad()
    def run():
        rec = torch.softmax(batch["rec_logits"], -1)
        total, d_features = torch.zeros(()), torch.empty_like(features)
        d_table = torch.zeros_like(table)
        for rows in torch.arange(len(labels)).split(CHUNK_SIZE):
            h, w, gate = features[rows], batch["weights"][rows], batch["gate"][rows]
            target = torch.softmax(batch["teacher_features"][rows] @ batch["teacher_kernel"], -1)
            target *= (GAMMA * (1 - gate))[:, None]
            target[:, num_words:] += (GAMMA * gate)[:, None] * rec[index[rows]]
            target[torch.arange(len(rows)), labels[rows]] += 1 - GAMMA
            logits = h @ table.T
            log_normalizer = torch.logsumexp(logits, -1)
            total += (w * (log_normalizer - torch.linalg.vecdot(target, logits))).sum()
            delta = logits.sub_(log_normalizer[:, None]).exp_().sub_(target).mul_(w[:, None])
            d_features[rows] = delta @ table
            d_table.addmm_(delta.T, h)
        return total, d_features, d_table

    return run


def liger(inputs: Mapping[str, np.ndarray]) -> Run:
    """Liger's loss of one teacher; its chunks are compiled by torch.compile, as by default."""
    torch = use_torch()
    from liger_kernel.chunked_loss import LigerFusedLinearJSDLoss

    batch = {name: torch.from_numpy(value) for name, value in inputs.items()}
    features = batch["features"].requires_grad_()
    table = batch["table"].requires_grad_()
    loss_of = LigerFusedLinearJSDLoss(1 - GAMMA, GAMMA, beta=0.0, chunk_size=CHUNK_SIZE)
    labels = batch["labels"].long()
    with torch.no_grad():  # the entropy of the teacher, a constant of the loss
        entropy = torch.zeros(())
        for chunk in batch["teacher_features"].split(CHUNK_SIZE):
            log_probs = torch.log_softmax(chunk @ batch["teacher_kernel"], -1)
            entropy -= (log_probs.exp() * log_probs).sum() / len(labels)

    def run():
        teacher = batch["teacher_features"], batch["teacher_kernel"].T
        loss = loss_of(features, table, *teacher, labels)
        return loss.detach() + GAMMA * entropy, *torch.autograd.grad(loss, (features, table))

    return run


# --- the comparison --------------------------------------------------------------------------


def make_contenders(shape: Shape) -> list[Contender]:
    """Contenders with both teachers, and two with the dialogue teacher alone."""
    num_words = shape.num_words
    fused = functools.partial(fused_loss, num_words=num_words)
    naive = functools.partial(naive_loss, num_words=num_words)

    def features() -> dict[str, np.ndarray]:
        return make_inputs(shape)

    def logits() -> dict[str, np.ndarray]:
        return with_logits(make_inputs(shape))

    ungated = functools.partial(fused, is_gated=False)
    one_teacher, alone = "one teacher", "products"
    return [
        Contender(FROM_LOGITS, lambda: in_jax(fused, logits())),
        Contender(TORCH_FROM_LOGITS, lambda: torch_naive(logits(), num_words), "torch"),
        Contender(JAX_FROM_LOGITS, lambda: in_jax(naive, logits())),
        Contender(FROM_FEATURES, lambda: in_jax(fused, features())),
        Contender(TORCH_FROM_FEATURES, lambda: torch_naive(features(), num_words), "torch"),
        Contender(JAX_FROM_FEATURES, lambda: in_jax(naive, features())),
        Contender(CHUNKED, lambda: torch_chunked(features(), num_words), "torch"),
        Contender(UNGATED, lambda: in_jax(ungated, features()), work=one_teacher),
        Contender(LIGER, lambda: liger(features()), "liger-kernel", "liger_kernel", one_teacher),
        Contender(
            JAX_PRODUCTS,
            lambda: products.head_in_jax(features(), CHUNK_SIZE),
            work=alone,
            rounds=ROUNDS_OF_PRODUCTS,
        ),
        Contender(
            TORCH_PRODUCTS,
            lambda: products.head_in_torch(features(), CHUNK_SIZE),
            "torch",
            work=alone,
            rounds=ROUNDS_OF_PRODUCTS,
        ),
    ]


def add_times(report: Report, options: argparse.Namespace) -> None:
    """Adds a case for each shape whose time is measured."""
    for name, shape, bounds in TIMES[options.size]:
        contenders = make_contenders(shape)
        found = side_by_side.measure_time(contenders, options.rounds, options.pause)
        case = report.case(name, shape.facts, found)
        for pair in (*PAIRS, *BOUNDED_BY):
            case.ratio("seconds", *pair, bounds.get(pair))


def add_memory(report: Report, options: argparse.Namespace) -> None:
    """Adds a case for each number of tokens at which memory is measured."""
    planned, bounds = [], {name for _, name in BOUNDED_BY}
    for place, shape in enumerate(MEMORY[options.size]):
        contenders = [each for each in make_contenders(shape) if each.name not in bounds]
        if place != 1:
            contenders = [each for each in contenders if each.name in AT_EVERY_SHAPE]
        arguments = [*options.arguments, f"--case={place}"]
        found = side_by_side.measure_memory("benchmarks.kd_head", arguments, contenders)
        case = report.case(f"memory, N = {shape.num_tokens:,}", shape.facts, found)
        planned.append(found[FROM_FEATURES]["planned_bytes"])
        if place == 1:
            for pair in PAIRS:
                case.ratio("peak_bytes", *pair)
            peer = found[TORCH_FROM_FEATURES]
            share = planned[-1] / peer["peak_bytes"] if "peak_bytes" in peer else None
            name = f"XLA's memory of {FROM_FEATURES} / peak memory of {TORCH_FROM_FEATURES}"
            case.number(name, share, MEMORY_BOUND, peer.get("absent", ""))
        if place > 1:
            name = f"XLA's memory of {FROM_FEATURES}, over that at N = 1,024"
            case.number(name, planned[-1] / planned[0], GROWTH_BOUND)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns its exit status."""
    options = read_options(__doc__, TIMES, argv)
    if options.alone:
        shape = MEMORY[options.size][options.case]
        side_by_side.print_alone(make_contenders(shape), options.alone)
        return 0
    report = Report("kd_head", options)
    add_times(report, options)
    add_memory(report, options)
    return report.finish()


if __name__ == "__main__":
    raise SystemExit(main())
