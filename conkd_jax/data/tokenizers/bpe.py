"""Byte-level BPEs, as GPT-2 has: from a folder, a GGUF file, the Hugging Face hub, or trained.

Every BPE of the project is built in one way: GPT-2's pipeline over a table of words and merges,
with nothing added, so that no text encodes to the end token. SmolLM's differs from it in one step:
every digit is a word of its own. This module is independent of items,
turns and the ids beyond the words.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from etils import epath
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from conkd_jax.data.mentions import MENTION, encodable
from conkd_jax.errors import UserError
from conkd_jax.io.files import read_json
from conkd_jax.io.published import GGUFFile, is_gguf, located

END_TOKEN = "<|endoftext|>"
_NUM_BYTES = 256
_REMEDY = "fetch or build this folder again"


class VocabularyError(UserError, ValueError):
    """A tokenizer or vocabulary is missing, damaged, or not of the expected kind."""


def load_bpe(name_or_folder: epath.PathLike) -> Tokenizer:
    """Loads a byte-level BPE like GPT-2's or SmolLM's.

    Args:
      name_or_folder: a folder with `vocab.json` and `merges.txt`, or with `tokenizer.json`; a GGUF
        file; "package:NAME", the model in an installed package; or a hub name such as
        "microsoft/DialoGPT-small".

    Returns:
      A tokenizer without special tokens: "<|endoftext|>" has an id, but no text encodes to it.

    Raises:
      VocabularyError: nothing was found, or the files hold another kind of tokenizer.
    """
    try:
        folder = epath.Path(located(os.fspath(name_or_folder)))
    except FileNotFoundError as error:
        raise VocabularyError(str(error)) from error
    if is_gguf(folder):
        return _from_gguf(folder)
    if not folder.is_dir():
        folder = _download(os.fspath(name_or_folder))
    if (folder / "vocab.json").exists() and (folder / "merges.txt").exists():
        vocab = read_json(folder / "vocab.json", VocabularyError, _REMEDY)
        # Not `splitlines`: a merge may hold characters that it takes for line ends.
        lines = (folder / "merges.txt").read_text().split("\n")
        merges = [line for line in lines if line and not line.startswith("#version")]
        # The two files don't say how digits are cut; a tokenizer.json beside them does.
        path = folder / "tokenizer.json"
        cut = path.exists() and _cuts_digits(read_json(path, VocabularyError, _REMEDY))
        return _byte_level_bpe(vocab, merges, folder, single_digits=cut)
    if (folder / "tokenizer.json").exists():
        return _from_tokenizer_json(folder / "tokenizer.json")
    raise VocabularyError(
        f"Expected vocab.json and merges.txt, or tokenizer.json, in {folder}; found "
        f"{sorted(path.name for path in folder.iterdir())}. Set the tokenizer to a folder of GPT-2 "
        "or DialoGPT, or to a hub name."
    )


def train_bpe(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """Trains a byte-level BPE on texts without their item mentions ("@123").

    The same texts in the same order give the same tokenizer.

    Args:
      texts: the training texts.
      vocab_size: number of words, including the 256 bytes and the end token. A small corpus may
        give fewer.

    Raises:
      VocabularyError: `vocab_size` is too small for the bytes and the end token.
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
    tokenizer.train_from_iterator(without_mentions(texts), trainer)
    model = json.loads(tokenizer.to_str())["model"]
    return _byte_level_bpe(model["vocab"], model["merges"], "the trained tokenizer")


def has_single_digits(tokenizer: Tokenizer) -> bool:
    """Whether a byte-level BPE never joins two digits, or a digit and the space before it."""
    return _cuts_digits(json.loads(tokenizer.to_str()))


