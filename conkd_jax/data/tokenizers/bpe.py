"""The words of GPT-2: its byte-level BPE, from a folder, from the Hugging Face hub, or trained.

This file exists so that every BPE of the project is made one way: GPT-2's pipeline over a
table of words and merges, with nothing added, so that no text a user writes encodes to the end
token. It must not know movies, turns or ids beyond the words.
"""

import json
import os
import re
from collections.abc import Iterable, Sequence
from typing import Any

from etils import epath
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from conkd_jax.errors import UserError

END_TOKEN = "<|endoftext|>"
ITEM = re.compile(r"@([0-9]+)")  # a movie in a text
_NUM_BYTES = 256


class VocabularyError(UserError, ValueError):
    """A tokenizer or vocabulary that is missing, damaged or of another kind than asked for."""


def load_bpe(name_or_folder: epath.PathLike) -> Tokenizer:
    """A GPT-2 byte-level BPE from a folder or from the Hugging Face hub.

    Args:
        name_or_folder: a folder with ``vocab.json`` and ``merges.txt``, or with ``tokenizer.json``;
            or a hub name such as "microsoft/DialoGPT-small".

    Returns:
        A tokenizer without special tokens: "<|endoftext|>" has an id that no text encodes to.

    Raises:
        VocabularyError: if neither is there, or the files hold another kind of tokenizer.
    """
    folder = epath.Path(name_or_folder)
    if not folder.is_dir():
        folder = _download(os.fspath(name_or_folder))
    if (folder / "vocab.json").exists() and (folder / "merges.txt").exists():
        vocab = read_json(folder / "vocab.json")
        lines = (folder / "merges.txt").read_text().split("\n")
        merges = [line for line in lines if line and not line.startswith("#version")]
        return _byte_level_bpe(vocab, merges, folder)
    if (folder / "tokenizer.json").exists():
        return _from_tokenizer_json(folder / "tokenizer.json")
    raise VocabularyError(
        f"Expected vocab.json and merges.txt, or tokenizer.json, in {folder}; found "
        f"{sorted(path.name for path in folder.iterdir())}. Point the tokenizer at a GPT-2 or "
        "DialoGPT folder, or give a hub name."
    )


def train_bpe(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """Train a byte-level BPE on texts; movies (``@id``) are left out of the training text.

    The same texts in the same order give the same tokenizer.

    Args:
        texts: the training texts.
        vocab_size: number of words, the 256 bytes and the end token included. A small corpus may
            end with fewer.

    Raises:
        VocabularyError: if ``vocab_size`` can't hold the bytes and the end token.
    """
    if vocab_size < _NUM_BYTES + 1:
        raise VocabularyError(
            f"vocab_size must be at least {_NUM_BYTES + 1} (every byte and the end token), got "
            f"{vocab_size}."
        )
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END_TOKEN],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    runs = (run for text in texts for run in ITEM.split(encodable(text))[::2] if run)
    tokenizer.train_from_iterator(runs, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    return _byte_level_bpe(model["vocab"], model["merges"], "the trained tokenizer")


def _byte_level_bpe(
    vocab: dict[str, int], merges: Sequence[str | Sequence[str]], where: object
) -> Tokenizer:
    """GPT-2's pipeline over a table of words and merges, with nothing added."""
    if END_TOKEN not in vocab:
        raise VocabularyError(f"{where}: expected a GPT-2 BPE with the token {END_TOKEN!r}.")
    if sorted(vocab.values()) != list(range(len(vocab))):
        raise VocabularyError(
            f"{where}: expected the ids 0 to {len(vocab) - 1}, each once; the file is damaged or "
            "belongs to another tokenizer."
        )
    pairs = [tuple(merge_text(merge).split(" ")) for merge in merges]
    for pair in pairs:
        if len(pair) != 2 or not {*pair, "".join(pair)} <= vocab.keys():
            raise VocabularyError(
                f"{where}: the merge {' '.join(pair)!r} does not join two words of the vocabulary "
                "into a third: the two come from different tokenizers. Fetch both again."
            )
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=pairs))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _from_tokenizer_json(path: epath.Path) -> Tokenizer:
    content = read_json(path)
    model = content.get("model") or {}
    kinds = (model.get("type"), (content.get("pre_tokenizer") or {}).get("type"))
    if kinds != ("BPE", "ByteLevel"):
        raise VocabularyError(f"{path}: expected a BPE over bytes as GPT-2 has it, got {kinds}.")
    vocab = dict(model["vocab"])
    vocab.update({token["content"]: token["id"] for token in content.get("added_tokens") or ()})
    return _byte_level_bpe(vocab, model["merges"], path)


def _download(name: str) -> epath.Path:
    """The tokenizer files of a hub repository, in the hub's own cache."""
    import huggingface_hub  # 0.3 s to import, needed by this branch alone

    try:
        files = ["vocab.json", "merges.txt", "tokenizer.json"]
        return epath.Path(huggingface_hub.snapshot_download(name, allow_patterns=files))
    except (OSError, ValueError) as error:  # no network, no such repository, no valid name
        raise VocabularyError(
            f"{name!r} is neither a folder nor a tokenizer that the Hugging Face hub would give "
            f"({type(error).__name__}). Without network, point it at a folder with vocab.json and "
            "merges.txt, or train a BPE on the corpus."
        ) from error


def read_json(path: epath.Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise VocabularyError(f"{path} is missing: rebuild or fetch this folder again.") from error
    except ValueError as error:
        raise VocabularyError(f"{path} is not valid JSON ({error}): fetch it again.") from error
    if not isinstance(content, dict):
        raise VocabularyError(f"{path}: expected a JSON object, got {type(content).__name__}.")
    return content


def merge_text(merge: str | Sequence[str]) -> str:
    """A merge as "a b"; the tokenizers library has written both forms."""
    return merge if isinstance(merge, str) else " ".join(merge)


def encodable(text: str) -> str:
    """The text with broken surrogates replaced: JSON may hold them, UTF-8 can't."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
