"""A small RecInDial with parameters, a graph and inputs, for the tests of everything that runs one.

Five samples: what was read before and within a response, and what the history mentions. Two of them
are later responses of the same row.
"""

import jax
import jax.numpy as jnp
import numpy as np

from conkd_jax.models.gpt2 import GPT2, GPT2Spec
from conkd_jax.models.recindial import RecInDial

SPEC = GPT2Spec(num_layers=2, embed_dim=16, num_heads=2, num_positions=32)
NUM_ROWS, NUM_WORDS, NUM_ITEMS, NODE_DIM = 30, 20, 7, 6
NUM_TARGETS = NUM_WORDS + NUM_ITEMS
MODEL = RecInDial(GPT2(SPEC, NUM_ROWS))

# For every row, its length and (start, targets, mentioned entities) of each response.
RESPONSES = (
    (12, ((2, 3, ()), (6, 5, (0, 4)))),
    (9, ((1, 4, (6, 2, 3, 0)),)),
    (14, ((0, 2, (3,)), (4, 2, (3, 7)), (9, 5, (1, 5)))),  # 1 and 5 have no node
)


def draw(rng, *shape):
    return jnp.asarray(rng.normal(size=shape), jnp.float32)


def initial_params():
    """The trained part as it is drawn."""
    gpt2, pointer = jax.random.split(jax.random.key(0))
    return {**MODEL.gpt2.init(gpt2), "pointer": MODEL.pointer_params(pointer)}


def perturbed_params(start):
    """Trained part and graph, every leaf drawn anew: biases and norms away from 0 and 1."""
    rng = np.random.default_rng(0)
    trained = jax.tree.map(lambda leaf: leaf + 0.3 * draw(rng, *leaf.shape), start)
    graph = {
        "entities": draw(rng, 6, NODE_DIM),
        "entity_energies": draw(rng, 6),
        "entity_rows": jnp.array([3, -1, 0, 5, 1, -1, 2, 4, 0, -1], jnp.int32),
        "items": draw(rng, NUM_ITEMS, NODE_DIM),
    }
    return {**trained, "graph": graph}


def make_samples():
    """The token ids of every row."""
    rng = np.random.default_rng(1)
    return [rng.integers(0, NUM_ROWS, length).astype(np.int32) for length, _ in RESPONSES]


def batch(rows, *, length=14, slots=3, mentioned=4, fill=0):
    """Inputs of `states`, padded to the given sizes."""
    ids = np.full((len(rows), length), fill, np.int32)
    entities = np.full((len(rows), slots, mentioned), -1, np.int32)
    slot_of = np.full((len(rows), length), -1, np.int32)
    for row, (tokens, (_, responses)) in enumerate(zip(rows, RESPONSES, strict=True)):
        ids[row, : len(tokens)] = tokens
        for slot, (start, targets, found) in enumerate(responses):
            entities[row, slot, : len(found)] = found
            slot_of[row, start : start + targets] = slot
    return {"input_ids": ids, "entities": entities, "response_slot": slot_of}
