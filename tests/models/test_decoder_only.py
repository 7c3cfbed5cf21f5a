"""GPT-2 and Llama: parity with PyTorch, and what both guarantee on caches, padding and rows."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from flax.traverse_util import flatten_dict

from conkd_jax.distill.losses import nll
from conkd_jax.models.compute import Compute
from tests.models.small_decoders import NUM_ROWS, SPECS, extended, loaded, model_of, peer_of


@pytest.fixture(scope="module", params=SPECS)
def spec(request):
    return SPECS[request.param]


@pytest.fixture(scope="module")
def model(spec):
    return model_of(spec)


@pytest.fixture(scope="module")
def peer(spec):
    return peer_of(spec)


@pytest.fixture(scope="module")
def params(spec, peer, tmp_path_factory):
    """The peer's parameters, as they are read from its folder."""
    found, params = loaded(peer, tmp_path_factory.mktemp("peer"))
    assert found == spec
    return params


@pytest.fixture
def ids() -> np.ndarray:
    return np.random.default_rng(1).integers(0, NUM_ROWS, (3, 12), dtype=np.int32)


@pytest.fixture(scope="module")
def forward(model):
    """`features`, compiled once for every shape."""
    return jax.jit(lambda params, ids, rng=None: model.features(params, ids, rng=rng))


@pytest.fixture(scope="module")
def prefill(model):
    return jax.jit(model.prefill, static_argnums=3)


@pytest.fixture(scope="module")
def step(model):
    return jax.jit(model.step)


@pytest.fixture(scope="module")
def loss_and_gradients(model):
    return jax.jit(jax.value_and_grad(lambda params, ids: mean_nll(params, model, ids)))


def mean_nll(params, model, ids):
    features = model.features(params, ids)[:, :-1].reshape(-1, model.spec.embed_dim)  # [N, F]
    logits = model.head(params, NUM_ROWS).logits(features)
    return nll(logits, jnp.asarray(ids[:, 1:]).reshape(-1)).mean()


# --- parity with PyTorch ------------------------------------------------------------------------


def test_logits_match_pytorch(model, peer, params, ids, forward):
    logits = model.head(params, NUM_ROWS).logits(forward(params, ids))
    with torch.no_grad():
        expected = peer(torch.tensor(ids).long()).logits.numpy()
    assert expected.std() > 0.5
    np.testing.assert_allclose(logits, expected, atol=2e-4)


def test_gradients_match_pytorch(spec, peer, params, ids, loss_and_gradients, tmp_path):
    """PyTorch's gradients travel as the weights do: saved in the place of its parameters."""
    loss, grads = loss_and_gradients(params, ids)
    peer.zero_grad()
    expected = peer(torch.tensor(ids).long(), labels=torch.tensor(ids).long()).loss
    expected.backward()
    np.testing.assert_allclose(loss, expected.item(), rtol=1e-5)
    carrier = peer_of(spec)
    with torch.no_grad():
        for ours, theirs in zip(carrier.parameters(), peer.parameters(), strict=True):
            ours.copy_(theirs.grad)
    got, wanted = (flatten_dict(tree) for tree in (grads, loaded(carrier, tmp_path)[1]))
    assert set(got) == set(wanted)
    for path, leaf in wanted.items():
        np.testing.assert_allclose(got[path], leaf, atol=1e-5, rtol=1e-4, err_msg=str(path))
        assert np.abs(leaf).max() > 1e-4, path


def test_adamw_step_matches_pytorch(spec, params, ids, loss_and_gradients, tmp_path):
    peer = peer_of(spec)  # a copy: the step must not touch the fixture
    settings = {"eps": 1e-6, "weight_decay": 0.1}
    optimizer = torch.optim.AdamW(peer.parameters(), lr=0.01, betas=(0.9, 0.999), **settings)
    peer(torch.tensor(ids).long(), labels=torch.tensor(ids).long()).loss.backward()
    optimizer.step()
    transform = optax.adamw(0.01, b1=0.9, b2=0.999, **settings)
    updates, _ = transform.update(
        loss_and_gradients(params, ids)[1], transform.init(params), params
    )
    got = flatten_dict(optax.apply_updates(params, updates))
    wanted, before = (flatten_dict(tree) for tree in (loaded(peer, tmp_path)[1], params))
    # The first step of Adam is the sign of the gradient, which rounding decides for some entries.
    for path, leaf in wanted.items():
        off = np.abs(got[path] - leaf) > 1e-4
        assert off.mean() < 1e-3, path
    moved = max(np.abs(leaf - before[path]).max() for path, leaf in wanted.items())
    assert moved > 5e-3, "the step changed nothing, so the comparison proves nothing"


