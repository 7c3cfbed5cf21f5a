"""Stage `vocabulary`: a backbone's words, one token per item, and initial word vectors."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from etils import epath

from conkd_jax.artifacts.fingerprint import merged, named_content
from conkd_jax.artifacts.stage import Context, Stage
from conkd_jax.config import Config
from conkd_jax.data.corpus import Corpus
from conkd_jax.data.vocabulary import Vocabulary
from conkd_jax.runtime import parallel
from conkd_jax.stages import backbones
from conkd_jax.stages.backbones import WordSettings

VERSION = 1


@dataclasses.dataclass(frozen=True)
class VocabularySettings:
    """Settings of a vocabulary.

    Attributes:
      backbone: the name of the backbone, which everything that is trained on the vocabulary
        inherits; None for DialoGPT, whose first vocabularies had no name.
      backbone_source: for a backbone outside the package, the hashes of its source files, which
        everything that is trained on the vocabulary inherits as well; else None.
      tokenizer: "train", a hub name, or the hashes of the tokenizer's files.
      item_vocabulary: "full" or "train".
      words: the backbone's settings for its words.
    """

    backbone: str | None
    tokenizer: str | dict[str, str]
    item_vocabulary: str
    words: WordSettings = merged()
    backbone_source: dict[str, str] | None = None


def stage(config: Config, stages: Mapping[str, Stage]) -> Stage:
    """The vocabulary of a config: V from its backbone's tokenizer, I from the item list."""
    settings = VocabularySettings(
        backbone=None if config.backbone == "dialogpt" else config.backbone,
        tokenizer=named_content(config.vocabulary.tokenizer, made_here="train"),
        item_vocabulary=config.vocabulary.item_vocabulary,
        words=backbones.named(config.backbone).word_settings(config),
        backbone_source=backbones.source_hashes(config.backbone),
    )
    return Stage("vocabulary", VERSION, settings, {"corpus": stages["corpus"]}, run)


def run(settings: VocabularySettings, directory: epath.Path, context: Context) -> dict[str, Any]:
    """Builds the vocabulary on the first process; returns |V| and |I|."""
    corpus = Corpus.open(context.inputs["corpus"])
    if parallel.is_first_process():
        turns = [turn for dialogue in corpus.dialogues("train") for turn in dialogue.turns]
        texts = [turn.text for turn in turns]
        texts += [review.text for review in corpus.reviews.values()]  # contexts may hold them
        vocabulary = Vocabulary.for_corpus(
            settings.words.tokenizer(texts),
            corpus.items.item_ids,
            corpus.items.titles,
            item_vocabulary=settings.item_vocabulary,
            mentioned=(item for turn in turns for item in turn.items),
        )
        settings.words.write_word_vectors(texts, vocabulary, directory)
        vocabulary.save(directory)
    parallel.barrier("vocabulary written")
    vocabulary = Vocabulary.load(directory)
    return {"num_words": vocabulary.num_words, "num_items": vocabulary.num_items}
