"""GPT-2: parity with PyTorch, and the wrapper's guarantees on caches, padding and rows."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
import transformers
from flax.traverse_util import flatten_dict

from conkd_jax.distill.losses import nll
from conkd_jax.models import gpt2_weights
from conkd_jax.models.gpt2 import GPT2, GPT2Spec, extend_embedding, load_pretrained

SPEC = GPT2Spec(num_layers=2, embed_dim=32, num_heads=4, num_positions=48, dropout=0.1)
NUM_ROWS = 97


@pytest.fixture(scope="module")
def model() -> GPT2:
    return GPT2(SPEC, NUM_ROWS)


@pytest.fixture(scope="module")
def params(model):
    """Larger weights than GPT-2's initial ones, so that attention and features really differ."""
    return jax.tree.map(
        lambda leaf: 5 * leaf if leaf.ndim == 2 else leaf, model.init(jax.random.key(0))
    )


@pytest.fixture
def ids(rng) -> np.ndarray:
    return rng.integers(0, NUM_ROWS, (3, 12), dtype=np.int32)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(1)


@pytest.fixture(scope="module")
def peer() -> transformers.GPT2LMHeadModel:
    """PyTorch's GPT-2 of the same shape, random, without dropout."""
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=NUM_ROWS,
        n_layer=SPEC.num_layers,
        n_embd=SPEC.embed_dim,
        n_head=SPEC.num_heads,
        n_positions=SPEC.num_positions,
        initializer_range=0.1,
    )
    return transformers.GPT2LMHeadModel(config).eval()


def peer_tree(tensors) -> dict:
    """PyTorch tensors by name (parameters or gradients) as a flat dict of Flax paths."""
    arrays = {name: tensor.detach().numpy().copy() for name, tensor in tensors}
    return gpt2_weights.from_pytorch_names(arrays)


