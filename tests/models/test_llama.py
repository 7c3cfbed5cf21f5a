"""Llama: parity with PyTorch, and the wrapper's guarantees on caches, padding and rows."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
import transformers
from flax.traverse_util import flatten_dict

from conkd_jax.distill.losses import nll
from conkd_jax.models.compute import Compute
from conkd_jax.models.llama import Llama, extend_vocabulary, load_pretrained
from conkd_jax.models.llama_network import LlamaSpec
from conkd_jax.optimizers import _is_matrix

# Four heads of queries share two of keys and values, and θ is not transformers' default.
SPEC = LlamaSpec(
    num_layers=3,
    embed_dim=32,
    num_heads=4,
    num_kv_heads=2,
    head_dim=8,
    mlp_dim=44,
    num_positions=48,
    rope_theta=500.0,
    norm_epsilon=1e-4,
    tied=True,
)
NUM_ROWS = 97


def llama_of(spec: LlamaSpec) -> transformers.LlamaForCausalLM:
    """PyTorch's Llama of a shape, random, with scales of norms that are not all 1."""
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=NUM_ROWS,
        hidden_size=spec.embed_dim,
        intermediate_size=spec.mlp_dim,
        num_hidden_layers=spec.num_layers,
        num_attention_heads=spec.num_heads,
        num_key_value_heads=spec.num_kv_heads,
        head_dim=spec.head_dim,
        max_position_embeddings=spec.num_positions,
        rope_theta=spec.rope_theta,
        rms_norm_eps=spec.norm_epsilon,
        tie_word_embeddings=spec.tied,
        initializer_range=0.2,
    )
    model = transformers.LlamaForCausalLM(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name:
                parameter.uniform_(0.5, 1.5)
    return model


def loaded(peer, folder):
    peer.save_pretrained(folder)
    return load_pretrained(folder)


@pytest.fixture(scope="module", params=[True, False], ids=["tied", "untied"])
def spec(request) -> LlamaSpec:
    return dataclasses.replace(SPEC, tied=request.param)


@pytest.fixture(scope="module")
def model(spec) -> Llama:
    return Llama(spec, NUM_ROWS)


@pytest.fixture(scope="module")
def peer(spec) -> transformers.LlamaForCausalLM:
    return llama_of(spec)


@pytest.fixture(scope="module")
def params(spec, peer, tmp_path_factory):
    """The peer's parameters, as they are read from its folder."""
    found, params = loaded(peer, tmp_path_factory.mktemp("peer"))
    assert found == spec
    return params


@pytest.fixture
def ids() -> np.ndarray:
    return np.random.default_rng(1).integers(0, NUM_ROWS, (3, 12), dtype=np.int32)


def forward(model, params, ids, rng=None):
    return jax.jit(type(model).features, static_argnums=0)(model, params, ids, rng=rng)


def mean_nll(params, model, ids):
    features = model.features(params, ids)[:, :-1].reshape(-1, SPEC.embed_dim)  # [N, F]
    logits = model.head(params, NUM_ROWS).logits(features)
    return nll(logits, jnp.asarray(ids[:, 1:]).reshape(-1)).mean()


def assert_trees_close(got, expected, *, atol: float):
    got, expected = flatten_dict(got), flatten_dict(expected)
    assert set(got) == set(expected)
    for path, leaf in expected.items():
        np.testing.assert_allclose(got[path], leaf, atol=atol, rtol=1e-4, err_msg=str(path))


# --- parity with PyTorch ------------------------------------------------------------------------


def test_logits_match_pytorch(model, peer, params, ids):
    logits = model.head(params, NUM_ROWS).logits(forward(model, params, ids))
    with torch.no_grad():
        expected = peer(torch.tensor(ids).long()).logits.numpy()
    assert expected.std() > 0.5
    np.testing.assert_allclose(logits, expected, atol=2e-4)


def test_gradients_match_pytorch(model, peer, params, ids, tmp_path):
    """PyTorch's gradients travel as the weights do: saved in the place of its parameters."""
    loss, grads = jax.jit(jax.value_and_grad(mean_nll), static_argnums=1)(params, model, ids)
    peer.zero_grad()
    expected = peer(torch.tensor(ids).long(), labels=torch.tensor(ids).long()).loss
    expected.backward()
    np.testing.assert_allclose(loss, expected.item(), rtol=1e-5)
    carrier = llama_of(model.spec)
    with torch.no_grad():
        for ours, theirs in zip(carrier.parameters(), peer.parameters(), strict=True):
            ours.copy_(theirs.grad)
    _, expected = loaded(carrier, tmp_path)
    assert_trees_close(grads, expected, atol=1e-5)
    assert all(np.abs(leaf).max() > 1e-4 for leaf in jax.tree.leaves(expected))


def test_adamw_step_matches_pytorch(model, params, ids, tmp_path):
    peer = llama_of(model.spec)  # a copy: the step must not touch the fixture
    settings = {"eps": 1e-6, "weight_decay": 0.1}
    optimizer = torch.optim.AdamW(peer.parameters(), lr=0.01, betas=(0.9, 0.999), **settings)
    peer(torch.tensor(ids).long(), labels=torch.tensor(ids).long()).loss.backward()
    optimizer.step()
    transform = optax.adamw(0.01, b1=0.9, b2=0.999, **settings)

    @jax.jit
    def step(params):
        grads = jax.grad(mean_nll)(params, model, ids)
        updates, _ = transform.update(grads, transform.init(params), params)
        return optax.apply_updates(params, updates)

    _, expected = loaded(peer, tmp_path)
    after = step(params)
    # The first step of Adam is the sign of the gradient, which rounding decides for some entries.
    got, wanted = flatten_dict(after), flatten_dict(expected)
    for path, leaf in wanted.items():
        off = np.abs(got[path] - leaf) > 1e-4
        assert off.mean() < 1e-3, path
    moved = max(np.abs(leaf - flatten_dict(params)[path]).max() for path, leaf in wanted.items())
    assert moved > 5e-3, "the step changed nothing, so the comparison proves nothing"


def test_cached_decoding_matches_pytorch_under_left_padding(model, peer, params, ids):
    """A row of four tokens behind padding, decoded step by step, against PyTorch's own cache."""
    prompt, steps = 7, 5
    padded = np.full((1, prompt), 50, np.int32)
    padded[0, 3:] = ids[0, :4]
    last, cache = jax.jit(model.prefill, static_argnums=3)(params, padded, padded != 50, 12)
    got, step = [last], jax.jit(model.step)
    for t in range(steps):
        features, cache = step(params, ids[:1, 4 + t], cache)
        got.append(features)
    logits = model.head(params, NUM_ROWS).logits(jnp.concatenate(got))
    with torch.no_grad():
        out = peer(torch.tensor(ids[:1, :4]).long(), use_cache=True)
        expected = [out.logits[0, -1].numpy()]
        for t in range(steps):
            token = torch.tensor(ids[:1, 4 + t : 5 + t]).long()
            out = peer(token, past_key_values=out.past_key_values, use_cache=True)
            expected.append(out.logits[0, -1].numpy())
    np.testing.assert_allclose(logits, np.stack(expected), atol=2e-4)


# --- features -----------------------------------------------------------------------------------


def test_right_padding_changes_nothing(model, params, ids):
    padding = np.random.default_rng(2).integers(0, NUM_ROWS, (3, 7), dtype=np.int32)
    padded = forward(model, params, np.concatenate([ids, padding], axis=1))
    np.testing.assert_allclose(padded[:, :12], forward(model, params, ids), atol=1e-5)


def test_feature_depends_on_its_own_token_and_those_before(model, params, ids):
    changed = ids.copy()
    changed[:, 5] = (changed[:, 5] + 1) % NUM_ROWS
    difference = np.abs(forward(model, params, changed) - forward(model, params, ids)).max(axis=-1)
    np.testing.assert_allclose(difference[:, :5], 0, atol=1e-6)
    assert (difference[:, 5:] > 1e-4).all()


def test_dropout_is_off_without_a_key_and_differs_between_layers(params, ids, spec):
    model = Llama(dataclasses.replace(spec, dropout=0.3), NUM_ROWS)
    plain = forward(Llama(spec, NUM_ROWS), params, ids)
    np.testing.assert_array_equal(forward(model, params, ids), plain)
    dropped = forward(model, params, ids, rng=jax.random.key(1))
    np.testing.assert_array_equal(dropped, forward(model, params, ids, rng=jax.random.key(1)))
    assert np.abs(dropped - plain).max() > 0.1


def test_runs_and_differentiates_under_strict_promotion(model, params, ids):
    for compute in (Compute(), Compute("bfloat16", remat=True)):
        computing = model.computing(compute)
        with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
            features = computing.features(params, ids)
            jax.jit(computing.prefill, static_argnums=3)(params, ids, np.ones(ids.shape, bool), 14)
        assert features.dtype == compute.array_dtype


def test_computing_layers_again_changes_no_gradient(model, params, ids):
    plain, again = (
        jax.jit(jax.grad(mean_nll), static_argnums=1)(params, each, ids)
        for each in (model, model.computing(Compute(remat=True)))
    )
    assert_trees_close(again, plain, atol=1e-6)


def test_no_array_is_as_large_as_all_positions():
    """A context of 8,192 tokens costs nothing before it is read."""
    model = Llama(dataclasses.replace(SPEC, num_positions=8192), NUM_ROWS)
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    jaxpr = str(jax.make_jaxpr(model.features)(shapes, np.zeros((1, 4), np.int32)))
    assert "8192" not in jaxpr and "scan" in jaxpr


def test_longer_than_positions_is_refused(model, params):
    with pytest.raises(ValueError, match="49 tokens is longer than the model's 48 positions"):
        model.features(params, np.zeros((1, 49), np.int32))
    with pytest.raises(ValueError, match="50 tokens"):
        model.prefill(params, np.zeros((1, 4), np.int32), np.ones((1, 4), bool), 50)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_kv_heads": 3}, "num_heads = 4 is not a multiple of num_kv_heads = 3"),
        ({"head_dim": 7}, "head_dim = 7 is odd"),
    ],
)
def test_shapes_that_can_t_be_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(SPEC, **change)


