"""Rows of small random dialogues and their batches, for the tests of this room."""

import numpy as np

from conkd_jax.data.batches.language_model import LanguageModelBatches
from conkd_jax.data.batches.loader import BatchLoader
from conkd_jax.data.batches.plan import BatchPlan, quantile_buckets
from conkd_jax.data.corpus import Dialogue, Turn
from conkd_jax.data.rows.dialogue import DialogueRows, build_dialogue_rows
from conkd_jax.data.tokenizers.bpe import train_bpe
from conkd_jax.data.vocabulary import Vocabulary

VOCABULARY = Vocabulary(train_bpe(["hello there good movie"] * 3, 265), [1, 22], ["One", "Two"])


def make_rows(num_dialogues: int = 37, seed: int = 0) -> DialogueRows:
    rng = np.random.default_rng(seed)

    def turns():
        for i in range(rng.integers(2, 9)):
            text = " ".join(rng.choice(["good", "movie", "@1", "@22", "xyz"], rng.integers(0, 9)))
            yield Turn(("seeker", "recommender")[i % 2], text)

    dialogues = [Dialogue(f"d{i}", tuple(turns())) for i in range(num_dialogues)]
    return build_dialogue_rows(dialogues, VOCABULARY, 128, 12)


ROWS = make_rows()
BUCKETS = quantile_buckets(ROWS.lengths, 3)


def loader(
    form="student", weighting="sample", batch_size=8, devices=1, accumulate=1, **host
) -> BatchLoader:
    plan = BatchPlan(ROWS.lengths, batch_size, BUCKETS, 5)
    assemble = LanguageModelBatches(ROWS, VOCABULARY, plan, form, weighting)
    return BatchLoader(plan, assemble, devices, accumulate, **host)


def same(one: dict, other: dict) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[k], other[k]) for k in one)