@pytest.fixture(scope="module")
def peer_params(peer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("peer")
    peer.save_pretrained(folder)
    spec, params = load_pretrained(folder)
    assert spec == SPEC
    return params


def mean_nll(params, model, ids):
    features = model.features(params, ids)[:, :-1].reshape(-1, SPEC.embed_dim)  # [N, F]
    logits = model.head(params, NUM_ROWS).logits(features)
    return nll(logits, jnp.asarray(ids[:, 1:]).reshape(-1)).mean()


def forward(model, params, ids, rng=None):
    return jax.jit(type(model).features, static_argnums=0)(model, params, ids, rng=rng)


def assert_trees_close(got: dict, expected: dict, *, atol: float):
    assert set(got) == set(expected)
    for path, leaf in expected.items():
        np.testing.assert_allclose(got[path], leaf, atol=atol, rtol=1e-4, err_msg=str(path))


# --- parity with PyTorch ------------------------------------------------------------------------


def test_logits_match_pytorch(model, peer, peer_params, ids):
    logits = model.head(peer_params, NUM_ROWS).logits(forward(model, peer_params, ids))
    with torch.no_grad():
        expected = peer(torch.tensor(ids).long()).logits.numpy()
    np.testing.assert_allclose(logits, expected, atol=1e-4)


def test_gradients_match_pytorch(model, peer, peer_params, ids):
    loss, grads = jax.jit(jax.value_and_grad(mean_nll), static_argnums=1)(peer_params, model, ids)
    peer.zero_grad()
    expected = peer(torch.tensor(ids).long(), labels=torch.tensor(ids).long()).loss
    expected.backward()
    np.testing.assert_allclose(loss, expected.item(), rtol=1e-5)
    named = ((name, parameter.grad) for name, parameter in peer.transformer.named_parameters())
    assert_trees_close(flatten_dict(grads), peer_tree(named), atol=1e-5)


def test_adamw_step_matches_pytorch(model, peer, peer_params, ids):
    peer = peer.__class__(peer.config).eval()  # a copy: the step must not touch the fixture
    settings = {"eps": 1e-6, "weight_decay": 0.1}
    start = peer_tree(peer.transformer.named_parameters())
    params = jax.tree.map(jnp.asarray, _unflatten(start))
    optimizer = torch.optim.AdamW(peer.parameters(), lr=0.01, betas=(0.9, 0.999), **settings)
    peer(torch.tensor(ids).long(), labels=torch.tensor(ids).long()).loss.backward()
    optimizer.step()
    transform = optax.adamw(0.01, b1=0.9, b2=0.999, **settings)

    @jax.jit
    def step(params):
        grads = jax.grad(mean_nll)(params, model, ids)
        updates, _ = transform.update(grads, transform.init(params), params)
        return optax.apply_updates(params, updates)

    params = step(params)
    expected = peer_tree(peer.transformer.named_parameters())
    assert_trees_close(flatten_dict(params), expected, atol=1e-4)
    moved = max(np.abs(expected[path] - start[path]).max() for path in start)
    assert moved > 5e-3, "the step changed nothing, so the comparison proves nothing"


def _unflatten(flat):
    tree = {}
    for path, leaf in flat.items():
        branch = tree
        for key in path[:-1]:
            branch = branch.setdefault(key, {})
        branch[path[-1]] = leaf
    return tree


# --- initialisation -----------------------------------------------------------------------------


def test_init_follows_gpt2_scheme():
    spec = GPT2Spec(num_layers=2, embed_dim=64, num_heads=2, num_positions=64)
    params = GPT2(spec, 128).init(jax.random.key(3))
    block = params["h"]["1"]
    assert params["wte"]["embedding"].shape == (128, 64)
    for kernel in (block["attn"]["c_attn"]["kernel"], block["mlp"]["c_fc"]["kernel"]):
        assert np.std(kernel) == pytest.approx(0.02, rel=0.05)
    for kernel in (block["attn"]["c_proj"]["kernel"], block["mlp"]["c_proj"]["kernel"]):
        assert np.std(kernel) == pytest.approx(0.01, rel=0.05)  # .02 / √(2·2)
    np.testing.assert_array_equal(block["mlp"]["c_proj"]["bias"], 0)
    np.testing.assert_array_equal(params["ln_f"]["scale"], 1)
    assert type(params) is dict


def test_init_is_a_function_of_the_key(model):
    first, again, other = (model.init(jax.random.key(seed)) for seed in (5, 5, 6))
    jax.tree.map(np.testing.assert_array_equal, first, again)
    assert not np.array_equal(first["wte"]["embedding"], other["wte"]["embedding"])


# --- features -----------------------------------------------------------------------------------


def test_right_padding_changes_nothing(model, params, ids, rng):
    padding = rng.integers(0, NUM_ROWS, (3, 7), dtype=np.int32)
    padded = forward(model, params, np.concatenate([ids, padding], axis=1))
    np.testing.assert_allclose(padded[:, :12], forward(model, params, ids), atol=1e-5)


def test_feature_depends_on_its_own_token_and_those_before(model, params, ids):
    changed = ids.copy()
    changed[:, 5] = (changed[:, 5] + 1) % NUM_ROWS
    difference = np.abs(forward(model, params, changed) - forward(model, params, ids)).max(axis=-1)
    np.testing.assert_allclose(difference[:, :5], 0, atol=1e-6)
    assert (difference[:, 5:] > 1e-4).all()


def test_dropout_is_off_without_a_key_and_a_function_of_it(model, params, ids):
    plain = forward(model, params, ids)
    dropped = forward(model, params, ids, rng=jax.random.key(1))
    np.testing.assert_array_equal(dropped, forward(model, params, ids, rng=jax.random.key(1)))
    assert np.abs(dropped - forward(model, params, ids, rng=jax.random.key(2))).max() > 0.1
    assert np.abs(dropped - plain).max() > 0.1
    still = GPT2(dataclasses.replace(SPEC, dropout=0.0), NUM_ROWS)
    np.testing.assert_allclose(forward(still, params, ids, rng=jax.random.key(1)), plain, atol=1e-6)


def test_runs_and_differentiates_under_strict_promotion(model, params, ids):
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        grads = jax.jit(jax.grad(mean_nll), static_argnums=1)(params, model, ids)
        jax.jit(model.prefill, static_argnums=3)(params, ids, np.ones(ids.shape, bool), 14)
    assert np.abs(grads["wpe"]["embedding"]).max() > 0


def test_head_is_tied_to_the_first_rows(model, params):
    head = model.head(params, 90)
    assert head.kernel.shape == (32, 90)
    np.testing.assert_array_equal(head.kernel.T, params["wte"]["embedding"][:90])
    np.testing.assert_array_equal(head.bias, 0)


def test_longer_than_positions_is_refused(model, params):
    with pytest.raises(ValueError, match="49 tokens is longer than the model's 48 positions"):
        model.features(params, np.zeros((1, 49), np.int32))
    with pytest.raises(ValueError, match="50 tokens"):
        model.prefill(params, np.zeros((1, 4), np.int32), np.ones((1, 4), bool), 50)


def test_heads_must_divide_width():
    with pytest.raises(ValueError, match="embed_dim = 30 is not a multiple of num_heads = 4"):
        GPT2(dataclasses.replace(SPEC, embed_dim=30), NUM_ROWS).init(jax.random.key(0))


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


def test_a_step_transposes_no_weight(model, params):
    """When XLA decodes a single row on a CPU, it copies a transposed weight at every step."""
    prompt = np.zeros((1, 4), np.int32), np.ones((1, 4), bool)
    _, cache = jax.jit(model.prefill, static_argnums=3)(params, *prompt, 6)
    jaxpr = jax.make_jaxpr(model.step)(params, np.zeros(1, np.int32), cache)
    transposed = re.findall(r"f32\[\d+,\d+\] = transpose", str(jaxpr))
    assert not transposed and "dot_general" in str(jaxpr)


def test_a_row_of_padding_alone_stays_finite(model, params):
    prefill, step = jax.jit(model.prefill, static_argnums=3), jax.jit(model.step)
    features, cache = prefill(params, np.zeros((3, 7), np.int32), np.zeros((3, 7), bool), 12)
    assert np.isfinite(features).all()
    assert np.isfinite(step(params, np.zeros(3, np.int32), cache)[0]).all()


# --- new rows -----------------------------------------------------------------------------------


def test_items_start_at_the_mean_of_their_titles(model, params):
    titles = [[3], [3, 5, 5], [], [89]]
    extended = extend_embedding(params, 90, titles, 128, jax.random.key(0))
    untitled = extend_embedding(params, 90, [[]] * 4, 128, jax.random.key(0))
    table, words = extended["wte"]["embedding"], params["wte"]["embedding"][:90]
    assert table.shape == (128, 32)
    np.testing.assert_array_equal(table[:90], words)
    means = np.stack([words[3], (words[3] + 2 * words[5]) / 3, words.mean(0), words[89]])
    differences = table[90:94] - untitled["wte"]["embedding"][90:94]  # the same noise in both
    np.testing.assert_allclose(differences, means - words.mean(0), atol=1e-6)
    assert np.std(table[90:94] - means) == pytest.approx(0.02, rel=0.2)
    assert np.std(table[94:]) == pytest.approx(0.02, rel=0.1)
    assert extended["h"] is params["h"]
    features = forward(GPT2(SPEC, 128), extended, np.array([[93, 127]], np.int32))
    assert np.isfinite(features).all()


@pytest.mark.parametrize(
    ("num_words", "titles", "num_rows", "message"),
    [
        (98, [[1]], 128, "embeds 97 tokens, but the tokenizer has 98 words"),
        (90, [[1], [90]], 128, "title ids from 0 to below 90.*got 1 to 90"),
        (90, [[1]] * 4, 93, "93 rows can't hold 90 words and 4 items"),
    ],
)
def test_embedding_that_does_not_fit_is_refused(params, num_words, titles, num_rows, message):
    with pytest.raises(ValueError, match=message):
        extend_embedding(params, num_words, titles, num_rows, jax.random.key(0))
