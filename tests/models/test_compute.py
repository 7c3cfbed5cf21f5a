"""bfloat16 and rematerialisation, for every backbone: what is rounded, and what stays the same."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from conkd_jax.models.compute import Compute
from conkd_jax.models.redial import ReDial
from tests.models.language_models import CASES, Case, gpt2_case, loss_of, split
from tests.models.programs import equations, types_of

BFLOAT16 = Compute("bfloat16")
UNIT = 2.0**-8  # relative spacing of bfloat16
KEY = jax.random.key(7)


@pytest.fixture(scope="module", params=list(CASES))
def case(request) -> Case:
    return CASES[request.param]()


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
