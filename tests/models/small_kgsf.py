"""A small KGSF with parameters, a graph and inputs, for the tests of everything that runs one."""

import jax
import jax.numpy as jnp
import numpy as np

from conkd_jax.models.kgsf import KGSF, KGSFSpec

SPEC = KGSFSpec(num_layers=2, embed_dim=12, num_heads=3, mlp_dim=20, node_dim=8)
NUM_ROWS, NUM_TARGETS, NUM_ENTITIES, NUM_CONCEPTS = 40, 30, 9, 7
MODEL = KGSF(SPEC, NUM_ROWS, NUM_TARGETS)
CONTEXT_LENGTHS, NUM_MENTIONED = (9, 4, 6), ((4, 3), (0, 2), (1, 0))  # (entities, concepts)


def draw(rng, *shape):
    return jnp.asarray(rng.normal(size=shape), jnp.float32)


def padded(rows, length, fill):
    return np.array([[*row, *[fill] * (length - len(row))] for row in rows], np.int32)


def initial_params():
    """The trained part as it is drawn."""
    return MODEL.init(jax.random.key(0))


def perturbed_params(start):
    """Trained part and graph, every leaf drawn anew: biases and norms away from 0 and 1."""
    rng = np.random.default_rng(0)
    trained = jax.tree.map(lambda leaf: leaf + 0.3 * draw(rng, *leaf.shape), start)
    graph = {
        "entities": draw(rng, 6, SPEC.node_dim),
        "entity_energies": draw(rng, 6),
        "entity_rows": jnp.array([3, -1, 0, 5, 1, -1, 2, 4, 0, -1], jnp.int32),
        "concepts": draw(rng, 7, SPEC.node_dim),
        "concept_energies": draw(rng, 7),
        "concept_rows": jnp.array([6, 5, 4, 3, 2, 1, 0, -1], jnp.int32),
        "copy_mask": jnp.asarray(rng.random(NUM_TARGETS) < 0.5, jnp.float32),
    }
    assert graph["entity_rows"].shape == (NUM_ENTITIES + 1,)
    return {**trained, "graph": graph}


def make_samples():
    """Three samples without padding: one without entities, one without concepts."""
    rng = np.random.default_rng(1)
    with_nodes = np.array([0, 2, 3, 4, 6, 7])
    return [
        {
            "context": rng.integers(0, NUM_ROWS, length),
            "response": rng.integers(0, NUM_ROWS, 5),
            "entities": rng.permutation(with_nodes)[:num_entities],
            "concepts": rng.permutation(NUM_CONCEPTS)[:num_concepts],
        }
        for length, (num_entities, num_concepts) in zip(CONTEXT_LENGTHS, NUM_MENTIONED, strict=True)
    ]


def batch(samples, *, context=9, response=5, entities=4, concepts=3, fill=0):
    """Inputs of `states`, padded to the given lengths."""
    lengths = np.array([len(sample["context"]) for sample in samples])
    return {
        "context_ids": padded([sample["context"] for sample in samples], context, fill),
        "context_mask": np.arange(context) < lengths[:, None],
        "response_ids": padded([sample["response"] for sample in samples], response, fill),
        "entities": padded([sample["entities"] for sample in samples], entities, -1),
        "concepts": padded([sample["concepts"] for sample in samples], concepts, -1),
    }
