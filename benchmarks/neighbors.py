"""What `rec_teacher.max_neighbors` saves and what it costs, on a trained recommender.

    python -m benchmarks.neighbors RUN --json=docs/results/neighbors.json

For several K, the graph of the run's recommender is sampled, each node receiving from at most K
neighbours per relation. The parameters are those that were trained on the whole graph, so the
differences are those of the sample alone: the error of an item's vector is ‖ñ − n‖ / ‖n‖ over all
items, and recall is that of the split `valid`. `--trained` adds recommenders that were trained on
samples, from the folders of their artifacts.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from etils import epath

from conkd_jax.data.corpus import Corpus
from conkd_jax.eval.tables.documents import portable_command, write_document
from conkd_jax.models.recommenders.recommender import RecommenderGraphs
from conkd_jax.runs.document import machine
from conkd_jax.runs.finished import Run
from conkd_jax.stages import recommender as recommenders
from conkd_jax.stages.recommender import TrainedRecommender
from conkd_jax.stages.systems.recall import score
from conkd_jax.training import checkpoint

SIZES = (0, 50, 20, 10, 5, 2, 1)  # 0 is the whole graph
SPLIT, METRICS = "valid", ("recall@10", "recall@50", "cross_entropy")
HEADER = """\
| K | trained on | edges | basis rows | MiB | error of item vectors | recall@10 | recall@50 |
|---:|---|---:|---:|---:|---:|---:|---:|
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns its exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=epath.Path, help="a run whose recommender reads graphs")
    parser.add_argument("--trained", nargs="*", type=epath.Path, default=[], metavar="FOLDER")
    parser.add_argument("--sizes", nargs="+", type=int, default=SIZES, help="values of K")
    parser.add_argument("--json", type=Path, help="where to write the results")
    options = parser.parse_args(argv)
    told = [options.run.name, *(["--trained …"] if options.trained else [])]
    run = Run.open(options.run)
    rows = sampled(run.directory("rec_teacher"), run.corpus, options.sizes)
    rows += [trained(folder, run.corpus) for folder in options.trained]
    document = {
        "command": portable_command(" ".join(["python -m benchmarks.neighbors", *told])),
        "run": run.name,
        "fingerprint": run.fingerprint,
        "split": SPLIT,
        "machine": machine(),
        "rows": rows,
    }
    print(table(document))
    if options.json:
        write_document(options.json, document)
    return 0


def sampled(folder: epath.Path, corpus: Corpus, sizes: Sequence[int]) -> list[dict[str, Any]]:
    """A row for each K: a trained recommender whose graph is sampled afterwards.

    Args:
      folder: the artifact of a recommender that was trained on the whole graph.
      corpus: the corpus of the training.
      sizes: the values of K.
    """
    spec, index = recommenders.load_spec(folder)
    params = checkpoint.load(folder / recommenders.PARAMS)
    whole = recommenders.build_graphs(corpus, spec, index)
    places = np.full(index.num_entities, -1)
    places[whole.entities.graph.nodes] = np.arange(len(whole.entities.graph.nodes))
    expected = item_vectors(recommenders.load_graph_recommender(folder, corpus), corpus)
    rows = []
    for most in sizes:
        part = dataclasses.replace(spec, max_neighbors=most)
        graphs = recommenders.build_graphs(corpus, part, index)
        basis = params["rgcn"]["basis"][places[graphs.entities.graph.nodes]]
        found = recommenders.build_recommender(
            {**params, "rgcn": {**params["rgcn"], "basis": basis}},
            part,
            index,
            graphs,
            recommenders.other_nodes(corpus, part, index, graphs),
        )
        error = np.linalg.norm(item_vectors(found, corpus) - expected) / np.linalg.norm(expected)
        scores = score(found, corpus, SPLIT)
        rows.append({"trained_on": 0, "error": float(error), **described(part, graphs, scores)})
    return rows


def trained(folder: epath.Path, corpus: Corpus) -> dict[str, Any]:
    """The row of a recommender that was trained on a sample."""
    spec, index = recommenders.load_spec(folder)
    graphs = recommenders.build_graphs(corpus, spec, index)
    scores = score(recommenders.load_graph_recommender(folder, corpus), corpus, SPLIT)
    return {"trained_on": spec.max_neighbors, **described(spec, graphs, scores)}


def described(
    spec: recommenders.RecommenderSpec, graphs: RecommenderGraphs, scores: Mapping[str, float]
) -> dict[str, Any]:
    """The size of a recommender's graph, and its scores."""
    graph = graphs.entities.graph
    return {
        "max_neighbors": spec.max_neighbors,
        "edges": len(graph.senders),
        "basis_rows": len(graph.nodes),
        "basis_bytes": 4 * len(graph.nodes) * spec.num_bases * spec.embed_dim,
        **{name: scores[name] for name in METRICS},
    }


def item_vectors(recommender: TrainedRecommender, corpus: Corpus) -> np.ndarray:
    """The vectors of all items."""
    rows = recommender.index.entity_rows(corpus.items.entity_ids)
    return np.asarray(recommender.nodes.entities)[rows]


def table(document: Mapping[str, Any]) -> str:
    """The rows as a Markdown table."""
    lines = []
    for row in document["rows"]:
        how = f"K = {row['trained_on']}" if row["trained_on"] else "the whole graph"
        error = f"{row['error']:.3f}" if "error" in row else "–"
        cells = [
            str(row["max_neighbors"] or "all"),
            how,
            f"{row['edges']:,}",
            f"{row['basis_rows']:,}",
            f"{row['basis_bytes'] / 2**20:,.0f}",
            error,
            f"{row['recall@10']:.3f}",
            f"{row['recall@50']:.3f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return HEADER + "\n".join(lines) + "\n"


if __name__ == "__main__":
    raise SystemExit(main())
