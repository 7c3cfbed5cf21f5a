"""Published GPT-2 weights: every format as transformers writes it, and every failure."""

import json
import sys

import flax.serialization
import huggingface_hub
import jax
import numpy as np
import pytest
import safetensors.torch
import torch
import transformers
from flax.traverse_util import unflatten_dict
from transformers.models.gpt2 import modeling_flax_gpt2

from conkd_jax.models import gpt2_weights
from conkd_jax.models.gpt2 import GPT2, GPT2Spec, load_pretrained

CONFIG = {"vocab_size": 41, "n_layer": 2, "n_embd": 16, "n_head": 2, "n_positions": 24}
SPEC = GPT2Spec(num_layers=2, embed_dim=16, num_heads=2, num_positions=24, dropout=0.1)
IDS = np.arange(10, dtype=np.int32)[None] * 4


@pytest.fixture(scope="module")
def peer():
    torch.manual_seed(0)
    return transformers.GPT2LMHeadModel(transformers.GPT2Config(**CONFIG)).eval()


@pytest.fixture
def folder(peer, tmp_path):
    """A folder of single-file safetensors with its config."""
    peer.save_pretrained(tmp_path)
    return tmp_path


def features(params):
    return jax.jit(GPT2(SPEC, 41).features)(params, IDS)


def assert_is_peer(folder, peer, atol=1e-5):
    spec, params = load_pretrained(folder)
    assert spec == SPEC
    assert {leaf.dtype.name for leaf in jax.tree.leaves(params)} == {"float32"}
    with torch.no_grad():
        expected = peer.transformer(torch.tensor(IDS).long()).last_hidden_state.numpy()
    np.testing.assert_allclose(features(params), expected, atol=atol)


# --- formats ------------------------------------------------------------------------------------


@pytest.mark.parametrize("safe", [True, False], ids=["safetensors", "bin"])
@pytest.mark.parametrize("base", [True, False], ids=["without prefix", "with prefix"])
def test_reads_what_pytorch_wrote(peer, tmp_path, safe, base):
    (peer.transformer if base else peer).save_pretrained(tmp_path, safe_serialization=safe)
    names = {path.name for path in tmp_path.iterdir()} & {"model.safetensors", "pytorch_model.bin"}
    assert names == {"model.safetensors" if safe else "pytorch_model.bin"}
    assert_is_peer(tmp_path, peer)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("safe", [True, False], ids=["safetensors", "bin"])
def test_half_precision_is_widened(peer, tmp_path, dtype, safe):
    state = {name: tensor.to(dtype) for name, tensor in peer.transformer.state_dict().items()}
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    if safe:
        safetensors.torch.save_file(state, tmp_path / "model.safetensors")
    else:
        torch.save(state, tmp_path / "pytorch_model.bin")
    assert_is_peer(tmp_path, peer, atol=0.05)


def test_causal_mask_buffers_of_old_checkpoints_are_left_out(peer, tmp_path):
    state = dict(peer.state_dict())
    del state["lm_head.weight"]
    for layer in range(2):
        state[f"transformer.h.{layer}.attn.bias"] = torch.ones((1, 1, 24, 24), dtype=torch.uint8)
        state[f"transformer.h.{layer}.attn.masked_bias"] = torch.tensor(-1e4)
    (tmp_path / "config.json").write_text(json.dumps({**CONFIG, "n_ctx": 24}))
    safetensors.torch.save_file(state, tmp_path / "model.safetensors")
    assert_is_peer(tmp_path, peer)


def test_reads_what_flax_wrote(tmp_path):
    config = transformers.GPT2Config(**CONFIG)
    module = modeling_flax_gpt2.FlaxGPT2LMHeadModule(config)
    ids = jax.numpy.asarray(IDS)
    variables = jax.jit(module.init)(jax.random.key(0), ids, None, ids * 0)
    config.save_pretrained(tmp_path)
    # What FlaxGPT2LMHeadModel.save_pretrained writes.
    (tmp_path / "flax_model.msgpack").write_bytes(flax.serialization.to_bytes(variables["params"]))
    (tmp_path / "model.safetensors").write_bytes(b"not reached: msgpack comes first")
    spec, params = load_pretrained(tmp_path)
    assert spec == SPEC
    jax.tree.map(np.testing.assert_array_equal, params, dict(variables["params"]["transformer"]))
    (tmp_path / "flax_model.msgpack").write_bytes(flax.serialization.to_bytes(params))
    jax.tree.map(np.testing.assert_array_equal, load_pretrained(tmp_path)[1], params)


