"""KGSF's dialogue model in plain NumPy, one sample at a time, straight from its formulas."""

import jax
import numpy as np

from tests.models.numpy_transformer import decode, encode, linear, pooled
from tests.models.small_kgsf import NUM_TARGETS, SPEC


def oracle(params, sample):
    """(decoder states [T, D], copy states [T, D], logits [T, Y]) of one sample, term by term."""
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    graph, mentioned, vectors = params["graph"], {}, {}
    for side, one in (("entities", "entity"), ("concepts", "concept")):
        rows = graph[f"{one}_rows"][sample[side]].astype(int)
        mentioned[one] = graph[side][rows]
        vectors[one] = pooled(mentioned[one], graph[f"{one}_energies"][rows])
    context = encode(params, sample["context"], SPEC.num_layers)
    memories = (
        linear(params["entity_memory"], mentioned["entity"]),
        linear(params["concept_memory"], mentioned["concept"]),
        context,
    )
    states = decode(params, sample["response"], memories, SPEC.num_layers)
    v = linear(params["concept_pooled"], vectors["concept"])
    n = linear(params["entity_pooled"], vectors["entity"])
    copied = np.stack([linear(params["copy_state"], np.concatenate([v, n, s])) for s in states])
    copy_logits = copied @ params["copy_kernel"] + params["copy_bias"]
    words = states @ params["tokens"]["embedding"][:NUM_TARGETS].T
    return states, copied, words + copy_logits * graph["copy_mask"]
