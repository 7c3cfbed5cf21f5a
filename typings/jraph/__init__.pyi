# The part of jraph that this project uses, for the type checker only. The library annotates its
# arrays as jax.numpy.ndarray or trees of them, so NumPy arrays would be errors.
from typing import Any, NamedTuple

from jax import Array

class GraphsTuple(NamedTuple):
    nodes: Any
    edges: Any
    receivers: Any
    senders: Any
    globals: Any
    n_node: Any
    n_edge: Any

def segment_sum(
    data: Any,
    segment_ids: Any,
    num_segments: int | None = None,
    indices_are_sorted: bool = False,
    unique_indices: bool = False,
) -> Array: ...