def _byte_level_bpe(
    vocab: dict[str, int],
    merges: Sequence[str | Sequence[str]],
    where: object,
    *,
    single_digits: bool = False,
) -> Tokenizer:
    """Builds GPT-2's pipeline over a table of words and merges, with nothing added."""
    if END_TOKEN not in vocab:
        raise VocabularyError(f"{where}: expected a GPT-2 BPE with the token {END_TOKEN!r}.")
    if {type(number) for number in vocab.values()} != {int} or (
        sorted(vocab.values()) != list(range(len(vocab)))
    ):
        raise VocabularyError(
            f"{where}: expected the ids 0 to {len(vocab) - 1}, each once; the file is damaged or "
            "belongs to another tokenizer: fetch it again."
        )
    pairs = [tuple(merge_text(merge).split(" ")) for merge in merges]
    for pair in pairs:
        if len(pair) != 2 or not {*pair, "".join(pair)} <= vocab.keys():
            raise VocabularyError(
                f"{where}: the merge {' '.join(pair)!r} does not join two words of the vocabulary "
                "into a third. Words and merges come from different tokenizers: fetch both again."
            )
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=pairs))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    if single_digits:
        digits = pre_tokenizers.Digits(individual_digits=True)
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, tokenizer.pre_tokenizer])
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _from_tokenizer_json(path: epath.Path) -> Tokenizer:
    content = read_json(path, VocabularyError, _REMEDY)
    model = content.get("model") or {}
    single_digits = _cuts_digits(content)
    pre_tokenizer = content.get("pre_tokenizer") or {}
    kinds = (model.get("type"), pre_tokenizer.get("type"))
    if kinds != ("BPE", "ByteLevel") and not (kinds[0] == "BPE" and single_digits):
        raise VocabularyError(
            f"{path}: expected a byte-level BPE like GPT-2's or SmolLM's, got {kinds}."
        )
    # Some files list the end token among the added tokens only.
    vocab = dict(model["vocab"])
    vocab.update({token["content"]: token["id"] for token in content.get("added_tokens") or ()})
    return _byte_level_bpe(vocab, model["merges"], path, single_digits=single_digits)


def _cuts_digits(content: Mapping[str, Any]) -> bool:
    """Whether a tokenizer.json cuts out single digits and then goes on like GPT-2's."""
    steps = [*((content.get("pre_tokenizer") or {}).get("pretokenizers") or ())]
    if [step.get("type") for step in steps] != ["Digits", "ByteLevel"]:
        return False
    return bool(steps[0].get("individual_digits")) and not steps[1].get("add_prefix_space")


def _from_gguf(path: epath.Path) -> Tokenizer:
    if not path.exists():
        raise VocabularyError(f"{path} does not exist. Set the tokenizer to a file that does.")
    try:
        file = GGUFFile(path)
    except ValueError as error:
        raise VocabularyError(str(error)) from error
    kinds = (file.get("tokenizer.ggml.model"), file.get("tokenizer.ggml.pre"))
    if kinds not in (("gpt2", "gpt-2"), ("gpt2", "smollm")):
        raise VocabularyError(
            f"{path}: expected a byte-level BPE like GPT-2's or SmolLM's, got {kinds}."
        )
    words = file.get("tokenizer.ggml.tokens", [])
    vocab = {word: token for token, word in enumerate(words)}
    merges = file.get("tokenizer.ggml.merges", [])
    return _byte_level_bpe(vocab, merges, path, single_digits=kinds[1] == "smollm")


def _download(name: str) -> epath.Path:
    """Fetches the tokenizer files of a hub repository into the hub's own cache."""
    import huggingface_hub  # takes 0.3 s to import, and only this branch needs it

    try:
        files = ["vocab.json", "merges.txt", "tokenizer.json"]
        return epath.Path(huggingface_hub.snapshot_download(name, allow_patterns=files))
    except (OSError, ValueError) as error:  # no network, no such repository, no valid name
        raise VocabularyError(
            f"{name!r} is not a folder, and the Hugging Face hub gave no tokenizer of this name "
            f"({type(error).__name__}). Without a network, set it to a folder with vocab.json and "
            "merges.txt, or train a BPE on the corpus."
        ) from error


def without_mentions(texts: Iterable[str]) -> Iterator[str]:
    """Yields the text before, between and after the item mentions, which are no words to learn."""
    for text in texts:
        # The pattern has one group, so `split` gives text, id, text, id, …, text.
        yield from filter(None, MENTION.split(encodable(text))[::2])


def merge_text(merge: str | Sequence[str]) -> str:
    """Returns a merge as "a b"; releases of the tokenizers library write either form."""
    return merge if isinstance(merge, str) else " ".join(merge)
