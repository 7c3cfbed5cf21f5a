"""Token ids: the words of a tokenizer, then one token per item, then the input-only tags.

Every stage reads the same integers. This module handles text, item ids and titles; it is
independent of turns, rows, models and batches.

Layout of the ids (|V| words, |I| items; Y = V ∪ I is the output space of the paper, §3)::

    [0, |V|)            words, the end token among them
    [|V|, |V| + |I|)    items: token |V| + j is the item `item_ids[j]`
    |V| + |I| + 0, 1, 2 [GEN], [REC], [PAD]: read by a model, never predicted
    … num_rows          padding rows up to a multiple of 128

Spaces around an item. GPT-2's words carry the space before them ("Ġseen"), and so does an item: one
space before "@123" belongs to the item token, and the text after it is encoded as it stands.
Decoding puts one space before every item that does not open the text. So "have you seen @123 ?"
survives encoding and decoding, "(@123)" becomes "( @123)", and
`encode(decode(encode(text))) == encode(text)`.

Two kinds of words. GPT-2 and Llama read a byte-level BPE (`tokenizers.bpe`), KGSF whole words
(`tokenizers.words`). Whole words drop white space: decoding puts one space before each word and
each item. `unk_id` stands for every word that is not in the list; without it,
`encode(decode(ids)) == ids`.
"""

from __future__ import annotations

import functools
import itertools
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from etils import epath
from jaxtyping import Bool, Int
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

from conkd_jax.data.mentions import MENTION, encodable, mention_id
from conkd_jax.data.tokenizers.bpe import (
    END_TOKEN,
    VocabularyError,
    has_single_digits,
    merge_text,
)
from conkd_jax.data.tokenizers.words import UNK_TOKEN, is_lower_cased, load_tokenizer
from conkd_jax.io.files import read_json, sha256, write_whole

_DIGIT = re.compile("[0-9]")  # the digits of an item id; `str.isdigit` accepts "²" too

ROW_MULTIPLE = 128
TEXTS_AT_A_TIME = 4_096  # whose tokens are Python objects at once


