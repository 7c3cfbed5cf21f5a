"""bfloat16 and rematerialisation, for every backbone: what is rounded, and what stays the same."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from conkd_jax.distill.fused import fused_gated_kd_loss
from conkd_jax.models.compute import Compute
from conkd_jax.models.gpt2 import GPT2, GPT2Spec
from conkd_jax.models.llama import Llama
from conkd_jax.models.llama_network import LlamaSpec
from conkd_jax.models.redial import ReDial
from conkd_jax.models.revcore import RevCore
from tests.models import small_kbrd, small_kgsf, small_recindial, small_redial

BFLOAT16 = Compute("bfloat16")
UNIT = 2.0**-8  # relative spacing of bfloat16
KEY = jax.random.key(7)
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


@pytest.fixture(scope="module", params=list(CASES))
def case(request) -> Case:
    return CASES[request.param]()


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


def value_and_gradients(case: Case, compute: Compute, rng: jax.Array | None = None):
    trained, _ = split(case.params)
    return jax.jit(jax.value_and_grad(loss_of(case, compute, rng)))(trained)


def flat(tree: dict) -> np.ndarray:
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])


def gradients_at_rounded(case: Case) -> dict:
    """Gradients in float32, of parameters that bfloat16 can hold."""
    trained, _ = split(case.params)
    rounded = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16).astype(jnp.float32), trained)
    return jax.jit(jax.grad(loss_of(case, Compute())))(rounded)


def test_bfloat16_changes_loss_and_gradients_by_rounding_alone(case):
    loss, gradients = value_and_gradients(case, Compute())
    low, low_gradients = value_and_gradients(case, BFLOAT16)
    assert low.dtype == jnp.float32
    assert low != loss, "nothing was computed in bfloat16"
    assert low == pytest.approx(float(loss), rel=2 * UNIT)
    assert jax.tree.structure(gradients) == jax.tree.structure(low_gradients)
    exact, rounded = flat(gradients), flat(low_gradients)
    error = np.linalg.norm(exact - rounded)
    # These weights are large, so gradients are steep: rounding the parameters alone moves them.
    control = np.linalg.norm(exact - flat(gradients_at_rounded(case)))
    assert error < 4 * max(control, 2 * UNIT * np.linalg.norm(exact))


def test_parameters_and_their_gradients_are_float32(case):
    fresh = case.model.computing(BFLOAT16)
    if hasattr(fresh, "init"):
        assert {leaf.dtype for leaf in jax.tree.leaves(fresh.init(KEY))} == {jnp.dtype("float32")}
    _, gradients = value_and_gradients(case, BFLOAT16)
    assert {leaf.dtype for leaf in jax.tree.leaves(gradients)} == {jnp.dtype("float32")}


def equations(jaxpr):
    """All equations of a program, those of its inner programs included."""
    for equation in jaxpr.eqns:
        yield equation
        for inner in jax.tree.leaves(
            list(equation.params.values()), is_leaf=lambda x: hasattr(x, "eqns")
        ):
            inner = getattr(inner, "jaxpr", inner)
            if hasattr(inner, "eqns"):
                yield from equations(inner)


def types_of(program, name: str) -> set[str]:
    """The types that a primitive computes in."""
    return {
        str(equation.invars[0].aval.dtype)
        for equation in equations(program.jaxpr)
        if equation.primitive.name == name
    }


def test_softmaxes_layer_norms_and_embedding_gradients_are_float32(case):
    trained, _ = split(case.params)
    program = jax.make_jaxpr(jax.value_and_grad(loss_of(case, BFLOAT16, KEY)))(trained)
    types = {
        name: types_of(program, name)
        for name in ("exp", "rsqrt", "scatter-add", "reduce_sum", "dot_general")
    }
    assert types["exp"] == {"float32"}  # of softmaxes
    assert types["rsqrt"] <= {"float32"}  # of layer norms; ReDial has none
    assert types["scatter-add"] <= {"float32"}  # of rows of embeddings
    if not isinstance(case.model, ReDial):  # Flax's recurrent cell sums its biases' over a batch
        assert types["reduce_sum"] == {"float32"}  # of biases
    assert "bfloat16" in types["dot_general"]


def test_every_product_of_gpt2_is_bfloat16():
    case = gpt2_case()
    trained, _ = split(case.params)
    program = jax.make_jaxpr(jax.value_and_grad(loss_of(case, BFLOAT16, KEY)))(trained)
    assert types_of(program, "dot_general") == {"bfloat16"}


def test_float32_is_what_it_was_without_the_option():
    """No equation of a float32 program has another type, and no layer is computed again."""
    case = gpt2_case()
    trained, _ = split(case.params)
    text = str(jax.make_jaxpr(jax.value_and_grad(loss_of(case, Compute(), KEY)))(trained))
    assert "bf16" not in text and "remat" not in text


def test_cached_decoding_is_teacher_forcing_in_bfloat16(case):
    model, tokens = case.model.computing(BFLOAT16), jnp.asarray(case.tokens)
    forced = jax.jit(model.states)(case.params, case.inputs)[:, case.start :]
    features, cache = model.open_cache(case.params, case.prompts, tokens.shape[1] + 1)
    step = jax.jit(model.step)
    found = [features]
    for t in range(tokens.shape[1]):
        features, cache = step(case.params, tokens[:, t], cache)
        found.append(features)
    decoded = jnp.stack(found, axis=1)
    assert decoded.dtype == forced.dtype == jnp.bfloat16
    forced, decoded = (np.asarray(x.astype(jnp.float32)) for x in (forced, decoded))
    np.testing.assert_allclose(decoded, forced, atol=8 * UNIT * np.abs(forced).max())


WITH_LAYERS = ["dialogpt", "llama", "recindial", "kgsf", "kbrd", "revcore"]


@pytest.mark.parametrize(
    "name, dtype", [*((name, "float32") for name in WITH_LAYERS), ("dialogpt", "bfloat16")]
)
def test_remat_has_the_same_loss_and_gradients(name, dtype):
    """With dropout: a layer that is computed again draws the masks that it drew before."""
    case = CASES[name]()
    kept = value_and_gradients(case, Compute(dtype), KEY)
    again = value_and_gradients(case, Compute(dtype, remat=True), KEY)
    scale = max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(kept[1]))
    unit = UNIT if dtype == "bfloat16" else 1e-6
    for one, other in zip(jax.tree.leaves(kept), jax.tree.leaves(again), strict=True):
        np.testing.assert_allclose(one, other, atol=4 * unit * scale, rtol=4 * unit)


@pytest.mark.parametrize("name", WITH_LAYERS)
def test_remat_computes_every_layer_again(name):
    case = CASES[name]()
    trained, _ = split(case.params)
    spec = case.model.spec
    layers = spec.num_layers if name in ("dialogpt", "recindial") else 2 * spec.num_layers
    layers += spec.num_layers * (name == "revcore")  # which encodes the reviews once more
    layers = 1 if name == "llama" else layers  # the one that is scanned
    program = jax.make_jaxpr(loss_of(case, Compute(remat=True), KEY))(trained)
    found = [each for each in equations(program.jaxpr) if each.primitive.name == "remat2"]
    found = found or [e for e in equations(program.jaxpr) if e.primitive.name == "checkpoint"]
    assert len(found) == layers
