"""A small ReDial model with parameters and inputs, for the tests of what runs one."""

import jax
import jax.numpy as jnp
import numpy as np

from conkd_jax.data.rows.utterances import Histories, History, HistoryLimits
from conkd_jax.models.redial import ReDial, ReDialSpec
from conkd_jax.models.sentiment import Sentiment, SentimentSpec

SENTIMENT_SPEC = SentimentSpec(word_dim=5, features=4, num_layers=2, dropout=0.4)
SPEC = ReDialSpec(
    word_dim=6,
    utterance_dim=5,
    hidden_dim=7,
    token_dim=4,
    autorec_dim=6,
    sentiment=SENTIMENT_SPEC,
)
NUM_WORDS, NUM_TARGETS, NUM_ROWS, END = 20, 30, 34, 0
MODEL = ReDial(SPEC, NUM_ROWS, NUM_WORDS, NUM_TARGETS)
SENTIMENT = Sentiment(SENTIMENT_SPEC, NUM_ROWS)
LIMITS = HistoryLimits(max_utterances=4, max_utterance_tokens=9, max_mentions=5)
# Three dialogues: of three, one and two utterances; the second mentions no movie.
UTTERANCES = (
    ([5, 21, 7, 24, END], [21, 3, END], [9, END]),
    ([4, 4, END],),
    ([2, 29, 29, END], [8, 11, 22, 1, END]),
)
SENDERS = ((False, True, False), (False,), (True, False))


def perturbed(tree, seed=0, scale=0.3):
    """Every leaf moved, so that no bias is 0."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(
        lambda leaf: leaf + scale * jnp.asarray(rng.normal(size=leaf.shape), jnp.float32), tree
    )


def histories():
    """The three histories."""
    found = [
        History.of(said, senders, NUM_WORDS, LIMITS.max_mentions)
        for said, senders in zip(UTTERANCES, SENDERS, strict=True)
    ]
    return Histories([(str(n), 1) for n in range(len(found))], found, LIMITS)


def batch(length=13, response=5, fill=0, row_ids=(0, 1, 2)):
    """Inputs of `states` for the three histories, each with a response of five tokens."""
    rng = np.random.default_rng(1)
    response_ids = np.full((len(row_ids), response), fill, np.int32)
    response_ids[:, :5] = rng.integers(0, NUM_TARGETS, (len(row_ids), 5))
    inputs = histories().inputs(np.array(row_ids), length, fill)
    return {**inputs, "response_ids": response_ids}


def sentiment_params():
    """Perturbed parameters of the sentiment model."""
    return perturbed(SENTIMENT.init(jax.random.key(1), batch())["params"], seed=2, scale=0.5)


def initial_params():
    """The trained part as it is drawn."""
    return MODEL.init(jax.random.key(0))


def perturbed_params(start):
    """Trained part and sentiment model, every leaf moved."""
    return {**perturbed(start), "sentiment": sentiment_params()}
