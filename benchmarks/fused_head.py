"""Times the fused gated-KD head against straightforward code for the same loss.

    python benchmarks/fused_head.py                       # the shape of the mini preset
    python benchmarks/fused_head.py --shape paper         # DialoGPT-small: Y = 57,216, F = 768
    python benchmarks/fused_head.py --memory --shape paper --num_tokens 2048
    python benchmarks/fused_head.py --out result.json

Each contender computes one loss and its gradients with respect to the student's features and its
kernel (the rows of a tied embedding), from the dialogue teacher's stored logits or stored features.
The contenders take turns (A B C A B C …) and the best round of each counts, so that a busy machine
slows all of them down alike: read the ratios, not the times. All have to agree on loss and
gradients to 1e-4 (relative to the largest gradient), or the program stops.

With --memory each contender runs alone in a new process, and the rise of its peak resident memory
above its inputs is compared.
"""

import argparse
import os
import platform
import resource
import subprocess
import sys
import time
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import jax
import jax.numpy as jnp
import numpy as np
import torch

from conkd_jax.distill.fused import fused_gated_kd_loss
from conkd_jax.distill.head import Head
from conkd_jax.distill.losses import gated_kd_loss
from conkd_jax.distill.teachers import TeacherFeatures, TeacherLogits
from conkd_jax.files import write_json

SHAPES = {  # tokens, words, items, features, responses
    "mini": (1536, 4224, 6924, 192, 128),
    "paper": (1024, 50292, 6924, 768, 64),
}
GAMMA = 0.4
RATIOS = (
    ("jax fused, from logits", "torch naive, from logits"),
    ("jax fused, from logits", "jax naive, from logits"),
    ("jax fused, from features", "jax naive, from features"),
    ("jax fused, from features", "torch naive, from features"),
    ("jax fused, from features", "torch chunked closed form, from features"),
    ("jax fused, from features", "jax fused NLL"),
)


def make_inputs(shape, num_tokens, seed=0):
    """Returns the arrays of one random batch."""
    n, num_words, num_items, width, num_responses = shape
    n, rng = num_tokens or n, np.random.default_rng(seed)

    def normal(*size):
        return 0.3 * rng.standard_normal(size, dtype=np.float32)

    num_targets = num_words + num_items
    return {
        "features": normal(n, width),
        "table": normal(num_targets, width),
        "labels": rng.integers(0, num_targets, n, dtype=np.int32),
        "weights": np.full(n, 1 / n, np.float32),
        "gate": rng.random(n, dtype=np.float32),
        "rec_logits": normal(num_responses, num_items),
        "response_index": np.sort(rng.integers(0, num_responses, n, dtype=np.int32)),
        "teacher_features": normal(n, width),
        "teacher_table": normal(num_targets, width),
    }


def fused_loss(batch, num_words, chunk_size, distil=True):
    """Returns the loss by the fused head; without `distil`, the plain NLL."""
    num_targets = batch["table"].shape[0]
    bias = jnp.zeros(num_targets)
    teachers = {}
    if distil:
        if "teacher_logits" in batch:
            teacher = TeacherLogits(batch["teacher_logits"])
        else:
            head = Head(batch["teacher_table"].T, bias)
            teacher = TeacherFeatures(batch["teacher_features"], head)
        names = ("rec_logits", "response_index", "gate")
        teachers = {"teacher": teacher, "gamma": GAMMA, **{n: batch[n] for n in names}}
    loss, _ = fused_gated_kd_loss(
        batch["features"],
        Head(batch["table"].T, bias),
        batch["labels"],
        batch["weights"],
        num_tokens=batch["features"].shape[0],
        num_words=num_words,
        chunk_size=chunk_size,
        **teachers,
    )
    return loss


def naive_loss(batch, num_words):
    """Returns the loss by eqs. 8-11 on whole arrays of logits."""
    teacher_logits = batch.get("teacher_logits")
    if teacher_logits is None:
        teacher_logits = batch["teacher_features"] @ batch["teacher_table"].T
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


def jax_contender(loss, inputs):
    """Returns a function that computes a loss and its gradients in JAX."""
    batch = {name: jnp.asarray(value) for name, value in inputs.items()}

    @jax.jit
    def step(features, table, rest):
        return jax.value_and_grad(
            lambda features, table: loss({**rest, "features": features, "table": table}), (0, 1)
        )(features, table)

    def run():
        value, gradients = jax.block_until_ready(step(batch["features"], batch["table"], batch))
        return value, *gradients

    return run


def torch_naive(inputs, num_words):
    """Returns the same for PyTorch's autograd on whole arrays of logits."""
    batch = {name: torch.from_numpy(value) for name, value in inputs.items()}
    features = batch["features"].requires_grad_()
    table = batch["table"].requires_grad_()
    labels, index = batch["labels"].long(), batch["response_index"].long()

    def run():
        features.grad = table.grad = None
        with torch.no_grad():
            logits = batch.get("teacher_logits")
            if logits is None:
                logits = batch["teacher_features"] @ batch["teacher_table"].T
            dialogue = torch.softmax(logits, -1)
            rec = torch.softmax(batch["rec_logits"], -1)[index]
        log_probs = torch.log_softmax(features @ table.T, -1)
        nll = -log_probs.gather(1, labels[:, None])[:, 0]
        dialogue_kd = -(dialogue * log_probs).sum(-1)
        rec_kd = -(rec * log_probs[:, num_words:]).sum(-1)
        gate = batch["gate"]
        kd = (1 - gate) * dialogue_kd + gate * rec_kd
        loss = (batch["weights"] * ((1 - GAMMA) * nll + GAMMA * kd)).sum()
        loss.backward()
        return loss.detach(), features.grad, table.grad

    return run


