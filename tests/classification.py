"""A small real task that the tests of the loop train: classes of random points, by an MLP.

As a program it trains in a process of its own, for tests that kill it or need two of them.
"""

import argparse
import json
import time
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from conkd_jax import loop, parallel

NUM_ROWS, NUM_FEATURES, NUM_CLASSES = 32, 5, 3


class MLP(nn.Module):
    dropout: float = 0.0

    @nn.compact
    def __call__(self, x, is_training):
        x = nn.relu(nn.Dense(16)(x))
        x = nn.Dropout(self.dropout, deterministic=not is_training)(x)
        return nn.Dense(NUM_CLASSES)(x)


class Points:
    """Batches of 32 rows by step; weights differ and hold the division, as the project's do."""

    def __init__(self, num_devices=2, accumulate=1, process=(0, 1), seconds=0.0):
        self.num_devices, self.accumulate, self.seconds = num_devices, accumulate, seconds
        index, count = process
        share = num_devices // count
        self.local = slice(index * share, (index + 1) * share)

    def arrays(self, step):
        rng = np.random.default_rng(step)
        x = rng.normal(size=(NUM_ROWS, NUM_FEATURES)).astype(np.float32)
        labels = np.argmax(x[:, :NUM_CLASSES] + x[:, -1:] * x[:, :1], axis=1).astype(np.int32)
        weights = rng.integers(0, 4, NUM_ROWS).astype(np.float32)
        return {"x": x, "labels": labels, "weights": weights / weights.sum()}

    def batch(self, step):
        lead = (self.num_devices, self.accumulate, -1)
        arrays = self.arrays(step)
        return {k: v.reshape(lead + v.shape[1:])[self.local] for k, v in arrays.items()}

    def iterate(self, start_step):
        step = start_step
        while True:
            time.sleep(self.seconds)
            yield self.batch(step)
            step += 1

    def row_ids(self, step):
        return [f"row-{step}-{index}" for index in range(NUM_ROWS)]


def nll_loss(model, is_training=True):
    """The contract's loss: a weighted sum, metrics as (sum, count); constants scale the logits."""

    def loss(params, batch, rng, constants):
        rngs = {"dropout": rng} if is_training else None
        logits = model.apply({"params": params}, batch["x"], is_training, rngs=rngs)
        logits = logits * constants["scale"]
        nll = -jnp.take_along_axis(jax.nn.log_softmax(logits), batch["labels"][:, None], 1)[:, 0]
        is_right = (logits.argmax(-1) == batch["labels"]).astype(jnp.float32)
        counts = jnp.float32(len(nll))
        return (nll * batch["weights"]).sum(), {
            "accuracy": (is_right.sum(), counts),
            "tokens": (counts, counts),
        }

    return loss


def make_task(loader=None, *, dropout=0.0, num_steps=20, evaluated=True, **fields):
    """The task; `evaluated` adds the NLL of a held-out batch as "dev_loss" each 4 steps."""
    model = MLP(dropout)
    constants = {"scale": np.float32(1.5)}
    held_out = Points().arrays(10**6)
    dev_loss = jax.jit(nll_loss(model, is_training=False))
    if evaluated:
        fields = {"evaluate_every": 4, **fields}
        fields.setdefault(
            "evaluate",
            lambda params: {
                "dev_loss": float(dev_loss(params, held_out, jax.random.key(0), constants)[0])
            },
        )
    return loop.Task(
        name="points",
        init=lambda rng: model.init(rng, held_out["x"], False)["params"],
        loss=nll_loss(model),
        loader=loader or Points(),
        num_steps=num_steps,
        constants=constants,
        **fields,
    )


def optimizer_config(**fields):
    return ConfigDict(
        {
            "name": "adamw",
            "learning_rate": 0.03,
            "schedule": "cosine",
            "warmup_steps": 3,
            "b1": 0.9,
            "b2": 0.98,
            "eps": 1e-8,
            "weight_decay": 0.01,
            "clip_norm": 1.0,
            "accumulate_steps": 1,
            **fields,
        }
    )


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--directory", type=Path, required=True)
    parser.add_argument("--cpu_devices", type=int, default=8)
    parser.add_argument("--num_steps", type=int, default=20)
    parser.add_argument("--dropout", type=float, default=0.0)
    parser.add_argument("--seconds", type=float, default=0.0)
    arguments = parser.parse_args()
    jax.config.update("jax_num_cpu_devices", arguments.cpu_devices)
    parallel.initialize_distributed()
    process = (jax.process_index(), jax.process_count())
    loader = Points(jax.device_count(), process=process, seconds=arguments.seconds)
    task = make_task(
        loader,
        dropout=arguments.dropout,
        num_steps=arguments.num_steps,
        select=("dev_loss", "min"),
        ema_decay=0.9,
    )
    result = loop.train(
        task,
        optimizer_config(),
        seed=1,
        directory=arguments.directory,
        checkpoint_every=2,
        log_every=1,
    )
    told = parallel.broadcast({"from": jax.process_index(), "value": 0.1})
    assert told == {"from": 0, "value": 0.1}, told
    np.savez(arguments.directory / f"result-{process[0]}.npz", **flat(result.params))
    (arguments.directory / f"result-{process[0]}.json").write_text(
        json.dumps({"step": result.step, "history": result.history})
    )


def flat(params):
    return {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree.leaves_with_path(params)}


if __name__ == "__main__":
    main()
