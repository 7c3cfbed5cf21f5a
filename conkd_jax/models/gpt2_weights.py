"""Finds GPT-2 weights as they are published, and reads them under Flax's names.

Weights come in three file formats, from a folder or from the hub, under PyTorch's or Flax's names.
This module turns all of these into one config and one flat dict of arrays. It must not depend on
the network: the expected shapes are an argument.
"""

from __future__ import annotations

import dataclasses
import functools
import io
import pickle
from collections.abc import Callable, Mapping
from typing import Any

import huggingface_hub
import numpy as np
import safetensors
from etils import epath
from flax.serialization import msgpack_restore
from flax.traverse_util import flatten_dict
from huggingface_hub import errors as hub_errors

from conkd_jax.io.files import is_remote, parse_json
from conkd_jax.io.published import WeightsError, check_sizes, parse_safetensors

WITHOUT_WEIGHTS = "the presets :small, :mini and :demo train from scratch and need no weights"

# What the GPT-2 here computes in any case; a checkpoint with another config is refused.
EXPECTED_CONFIG = {
    "model_type": "gpt2",
    "activation_function": "gelu_new",
    "layer_norm_epsilon": 1e-5,
    "n_inner": None,
    "scale_attn_weights": True,
    "scale_attn_by_inverse_layer_idx": False,
    "tie_word_embeddings": True,
}


# A head of its own under these names must be the word embedding, which the GPT-2 here uses instead.
_HEADS = (("lm_head", "kernel"), ("lm_head", "decoder", "kernel"))


@dataclasses.dataclass(frozen=True)
class PublishedWeights:
    """Config and arrays of a published model.

    Attributes:
      file: the file of the arrays, for messages.
      config: the content of `config.json`.
      params: arrays by path, such as ("h", "0", "attn", "c_attn", "kernel") [out, in].
    """

    file: str
    config: dict[str, Any]
    params: dict[tuple[str, ...], Any]


def read_weights(name: str) -> PublishedWeights:
    """Reads weights from a folder (local or gs://), the hub's local cache, or the hub.

    Raises:
      FileNotFoundError: nothing was found, or the hub is unreachable.
      ValueError: the files are unreadable or sharded, or are not those of a plain GPT-2.
    """
    config, path = find_weights(name)
    return PublishedWeights(str(path), config, _parse(path, FORMATS[path.name]))


def num_positions(config: Mapping[str, Any]) -> int:
    """Number of learned positions by a `config.json`, and so the longest sequence in tokens."""
    return config.get("n_positions", config.get("n_ctx", 1024))


def find_weights(name: str) -> tuple[dict[str, Any], epath.Path]:
    """The config and the weights file that `read_weights` reads; files on the hub are fetched.

    Raises:
      FileNotFoundError: nothing was found, or the hub is unreachable.
      ValueError: the config is not that of a plain GPT-2, or the weights are sharded.
    """
    folder = epath.Path(name).expanduser()
    # A missing folder whose name can't be a hub name must not be looked up on the hub.
    if folder.exists() or name.startswith(("/", ".", "~")) or is_remote(name):
        return _find(name, lambda file: folder / file)
    cached = functools.partial(_hub_file, name, local_files_only=True)
    if cached("config.json").exists():
        return _find(name, cached)
    return _find(name, functools.partial(_hub_file, name, local_files_only=False))


def check_num_layers(published: PublishedWeights) -> None:
    """Checks that a config does not name more layers than there are arrays.

    The expected shapes, which `check_params` needs, take time for each layer.

    Raises:
      WeightsError: it does.
    """
    num_layers, num_arrays = published.config["n_layer"], len(published.params)
    if num_layers > num_arrays:
        raise WeightsError(
            f"{published.file} does not match the config.json beside it: expected {num_layers:,} "
            f"layers, got {num_arrays} arrays. Take both files from the same plain GPT-2"
        )


def check_params(published: PublishedWeights, expected: Mapping[tuple[str, ...], Any]) -> None:
    """Checks that published arrays are all of a model's, in the expected shapes, and no others.

    An array that the model does not read would make it compute something else than the published
    model: a layer beyond `n_layer`, an adapter, or a head that is not the word embedding.

    Args:
      published: what was read.
      expected: by path, an array or `jax.ShapeDtypeStruct` of the expected shape.

    Raises:
      ValueError: arrays are missing, foreign, or have another shape; the message lists the first of
        them.
    """
    wrong = []
    for path, leaf in expected.items():
        array = published.params.get(path)
        got = "missing" if array is None else tuple(array.shape)
        if got != leaf.shape:
            wrong.append(f"{'.'.join(path)}: expected {leaf.shape}, got {got}")
    foreign = sorted(published.params.keys() - expected.keys())
    wrong += [
        f"{'.'.join(path)}: expected no such array, got {np.shape(published.params[path])}"
        for path in foreign
        if path not in _HEADS
    ]
    if wrong:
        rest = f" and {len(wrong) - 5} more" if len(wrong) > 5 else ""
        raise WeightsError(
            f"{published.file} does not match the config.json beside it: "
            f"{'; '.join(wrong[:5])}{rest}. Take both files from the same plain GPT-2"
        )
    words = published.params["wte", "embedding"]
    for path in foreign:
        if not np.array_equal(np.asarray(published.params[path]).T, words):
            raise WeightsError(
                f"{published.file}: expected {'.'.join(path)} to be the word embedding wte, got "
                "other values. The GPT-2 here ties them; choose a checkpoint with tied embeddings"
            )