def torch_chunked(inputs, num_words, chunk_size):
    """Returns the same by the closed-form gradient, chunked and in place: PyTorch at its best."""
    batch = {name: torch.from_numpy(value) for name, value in inputs.items()}
    labels, index = batch["labels"].long(), batch["response_index"].long()
    features, table = batch["features"], batch["table"]

    @torch.no_grad()
    def run():
        rec = torch.softmax(batch["rec_logits"], -1)
        total, d_features = torch.zeros(()), torch.empty_like(features)
        d_table = torch.zeros_like(table)
        for rows in torch.arange(len(labels)).split(chunk_size):
            h, w, gate = features[rows], batch["weights"][rows], batch["gate"][rows]
            target = torch.softmax(batch["teacher_features"][rows] @ batch["teacher_table"].T, -1)
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


def make_contenders(shape, num_tokens, chunk_size):
    """Returns, by name, a function that prepares each contender, so that a process can hold one."""
    num_words = shape[1]
    features = make_inputs(shape, num_tokens)

    def from_logits():
        kept = {n: v for n, v in features.items() if not n.startswith("teacher_")}
        return kept | {"teacher_logits": features["teacher_features"] @ features["teacher_table"].T}

    def fused(batch):
        return fused_loss(batch, num_words, chunk_size)

    def fused_nll(batch):
        return fused_loss(batch, num_words, chunk_size, distil=False)

    def naive(batch):
        return naive_loss(batch, num_words)

    return {
        "jax fused, from logits": lambda: jax_contender(fused, from_logits()),
        "jax naive, from logits": lambda: jax_contender(naive, from_logits()),
        "torch naive, from logits": lambda: torch_naive(from_logits(), num_words),
        "jax fused, from features": lambda: jax_contender(fused, features),
        "jax naive, from features": lambda: jax_contender(naive, features),
        "torch naive, from features": lambda: torch_naive(features, num_words),
        "torch chunked closed form, from features": lambda: torch_chunked(
            features, num_words, chunk_size
        ),
        "jax fused NLL": lambda: jax_contender(fused_nll, features),
    }


def check_agreement(name, outputs, expected):
    """Stops the program if a loss or a gradient differs."""
    for got, wanted in zip(outputs, expected, strict=True):
        got, wanted = np.asarray(got), np.asarray(wanted)
        error = np.max(np.abs(got - wanted)) / np.max(np.abs(wanted))
        if not error < 1e-4:
            raise SystemExit(
                f"{name}: expected a relative difference below 1e-4, got {error:.1e}. Times of "
                "different work can't be compared."
            )


def measure_time(contenders, rounds):
    """Returns the best seconds of each contender over interleaved rounds.

    A first run of each, which is not timed, compiles it and compares its result.
    """
    runs = {name: make() for name, make in contenders.items()}
    expected = None
    for name, run in runs.items():
        outputs = run()
        if name != "jax fused NLL":
            expected = expected or [np.array(x) for x in outputs]
            check_agreement(name, outputs, expected)
    best = dict.fromkeys(runs, float("inf"))
    for _ in range(rounds):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            best[name] = min(best[name], time.perf_counter() - start)
    return best


def measure_memory(names):
    """Returns the rise of each contender's peak above its inputs in MiB, each in a new process."""
    command = [sys.executable, __file__, *sys.argv[1:], "--alone"]
    return {
        name: float(subprocess.run([*command, name], check=True, capture_output=True).stdout)
        for name in names
    }


def peak_alone(make):
    """Returns the rise of the peak above the memory that is resident with the inputs, in MiB."""
    run = make()
    page = resource.getpagesize()
    before = int(Path("/proc/self/statm").read_text().split()[1]) * page
    for _ in range(2):
        run()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return (peak - before) / 2**20


def main():
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--shape", choices=SHAPES, default="mini")
    parser.add_argument("--num_tokens", type=int, help="replaces the number of the shape")
    parser.add_argument("--chunk_size", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--memory", action="store_true", help="compare peak memory, not time")
    parser.add_argument("--out", type=Path, help="write the result to this file, as JSON")
    parser.add_argument("--alone", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    shape = SHAPES[arguments.shape]
    contenders = make_contenders(shape, arguments.num_tokens, arguments.chunk_size)
    if arguments.alone:
        print(peak_alone(contenders[arguments.alone]))
        return

    if arguments.memory:
        unit, values = "MiB", measure_memory(contenders)
    else:
        unit, values = "ms", measure_time(contenders, arguments.rounds)
        values = {name: 1e3 * seconds for name, seconds in values.items()}
    ratios = {f"{a} / {b}": values[a] / values[b] for a, b in RATIOS}
    num_tokens = arguments.num_tokens or shape[0]
    print(f"N = {num_tokens}, V = {shape[1]}, I = {shape[2]}, F = {shape[3]}")
    for name, value in values.items():
        print(f"{name:45s} {value:10.1f} {unit}")
    for name, ratio in ratios.items():
        print(f"{name:75s} {ratio:6.2f}")
    if arguments.out:
        result = {
            "command": " ".join(["python", "benchmarks/fused_head.py", *sys.argv[1:]]),
            "machine": f"{platform.machine()}, {os.cpu_count()} cores, {jax.default_backend()}",
            "versions": {"jax": jax.__version__, "torch": torch.__version__},
            "shape": dict(zip("NVIF", (num_tokens, *shape[1:4]), strict=True)),
            "chunk_size": arguments.chunk_size,
            "unit": unit,
            "values": values,
            "ratios": ratios,
        }
        write_json(arguments.out, result, indent=2)


if __name__ == "__main__":
    main()
