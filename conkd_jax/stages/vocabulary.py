"""Stage `vocabulary`: the words of a backbone, one token per movie, and vectors to start from."""

from __future__ import annotations

from etils import epath

from conkd_jax import parallel
from conkd_jax.artifacts.build import Context, Stage, named_content
from conkd_jax.data.corpus import Corpus
from conkd_jax.data.vocabulary import Vocabulary
from conkd_jax.stages import backbones

VERSION = 1


def stage(config, corpus: Stage) -> Stage:
    """The vocabulary of a config: V from its backbone's tokenizer, I from the movie list."""
    part, backbone = config.vocabulary, backbones.of(config)
    identity = {
        "tokenizer": named_content(part.tokenizer, made_here="train"),
        "item_vocabulary": part.item_vocabulary,
        **backbone.vocabulary_identity(config),
    }

    def run(directory: epath.Path, context: Context) -> dict:
        opened = Corpus.open(context.inputs["corpus"])
        if parallel.is_first_process():
            turns = [turn for dialogue in opened.dialogues("train") for turn in dialogue.turns]
            texts = [turn.text for turn in turns]
            made = Vocabulary.for_corpus(
                backbone.tokenizer(config, texts),
                opened.items.movie_ids,
                opened.items.titles,
                item_vocabulary=part.item_vocabulary,
                mentioned=(item for turn in turns for item in turn.items),
            )
            backbone.write_word_vectors(config, texts, made, directory)
            made.save(directory)
        parallel.barrier("vocabulary written")
        vocabulary = Vocabulary.load(directory)
        return {"num_words": vocabulary.num_words, "num_items": vocabulary.num_items}

    return Stage("vocabulary", VERSION, identity, {"corpus": corpus}, run)
