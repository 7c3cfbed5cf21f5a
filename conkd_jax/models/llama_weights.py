"""Finds Llama weights as they are published, and reads them under the names of our network.

Weights come as safetensors beside a config.json, in one file or in shards, or as a GGUF file, which
may be quantised. This module turns these into one config, with the names of Hugging Face, and one
tree of arrays. It must not depend on the network: the expected shapes are an argument.

llama.cpp rotates adjacent pairs of entries, and transformers entries that are half a head apart. So
the conversion to GGUF reorders the rows of the query and key projections; this is undone here.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping
from typing import Any, cast

import huggingface_hub
import jax.numpy as jnp
import numpy as np
import safetensors
from etils import epath
from flax.traverse_util import flatten_dict, unflatten_dict
from huggingface_hub import errors as hub_errors

from conkd_jax.io.files import is_remote, parse_json
from conkd_jax.io.published import (
    PACKAGE,
    GGUFFile,
    WeightsError,
    check_sizes,
    is_gguf,
    located,
    parse_safetensors,
)
from conkd_jax.typing import Params

WITHOUT_WEIGHTS = (
    'with dialogue_teacher.weights = "random" and vocabulary.tokenizer = "train", the presets '
    ":small, :mini and :demo train from scratch and need no weights"
)
INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"

# What the Llama here computes in any case; a checkpoint with another config is refused.
EXPECTED_CONFIG = {
    "model_type": "llama",
    "hidden_act": "silu",
    "attention_bias": False,
    "mlp_bias": False,
}
ROPE_SCALING = {  # of our `RopeScaling`: the names in a config.json with the type "llama3"
    "factor": "factor",
    "low_freq_factor": "low_freq_factor",
    "high_freq_factor": "high_freq_factor",
    "original_positions": "original_max_position_embeddings",
}
CHOOSE = "Choose a checkpoint of the plain architecture, such as SmolLM2"
SIZES = {  # of our spec: the names in a config.json
    "num_layers": "num_hidden_layers",
    "embed_dim": "hidden_size",
    "num_heads": "num_attention_heads",
    "mlp_dim": "intermediate_size",
    "num_positions": "max_position_embeddings",
}
OUTER: Mapping[tuple[str, ...], str] = {
    ("embed", "embedding"): "model.embed_tokens.weight",
    ("norm", "scale"): "model.norm.weight",
    ("lm_head", "embedding"): "lm_head.weight",
}
IN_LAYER: Mapping[tuple[str, ...], str] = {
    ("attention_norm", "scale"): "input_layernorm.weight",
    ("attention", "query", "kernel"): "self_attn.q_proj.weight",
    ("attention", "key", "kernel"): "self_attn.k_proj.weight",
    ("attention", "value", "kernel"): "self_attn.v_proj.weight",
    ("attention", "out", "kernel"): "self_attn.o_proj.weight",
    ("mlp_norm", "scale"): "post_attention_layernorm.weight",
    ("mlp", "gate", "kernel"): "mlp.gate_proj.weight",
    ("mlp", "up", "kernel"): "mlp.up_proj.weight",
    ("mlp", "down", "kernel"): "mlp.down_proj.weight",
}
_OF_GGUF = {  # names of tensors, before ".weight"
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


@dataclasses.dataclass(frozen=True)
class PublishedLlama:
    """A published Llama whose arrays are not read yet.

    Attributes:
      config: the content of its `config.json`; of a GGUF file, the same fields.
      files: a GGUF file, or all files of safetensors.
    """

    config: dict[str, Any]
    files: tuple[epath.Path, ...]

    @property
    def where(self) -> str:
        """The first file, for messages."""
        return str(self.files[0])


def find_weights(name: str) -> PublishedLlama:
    """Finds the config and the files of a Llama; files on the hub are fetched.

    Args:
      name: as of `llama.load_pretrained`.

    Raises:
      FileNotFoundError: nothing was found, or the hub is unreachable.
      ValueError: the config is not that of a plain Llama.
    """
    try:
        path = epath.Path(located(name)).expanduser()
    except FileNotFoundError as error:
        raise FileNotFoundError(f"found no Llama weights: {error}; {WITHOUT_WEIGHTS}") from error
    if is_gguf(path) and path.exists():
        return PublishedLlama(_checked(_gguf_config(GGUFFile(path)), path), (path,))
    is_local = name.startswith(("/", ".", "~", PACKAGE)) or is_remote(name) or is_gguf(name)
    if not path.exists() and not is_local:
        path = _from_hub(name)
    if not (path / "config.json").exists():
        raise FileNotFoundError(
            f"found no Llama weights under {name!r}: {path / 'config.json'} does not exist. Give a "
            "hub name, a folder that contains config.json and the weights, a .gguf file, or "
            f"{PACKAGE}NAME for the one in an installed package; {WITHOUT_WEIGHTS}"
        )
    config = _checked(_read_json(path / "config.json"), path / "config.json")
    return PublishedLlama(config, _safetensors_files(path))


def shape_of(published: PublishedLlama) -> dict[str, Any]:
    """The fields of a `LlamaSpec` by a config, as JSON; without dropout, which Llama has not."""
    config = published.config
    shape = {field: config[name] for field, name in SIZES.items()}
    heads = shape["num_heads"]
    rope = _rope(config)
    scaling = {field: rope[name] for field, name in ROPE_SCALING.items() if name in rope}
    return {
        **shape,
        "num_kv_heads": config.get("num_key_value_heads") or heads,
        "head_dim": config.get("head_dim") or shape["embed_dim"] // heads,
        "rope_theta": float(config.get("rope_theta") or rope.get("rope_theta", 10_000.0)),
        "norm_epsilon": float(config.get("rms_norm_eps", 1e-6)),  # transformers' default
        "tied": bool(config.get("tie_word_embeddings", False)),
        "rope_scaling": scaling if _rope_type(rope) == "llama3" else None,
    }


def read_params(published: PublishedLlama, shapes: Params) -> Params:
    """Reads all arrays of a published Llama as float32, the layers stacked on a first axis.

    Args:
      published: from `find_weights`.
      shapes: the network's parameters, as arrays or `jax.ShapeDtypeStruct`.

    Raises:
      ValueError: a file is unreadable, or arrays are missing, foreign, or have another shape.
    """
    tensors = _read_tensors(published)
    num_layers = published.config[SIZES["num_layers"]]
    if num_layers > len(tensors):
        raise WeightsError(
            f"{published.where} does not match its config: expected {num_layers:,} layers, got "
            f"{len(tensors)} arrays. Take both from the same plain Llama"
        )
    wrong, read, found = [], set(), {}

    def take(name: str, shape: tuple[int, ...]) -> np.ndarray | None:
        read.add(name)
        got = np.shape(tensors[name]) if name in tensors else "missing"
        if got == shape:
            return tensors[name]
        wrong.append(f"{name}: expected {shape}, got {got}")

    for path, leaf in cast(dict[tuple[str, ...], Any], flatten_dict(shapes)).items():
        if path in OUTER:
            found[path] = take(OUTER[path], leaf.shape)
            continue
        number, *shape = leaf.shape
        is_kernel = path[-1] == "kernel"  # PyTorch has [out, in]
        shape = tuple(reversed(shape)) if is_kernel else tuple(shape)
        names = [f"model.layers.{i}.{IN_LAYER[path[1:]]}" for i in range(number)]
        arrays = [take(name, shape) for name in names]
        if not wrong:
            stacked = np.stack([np.asarray(array, np.float32) for array in arrays])
            found[path] = stacked.swapaxes(1, 2) if is_kernel else stacked
    wrong += _foreign(tensors, read)
    if wrong:
        rest = f" and {len(wrong) - 5} more" if len(wrong) > 5 else ""
        raise WeightsError(
            f"{published.where} does not match its config: {'; '.join(wrong[:5])}{rest}. Take both "
            "from the same plain Llama"
        )
    return unflatten_dict({path: jnp.asarray(array, jnp.float32) for path, array in found.items()})


def _foreign(tensors: Mapping[str, np.ndarray], read: set[str]) -> Iterable[str]:
    """Arrays that the model would not read, which make the checkpoint another model."""
    for name in sorted(tensors.keys() - read):
        if name != "lm_head.weight":
            yield f"{name}: expected no such array, got {np.shape(tensors[name])}"
        elif not np.array_equal(tensors[name], tensors["model.embed_tokens.weight"]):
            yield f"{name}: expected the word embedding, to which the config ties it"


def _read_tensors(published: PublishedLlama) -> dict[str, np.ndarray]:
    """The arrays of all files under Hugging Face's names."""
    if is_gguf(published.files[0]):
        return _from_gguf(GGUFFile(published.files[0]), published.config)
    tensors = {}
    for path in published.files:
        data = path.read_bytes()
        try:
            tensors |= parse_safetensors(data, skip=lambda name: name.endswith(".inv_freq"))
        except WeightsError as error:
            raise WeightsError(f"{path}: {error}") from error
        except (ValueError, TypeError, safetensors.SafetensorError) as error:
            raise ValueError(
                f"{path} ({len(data)} bytes) is truncated or not a weights file "
                f"({type(error).__name__}). Download it again"
            ) from error
    return tensors


