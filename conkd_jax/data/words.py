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

from conkd_jax.data.bpe import (
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


def load_tokenizer(name_or_path: epath.PathLike) -> Tokenizer:
    """A tokenizer of either kind, told by what is there.

    Args:
        name_or_path: a ``.json`` file: KGSF's word list, as ``load_words`` reads it; a folder whose
            ``tokenizer.json`` holds whole words, as ``Vocabulary.save`` leaves it; or a folder or
            hub name of a GPT-2 BPE, as ``load_bpe`` reads it.

    Raises:
        VocabularyError: if nothing of the three is there, or it is damaged.
    """
    path = epath.Path(name_or_path)
    if path.suffix == ".json":
        return load_words(path)
    saved = path / "tokenizer.json"
    if saved.exists():
        content = read_json(saved)
        if _type_of(content, "model") == "WordLevel":
            return _from_tokenizer_json(content, saved)
    return load_bpe(name_or_path)


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


def _type_of(content: dict[str, Any], part: str) -> Any:
    value = content.get(part)
    return value.get("type") if isinstance(value, dict) else None


def _counts_up(values: Iterable[Any], first: int) -> bool:
    """Whether the values are the integers from `first` on, each once, in any order."""
    values = list(values)
    return all(type(value) is int for value in values) and sorted(values) == list(
        range(first, first + len(values))
    )