class Vocabulary:
    """Maps text to ids and back, over words, items and tags.

    Args:
      tokenizer: the words: a byte-level BPE from `load_bpe` or `train_bpe`, or whole words from
        `load_words` or `train_words`.
      item_ids: [M] the item ids of all candidates, in candidate order.
      titles: [M] their titles. An item without a token is written as its title; an item with a
        token gets its initial embedding from it.
      item_candidates: [I] the candidates that get a token, in token order; None means all.

    Attributes:
      unk_id: the id of every word that is not in the list; None for a BPE, which can write any
        text.

    Raises:
      VocabularyError: the lengths disagree, an id repeats, or a candidate does not exist.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        item_ids: Sequence[int] | Int[np.ndarray, " M"],
        titles: Sequence[str],
        item_candidates: Sequence[int] | Int[np.ndarray, " I"] | None = None,
    ):
        self.tokenizer = tokenizer
        self.candidate_item_ids = np.asarray(item_ids, np.int64)
        self.candidate_titles = [str(title) for title in titles]
        count = len(self.candidate_item_ids)
        if item_candidates is None:
            item_candidates = np.arange(count)
        self.item_candidates = np.asarray(item_candidates, np.int32)
        _check_items(self.candidate_item_ids, self.candidate_titles, self.item_candidates)

        self.item_ids = self.candidate_item_ids[self.item_candidates]
        self.titles = [self.candidate_titles[c] for c in self.item_candidates]
        self.num_words = tokenizer.get_vocab_size()
        self.num_items = len(self.item_candidates)
        self.num_targets = self.num_words + self.num_items
        self.gen_id = self.num_targets
        self.rec_id = self.num_targets + 1
        self.pad_id = self.num_targets + 2
        self.num_rows = -(-(self.num_targets + 3) // ROW_MULTIPLE) * ROW_MULTIPLE
        self.end_id = tokenizer.token_to_id(END_TOKEN)
        if self.end_id is None:
            raise VocabularyError(
                f"The tokenizer has no end token {END_TOKEN!r}: make it with load_bpe, train_bpe, "
                "load_words or train_words."
            )
        self.unk_id: int | None = None
        if isinstance(tokenizer.model, WordLevel):
            self.unk_id = tokenizer.token_to_id(UNK_TOKEN)

        self._token_of = {m: self.num_words + j for j, m in enumerate(self.item_ids.tolist())}
        self._title_of = {
            m: title
            for m, title in zip(
                self.candidate_item_ids.tolist(), self.candidate_titles, strict=True
            )
            if title.strip()
        }

    @classmethod
    def for_corpus(
        cls,
        tokenizer: Tokenizer,
        item_ids: Sequence[int] | Int[np.ndarray, " M"],
        titles: Sequence[str],
        *,
        item_vocabulary: str = "full",
        mentioned: Iterable[int] = (),
    ) -> Vocabulary:
        """Returns the vocabulary of a corpus under one of the two common item vocabularies.

        Args:
          tokenizer: the words.
          item_ids: [M] the item ids of all candidates.
          titles: [M] their titles.
          item_vocabulary: "full": every candidate has a token, so an item that training never
            mentions can still be learned from the recommender's probabilities. "train": only the
            candidates that the training split mentions, as in KGSF's word list.
          mentioned: candidate indices mentioned in the training split, repeats allowed; used for
            "train" only.

        Raises:
          VocabularyError: another name, or "train" without a single mention.
        """
        if item_vocabulary == "full":
            return cls(tokenizer, item_ids, titles)
        if item_vocabulary != "train":
            raise VocabularyError(
                f"item_vocabulary must be 'full' or 'train', got {item_vocabulary!r}."
            )
        candidates = np.unique(np.fromiter(mentioned, np.int64))
        if not len(candidates):
            raise VocabularyError(
                "item_vocabulary='train' keeps the items mentioned in the train split, but none "
                "was given: pass `mentioned`, or use 'full'."
            )
        return cls(tokenizer, item_ids, titles, candidates)

    def encode(self, text: str) -> list[int]:
        """Returns the token ids of a text in which items are written as "@123".

        An item without a token becomes the words of its title. An id that belongs to no item stays
        literal text, which is an unknown word in a vocabulary of whole words. Special tokens in the
        text are plain characters.
        """
        return self.encode_batch([text])[0]

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Encodes many texts in one call of the tokenizer, which is much faster than one by one."""
        pieces = [self._split(text) for text in texts]
        words = [piece for split in pieces for piece in split if isinstance(piece, str)]
        encoded = iter(self.tokenizer.encode_batch_fast(words, add_special_tokens=False))
        encodings = []
        for split in pieces:
            ids: list[int] = []
            for piece in split:
                if isinstance(piece, str):
                    ids.extend(next(encoded).ids)
                else:
                    ids.append(piece)
            encodings.append(ids)
        return encodings

    def encode_each(self, texts: Iterable[str]) -> Iterator[list[int]]:
        """Encodes texts one after the other, with as little memory for many as for a few thousand.

        `encode_batch` of a whole split would hold the tokens of all of it as Python objects, which
        take ten times the memory of the arrays that rows are made of.
        """
        texts = iter(texts)
        while batch := [*itertools.islice(texts, TEXTS_AT_A_TIME)]:
            yield from self.encode_batch(batch)

    def decode(self, ids: Iterable[int] | Int[np.ndarray, " T"]) -> str:
        """Returns the text of token ids, items as "@123"; end, tag and padding ids are left out.

        A model can also write "@", "1", "2" as words, so items have to be read from the ids and not
        from this text.
        """
        return self._join(ids, lambda item: f"@{self.item_ids[item]}")

    def render(self, ids: Iterable[int] | Int[np.ndarray, " T"]) -> str:
        """Returns the text of token ids for people to read, items as their titles."""
        return self._join(ids, lambda item: self.titles[item].strip() or f"@{self.item_ids[item]}")

    def title_token_ids(self, item: int) -> list[int]:
        """Returns the word ids of an item's title as it stands inside a sentence; never empty.

        An item's initial embedding is the mean of the embeddings of these words.

        Args:
          item: the item's position in `item_ids`.
        """
        title = self.titles[item].strip() or f"@{self.item_ids[item]}"
        return self.tokenizer.encode(encodable(f" {title}"), add_special_tokens=False).ids

    def is_item(self, ids: Int[np.ndarray, "*ids"] | Sequence[int]) -> Bool[np.ndarray, "*ids"]:
        """Returns whether each id is an item token."""
        ids = np.asarray(ids)
        return (ids >= self.num_words) & (ids < self.num_targets)

    @functools.cached_property
    def item_numbers(self) -> Int[np.ndarray, " M"]:
        """The number of every candidate among the items with a token, 0 … I - 1; -1 without one."""
        numbers = np.full(len(self.candidate_item_ids), -1, np.int32)
        numbers[self.item_candidates] = np.arange(self.num_items)
        return numbers

    @property
    def fingerprint(self) -> str:
        """SHA-256 of everything that determines an id: words, items, titles, item order."""
        # Trained artifacts carry this hash, so the exact JSON text below must not change.
        model = json.loads(self.tokenizer.to_str())["model"]
        if self.unk_id is None:
            kind: dict[str, Any] = {"merges": [merge_text(merge) for merge in model["merges"]]}
            kind |= {"single_digits": True} if has_single_digits(self.tokenizer) else {}
        else:
            kind = {"unk_id": self.unk_id}
            kind |= {"lower_case": True} if is_lower_cased(self.tokenizer) else {}
        content = {
            "vocab": sorted(model["vocab"].items(), key=lambda entry: entry[1]),
            **kind,
            "movie_ids": self.candidate_item_ids.tolist(),
            "titles": self.candidate_titles,
            "item_candidates": self.item_candidates.tolist(),
        }
        return sha256(json.dumps(content))

    def save(self, directory: epath.PathLike) -> None:
        """Writes `tokenizer.json` and `vocabulary.json` into a folder."""
        directory = epath.Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        write_whole(directory / "tokenizer.json", self.tokenizer.to_str())
        table = {
            "fingerprint": self.fingerprint,
            "movie_ids": self.candidate_item_ids.tolist(),
            "titles": self.candidate_titles,
            "item_candidates": self.item_candidates.tolist(),
        }
        write_whole(directory / "vocabulary.json", json.dumps(table))

    @classmethod
    def load(cls, directory: epath.PathLike) -> Vocabulary:
        """Loads what `save` wrote.

        Raises:
          VocabularyError: a file is missing, unreadable, or was changed after saving.
        """
        directory = epath.Path(directory)
        tokenizer = load_tokenizer(directory)
        remedy = "build this folder again"
        table = read_json(directory / "vocabulary.json", VocabularyError, remedy)
        try:
            vocabulary = cls(
                tokenizer, table["movie_ids"], table["titles"], table["item_candidates"]
            )
            expected = table["fingerprint"]
        except (KeyError, TypeError) as error:
            raise VocabularyError(
                f"{directory / 'vocabulary.json'} lacks {error}: {remedy}."
            ) from error
        if vocabulary.fingerprint != expected:
            raise VocabularyError(
                f"{directory}: expected a vocabulary with fingerprint {expected}, its files give "
                f"{vocabulary.fingerprint}. A file was changed after saving: {remedy}."
            )
        return vocabulary

    def _split(self, text: str) -> list[str | int]:
        """Returns the runs of words (str) and the item tokens (int) of a text, in order."""
        pieces: list[str | int] = []
        words = ""
        end = 0
        for match in MENTION.finditer(text):
            words += text[end : match.start()]
            end = match.end()
            item_id = mention_id(match[1])
            token = None if item_id is None else self._token_of.get(item_id)
            if token is None:
                # The run of words goes on through the title, so that a BPE sees whole sentences. A
                # title that would touch what comes before it gets a space.
                title = None if item_id is None else self._title_of.get(item_id)
                touches = (words or pieces) and not words.endswith(" ")
                words += match.group(0) if title is None else " " * bool(touches) + title
                continue
            words = words.removesuffix(" ")  # this space belongs to the item token
            if words:
                pieces.append(encodable(words))
            pieces.append(token)
            words = ""
        words += text[end:]
        if words:
            pieces.append(encodable(words))
        return pieces

    def _join(self, ids: Iterable[int] | Int[np.ndarray, " T"], name: Callable[[int], str]) -> str:
        """Decodes the runs of words between items; every item but a first one gets a space before.

        A run of whole words never begins with a space; a run of a BPE begins with the one it had.
        """
        text = ""
        ids = [i for i in map(int, ids) if 0 <= i < self.num_targets and i != self.end_id]
        for is_item, run in itertools.groupby(ids, lambda token: token >= self.num_words):
            if is_item:
                text += "".join(f" {name(token - self.num_words)}" for token in run)
                continue
            words = self.tokenizer.decode(list(run), skip_special_tokens=False)
            # Without a space the item "@12" and the word "3" would read as the item "@123".
            apart = self.unk_id is not None or _DIGIT.match(words)
            text += f" {words}" if text and apart else words
        return text[1:] if ids and ids[0] >= self.num_words else text


def _check_items(item_ids: np.ndarray, titles: list[str], candidates: np.ndarray) -> None:
    count = len(item_ids)
    if len(titles) != count:
        raise VocabularyError(
            f"Expected one title per item, got {count} ids, {len(titles)} titles."
        )
    if len(np.unique(item_ids)) != count or (count and item_ids.min() < 0):
        raise VocabularyError("Item ids must be distinct and not negative.")
    if len(np.unique(candidates)) != len(candidates) or (
        len(candidates) and not 0 <= candidates.min() <= candidates.max() < count
    ):
        raise VocabularyError(f"item_candidates must be distinct indices below {count}.")