# --- the hub ------------------------------------------------------------------------------------


def test_hub_name_without_network_says_what_to_do():
    with pytest.raises(FileNotFoundError) as error:
        load_pretrained("microsoft/DialoGPT-small")
    for part in ("microsoft/DialoGPT-small/config.json", "give its folder", ":mini", ":demo"):
        assert part in str(error.value)


def test_hub_name_is_found_in_the_local_cache(folder, peer, tmp_path_factory, monkeypatch):
    cache, commit = tmp_path_factory.mktemp("hub"), "0" * 40
    repository = cache / "models--somebody--gpt2-tiny"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(commit)
    (repository / "snapshots").mkdir()
    folder.rename(repository / "snapshots" / commit)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
    assert_is_peer("somebody/gpt2-tiny", peer)


def test_name_that_the_hub_does_not_allow_is_refused():
    with pytest.raises(FileNotFoundError, match="Correct the name"):
        load_pretrained("one/two/three")


# --- what can go wrong --------------------------------------------------------------------------


def test_missing_folder_is_never_taken_for_a_hub_name(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere/config.json.*:mini and :demo"):
        load_pretrained(tmp_path / "nowhere")


def test_missing_weights_name_what_was_looked_for(folder):
    (folder / "model.safetensors").unlink()
    expected = "none of flax_model.msgpack, model.safetensors, pytorch_model.bin"
    with pytest.raises(FileNotFoundError, match=expected):
        load_pretrained(folder)


@pytest.mark.parametrize("safe", [True, False], ids=["safetensors", "bin"])
def test_sharded_weights_are_refused(peer, tmp_path, safe):
    peer.save_pretrained(tmp_path, safe_serialization=safe, max_shard_size="10KB")
    with pytest.raises(ValueError, match="sharded .*Save them again as one file"):
        load_pretrained(tmp_path)


def test_bin_without_torch_names_the_other_formats(peer, tmp_path, monkeypatch):
    peer.save_pretrained(tmp_path, safe_serialization=False)
    monkeypatch.setitem(sys.modules, "torch", None)  # import torch now raises ImportError
    with pytest.raises(ValueError, match="pytorch_model.bin can be read with PyTorch only"):
        load_pretrained(tmp_path)


@pytest.mark.parametrize("file", ["flax_model.msgpack", "model.safetensors", "pytorch_model.bin"])
@pytest.mark.parametrize("damage", ["truncated", "foreign", "empty"])
def test_damaged_file_is_named(peer, tmp_path, file, damage):
    peer.save_pretrained(tmp_path, safe_serialization=file == "model.safetensors")
    path = tmp_path / file
    if file == "flax_model.msgpack":
        (tmp_path / "pytorch_model.bin").unlink()
        path.write_bytes(flax.serialization.to_bytes({"transformer": {"wte": np.ones((41, 16))}}))
    data = path.read_bytes()
    path.write_bytes(
        {"truncated": data[: len(data) // 2], "foreign": b"<html>", "empty": b""}[damage]
    )
    with pytest.raises(ValueError, match=f"{file} .*Download it again"):
        load_pretrained(tmp_path)


def test_pickle_with_code_is_not_run(tmp_path):
    class Payload:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    torch.save(Payload(), tmp_path / "pytorch_model.bin")
    with pytest.raises(ValueError, match="pytorch_model.bin"):
        load_pretrained(tmp_path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_embd": 32}, r"c_attn.kernel: expected \(96, 32\), got \(48, 16\)"),
        ({"n_positions": 32}, r"wpe.embedding: expected \(32, 16\), got \(24, 16\)"),
        ({"n_layer": 3}, r"h.2.*: expected .* got missing.* and 7 more"),
        ({"activation_function": "relu"}, "activation_function is 'relu'"),
        ({"model_type": "opt"}, "model_type is 'opt'"),
        ({"tie_word_embeddings": False}, "tie_word_embeddings is False"),
        ({"n_head": None}, "lacks n_head"),
    ],
)
def test_config_of_another_model_is_refused(folder, change, message):
    path = folder / "config.json"
    config = {**json.loads(path.read_text()), **change}
    path.write_text(json.dumps({key: value for key, value in config.items() if value is not None}))
    with pytest.raises(ValueError, match=message):
        load_pretrained(folder)


# An array that the model would not read makes it another model.


def save_changed(peer, folder, change, config=None):
    state = dict(peer.state_dict())
    state["lm_head.weight"] = state["lm_head.weight"].clone()
    change(state)
    (folder / "config.json").write_text(json.dumps({**CONFIG, **(config or {})}))
    safetensors.torch.save_file(state, folder / "model.safetensors")


def test_a_head_that_is_the_embedding_is_read(peer, tmp_path):
    save_changed(peer, tmp_path, lambda state: None)
    assert_is_peer(tmp_path, peer)


def test_an_untied_head_is_refused(peer, tmp_path):
    save_changed(peer, tmp_path, lambda state: state["lm_head.weight"].mul_(2))
    with pytest.raises(ValueError, match="safetensors: expected lm_head.kernel to be the word emb"):
        load_pretrained(tmp_path)
    _, params = load_pretrained(saved_as_flax(peer, tmp_path, scale=1.0))
    assert params["wte"]["embedding"].shape == (41, 16)
    with pytest.raises(
        ValueError, match="msgpack: expected lm_head.kernel to be the word embeddin"
    ):
        load_pretrained(saved_as_flax(peer, tmp_path, scale=2.0))


def saved_as_flax(peer, folder, scale):
    """The folder, with a head of `scale` times the word embedding in Flax's file."""
    tensors = {name: tensor.numpy() for name, tensor in peer.state_dict().items()}
    tree = unflatten_dict(gpt2_weights.from_pytorch_names(tensors))
    tree["lm_head"] = {"kernel": scale * tree["wte"]["embedding"].T}
    (folder / "flax_model.msgpack").write_bytes(flax.serialization.to_bytes(tree))
    return folder


def test_a_layer_beyond_those_of_the_config_is_refused(peer, tmp_path):
    save_changed(peer, tmp_path, lambda state: None, {"n_layer": 1})
    with pytest.raises(ValueError, match=r"h.1.attn.*: expected no such array, got .* and 7 more"):
        load_pretrained(tmp_path)


def test_quantised_numbers_are_refused(peer, tmp_path):
    def change(state):
        state["transformer.ln_f.bias"] = state["transformer.ln_f.bias"].to(torch.int8)

    save_changed(peer, tmp_path, change)
    with pytest.raises(
        ValueError, match="ln_f.bias: expected numbers of type F32, F16, BF16, got I8"
    ):
        load_pretrained(tmp_path)


def test_weights_without_an_embedding_are_refused(peer, tmp_path):
    state = dict(peer.transformer.state_dict())
    del state["wte.weight"]
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    safetensors.torch.save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match="wte.embedding: expected .* got missing"):
        load_pretrained(tmp_path)


@pytest.mark.parametrize("safe", [True, False], ids=["safetensors", "bin"])
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("lm_head.weight", "expected lm_head.kernel to be the word embedding wte"),
        ("lm_head.decoder.weight", "expected lm_head.decoder.kernel to be the word embedding"),
        ("transformer.h.2.ln_1.weight", r"h.2.ln_1.scale: expected no such array, got \(41, 16\)"),
        ("transformer.h.0.attn.lora.weight", "h.0.attn.lora.kernel: expected no such array"),
        ("score.weight", "score.kernel: expected no such array"),
        ("bias", "bias: expected no such array"),
    ],
)
def test_arrays_that_the_model_does_not_read_are_refused(peer, tmp_path, safe, name, message):
    state = {**peer.state_dict(), name: torch.ones((41, 16))}
    if name != "lm_head.weight":
        del state["lm_head.weight"]
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    if safe:
        safetensors.torch.save_file(state, tmp_path / "model.safetensors")
    else:
        torch.save(state, tmp_path / "pytorch_model.bin")
    with pytest.raises(ValueError, match=message):
        load_pretrained(tmp_path)


def test_a_head_beside_flax_weights_must_be_the_embedding(tmp_path):
    params = GPT2(SPEC, 41).init(jax.random.key(0))
    (tmp_path / "config.json").write_bytes(b"\xef\xbb\xbf" + json.dumps(CONFIG).encode())
    words = np.asarray(params["wte"]["embedding"])
    for head in (words.T, words.T + 1):
        tree = {"transformer": params, "lm_head": {"kernel": head}}
        (tmp_path / "flax_model.msgpack").write_bytes(flax.serialization.to_bytes(tree))
        if not np.array_equal(head.T, words):
            with pytest.raises(
                ValueError, match="expected lm_head.kernel to be the word embedding"
            ):
                load_pretrained(tmp_path)
        else:
            jax.tree.map(np.testing.assert_array_equal, load_pretrained(tmp_path)[1], params)


def test_config_that_is_not_json_is_refused(folder):
    (folder / "config.json").write_text("{")
    with pytest.raises(ValueError, match="config.json is not valid JSON"):
        load_pretrained(folder)