def test_cached_decoding_matches_pytorch_under_left_padding(
    model, peer, params, ids, prefill, step
):
    """A row of four tokens behind padding, decoded step by step, against PyTorch's own cache."""
    num_steps = 5
    padded = np.full((1, 7), 50, np.int32)
    padded[0, 3:] = ids[0, :4]
    last, cache = prefill(params, padded, np.arange(7)[None] >= 3, 7 + num_steps)
    got = [last]
    for t in range(num_steps):
        features, cache = step(params, ids[:1, 4 + t], cache)
        got.append(features)
    logits = model.head(params, NUM_ROWS).logits(jnp.concatenate(got))
    with torch.no_grad():
        out = peer(torch.tensor(ids[:1, :4]).long(), use_cache=True)
        expected = [out.logits[0, -1].numpy()]
        for t in range(num_steps):
            token = torch.tensor(ids[:1, 4 + t : 5 + t]).long()
            out = peer(token, past_key_values=out.past_key_values, use_cache=True)
            expected.append(out.logits[0, -1].numpy())
    np.testing.assert_allclose(logits, np.stack(expected), atol=2e-4)


# --- features -----------------------------------------------------------------------------------


def test_right_padding_changes_nothing(params, ids, forward):
    padding = np.random.default_rng(2).integers(0, NUM_ROWS, (3, 7), dtype=np.int32)
    padded = forward(params, np.concatenate([ids, padding], axis=1))
    np.testing.assert_allclose(padded[:, :12], forward(params, ids), atol=1e-5)


def test_feature_depends_on_its_own_token_and_those_before(params, ids, forward):
    changed = ids.copy()
    changed[:, 5] = (changed[:, 5] + 1) % NUM_ROWS
    difference = np.abs(forward(params, changed) - forward(params, ids)).max(axis=-1)
    np.testing.assert_allclose(difference[:, :5], 0, atol=1e-6)
    assert (difference[:, 5:] > 1e-4).all()


def test_dropout_is_off_without_a_key_and_a_function_of_it(spec, params, ids, forward):
    noisy = model_of(dataclasses.replace(spec, dropout=0.1))
    drop = jax.jit(lambda params, ids, rng: noisy.features(params, ids, rng=rng))
    plain = forward(params, ids)
    dropped = drop(params, ids, jax.random.key(1))
    np.testing.assert_array_equal(dropped, drop(params, ids, jax.random.key(1)))
    assert np.abs(dropped - drop(params, ids, jax.random.key(2))).max() > 0.1
    assert np.abs(dropped - plain).max() > 0.1
    still = model_of(dataclasses.replace(spec, dropout=0.0))
    np.testing.assert_allclose(still.features(params, ids, rng=jax.random.key(1)), plain, atol=1e-5)


@pytest.mark.parametrize("compute", [Compute(), Compute("bfloat16", remat=True)], ids=str)
def test_runs_and_differentiates_under_strict_promotion(model, params, ids, compute):
    computing = model.computing(compute)
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        jax.make_jaxpr(jax.grad(mean_nll), static_argnums=1)(params, computing, ids)
        mask = np.ones(ids.shape, bool)
        jax.make_jaxpr(computing.prefill, static_argnums=3)(params, ids, mask, 14)
    assert jax.eval_shape(computing.features, params, ids).dtype == compute.array_dtype


def test_longer_than_positions_is_refused(model, params):
    with pytest.raises(ValueError, match="49 tokens is longer than the model's 48 positions"):
        model.features(params, np.zeros((1, 49), np.int32))
    with pytest.raises(ValueError, match="50 tokens"):
        model.prefill(params, np.zeros((1, 4), np.int32), np.ones((1, 4), bool), 50)


# --- cache --------------------------------------------------------------------------------------


def test_cached_decoding_equals_full_forward_under_left_padding(
    params, ids, forward, prefill, step
):
    lengths, prompt, steps = (4, 7, 1), 7, 5  # rows of different lengths; the second is unpadded
    padded = np.full((3, prompt), 50, np.int32)  # the content of the padding must not matter
    mask = np.zeros((3, prompt), bool)
    for row, length in enumerate(lengths):
        padded[row, prompt - length :] = ids[row, :length]
        mask[row, prompt - length :] = True
    last, cache = prefill(params, padded, mask, prompt + steps)
    got = [last]
    for t in range(steps):
        token = np.array([ids[row, length + t] for row, length in enumerate(lengths)])
        features, cache = step(params, token, cache)
        got.append(features)
    full = forward(params, ids)
    for row, length in enumerate(lengths):
        np.testing.assert_allclose(
            np.stack(got)[:, row], full[row, length - 1 : length + steps], atol=1e-5
        )


