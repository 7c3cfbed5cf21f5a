"""The relational graph convolution of the recommender, against PyTorch Geometric's.

    python -m benchmarks.rgcn --json=docs/results/benchmarks/rgcn.json

One layer on one-hot nodes with basis decomposition (eq. 2), forward and backward. The peers are
`RGCNConv`, which makes every relation's whole matrix and saves memory by a loop over relations, and
`FastRGCNConv`, which sends the messages of all edges at once. All have to agree on the nodes'
vectors and on the gradient of every parameter.

The recommender reads the vectors of items and mentioned entities only, so the graph is pruned to
the in-edges of these. That is measured for both sides, and so is the whole graph.

A step of the recommender's training also updates the basis table, its two moments and its moving
average, all of them whole. This takes as long whatever was in the batch, and is measured alone.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import side_by_side
from benchmarks.report import Bound, Report, read_options
from benchmarks.side_by_side import Compiled, Contender, Run, use_torch
from conkd_jax.config.parts import OptimizerConfig
from conkd_jax.models.recommenders.rgcn import RGCN, RelationalGraph, build_relational_graph
from conkd_jax.runtime import parallel
from conkd_jax.training import optimizers

OURS, FAST, PLAIN = "conkd_jax RGCN", "PyG FastRGCNConv", "PyG RGCNConv"
UPDATE = "conkd_jax, Adam and moving average"
OPTIMIZER, EMA_DECAY, NUM_STEPS = OptimizerConfig(learning_rate=1e-3), 0.98, 1_000


@dataclasses.dataclass(frozen=True)
class Shape:
    """A graph and a layer.

    Attributes:
      num_nodes: of the whole graph.
      num_relations: R.
      num_edges: at most, since repeated ones are dropped.
      num_outputs: nodes whose vectors are read, if the graph is pruned to them.
      embed_dim: D.
      num_bases: b.
    """

    num_nodes: int
    num_relations: int
    num_edges: int
    num_outputs: int | None = None
    embed_dim: int = 128
    num_bases: int = 8


REDIAL = Shape(64_368, 46, 300_000)  # DBpedia around ReDial's items
TARGETS = {("seconds", FAST): Bound(0.60), ("peak_bytes", FAST): Bound(0.75)}
CASES = {  # size -> (case, shape, targets by (measure, peer))
    "full": (
        ("whole graph", REDIAL, {**TARGETS, ("seconds", PLAIN): Bound(0.10)}),
        ("pruned graph", dataclasses.replace(REDIAL, num_outputs=10_000), TARGETS),
    ),
    "tiny": (("tiny", Shape(40, 4, 120, 10, embed_dim=8, num_bases=3), {}),),
}
ROUNDS_OF_PLAIN = 2  # it is more than ten times slower


def make_edges(shape: Shape, seed: int = 0) -> np.ndarray:
    """Distinct random rows (source, relation, destination).

    Few sources and relations have most of the edges. As in the graph around ReDial's items, there
    are .57 distinct pairs of relation and source for each edge; a pair sends one message.
    """
    rng = np.random.default_rng(seed)
    u = rng.random((3, shape.num_edges))
    columns = (
        shape.num_nodes * u[0] ** 4,
        shape.num_relations * u[1] ** 4,
        shape.num_nodes * u[2] ** 1.5,
    )
    return np.unique(np.stack(columns, axis=1).astype(np.int64), axis=0)


def make_graph(shape: Shape) -> RelationalGraph:
    """The graph, pruned if there are outputs."""
    outputs = None if shape.num_outputs is None else np.arange(shape.num_outputs)
    return build_relational_graph(
        make_edges(shape),
        num_nodes=shape.num_nodes,
        num_relations=shape.num_relations,
        outputs=outputs,
    )


def make_parameters(shape: Shape, graph: RelationalGraph, seed: int = 1) -> dict[str, np.ndarray]:
    """Random parameters in the layout of `RGCN`, and the gradient of the outputs."""
    rng = np.random.default_rng(seed)

    def normal(*size: int) -> np.ndarray:
        return 0.1 * rng.standard_normal(size, dtype=np.float32)

    num_local, num_outputs = len(graph.graph.nodes), graph.num_outputs
    return {
        "basis": normal(num_local, shape.num_bases, shape.embed_dim),
        "coefficients": normal(shape.num_relations, shape.num_bases),
        "root": normal(num_outputs, shape.embed_dim),
        "bias": normal(shape.embed_dim),
        "cotangent": normal(num_outputs, shape.embed_dim),
    }


def ours(shape: Shape) -> Run:
    """This project's layer and its gradients."""
    graph = make_graph(shape)
    parameters = {k: jnp.asarray(v) for k, v in make_parameters(shape, graph).items()}
    cotangent = parameters.pop("cotangent")
    layer = RGCN(shape.embed_dim, shape.num_bases)

    def step(parameters, graph, cotangent):
        vectors, pull_back = jax.vjp(lambda p: layer.apply({"params": p}, graph), parameters)
        (found,) = pull_back(cotangent)
        return vectors, found["basis"], found["coefficients"], found["root"], found["bias"]

    return Compiled(step, parameters, jax.device_put(graph), cotangent)


