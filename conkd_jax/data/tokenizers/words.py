"""The words of KGSF's backbone: whole words, from KGSF's own list or counted on the corpus.

This file exists so that every tokenizer of whole words cuts text one way and knows one unknown
token, and so that a saved tokenizer of either kind is read by one call. It must not know movies,
turns or ids beyond the words.

A word is a piece of the regex ``@\\d+|\\w+|[^\\w\\s]``, case kept. White space is not: decoding
puts one space between words. "<|endoftext|>" and "<unk>" are among the words, and since the regex
cuts both to pieces, no text a user writes encodes to the end token.
"""

import json
import sys
from collections.abc import Iterable
from typing import Any

from etils import epath
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

from conkd_jax.data.tokenizers.bpe import (
    END_TOKEN,
    ITEM,
    VocabularyError,
    encodable,
    load_bpe,
    read_json,
)

UNK_TOKEN = "<unk>"
_PIECES = r"@\d+|\w+|[^\w\s]"
_FIRST_INDEX = 4  # of KGSF's list: 0 to 3 are its padding, start, end and unknown rows
_TURN_SEPARATOR = "_split_"  # stands between turns there, never in a text


def train_words(texts: Iterable[str], min_count: int = 1) -> Tokenizer:
    """Count the words of texts; movies (``@id``) are left out.

    The end and the unknown token come first, then the words by falling count, equal counts by
    text: the same texts in any order give the same tokenizer.

    Args:
        texts: the training texts.
        min_count: a rarer word is unknown.

    Raises:
        VocabularyError: if ``min_count`` is below 1.

    Source: spec §1.2; KGSF's public code keeps every word (min_count=1).
    """
    if min_count < 1:
        raise VocabularyError(f"min_count must be at least 1 (every word), got {min_count}.")
    tokenizer = _word_level({END_TOKEN: 0, UNK_TOKEN: 1})
    trainer = trainers.WordLevelTrainer(
        vocab_size=sys.maxsize,
        min_frequency=min_count,
        special_tokens=[END_TOKEN, UNK_TOKEN],
        show_progress=False,
    )
    runs = (run for text in texts for run in ITEM.split(encodable(text))[::2] if run)
    tokenizer.train_from_iterator(runs, trainer)
    return _word_level(tokenizer.get_vocab())  # without the special tokens that training adds


def load_words(path: epath.PathLike) -> Tokenizer:
    """The words of KGSF's ``word2index_redial.json``, in its order.

    Left out are its movies ("@id": items have ids of their own), its turn separator "_split_", and
    the words that the regex never cuts from a text: the list was made by another word splitter,
    so about a tenth of its words ("n't", "sci-fi") could be neither read nor learned.

    Args:
        path: a JSON object, word to index, the indices counting up from 4.

    Returns:
        A tokenizer with the end token as 0, the unknown token as 1, and the words from 2 on.

    Raises:
        VocabularyError: if the file is missing, damaged or another list than KGSF's.
    """
    path = epath.Path(path)
    if not path.is_file():
        raise VocabularyError(
            f"Expected KGSF's word list, the file word2index_redial.json, at {path}; there is no "
            "such file. Give its path, or set the tokenizer to 'train' to count the corpus' words."
        )
    table = read_json(path)
    if not table or not _counts_up(table.values(), _FIRST_INDEX):
        raise VocabularyError(
            f"{path}: expected KGSF's word list, a JSON object of words and their indices, "
            f"{_FIRST_INDEX} to {_FIRST_INDEX + len(table) - 1}, each once; the file is damaged or "
            "another list. Fetch word2index_redial.json again, or set the tokenizer to 'train'."
        )
    cut = _pre_tokenizer().pre_tokenize_str
    words = [
        word
        for word in sorted(table, key=table.__getitem__)
        if word != _TURN_SEPARATOR
        and not ITEM.fullmatch(word)
        and [piece for piece, _ in cut(encodable(word))] == [word]
    ]
    return _word_level({word: i for i, word in enumerate([END_TOKEN, UNK_TOKEN, *words])})


def load_tokenizer(folder: epath.PathLike) -> Tokenizer:
    """A saved tokenizer of either kind, told by its ``tokenizer.json``.

    Args:
        folder: where ``Vocabulary.save`` left it; or a GPT-2 folder, as ``load_bpe`` reads it.

    Raises:
        VocabularyError: if it is missing or damaged, or cuts text in another way than these two.
    """
    path = epath.Path(folder) / "tokenizer.json"
    if path.exists():
        content = read_json(path)
        model = content.get("model")
        if isinstance(model, dict) and model.get("type") == "WordLevel":
            return _from_tokenizer_json(content, path)
    return load_bpe(folder)


def _word_level(vocab: dict[str, int]) -> Tokenizer:
    """The pipeline of whole words over a table, with nothing added."""
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token=UNK_TOKEN))
    tokenizer.pre_tokenizer = _pre_tokenizer()
    return tokenizer


def _pre_tokenizer() -> pre_tokenizers.Split:
    """Keep what the regex matches, drop what lies between."""
    return pre_tokenizers.Split(Regex(_PIECES), behavior="removed", invert=True)


def _from_tokenizer_json(content: dict[str, Any], path: epath.Path) -> Tokenizer:
    vocab = content["model"].get("vocab")
    if not isinstance(vocab, dict) or not _counts_up(vocab.values(), 0):
        raise VocabularyError(f"{path}: expected words with the ids 0, 1, 2, …: it is damaged.")
    if not {END_TOKEN, UNK_TOKEN} <= vocab.keys():
        raise VocabularyError(
            f"{path}: expected {END_TOKEN!r} and {UNK_TOKEN!r} among its {len(vocab)} words: make "
            "it with train_words or load_words."
        )
    tokenizer = _word_level(vocab)
    if json.loads(tokenizer.to_str())["pre_tokenizer"] != content.get("pre_tokenizer"):
        raise VocabularyError(
            f"{path}: expected text to be cut by the regex {_PIECES}, got "
            f"{content.get('pre_tokenizer')}: make it with train_words or load_words."
        )
    return tokenizer


def _counts_up(values: Iterable[Any], first: int) -> bool:
    """Whether the values are the integers from `first` on, each once, in any order."""
    values = list(values)
    return all(type(value) is int for value in values) and sorted(values) == list(
        range(first, first + len(values))
    )
