"""Optimizers and learning-rate schedules, built with optax from a part of the config.

All stages turn their `optimizer` config fields into a `GradientTransformation` here, so the fields
mean the same everywhere. This file must not depend on what is trained or on how many devices.
Gradients arrive summed over devices, so clipping can simply come first in the chain.
"""

from typing import Any

import jax
import optax

SCHEDULES = ("constant", "linear", "cosine")
OPTIMIZERS = ("adam", "adamw")


def make_schedule(config: Any, num_steps: int) -> optax.Schedule:
    """Learning rate by step: linear warm-up to the peak, then `config.schedule`.

    The rate of step 0 is not 0: the warm-up runs from learning_rate / warmup_steps to learning_rate
    over `warmup_steps` steps. "linear" and "cosine" then decay to 0 at `num_steps`.

    Args:
      config: has `learning_rate`, `schedule` (one of SCHEDULES) and `warmup_steps`.
      num_steps: length of the whole training, warm-up included.

    Returns:
      A function from the step (0-based) to the learning rate.

    Raises:
      ValueError: the schedule is unknown, or the warm-up is not shorter than the training.
    """
    if config.schedule not in SCHEDULES:
        raise ValueError(
            f"optimizer.schedule is {config.schedule!r}; expected one of {', '.join(SCHEDULES)}."
        )
    peak, warmup_steps = config.learning_rate, config.warmup_steps
    if not 0 <= warmup_steps < max(num_steps, 1):
        raise ValueError(
            f"optimizer.warmup_steps is {warmup_steps}, but training has {num_steps} steps; "
            "expected 0 <= warmup_steps < num_steps. Lower warmup_steps or train longer."
        )
    decay_steps = num_steps - warmup_steps
    after_warmup = {
        "constant": lambda: optax.constant_schedule(peak),
        "linear": lambda: optax.linear_schedule(peak, 0.0, decay_steps),
        "cosine": lambda: optax.cosine_decay_schedule(peak, decay_steps),
    }[config.schedule]()
    if not warmup_steps:
        return after_warmup
    warmup = optax.linear_schedule(peak / warmup_steps, peak, warmup_steps)
    return optax.join_schedules([warmup, after_warmup], [warmup_steps])


def make_optimizer(config: Any, num_steps: int) -> optax.GradientTransformation:
    """Adam or AdamW with the config's schedule, after clipping by the global norm.

    Weight decay applies to matrices only, not to biases, scales of layer norms or other vectors.

    Args:
      config: has `name`, `b1`, `b2`, `eps`, `weight_decay`, `clip_norm` (0 = no clipping) and the
        fields of `make_schedule`.
      num_steps: length of the whole training.

    Returns:
      An optax transformation of gradients that are summed over all devices and micro-batches.

    Raises:
      ValueError: the name or the schedule is unknown, or plain Adam is given a weight decay.
    """
    if config.name not in OPTIMIZERS:
        raise ValueError(
            f"optimizer.name is {config.name!r}; expected one of {', '.join(OPTIMIZERS)}."
        )
    if config.name == "adam" and config.weight_decay:
        raise ValueError(
            f"optimizer.weight_decay is {config.weight_decay}, but Adam has no weight decay; "
            "set it to 0 or set optimizer.name to 'adamw'."
        )
    links = [optax.clip_by_global_norm(config.clip_norm)] if config.clip_norm else []
    links.append(optax.scale_by_adam(b1=config.b1, b2=config.b2, eps=config.eps))
    if config.weight_decay:
        links.append(optax.add_decayed_weights(config.weight_decay, mask=_is_matrix))
    links.append(optax.scale_by_learning_rate(make_schedule(config, num_steps)))
    return optax.chain(*links)


def _is_matrix(params: Any) -> Any:
    """Selects the leaves with weight decay."""
    # By name as well as by rank: the bias of an attention projection has two axes, heads and width,
    # and the scales of equal layers may be stacked.
    return jax.tree.map_with_path(
        lambda path, leaf: leaf.ndim > 1 and path[-1].key not in ("bias", "scale"), params
    )