def update(shape: Shape) -> Run:
    """The rest of a step: the layer's parameters after gradients that are given."""
    parameters = make_parameters(shape, make_graph(shape))
    parameters.pop("cotangent")
    gradients = jax.tree.map(jnp.asarray, parameters)
    optimizer = optimizers.make_optimizer(OPTIMIZER, NUM_STEPS)
    state = jax.device_put(parallel.init_state(parameters, optimizer, with_ema=True))

    @functools.partial(jax.jit, donate_argnums=0)
    def step(state, gradients):
        metrics = {"loss": (jnp.float32(0), jnp.float32(1))}
        return parallel.updated(state, gradients, metrics, optimizer, EMA_DECAY)[0]

    def run():
        nonlocal state
        state = jax.block_until_ready(step(state, gradients))
        return state.step

    return run


def pytorch_geometric(shape: Shape, name: str) -> Run:
    """The same by a layer of PyTorch Geometric, on the same local nodes and edges."""
    torch = use_torch()
    import torch_geometric.nn

    graph = make_graph(shape)
    parameters = {k: torch.from_numpy(v) for k, v in make_parameters(shape, graph).items()}
    num_local, num_outputs = len(graph.graph.nodes), graph.num_outputs
    layer = getattr(torch_geometric.nn, name)(
        num_local, shape.embed_dim, shape.num_relations, num_bases=shape.num_bases, aggr="mean"
    )
    trained = layer.weight, layer.comp, layer.root, layer.bias
    with torch.no_grad():
        layer.weight.copy_(parameters["basis"].permute(1, 0, 2))
        layer.comp.copy_(parameters["coefficients"])
        layer.root.zero_()[:num_outputs].copy_(parameters["root"])
        layer.bias.copy_(parameters["bias"])
    edges = graph.graph.edges
    relation = torch.from_numpy(graph.pair_relations[edges["pair"]]).long()
    ends = np.stack([graph.graph.senders, graph.graph.receivers])
    edge_index = torch.from_numpy(ends).long()

    def run():
        vectors = layer(None, edge_index, relation)[:num_outputs]
        basis, *others = torch.autograd.grad(vectors, trained, parameters["cotangent"])
        coefficients, root, bias = others
        basis = basis.permute(1, 0, 2)  # a view, in our layout
        return vectors.detach(), basis, coefficients, root[:num_outputs], bias

    return run


def make_contenders(shape: Shape) -> list[Contender]:
    """Ours and the two of PyTorch Geometric."""
    package = "torch-geometric", "torch_geometric"
    peer = functools.partial(pytorch_geometric, shape)
    return [
        Contender(OURS, lambda: ours(shape)),
        Contender(FAST, lambda: peer("FastRGCNConv"), *package),
        Contender(PLAIN, lambda: peer("RGCNConv"), *package, rounds=ROUNDS_OF_PLAIN),
    ]


def add_case(report: Report, options: argparse.Namespace, place: int) -> None:
    """Adds time and memory on one graph."""
    name, shape, bounds = CASES[options.size][place]
    contenders = make_contenders(shape)
    rest = Contender(UPDATE, lambda: update(shape), work="update")
    times = side_by_side.measure_time([*contenders, rest], options.rounds, options.pause)
    arguments = [*options.arguments, f"--case={place}"]
    peaks = side_by_side.measure_memory("benchmarks.rgcn", arguments, contenders)
    graph = make_graph(shape)
    facts = {
        "nodes": len(graph.graph.nodes),
        "outputs": graph.num_outputs,
        "edges": len(graph.graph.receivers),
        "relations": shape.num_relations,
        "D": shape.embed_dim,
    }
    case = report.case(name, facts, side_by_side.joined(times, peaks))
    for measure in ("seconds", "peak_bytes"):
        for peer in (FAST, PLAIN):
            case.ratio(measure, OURS, peer, bounds.get((measure, peer)))
    case.ratio("seconds", UPDATE, OURS)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns its exit status."""
    options = read_options(__doc__, CASES, argv)
    if options.alone:
        shape = CASES[options.size][options.case][1]
        side_by_side.print_alone(make_contenders(shape), options.alone)
        return 0
    report = Report("rgcn", options)
    for place in range(len(CASES[options.size])):
        add_case(report, options, place)
    return report.finish()


if __name__ == "__main__":
    raise SystemExit(main())