def from_pytorch_names(tensors: Mapping[str, np.ndarray]) -> dict:
    """Renames PyTorch's tensors to Flax's paths; kernels turn from [in, out] to [out, in]."""
    renamed = {}
    for name, tensor in tensors.items():
        if _is_buffer(name):
            continue
        *path, leaf = name.removeprefix("transformer.").split(".")
        parent = path[-1] if path else ""
        if leaf == "weight" and parent in ("wte", "wpe"):
            leaf = "embedding"
        elif leaf == "weight" and parent.startswith("ln_"):
            leaf = "scale"
        elif leaf == "weight" and tensor.ndim == 2:
            leaf, tensor = "kernel", tensor.T
        renamed[(*path, leaf)] = tensor
    return renamed


def _is_buffer(name: str) -> bool:
    """Whether a tensor of PyTorch's is a buffer of the causal mask, which old versions saved."""
    return name.endswith((".attn.bias", ".attn.masked_bias"))


def _hub_file(name: str, file: str, *, local_files_only: bool) -> epath.Path:
    """Path of a hub file in the local cache; it does not exist if no such file was found."""
    nowhere = epath.Path(name) / file
    try:
        return epath.Path(
            huggingface_hub.hf_hub_download(name, file, local_files_only=local_files_only)
        )
    except hub_errors.LocalEntryNotFoundError as error:
        if local_files_only:
            return nowhere
        reason = error
    except hub_errors.EntryNotFoundError:
        return nowhere  # the hub answered: this repository has no such file
    except (OSError, hub_errors.HFValidationError) as error:
        reason = error
    raise FileNotFoundError(
        f"found no GPT-2 weights under {name!r}: there is no such folder, and {name}/{file} could "
        f"not be fetched from the hub ({type(reason).__name__}). Correct the name, or download the "
        f"model on a machine with network access and give its folder instead; {WITHOUT_WEIGHTS}"
    ) from reason


def _find(name: str, file_of: Callable[[str], epath.Path]) -> tuple[dict[str, Any], epath.Path]:
    config_file = file_of("config.json")
    if not config_file.exists():
        raise FileNotFoundError(
            f"found no GPT-2 weights under {name!r}: {config_file} does not exist. Give a hub name "
            f"or a folder that contains config.json and the weights; {WITHOUT_WEIGHTS}"
        )
    config = _read_config(config_file)
    for file in FORMATS:
        path = file_of(file)
        if path.exists():
            return config, path
    for file in ("model.safetensors.index.json", "pytorch_model.bin.index.json"):
        if file_of(file).exists():
            raise ValueError(
                f"the weights in {name!r} are sharded ({file}), which is not supported. Save them "
                "again as one file: model.save_pretrained(folder, max_shard_size='100GB')"
            )
    raise FileNotFoundError(
        f"found the config.json of {name!r}, but none of {', '.join(FORMATS)} beside it. "
        f"Download one of them to the same folder; {WITHOUT_WEIGHTS}"
    )


def _read_config(path: epath.Path) -> dict[str, Any]:
    try:
        config = parse_json(path.read_bytes())  # of bytes, JSON may begin with a BOM
    except ValueError as error:
        raise ValueError(f"{path} is not valid JSON ({error}). Download it again") from error
    missing = [field for field in ("n_layer", "n_embd", "n_head") if field not in config]
    if missing:
        raise ValueError(
            f"{path} lacks {', '.join(missing)}, so it is not the config of a GPT-2. Name the "
            "folder or hub name of a GPT-2"
        )
    check_sizes(config, ("n_layer", "n_embd", "n_head", "n_positions", "n_ctx"), path)
    for field, expected in EXPECTED_CONFIG.items():
        got = config.get(field, expected)
        if got != expected and not (field == "n_inner" and got == 4 * config["n_embd"]):
            raise ValueError(
                f"{path}: {field} is {got!r}, but the GPT-2 here supports {expected!r} only. "
                "Choose a checkpoint of the plain architecture"
            )
    return config


def _parse(path: epath.Path, parse: Callable[[bytes], dict]) -> dict:
    data = path.read_bytes()
    try:
        return parse(data)
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from error
    except ImportError as error:
        raise ValueError(
            f"{path} can be read with PyTorch only, which can't be imported ({error}). Install "
            "torch, or give a folder with flax_model.msgpack or model.safetensors"
        ) from error
    except (*UNREADABLE, RuntimeError) as error:
        raise ValueError(
            f"{path} ({len(data)} bytes) is truncated or not a weights file "
            f"({type(error).__name__}). Download it again"
        ) from error


def _parse_msgpack(data: bytes) -> dict:
    tree = msgpack_restore(data)
    if not isinstance(tree, dict):
        raise ValueError(f"expected a dict of arrays, got {type(tree).__name__}")
    return flatten_dict({**tree.pop("transformer", {}), **tree})


def _parse_safetensors(data: bytes) -> dict:
    return from_pytorch_names(parse_safetensors(data, skip=_is_buffer))


def _parse_torch(data: bytes) -> dict:
    import torch  # an optional dependency, which nothing else in the package needs

    tensors = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    return from_pytorch_names({name: tensor.float().numpy() for name, tensor in tensors.items()})


FORMATS = {
    "flax_model.msgpack": _parse_msgpack,
    "model.safetensors": _parse_safetensors,
    "pytorch_model.bin": _parse_torch,
}
UNREADABLE = (
    ValueError,
    AttributeError,  # the file's content is not a dict of arrays
    TypeError,
    EOFError,
    pickle.UnpicklingError,
    safetensors.SafetensorError,
)