# --- safetensors ---------------------------------------------------------------------------------


def _safetensors_files(folder: epath.Path) -> tuple[epath.Path, ...]:
    if (folder / SINGLE).exists():
        return (folder / SINGLE,)
    if not (folder / INDEX).exists():
        raise FileNotFoundError(
            f"found the config.json of {str(folder)!r}, but neither {SINGLE} nor {INDEX} beside "
            f"it. Weights in another format can be saved again by transformers: "
            f"model.save_pretrained(folder); {WITHOUT_WEIGHTS}"
        )
    names = sorted(set(_read_json(folder / INDEX).get("weight_map", {}).values()))
    missing = [name for name in names if not (folder / name).exists()]
    if missing or not names:
        raise FileNotFoundError(
            f"{folder / INDEX} names {len(names)} files, of which {', '.join(missing) or 'all'} "
            "are missing. Download the folder again"
        )
    return tuple(folder / name for name in names)


def _read_json(path: epath.Path) -> dict[str, Any]:
    try:
        content = parse_json(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path} is not valid JSON ({error}). Download it again") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path}: expected a JSON object. Download it again")
    return content


def _from_hub(name: str) -> epath.Path:
    """The folder of a hub repository in the local cache, fetched if it is not complete there."""
    wanted = ["config.json", "*.safetensors", INDEX]
    reason: Exception | None = None
    for local_files_only in (True, False):
        try:
            folder = epath.Path(
                huggingface_hub.snapshot_download(
                    name, allow_patterns=wanted, local_files_only=local_files_only
                )
            )
            if not local_files_only or _is_complete(folder):
                return folder
        except hub_errors.LocalEntryNotFoundError as error:
            reason = error
        except (OSError, hub_errors.HFValidationError) as error:
            reason = error
            break
    raise FileNotFoundError(
        f"found no Llama weights under {name!r}: there is no such folder, and the hub gave none of "
        f"this name ({type(reason).__name__}). Correct the name, or download the model on a "
        f"machine with network access and give its folder instead; {WITHOUT_WEIGHTS}"
    ) from reason


