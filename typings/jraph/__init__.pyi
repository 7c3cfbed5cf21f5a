# What this project uses of jraph, for the type checker only. The library annotates its arrays as
# jax.numpy.ndarray or trees of them, and so refuses NumPy arrays and a feature used as an array.
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
def segment_softmax(
    logits: Any,
    segment_ids: Any,
    num_segments: int | None = None,
    indices_are_sorted: bool = False,
    unique_indices: bool = False,
) -> Array: ...
def pad_with_graphs(
    graph: GraphsTuple, n_node: int, n_edge: int, n_graph: int = 2
) -> GraphsTuple: ...
