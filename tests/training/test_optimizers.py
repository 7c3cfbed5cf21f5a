import jax
import numpy as np
import optax
import pytest
import torch

from conkd_jax.training.optimizers import make_optimizer, make_schedule
from tests.fixtures.points import optimizer_config


def rates(num_steps=10, **fields):
    schedule = make_schedule(optimizer_config(learning_rate=1.0, **fields), num_steps)
    return [float(schedule(step)) for step in range(num_steps + 1)]


def test_constant_schedule():
    assert rates(3, schedule="constant", warmup_steps=0) == [1.0] * 4


def test_warm_up_learns_from_the_first_step():
    got = rates(10, schedule="constant", warmup_steps=4)
    np.testing.assert_allclose(got[:6], [0.25, 0.4375, 0.625, 0.8125, 1.0, 1.0], rtol=1e-6)


def test_linear_schedule_falls_to_zero_at_the_end():
    got = rates(10, schedule="linear", warmup_steps=2)
    np.testing.assert_allclose(got[2:], np.linspace(1, 0, 9), atol=1e-6)


def test_cosine_schedule_falls_to_zero_at_the_end():
    got = rates(10, schedule="cosine", warmup_steps=2)
    wanted = 0.5 * (1 + np.cos(np.pi * np.arange(9) / 8))
    np.testing.assert_allclose(got[2:], wanted, atol=1e-6)


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"name": "sgd"}, "optimizer.name is 'sgd'; expected one of adam, adamw"),
        ({"schedule": "step"}, "optimizer.schedule is 'step'; expected one of constant"),
        ({"warmup_steps": 10}, "warmup_steps is 10, but training has 10 steps"),
        ({"name": "adam"}, "weight_decay is 0.01, but Adam has no weight decay"),
    ],
)
def test_bad_fields_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        make_optimizer(optimizer_config(**fields), 10)


def test_adamw_equals_torch():
    """Five steps, clipping and all; PyTorch keeps scale and bias out of the decay by a group."""
    rng = np.random.default_rng(0)
    shapes = {"w": (4, 3), "scale": (3,), "bias": (2, 3)}  # the last one as of attention's heads
    params = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    gradients = [
        jax.tree.map(lambda p: rng.normal(size=p.shape).astype(np.float32), params)
        for _ in range(5)
    ]
    config = optimizer_config(
        schedule="constant", warmup_steps=0, weight_decay=0.1, clip_norm=0.5, learning_rate=0.01
    )
    theirs = {name: torch.nn.Parameter(torch.tensor(value)) for name, value in params.items()}
    adamw = torch.optim.AdamW(
        [
            {"params": [theirs["w"]], "weight_decay": 0.1},
            {"params": [theirs["scale"], theirs["bias"]], "weight_decay": 0},
        ],
        lr=0.01,
        betas=(config.b1, config.b2),
        eps=config.eps,
    )
    optimizer = make_optimizer(config, 5)
    state = optimizer.init(params)
    for gradient in gradients:
        updates, state = optimizer.update(gradient, state, params)
        params = optax.apply_updates(params, updates)
        for name, parameter in theirs.items():
            parameter.grad = torch.tensor(gradient[name])
        torch.nn.utils.clip_grad_norm_(list(theirs.values()), 0.5)
        adamw.step()
    for name, parameter in theirs.items():
        np.testing.assert_allclose(params[name], parameter.detach().numpy(), rtol=1e-5, atol=1e-6)


def test_adam_equals_torch_without_clipping():
    config = optimizer_config(
        name="adam", schedule="constant", warmup_steps=0, weight_decay=0.0, clip_norm=0.0
    )
    value, gradient = np.ones((2, 2), np.float32), np.full((2, 2), 50.0, np.float32)
    parameter = torch.nn.Parameter(torch.tensor(value))
    parameter.grad = torch.tensor(gradient)
    torch.optim.Adam([parameter], lr=config.learning_rate, betas=(0.9, 0.98)).step()
    optimizer = make_optimizer(config, 5)
    updates, _ = optimizer.update({"w": gradient}, optimizer.init({"w": value}), {"w": value})
    np.testing.assert_allclose(value + updates["w"], parameter.detach().numpy(), rtol=1e-6)