def _is_complete(folder: epath.Path) -> bool:
    try:
        return (folder / "config.json").exists() and bool(_safetensors_files(folder))
    except FileNotFoundError:
        return False


def _checked(config: dict[str, Any], path: epath.Path) -> dict[str, Any]:
    missing = [name for name in (*SIZES.values(), "vocab_size") if name not in config]
    if missing:
        raise ValueError(
            f"{path} lacks {', '.join(missing)}, so it is not the config of a Llama. Name the "
            "folder, file or hub name of a Llama"
        )
    check_sizes(config, (*SIZES.values(), "vocab_size", "num_key_value_heads", "head_dim"), path)
    broken = {name: config.get(name, expected) for name, expected in EXPECTED_CONFIG.items()}
    broken = {name: got for name, got in broken.items() if got != EXPECTED_CONFIG[name]}
    for field, got in broken.items():
        raise ValueError(
            f"{path}: {field} is {got!r}, but the Llama here supports {EXPECTED_CONFIG[field]!r} "
            f"only. {CHOOSE}"
        )
    rope = _rope(config)
    kind = _rope_type(rope)
    if kind not in ("default", "llama3"):
        raise ValueError(
            f"{path}: rope_scaling is of the type {kind!r}, but the Llama here supports 'default' "
            f"and 'llama3' only. {CHOOSE}"
        )
    lacking = [name for name in ROPE_SCALING.values() if name not in rope]
    if kind == "llama3" and lacking:
        raise ValueError(f"{path}: rope_scaling lacks {', '.join(lacking)}. Download it again")
    return config


