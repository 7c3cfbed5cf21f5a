"""The tokenizer of GPT-2: a byte-level BPE from a folder, from the Hugging Face hub, or trained.

Every BPE of the project is built in one way: GPT-2's pipeline over a table of words and merges,
with nothing added, so that no text encodes to the end token. This module is independent of movies,
turns and the ids beyond the words.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence

from etils import epath
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from conkd_jax.data.mentions import MENTION, encodable
from conkd_jax.errors import UserError
from conkd_jax.files import read_json

END_TOKEN = "<|endoftext|>"
_NUM_BYTES = 256
_REMEDY = "fetch or build this folder again"


class VocabularyError(UserError, ValueError):
    """A tokenizer or vocabulary is missing, damaged, or not of the expected kind."""


def load_bpe(name_or_folder: epath.PathLike) -> Tokenizer:
    """Loads a GPT-2 byte-level BPE from a folder or from the Hugging Face hub.

    Args:
      name_or_folder: a folder with `vocab.json` and `merges.txt`, or with `tokenizer.json`; or a
        hub name such as "microsoft/DialoGPT-small".

    Returns:
      A tokenizer without special tokens: "<|endoftext|>" has an id, but no text encodes to it.

    Raises:
      VocabularyError: nothing was found, or the files hold another kind of tokenizer.
    """
    folder = epath.Path(name_or_folder)
    if not folder.is_dir():
        folder = _download(os.fspath(name_or_folder))
    if (folder / "vocab.json").exists() and (folder / "merges.txt").exists():
        vocab = read_json(folder / "vocab.json", VocabularyError, _REMEDY)
        # Not `splitlines`: a merge may hold characters that it takes for line ends.
        lines = (folder / "merges.txt").read_text().split("\n")
        merges = [line for line in lines if line and not line.startswith("#version")]
        return _byte_level_bpe(vocab, merges, folder)
    if (folder / "tokenizer.json").exists():
        return _from_tokenizer_json(folder / "tokenizer.json")
    raise VocabularyError(
        f"Expected vocab.json and merges.txt, or tokenizer.json, in {folder}; found "
        f"{sorted(path.name for path in folder.iterdir())}. Set the tokenizer to a folder of GPT-2 "
        "or DialoGPT, or to a hub name."
    )


def train_bpe(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """Trains a byte-level BPE on texts without their movie mentions ("@123").

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


def _byte_level_bpe(
    vocab: dict[str, int], merges: Sequence[str | Sequence[str]], where: object
) -> Tokenizer:
    """Builds GPT-2's pipeline over a table of words and merges, with nothing added."""
    if END_TOKEN not in vocab:
        raise VocabularyError(f"{where}: expected a GPT-2 BPE with the token {END_TOKEN!r}.")
    if sorted(vocab.values()) != list(range(len(vocab))):
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
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _from_tokenizer_json(path: epath.Path) -> Tokenizer:
    content = read_json(path, VocabularyError, _REMEDY)
    model = content.get("model") or {}
    kinds = (model.get("type"), (content.get("pre_tokenizer") or {}).get("type"))
    if kinds != ("BPE", "ByteLevel"):
        raise VocabularyError(f"{path}: expected a byte-level BPE like GPT-2's, got {kinds}.")
    # Some files list the end token among the added tokens only.
    vocab = dict(model["vocab"])
    vocab.update({token["content"]: token["id"] for token in content.get("added_tokens") or ()})
    return _byte_level_bpe(vocab, model["merges"], path)


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
    """Yields the text before, between and after the movie mentions, which are no words to learn."""
    for text in texts:
        # The pattern has one group, so `split` gives text, id, text, id, …, text.
        yield from filter(None, MENTION.split(encodable(text))[::2])


def merge_text(merge: str | Sequence[str]) -> str:
    """Returns a merge as "a b"; releases of the tokenizers library write either form."""
    return merge if isinstance(merge, str) else " ".join(merge)
