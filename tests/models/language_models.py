"""Small language models of every backbone, with parameters, inputs and the training loss."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from conkd_jax.distill.fused import fused_gated_kd_loss
from conkd_jax.models.compute import Compute
from conkd_jax.models.gpt2 import GPT2, GPT2Spec
from conkd_jax.models.llama import Llama
from conkd_jax.models.llama_network import LlamaSpec
from conkd_jax.models.revcore import RevCore
from tests.models import small_kbrd, small_kgsf, small_recindial, small_redial

FROZEN = ("graph", "sentiment")  # keys of what is read but not trained


@dataclasses.dataclass(frozen=True)
class Case:
    """A small model with parameters, and inputs of `states` and of `open_cache` for two rows.

    Attributes:
      model, params, inputs: the model, its variables, and a batch under teacher forcing.
      prompts: the same rows up to their first response token.
      tokens: [B, T] what is read after the prompt.
      start: the position of the features that predict the first of `tokens`.
      num_words, num_targets: |V|, |Y|.
    """

    model: Any
    params: dict
    inputs: dict
    prompts: dict
    tokens: np.ndarray
    start: int
    num_words: int
    num_targets: int
    retrieved: np.ndarray | None = None


def gpt2_case() -> Case:
    model = GPT2(GPT2Spec(num_layers=2, embed_dim=32, num_heads=4, num_positions=24), 40)
    ids = np.random.default_rng(0).integers(0, 40, (3, 12)).astype(np.int32)
    prompts = {"input_ids": ids[:, :8], "attention_mask": np.ones((3, 8), bool)}
    params = perturbed(model.init(jax.random.key(0)), 0.1)
    return Case(model, params, {"input_ids": ids}, prompts, ids[:, 8:], 7, 20, 30)


def llama_case() -> Case:
    shape = {"num_layers": 2, "embed_dim": 32, "num_heads": 4, "num_kv_heads": 2, "head_dim": 8}
    model = Llama(LlamaSpec(**shape, mlp_dim=48, num_positions=24, dropout=0.1), 40)
    ids = np.random.default_rng(0).integers(0, 40, (3, 12)).astype(np.int32)
    prompts = {"input_ids": ids[:, :8], "attention_mask": np.ones((3, 8), bool)}
    params = perturbed(model.init(jax.random.key(0)), 0.1)
    return Case(model, params, {"input_ids": ids}, prompts, ids[:, 8:], 7, 20, 30)


def recindial_case() -> Case:
    small = small_recindial
    rng = np.random.default_rng(0)
    ids = rng.integers(0, small.NUM_ROWS, (3, 12)).astype(np.int32)
    entities = np.array([[0, 4, -1], [-1, -1, -1], [6, 2, 3]], np.int32)
    inputs = {
        "input_ids": ids,
        "entities": entities[:, None],
        "response_slot": np.zeros((3, 12), np.int32),
    }
    prompts = {
        "input_ids": ids[:, :8],
        "attention_mask": np.ones((3, 8), bool),
        "entities": entities,
    }
    params = small.perturbed_params(small.initial_params())
    sizes = small.NUM_WORDS, small.NUM_TARGETS
    return Case(small.MODEL, params, inputs, prompts, ids[:, 8:], 7, *sizes)


def of_responses(model, params, inputs, num_words, num_targets, **more) -> Case:
    """A case of a model whose rows hold one response each."""
    responses = inputs["response_ids"]
    prompts = {**inputs, "first_token": responses[:, 0]}
    del prompts["response_ids"]
    return Case(model, params, inputs, prompts, responses[:, 1:], 0, num_words, num_targets, **more)


def kgsf_case() -> Case:
    params = small_kgsf.perturbed_params(small_kgsf.initial_params())
    inputs = small_kgsf.batch(small_kgsf.make_samples())
    return of_responses(small_kgsf.MODEL, params, inputs, 20, small_kgsf.NUM_TARGETS)


def kbrd_case() -> Case:
    inputs = small_kbrd.batch(small_kbrd.make_samples())
    params = small_kbrd.perturbed_params(small_kbrd.initial_params())
    return of_responses(small_kbrd.MODEL, params, inputs, 20, small_kbrd.NUM_TARGETS)


def revcore_case() -> Case:
    model = RevCore(small_kgsf.SPEC, small_kgsf.NUM_ROWS, small_kgsf.NUM_TARGETS)
    params = small_kgsf.perturbed_params(model.init(jax.random.key(0)))
    inputs = small_kgsf.batch(small_kgsf.make_samples())
    inputs["review_mask"] = inputs["context_mask"] & (np.arange(9) % 2 == 0)
    retrieved = np.array([[1, 5, -1], [-1, -1, -1], [3, 8, 9]], np.int32)
    return of_responses(model, params, inputs, 20, small_kgsf.NUM_TARGETS, retrieved=retrieved)


def redial_case() -> Case:
    params = small_redial.perturbed_params(small_redial.initial_params())
    sizes = small_redial.NUM_WORDS, small_redial.NUM_TARGETS
    return of_responses(small_redial.MODEL, params, small_redial.batch(), *sizes)


CASES: dict[str, Callable[[], Case]] = {
    "dialogpt": gpt2_case,
    "llama": llama_case,
    "recindial": recindial_case,
    "kgsf": kgsf_case,
    "kbrd": kbrd_case,
    "revcore": revcore_case,
    "redial": redial_case,
}


def perturbed(params: dict, scale: float) -> dict:
    rng = np.random.default_rng(3)
    return jax.tree.map(
        lambda leaf: leaf + scale * jnp.asarray(rng.normal(size=leaf.shape), jnp.float32), params
    )


def split(params: dict) -> tuple[dict, dict]:
    """What is trained, and what is only read."""
    trained = {name: leaf for name, leaf in params.items() if name not in FROZEN}
    return trained, {name: leaf for name, leaf in params.items() if name in FROZEN}


def loss_of(case: Case, compute: Compute, rng: jax.Array | None = None):
    """The training loss, here the mean NLL, as a function of the trained parameters."""
    model = case.model.computing(compute)
    _, frozen = split(case.params)

    def loss(trained):
        params = {**trained, **frozen}
        states = model.states(params, case.inputs, rng)
        features = states.reshape(-1, states.shape[-1])  # [N, F]
        count = features.shape[0]
        retrieved = case.retrieved
        if retrieved is not None:
            retrieved = jnp.asarray(np.repeat(retrieved, count // len(retrieved), axis=0))
        return fused_gated_kd_loss(
            features,
            model.head(params, case.num_targets).cast(compute.array_dtype),
            jnp.arange(count, dtype=jnp.int32) * 7 % case.num_targets,
            jnp.full((count,), 1 / count, jnp.float32),
            num_tokens=count,
            num_words=case.num_words,
            retrieved_ids=retrieved,
        )[0]

    return loss