def _rope(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a config says of rotary positions: `rope_parameters` in transformers 5."""
    rope = config.get("rope_scaling") or config.get("rope_parameters") or {}
    return rope if isinstance(rope, Mapping) else {"rope_type": rope}  # of a GGUF file: a name


def _rope_type(rope: Mapping[str, Any]) -> str:
    return rope.get("rope_type") or rope.get("type") or "default"


# --- GGUF ----------------------------------------------------------------------------------------


def _gguf_config(file: GGUFFile) -> dict[str, Any]:
    """The metadata of a GGUF file under the names of a `config.json`."""
    kind = file.get("general.architecture")
    fields = {
        "num_hidden_layers": "block_count",
        "hidden_size": "embedding_length",
        "num_attention_heads": "attention.head_count",
        "num_key_value_heads": "attention.head_count_kv",
        "intermediate_size": "feed_forward_length",
        "max_position_embeddings": "context_length",
        "head_dim": "attention.key_length",
        "rope_theta": "rope.freq_base",
        "rms_norm_eps": "attention.layer_norm_rms_epsilon",
        "rope_scaling": "rope.scaling.type",
    }
    found = {name: file.get(f"{kind}.{field}") for name, field in fields.items()}
    config = {name: value for name, value in found.items() if value is not None}
    if config.get("rope_scaling") == "none":
        del config["rope_scaling"]
    names = file.tensor_shapes()
    return {
        "model_type": kind,
        "vocab_size": names.get("token_embd.weight", (0,))[0],
        "tie_word_embeddings": "output.weight" not in names,
        **config,
    }


def _from_gguf(file: GGUFFile, config: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Tensors under Hugging Face's names, with the rows of queries and keys in its order."""
    heads = config["num_attention_heads"]
    of_rows = {"attn_q": heads, "attn_k": config.get("num_key_value_heads", heads)}
    renamed = {}
    for name, tensor in file.tensors().items():
        match = re.fullmatch(r"(?:blk\.(\d+)\.)?(\w+)\.weight", name)
        if match is None or match[2] not in _OF_GGUF:
            renamed[name] = tensor  # foreign, and told as such
            continue
        layer = "" if match[1] is None else f"model.layers.{match[1]}."
        if match[2] in of_rows:
            tensor = _unpermuted(tensor, of_rows[match[2]])
        renamed[f"{layer}{_OF_GGUF[match[2]]}.weight"] = tensor
    return renamed


def _unpermuted(rows: np.ndarray, num_heads: int) -> np.ndarray:
    """Rows 0, 1, 2, … of every head were written as 0, d/2, 1, d/2 + 1, …: puts them back."""
    return rows.reshape(num_heads, -1, 2, rows.shape[-1]).swapaxes(1, 2).reshape(rows.shape)
