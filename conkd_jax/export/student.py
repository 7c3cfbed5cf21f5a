"""Writes the model of a run as a folder for transformers or, for other backbones, for `load_model`.

DialoGPT and Llama are models of transformers, so their folder needs nothing of this package. The
others are not; their folder has the same kinds of files, and `load_model` opens it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from etils import epath

from conkd_jax.config.parts import DecodeConfig
from conkd_jax.data.vocabulary import Vocabulary
from conkd_jax.errors import UserError
from conkd_jax.export.tokenizer import write_tokenizer
from conkd_jax.io.array_files import load_arrays, save_arrays
from conkd_jax.io.files import read_json, write_json
from conkd_jax.models import published_names
from conkd_jax.runs.finished import Run
from conkd_jax.stages import backbones
from conkd_jax.stages.exported_items import DESCRIPTION, description
from conkd_jax.stages.language_model import LanguageModel

CONFIG, WEIGHTS, GENERATION = "config.json", "model.safetensors", "generation_config.json"
FORMAT = 1  # of the folders that `load_model` opens
KIND = "conkd_jax"  # their "model_type"
NUM_TAGS = 3  # [GEN], [REC] and [PAD] follow the items


class ExportError(UserError, ValueError):
    """A run that can't be exported as asked, or a folder that is no export."""


Tensors = Callable[[dict, int], dict[str, np.ndarray]]
Fields = Callable[[Any, int], dict[str, Any]]
TRANSFORMERS: Mapping[str, tuple[Tensors, Fields]] = {  # the backbones that transformers has
    "dialogpt": (published_names.gpt2_tensors, published_names.gpt2_config),
    "llama": (published_names.llama_tensors, published_names.llama_config),
}


def write_student(run: Run, folder: epath.PathLike, dtype: str) -> None:
    """Writes the model that generates the responses of a run.

    Args:
      run: a trained run.
      folder: where to write; it exists.
      dtype: what the weights are rounded to: "float32", "float16" or "bfloat16".
    """
    folder, backbone = epath.Path(folder), run.config.backbone
    if backbone not in TRANSFORMERS:
        write_model(run.system.model, backbone, folder, dtype)
        return
    model, has_tags = run.system.model, run.system.has_tags
    words = model.vocabulary
    tensors_of, config_of = TRANSFORMERS[backbone]
    num_rows = words.num_targets + NUM_TAGS
    tensors = tensors_of(model.params, num_rows)
    save_arrays(folder / WEIGHTS, nested(tensors), dtype)
    tokens = {"bos_token_id": words.end_id, "eos_token_id": words.end_id}
    tokens["pad_token_id"] = words.pad_id
    spec = model.model.spec
    config = {**config_of(spec, num_rows), **tokens, "torch_dtype": dtype}
    write_json(folder / CONFIG, config)
    write_json(folder / GENERATION, {**tokens, **generation(run.config.decode, words)})
    longest = run.system.rows.longest_prompt(run.config.decode.max_tokens)
    write_tokenizer(words, folder, has_tags=has_tags, longest_prompt=longest)
    write_json(folder / DESCRIPTION, description(words, backbone), indent=None)


def nested(tensors: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Arrays by dotted names as nested dicts."""
    found: dict[str, Any] = {}
    for name, tensor in tensors.items():
        *parents, last = name.split(".")
        place = found
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = tensor
    return found


def generation(decode: DecodeConfig, vocabulary: Vocabulary) -> dict[str, Any]:
    """The content of generation_config.json, apart from the special tokens.

    The tags are read and never generated. The rules on items have no counterpart in transformers;
    the model card says which of them the run used.
    """
    tags = [vocabulary.gen_id, vocabulary.rec_id, vocabulary.pad_id]
    fields: dict[str, Any] = {"max_new_tokens": decode.max_tokens, "suppress_tokens": tags}
    if decode.strategy == "sample":
        sampling = {"temperature": decode.temperature, "top_p": decode.top_p, "top_k": 0}
        return {**fields, "do_sample": True, **sampling}
    if decode.strategy == "beam":
        beams = {"num_beams": decode.beam_width, "length_penalty": decode.length_penalty}
        return {**fields, "do_sample": False, **beams}
    return {**fields, "do_sample": False}


# --- models that transformers does not have ------------------------------------------------------


def write_model(model: LanguageModel, backbone: str, folder: epath.PathLike, dtype: str) -> None:
    """Writes a model of any backbone; `load_model` opens the folder.

    model.safetensors holds the trained arrays as "params.…" and those that are only read, such as
    the node vectors of KGSF's recommender, as "frozen.…". Arguments as of `write_student`.
    """
    folder, arrays = epath.Path(folder), {"params": model.params}
    if model.frozen:
        arrays["frozen"] = model.frozen
    save_arrays(folder / WEIGHTS, arrays, dtype)
    model.vocabulary.save(folder)
    spec = dataclasses.asdict(model.model.spec)
    about = {"model_type": KIND, "format": FORMAT, "backbone": backbone, "spec": spec}
    write_json(folder / CONFIG, {**about, "vocabulary": model.vocabulary.fingerprint})


def load_model(folder: epath.PathLike) -> LanguageModel:
    """Opens a model that `conkd-export` wrote and transformers does not have, such as KGSF.

    Args:
      folder: with config.json, model.safetensors, tokenizer.json and vocabulary.json.

    Returns:
      The model with its arrays and its vocabulary. Its logits are
      `model.head().logits(model.model.states(model.variables, inputs))`; `Rows.inputs` makes the
      inputs of dialogues (`conkd_jax.stages.backbones`).

    Raises:
      ExportError: the folder is none of these, or its files don't belong together.
      ArrayFileError: the weights are damaged.
    """
    folder = epath.Path(folder)
    config = read_json(folder / CONFIG, ExportError, "give a folder written by conkd-export")
    if config.get("model_type") != KIND or config.get("format") != FORMAT:
        raise ExportError(
            f"{folder / CONFIG}: expected model_type {KIND!r} in format {FORMAT}, got "
            f"{config.get('model_type')!r} in {config.get('format')!r}. A folder for transformers "
            "is opened by AutoModelForCausalLM.from_pretrained; one of another version has to be "
            "exported again."
        )
    vocabulary = Vocabulary.load(folder)
    if vocabulary.fingerprint != config["vocabulary"]:
        raise ExportError(
            f"{folder}: expected the vocabulary {config['vocabulary']}, found "
            f"{vocabulary.fingerprint}. Take all files from one export."
        )
    model = backbones.named(config["backbone"]).model_of(config["spec"], vocabulary)
    arrays = load_arrays(folder / WEIGHTS)
    return LanguageModel(model, arrays["params"], vocabulary, arrays.get("frozen", {}))
