"""Stage `vocabulary`: a backbone's BPE, or one trained on the corpus, and one token per movie."""

from __future__ import annotations

from etils import epath

from conkd_jax import parallel
from conkd_jax.data.corpus import Corpus
from conkd_jax.data.rows import Rows, build_rows
from conkd_jax.data.vocabulary import Vocabulary, load_bpe, train_bpe
from conkd_jax.stages.artifacts import Context, Stage

VERSION = 1


def stage(config, corpus: Stage) -> Stage:
    """The vocabulary of a config: V from a tokenizer, I from the movie list."""
    part = config.vocabulary
    identity = {"tokenizer": part.tokenizer, "item_vocabulary": part.item_vocabulary}
    if part.tokenizer == "train":
        identity["bpe_size"] = part.bpe_size

    def run(directory: epath.Path, context: Context) -> dict:
        opened = Corpus.open(context.inputs["corpus"])
        train = opened.dialogues("train")
        if parallel.is_first_process():
            if part.tokenizer == "train":
                texts = (turn.text for dialogue in train for turn in dialogue.turns)
                tokenizer = train_bpe(texts, part.bpe_size)
            else:
                tokenizer = load_bpe(part.tokenizer)
            mentioned = (item for d in train for turn in d.turns for item in turn.items)
            Vocabulary.for_corpus(
                tokenizer,
                opened.items.movie_ids,
                opened.items.titles,
                item_vocabulary=part.item_vocabulary,
                mentioned=mentioned,
            ).save(directory)
        parallel.barrier("vocabulary written")
        vocabulary = Vocabulary.load(directory)
        return {"num_words": vocabulary.num_words, "num_items": vocabulary.num_items}

    return Stage("vocabulary", VERSION, identity, {"corpus": corpus}, run)


def rows_of(config, corpus: Corpus, vocabulary: Vocabulary, split: str) -> Rows:
    """The GPT-2 rows of a split under a config's limits: computed, not stored, in seconds."""
    part = config.vocabulary
    return build_rows(
        corpus.dialogues(split), vocabulary, part.max_row_tokens, part.max_response_tokens
    )


def row_limits(config) -> dict:
    """The fields of the vocabulary part that change rows and not tokens."""
    part = config.vocabulary
    return {
        "max_row_tokens": part.max_row_tokens,
        "max_response_tokens": part.max_response_tokens,
    }