# --- cache --------------------------------------------------------------------------------------


def test_cached_decoding_equals_full_forward_under_left_padding(model, params, ids):
    lengths, prompt, steps = (4, 7, 1), 7, 5  # rows of different lengths; the second is unpadded
    padded = np.full((3, prompt), 50, np.int32)  # the content of the padding must not matter
    mask = np.zeros((3, prompt), bool)
    for row, length in enumerate(lengths):
        padded[row, prompt - length :] = ids[row, :length]
        mask[row, prompt - length :] = True
    last, cache = jax.jit(model.prefill, static_argnums=3)(params, padded, mask, prompt + steps)
    got, step = [last], jax.jit(model.step)
    for t in range(steps):
        token = np.array([ids[row, length + t] for row, length in enumerate(lengths)])
        features, cache = step(params, token, cache)
        got.append(features)
    full = forward(model, params, ids)
    for row, length in enumerate(lengths):
        np.testing.assert_allclose(
            np.stack(got)[:, row], full[row, length - 1 : length + steps], atol=1e-5
        )


def test_a_row_of_padding_alone_stays_finite(model, params):
    prefill, step = jax.jit(model.prefill, static_argnums=3), jax.jit(model.step)
    features, cache = prefill(params, np.zeros((3, 7), np.int32), np.zeros((3, 7), bool), 12)
    assert np.isfinite(features).all()
    assert np.isfinite(step(params, np.zeros(3, np.int32), cache)[0]).all()


