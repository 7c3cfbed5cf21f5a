"""The parts of training that all networks share: the loader and the call of the loop.

Recommender, dialogue teacher, turn classifier and student differ in their `Task` and in their
batches. Devices, hosts, checkpoints and logs are the same for all and are set here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax
from etils import epath

from conkd_jax.config import Config, OptimizerConfig
from conkd_jax.data.batches.loader import BatchLoader
from conkd_jax.data.batches.plan import BatchPlan
from conkd_jax.models.compute import Compute
from conkd_jax.runtime import parallel
from conkd_jax.training import loop


@dataclasses.dataclass(frozen=True)
class Execution:
    """How a training runs, as opposed to what it computes; not part of fingerprints.

    Attributes:
      num_devices: number of devices over all processes; 0 = all.
      checkpoint_every: steps between checkpoints.
      chunk_size: response tokens per chunk in the fused head of a language model.
      remat: whether the backward pass of a language model computes its layers again.
      kind: how parameters lie on the devices, "pmap" or "mesh" (`layouts`).
    """

    num_devices: int
    checkpoint_every: int
    chunk_size: int
    remat: bool = False
    kind: str = "pmap"

    @classmethod
    def of(cls, config: Config) -> Execution:
        """The execution settings of a config."""
        return cls(
            num_devices=config.parallel.num_devices,
            checkpoint_every=config.checkpoint_every,
            chunk_size=config.distill.chunk_size,
            remat=config.parallel.remat,
            kind=config.parallel.kind,
        )


def compute_setting(config: Config) -> str | None:
    """The type that a config's models compute in, as the settings of a stage hold it.

    None for float32, so that an artifact of float32 has its old fingerprint.
    """
    return None if config.compute_dtype == Compute.dtype else config.compute_dtype


EXECUTION_CHANGES_NO_RESULT = "devices, how they share parameters, and memory change rounding only"


def make_loader(
    plan: BatchPlan, assemble: Callable, optimizer: OptimizerConfig, execution: Execution
) -> BatchLoader:
    """A loader of a plan's batches, split over this host's devices and the micro-batches."""
    return BatchLoader(
        plan,
        assemble,
        parallel.num_devices(execution.num_devices),
        optimizer.accumulate_steps,
        jax.process_index(),
        jax.process_count(),
    )


def train(
    task: loop.Task,
    optimizer: OptimizerConfig,
    *,
    seed: int,
    rng_impl: str,
    directory: epath.Path,
    execution: Execution,
) -> loop.Result:
    """Trains a task in an artifact's folder, starting from its newest checkpoint if there is one.

    Args:
      task: what is trained.
      optimizer: the optimizer's config.
      seed: the seed of the initial parameters and of every step's random numbers.
      rng_impl: generator of the dropout keys.
      directory: the artifact's folder; gets checkpoints, `history.jsonl` and TensorBoard files.
      execution: devices and checkpoints.

    Raises:
      ConfigError, DivergedError, SystemExit: as `loop.train`.
    """
    return loop.train(
        task,
        optimizer,
        seed=seed,
        directory=directory,
        log_dir=directory / "tensorboard",
        kind=execution.kind,
        num_devices=execution.num_devices,
        checkpoint_every=execution.checkpoint_every,
        rng_impl=rng_impl,
    )
