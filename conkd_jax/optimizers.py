"""Optimizers and learning-rate schedules, built from a config part by optax.

One place turns `optimizer` config fields into a `GradientTransformation`, so that every stage reads
the same words the same way. It must not know what is trained or on how many devices: gradients
arrive already summed over devices, and that is why clipping can simply be the first link.
"""

from typing import Any

import jax
import optax

SCHEDULES = ("constant", "linear", "cosine")
OPTIMIZERS = ("adam", "adamw")


def make_schedule(config: Any, num_steps: int) -> optax.Schedule:
    """Learning rate by step: linear warm-up to the peak, then `config.schedule`.

    Step 0 already learns: the warm-up runs from learning_rate / warmup_steps to learning_rate over
    `warmup_steps` steps. "linear" and "cosine" then fall to 0 at `num_steps`.

    Args:
      config: has `learning_rate`, `schedule` (one of SCHEDULES) and `warmup_steps`.
      num_steps: length of the whole training, warm-up included.

    Returns:
      A function from the step (0-based) to the learning rate.

    Raises:
      ValueError: an unknown schedule, or a warm-up that is not shorter than the training.
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
    """Adam or AdamW with the config's schedule, clipping by the global norm first.

    Weight decay touches matrices only: biases, norms' scales and other vectors are left alone, as
    GPT-2's own fine-tuning recipes do.

    Args:
      config: has `name`, `b1`, `b2`, `eps`, `weight_decay`, `clip_norm` (0 = no clipping) and the
        fields of `make_schedule`.
      num_steps: length of the whole training.

    Returns:
      An optax transformation; give it gradients summed over all devices and micro-batches.

    Raises:
      ValueError: an unknown name or schedule, or weight decay asked of plain Adam.
    """
    if config.name not in OPTIMIZERS:
        raise ValueError(
            f"optimizer.name is {config.name!r}; expected one of {', '.join(OPTIMIZERS)}."
        )
    if config.name == "adam" and config.weight_decay:
        raise ValueError(
            f"optimizer.weight_decay is {config.weight_decay}, which Adam does not have; "
            "set it to 0 or name the optimizer 'adamw'."
        )
    links = [optax.clip_by_global_norm(config.clip_norm)] if config.clip_norm else []
    links.append(optax.scale_by_adam(b1=config.b1, b2=config.b2, eps=config.eps))
    if config.weight_decay:
        links.append(optax.add_decayed_weights(config.weight_decay, mask=_is_matrix))
    links.append(optax.scale_by_learning_rate(make_schedule(config, num_steps)))
    return optax.chain(*links)


def _is_matrix(params: Any) -> Any:
    """A bias may have two axes as well: heads and their width."""
    return jax.tree.map_with_path(
        lambda path, leaf: leaf.ndim > 1 and path[-1].key != "bias", params
    )
