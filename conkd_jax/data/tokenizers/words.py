r"""The tokenizer of KGSF: whole words, from KGSF's own list or counted on the corpus.

Every tokenizer of whole words cuts text in the same way and has the same unknown token, and one
function loads a saved tokenizer of either kind. This module is independent of items, turns and the
ids beyond the words.

A word is a match of the regex `@\d+|\w+|[^\w\s]`; case matters, unless the list was counted on
lower-cased text. White space is dropped, and decoding puts one space between words. "<|endoftext|>"
and "<unk>" are among the words, but the regex cuts both into pieces, so no text encodes to the end
token.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from typing import Any

from etils import epath
from tokenizers import Tokenizer, models, normalizers, trainers

from conkd_jax.data.mentions import MENTION, TOKEN, TOKEN_SPLIT, tokens
from conkd_jax.data.tokenizers.bpe import (
    END_TOKEN,
    VocabularyError,
    load_bpe,
    without_mentions,
)
from conkd_jax.io.files import read_json

UNK_TOKEN = "<unk>"
_FIRST_INDEX = 4  # KGSF's list begins here: 0 to 3 are its padding, start, end and unknown rows
_TURN_SEPARATOR = "_split_"  # KGSF puts it between turns; it never occurs in a text
_REMEDY = "fetch or build it again"


def train_words(texts: Iterable[str], min_count: int = 1, *, lower_case: bool = False) -> Tokenizer:
    """Makes a tokenizer of the words of texts, without their item mentions ("@123").

    The end and the unknown token come first, then the words from the most frequent to the rarest,
    ties in alphabetical order. The same texts in any order give the same tokenizer.

    Args:
      texts: the training texts.
      min_count: rarer words are unknown.
      lower_case: whether texts are lower-cased, here and whenever they are encoded.

    Raises:
      VocabularyError: `min_count` is below 1.

    Source: KGSF's public code, which keeps every word (min_count=1); KBRD's, which lower-cases.
    """
    if min_count < 1:
        raise VocabularyError(
            f"min_count must be at least 1, which keeps every word; got {min_count}."
        )
    tokenizer = _word_level({END_TOKEN: 0, UNK_TOKEN: 1}, lower_case)
    trainer = trainers.WordLevelTrainer(
        vocab_size=sys.maxsize,
        min_frequency=min_count,
        special_tokens=[END_TOKEN, UNK_TOKEN],
        show_progress=False,
    )
    tokenizer.train_from_iterator(without_mentions(texts), trainer)
    # Training declares special tokens, which the library cuts out of a text before anything else:
    # a user could then write an end token. The same table in a fresh tokenizer has none.
    return _word_level(tokenizer.get_vocab(), lower_case)


def load_words(path: epath.PathLike) -> Tokenizer:
    """Loads the words of KGSF's `word2index_redial.json`, in their order.

    Three kinds of entries are left out: items ("@123"), because items have ids of their own; the
    turn separator "_split_"; and words that the regex never produces. The list was made with
    another word splitter, so about a tenth of its words ("n't", "sci-fi") would never be read.

    Args:
      path: a JSON object from word to index; the indices count up from 4.

    Returns:
      A tokenizer with the end token as 0, the unknown token as 1, and the words from 2 on.

    Raises:
      VocabularyError: the file is missing, damaged, or not KGSF's list.
    """
    path = epath.Path(path)
    if not path.is_file():
        raise VocabularyError(
            f"Expected KGSF's word list, the file word2index_redial.json, at {path}; there is no "
            "such file. Give its path, or set the tokenizer to 'train' to count the corpus' words."
        )
    table = read_json(path, VocabularyError, _REMEDY)
    if not table or not _counts_up(table.values(), _FIRST_INDEX):
        raise VocabularyError(
            f"{path}: expected KGSF's word list, a JSON object of words and their indices, "
            f"{_FIRST_INDEX} to {_FIRST_INDEX + len(table) - 1}, each once; the file is damaged or "
            "another list. Fetch word2index_redial.json again, or set the tokenizer to 'train'."
        )
    words = [
        word
        for word in sorted(table, key=table.__getitem__)
        if word != _TURN_SEPARATOR and not MENTION.fullmatch(word) and tokens(word) == [word]
    ]
    return _word_level({word: i for i, word in enumerate([END_TOKEN, UNK_TOKEN, *words])}, False)


def load_tokenizer(folder: epath.PathLike) -> Tokenizer:
    """Loads a saved tokenizer of either kind; its `tokenizer.json` says which.

    Args:
      folder: a folder that `Vocabulary.save` wrote, or a GPT-2 folder as `load_bpe` reads it.

    Raises:
      VocabularyError: the tokenizer is missing, damaged, or of neither kind.
    """
    path = epath.Path(folder) / "tokenizer.json"
    if path.exists():
        content = read_json(path, VocabularyError, _REMEDY)
        model = content.get("model")
        if isinstance(model, dict) and model.get("type") == "WordLevel":
            return _from_tokenizer_json(content, path)
    return load_bpe(folder)


def is_lower_cased(tokenizer: Tokenizer) -> bool:
    """Returns whether a tokenizer of whole words lower-cases what it encodes."""
    return isinstance(tokenizer.normalizer, normalizers.Lowercase)


def _word_level(vocab: dict[str, int], lower_case: bool) -> Tokenizer:
    """Builds the pipeline of whole words over a table, with nothing else added."""
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token=UNK_TOKEN))
    if lower_case:
        tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = TOKEN_SPLIT
    return tokenizer


def _from_tokenizer_json(content: dict[str, Any], path: epath.Path) -> Tokenizer:
    vocab = content["model"].get("vocab")
    if not isinstance(vocab, dict) or not _counts_up(vocab.values(), 0):
        raise VocabularyError(
            f"{path}: expected words with the ids 0, 1, 2, …; the file is damaged: {_REMEDY}."
        )
    if not {END_TOKEN, UNK_TOKEN} <= vocab.keys():
        raise VocabularyError(
            f"{path}: expected {END_TOKEN!r} and {UNK_TOKEN!r} among its {len(vocab)} words: make "
            "it with train_words or load_words."
        )
    tokenizer = _word_level(vocab, content.get("normalizer") == {"type": "Lowercase"})
    if json.loads(tokenizer.to_str())["pre_tokenizer"] != content.get("pre_tokenizer"):
        raise VocabularyError(
            f"{path}: expected a tokenizer that cuts text by the regex {TOKEN}, got "
            f"{content.get('pre_tokenizer')}: make it with train_words or load_words."
        )
    return tokenizer


def _counts_up(values: Iterable[Any], first: int) -> bool:
    """Whether the values are the integers from `first` on, each once, in any order."""
    values = list(values)
    return all(type(value) is int for value in values) and sorted(values) == list(
        range(first, first + len(values))
    )