# --- parameters ---------------------------------------------------------------------------------


def test_init_is_a_function_of_the_key_and_differs_between_layers(model):
    first, again, other = (model.init(jax.random.key(seed)) for seed in (5, 5, 6))
    jax.tree.map(np.testing.assert_array_equal, first, again)
    assert not np.array_equal(first["embed"]["embedding"], other["embed"]["embedding"])
    query = np.asarray(first["layers"]["attention"]["query"]["kernel"])
    assert np.abs(query[0] - query[1]).max() > 1e-2
    assert query.std() == pytest.approx(0.02, rel=0.1)
    assert ("lm_head" in first) == (not model.spec.tied)


def test_weight_decay_spares_the_stacked_scales_of_norms(model):
    decays = flatten_dict(_is_matrix(model.init(jax.random.key(0))))
    assert {path[-1] for path, decay in decays.items() if not decay} == {"scale"}


def test_items_start_at_the_mean_of_their_titles(model, params):
    """In the embedding, and in an output layer of its own."""
    titles = [[3], [3, 5, 5], [], [89]]
    extended = extend_vocabulary(params, 90, titles, 128, jax.random.key(0))
    for layer in ["embed", *(["lm_head"] if not model.spec.tied else [])]:
        table, words = extended[layer]["embedding"], params[layer]["embedding"][:90]
        assert table.shape == (128, 32)
        np.testing.assert_array_equal(table[:90], words)
        means = np.stack([words[3], (words[3] + 2 * words[5]) / 3, words.mean(0), words[89]])
        assert np.std(table[90:94] - means) == pytest.approx(0.02, rel=0.2)
    head = Llama(model.spec, 128).head(extended, 94)
    source = "embed" if model.spec.tied else "lm_head"
    np.testing.assert_array_equal(head.kernel.T, extended[source]["embedding"][:94])
    with pytest.raises(ValueError, match="embeds 97 tokens, but the tokenizer has 98 words"):
        extend_vocabulary(params, 98, titles, 128, jax.random.key(0))
