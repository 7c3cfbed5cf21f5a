"""Item rows of an export, when its folder is named as weights or tokenizer of another run.

`conkd-export` writes `conkd.json` beside the weights: the number of words, and the item of every
item row. The rows of items that the new vocabulary has as well are taken as they are, and so are
those of the tags; other items start at their title, as with any published weights.
"""

from __future__ import annotations

from typing import Any

import huggingface_hub
import jax.numpy as jnp
import numpy as np
from etils import epath
from huggingface_hub import errors as hub_errors

from conkd_jax.config import ConfigError
from conkd_jax.data.vocabulary import Vocabulary
from conkd_jax.io.files import read_json
from conkd_jax.io.published import located
from conkd_jax.models.decoder_only import DecoderOnly
from conkd_jax.typing import Array, Float, Params

DESCRIPTION = "conkd.json"
VERSION = 1


def description(vocabulary: Vocabulary, backbone: str) -> dict[str, Any]:
    """The content of conkd.json: what each row of an exported embedding is."""
    return {
        "format": VERSION,
        "backbone": backbone,
        "num_words": vocabulary.num_words,
        "movie_ids": vocabulary.item_ids.tolist(),
        "titles": vocabulary.titles,
        "tags": ["[GEN]", "[REC]", "[PAD]"],
    }


def find_description(source: str) -> dict[str, Any] | None:
    """Reads the conkd.json beside published weights; None if they have none.

    Args:
      source: as of `dialogue_teacher.weights`: a folder, "package:NAME" or a hub name.

    Raises:
      ConfigError: the file is damaged, or of another version.
    """
    path = epath.Path(located(source)).expanduser()
    if path.is_dir():
        file = path / DESCRIPTION
    elif path.exists():
        return None  # a single file, such as GGUF
    else:
        file = _from_hub(source)
    if file is None or not file.exists():
        return None
    found = read_json(file, ConfigError, "export or download the folder again")
    if found.get("format") != VERSION:
        raise ConfigError(
            f"{file}: expected format {VERSION}, got {found.get('format')!r}. Export the model "
            "again with this version."
        )
    return found


def _from_hub(name: str) -> epath.Path | None:
    """The file of a hub repository; None if it has none, or if neither cache nor hub gives it."""
    try:
        return epath.Path(huggingface_hub.hf_hub_download(name, DESCRIPTION))
    except (OSError, hub_errors.EntryNotFoundError, hub_errors.HFValidationError):
        return None


def with_exported_items(
    extended: Params,
    published: Params,
    source: str,
    vocabulary: Vocabulary,
    model: type[DecoderOnly],
) -> Params:
    """Parameters that were extended to items, with the rows of an export where it has them.

    Args:
      extended: the parameters of the new model (`models.item_rows.extend_rows`).
      published: those that were read from `source`.
      source: the config's `dialogue_teacher.weights`.
      vocabulary: that of the new model.
      model: the architecture, which names the layers with a row for each token.

    Raises:
      ConfigError: the words of the vocabulary are not those of the export.
    """
    about = find_description(source)
    if about is None:
        return extended
    layers = {
        layer: {"embedding": _rows(extended[layer], published[layer], about, vocabulary)}
        for layer in model.ROW_LAYERS
        if layer in extended
    }
    return {**extended, **layers}


def _rows(
    extended: Params, published: Params, about: dict[str, Any], vocabulary: Vocabulary
) -> Float[Array, "R D"]:
    ours, theirs = (jnp.asarray(layer["embedding"]) for layer in (extended, published))
    words, items = int(about["num_words"]), about["movie_ids"]
    expected = words + len(items) + len(about["tags"])
    if words != vocabulary.num_words or expected != len(theirs):
        raise ConfigError(
            f"config.dialogue_teacher.weights: expected an export over the {vocabulary.num_words} "
            f"words of the vocabulary, got {words} words and {len(theirs)} rows. Give the same "
            "folder as config.vocabulary.tokenizer."
        )
    row_of = {item: words + number for number, item in enumerate(items)}
    pairs = [
        (vocabulary.num_words + number, row_of[item])
        for number, item in enumerate(vocabulary.item_ids.tolist())
        if item in row_of
    ]
    tags = (vocabulary.gen_id, vocabulary.rec_id, vocabulary.pad_id)
    pairs += zip(tags, range(words + len(items), expected), strict=True)
    to, of = np.array(pairs, np.int32).T
    return ours.at[to].set(theirs[of])