def test_a_branched_cache_continues_like_that_of_the_whole_prompt(
    model, params, ids, forward, prefill, step
):
    """Beginnings of 3, 0, 9 and 6 tokens of three longer prompts, in another order."""
    rows, num_read = np.array([2, 0, 1, 2], np.int32), np.array([3, 0, 9, 6], np.int32)
    lengths = np.array([5, 9, 8])  # of the longer prompts, which are padded to 10
    padded, mask = np.full((3, 10), 50, np.int32), np.arange(10) >= 10 - lengths[:, None]
    for row, length in enumerate(lengths):
        padded[row, 10 - length :] = ids[row, :length]
    _, longer = prefill(params, padded, mask, 12)  # with room, as if others were longer
    ends = (10 - lengths)[rows] + num_read
    cache = model.branch(longer.layers, rows, ends, num_read, 9, 9 + 3)
    for t in range(3):
        features, cache = step(params, ids[rows, num_read + t], cache)
        np.testing.assert_allclose(
            features, np.asarray(forward(params, ids))[rows, num_read + t], atol=1e-5
        )


def test_a_row_of_padding_alone_stays_finite(params, prefill, step):
    features, cache = prefill(params, np.zeros((3, 7), np.int32), np.zeros((3, 7), bool), 12)
    assert np.isfinite(features).all()
    assert np.isfinite(step(params, np.zeros(3, np.int32), cache)[0]).all()


# --- parameters ---------------------------------------------------------------------------------


def test_init_is_a_function_of_the_key(model):
    first, again, other = (model.init(jax.random.key(seed)) for seed in (5, 5, 6))
    jax.tree.map(np.testing.assert_array_equal, first, again)
    for layer in model.ROW_LAYERS:
        if layer in first:
            assert not np.array_equal(first[layer]["embedding"], other[layer]["embedding"])
    assert type(first) is dict


def test_items_start_at_the_mean_of_their_titles(spec, params):
    """In the embedding, and in an output layer of its own."""
    titles = [[3], [3, 5, 5], [], [89]]
    wider = dataclasses.replace(model_of(spec), num_rows=128)
    got = extended(spec, params, 90, titles, 128, jax.random.key(0))
    untitled = extended(spec, params, 90, [[]] * 4, 128, jax.random.key(0))
    layers = [layer for layer in wider.ROW_LAYERS if layer in params]
    for layer in layers:
        table, words = got[layer]["embedding"], params[layer]["embedding"][:90]
        assert table.shape == (128, 32)
        np.testing.assert_array_equal(table[:90], words)
        means = np.stack([words[3], (words[3] + 2 * words[5]) / 3, words.mean(0), words[89]])
        differences = table[90:94] - untitled[layer]["embedding"][90:94]  # with the same noise
        np.testing.assert_allclose(differences, means - words.mean(0), atol=1e-6)
        assert np.std(table[90:94] - means) == pytest.approx(0.02, rel=0.2)
        assert np.std(table[94:]) == pytest.approx(0.02, rel=0.1)
    assert all(got[layer] is params[layer] for layer in params.keys() - {*layers})
    head = wider.head(got, 94)
    np.testing.assert_array_equal(head.kernel.T, got[layers[-1]]["embedding"][:94])
    np.testing.assert_array_equal(head.bias, 0)
    assert np.isfinite(wider.features(got, np.array([[93, 127]], np.int32))).all()


@pytest.mark.parametrize(
    ("num_words", "titles", "num_rows", "message"),
    [
        (98, [[1]], 128, "embeds 97 tokens, but the tokenizer has 98 words"),
        (90, [[1], [90]], 128, "title ids from 0 to below 90.*got 1 to 90"),
        (90, [[1]] * 4, 93, "93 rows can't hold 90 words and 4 items"),
    ],
)
def test_an_embedding_that_does_not_fit_is_refused(
    spec, params, num_words, titles, num_rows, message
):
    with pytest.raises(ValueError, match=message):
        extended(spec, params, num_words, titles, num_rows, jax.random.key(0))
