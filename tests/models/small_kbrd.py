"""A small KBRD with parameters, a graph and inputs."""

import jax
import jax.numpy as jnp
import numpy as np

from conkd_jax.models.kbrd import KBRD, KBRDSpec

SPEC = KBRDSpec(num_layers=2, embed_dim=12, num_heads=3, mlp_dim=20, node_dim=8, bias_dim=10)
NUM_ROWS, NUM_TARGETS = 40, 30
MODEL = KBRD(SPEC, NUM_ROWS, NUM_TARGETS)
WITH_NODES, WITHOUT_NODES = [0, 2, 3, 4, 6, 7], [1, 5, 8]  # entity ids of the corpus's graph


def initial_params():
    """The trained part as it is drawn."""
    return MODEL.init(jax.random.key(0))


def perturbed_params(start):
    """Trained part and graph, every leaf drawn anew: biases and norms away from 0 and 1."""
    rng = np.random.default_rng(0)

    def draw(*shape):
        return jnp.asarray(rng.normal(size=shape), jnp.float32)

    trained = jax.tree.map(lambda leaf: leaf + 0.3 * draw(*leaf.shape), start)
    graph = {
        "entities": draw(6, SPEC.node_dim),
        "entity_energies": draw(6),
        "entity_rows": jnp.array([3, -1, 0, 5, 1, -1, 2, 4, -1, -1], jnp.int32),
    }
    return {**trained, "graph": graph}


def make_samples():
    """Three samples without padding; the second mentions nothing."""
    rng = np.random.default_rng(1)
    return [
        {
            "context": rng.integers(0, NUM_ROWS, length),
            "response": rng.integers(0, NUM_ROWS, 5),
            "entities": rng.permutation(WITH_NODES)[:num_entities],
        }
        for length, num_entities in ((9, 4), (4, 0), (6, 1))
    ]


def batch(samples, *, context=9, response=5, entities=4, fill=0):
    """Inputs of `states`, padded to the given lengths."""

    def padded(name, length, fill):
        rows = [[*sample[name], *[fill] * (length - len(sample[name]))] for sample in samples]
        return np.array(rows, np.int32).reshape(len(samples), length)

    lengths = np.array([len(sample["context"]) for sample in samples])
    return {
        "context_ids": padded("context", context, fill),
        "context_mask": np.arange(context) < lengths[:, None],
        "response_ids": padded("response", response, fill),
        "entities": padded("entities", entities, -1),
    }
