"""A trained recommender: built from parameters, scored, saved and reopened.

The stage `rec_teacher` trains it. The teacher store, the evaluation and the dialogue models of the
backbones that read a graph use its user vectors, its node vectors and its item head.
"""

from __future__ import annotations

import dataclasses
import functools
import io
import json
from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from jaxtyping import Array, Float, PyTree

from conkd_jax.artifacts.fingerprint import view
from conkd_jax.config import RecommenderConfig
from conkd_jax.data.corpus import Corpus, Dialogue
from conkd_jax.data.recommender_inputs import (
    NodeIndex,
    RecommenderContexts,
    build_recommender_contexts,
)
from conkd_jax.distill.head import Head
from conkd_jax.io.files import write_json, write_whole
from conkd_jax.models.compute import Compute
from conkd_jax.models.recommenders.gcn import build_normalized_graph
from conkd_jax.models.recommenders.recommender import (
    Contexts,
    NodeVectors,
    Recommender,
    RecommenderGraphs,
)
from conkd_jax.models.recommenders.rgcn import build_relational_graph
from conkd_jax.runtime import parallel
from conkd_jax.stages import autorec
from conkd_jax.stages.any_recommender import AnyRecommender
from conkd_jax.training import checkpoint

PARAMS, INDEX, REPORT = "params", "index.npz", "rec_teacher.json"
_ROWS_AT_A_TIME = 1024  # contexts, or targets, that are processed at once


@dataclasses.dataclass(frozen=True)
class RecommenderSpec:
    """The config fields that, with parameters and index, are enough to rebuild a recommender."""

    embed_dim: int
    num_bases: int
    norm: str
    gcn_relu: bool
    score_over: str
    max_context_entities: int
    max_context_concepts: int
    use_concepts: bool = True  # the specs of earlier versions lack the following
    attention_init: str = "xavier_normal"
    context_nodes: str = "entities"
    use_reviews: bool = False
    max_neighbors: int = 0

    @classmethod
    def of(cls, config_part: RecommenderConfig) -> RecommenderSpec:
        """The spec of a config."""
        return view(config_part, cls)

    def contexts(self, dialogues: Sequence[Dialogue], corpus: Corpus) -> RecommenderContexts:
        """The context of every response of `dialogues`."""
        return build_recommender_contexts(
            dialogues,
            is_stop_word=corpus.concept_graph.is_stop_word,
            max_entities=self.max_context_entities,
            max_concepts=self.max_context_concepts if self.use_concepts else 0,
            item_entities=corpus.items.entity_ids if self.context_nodes == "items" else None,
            review_concepts=concepts_of_reviews(corpus) if self.use_reviews else None,
        )


def concepts_of_reviews(corpus: Corpus) -> dict[int, tuple[int, ...]]:
    """The concepts of each item's review; empty for a corpus without reviews."""
    return {item: review.concepts for item, review in corpus.reviews.items()}


@dataclasses.dataclass(frozen=True)
class TrainedRecommender:
    """A trained recommender with precomputed node vectors.

    Attributes:
      spec: its shape.
      index: all entities and concepts of the graphs, those of the training first.
      nodes: their vectors and attention energies.
      user_vectors_of: jitted map from a batch of `Contexts` to [B, D].
      head: kernel [D, M] and bias [M] onto the candidates, in the corpus' order of items.
    """

    spec: RecommenderSpec
    index: NodeIndex
    nodes: NodeVectors
    user_vectors_of: Callable[[Contexts], Float[Array, "B D"]]
    head: Head

    def user_vectors(self, contexts: RecommenderContexts) -> Float[np.ndarray, "N D"]:
        """p_u of every context, float32."""
        rows = indexed(contexts, self.index)
        vectors = np.zeros((len(contexts), self.spec.embed_dim), np.float32)
        for start in range(0, len(contexts), _ROWS_AT_A_TIME):
            part = slice(start, start + _ROWS_AT_A_TIME)
            short = _ROWS_AT_A_TIME - len(rows.entities[part])
            filled = jax.tree.map(
                lambda ids, part=part, short=short: np.pad(
                    ids[part], ((0, short), (0, 0)), constant_values=-1
                ),
                rows,
            )
            vectors[part] = np.asarray(self.user_vectors_of(filled))[: _ROWS_AT_A_TIME - short]
        return vectors

    def scores(self, user_vectors: Float[np.ndarray, "N D"]) -> Float[np.ndarray, "N M"]:
        """Logits of P_ψ over the candidates, user_vectors · kernel + bias."""
        return np.asarray(self.head.logits(jnp.asarray(user_vectors)))


# --- the model and its graphs --------------------------------------------------------------------


def build_module(
    spec: RecommenderSpec,
    *,
    user_dropout: float = 0.0,
    context_dropout: float = 0.0,
    dtype: str = Compute.dtype,
) -> Recommender:
    """The Flax module of a spec; dropout, and another type than float32, are for training only."""
    return Recommender(
        embed_dim=spec.embed_dim,
        num_bases=spec.num_bases,
        gcn_relu=spec.gcn_relu,
        user_dropout=user_dropout,
        context_dropout=context_dropout,
        attention_init=spec.attention_init,
        dtype=jnp.dtype(dtype),
    )


def build_index(corpus: Corpus, spec: RecommenderSpec, dialogues: Sequence[Dialogue]) -> NodeIndex:
    """The index of the items and of all nodes in the contexts of the training dialogues."""
    return NodeIndex.build(
        corpus.items.entity_ids,
        [spec.contexts(dialogues, corpus)],
        num_entities=corpus.graph.num_entities,
        num_concepts=corpus.concept_graph.num_concepts,
        all_entities=spec.score_over == "entities",
    )


def other_nodes(
    corpus: Corpus, spec: RecommenderSpec, index: NodeIndex, graphs: RecommenderGraphs
) -> tuple[NodeIndex, RecommenderGraphs]:
    """The nodes that training never read, and the messages that they receive from those it did.

    Args:
      corpus: the corpus of the training, or one with the same graphs and further splits.
      spec: the recommender's shape.
      index: the index of the training.
      graphs: its graphs.

    Returns:
      The ids of the other nodes, and graphs with them as outputs whose local nodes are the trained
      ones. Only the outputs of the graphs are used, no scores.
    """
    entities = np.setdiff1d(np.arange(index.num_entities), index.entities)
    concepts = np.setdiff1d(np.arange(index.num_concepts), index.concepts)
    if not spec.use_concepts:
        concepts = concepts[:0]
    others = RecommenderGraphs(
        entities=build_relational_graph(
            corpus.graph.edges,
            num_nodes=index.num_entities,
            num_relations=corpus.graph.num_relations,
            outputs=entities,
            senders=np.asarray(graphs.entities.graph.nodes),
            norm=spec.norm,
            max_neighbors=spec.max_neighbors,
        ),
        concepts=None
        if graphs.concepts is None
        else build_normalized_graph(
            corpus.concept_graph.edges,
            num_nodes=index.num_concepts,
            outputs=concepts,
            senders=np.asarray(graphs.concepts.graph.nodes),
        ),
        scored_nodes=np.zeros(0, np.int32),
        item_scores=np.zeros(0, np.int32),
        node_scores=np.zeros(0, np.int32),
    )
    return NodeIndex(entities, concepts, index.num_entities, index.num_concepts), others


def build_graphs(corpus: Corpus, spec: RecommenderSpec, index: NodeIndex) -> RecommenderGraphs:
    """Both graphs, pruned to the index, and the entities that are scored."""
    item_rows = index.entity_rows(corpus.items.entity_ids)
    if spec.score_over == "items":
        scored, item_scores = item_rows, np.arange(len(item_rows), dtype=np.int32)
    else:
        scored, item_scores = np.arange(len(index.entities), dtype=np.int32), item_rows
    node_scores = np.full(len(index.entities), -1, np.int32)
    node_scores[scored] = np.arange(len(scored))
    return RecommenderGraphs(
        entities=build_relational_graph(
            corpus.graph.edges,
            num_nodes=index.num_entities,
            num_relations=corpus.graph.num_relations,
            outputs=index.entities,
            norm=spec.norm,
            max_neighbors=spec.max_neighbors,
        ),
        concepts=build_normalized_graph(
            corpus.concept_graph.edges, num_nodes=index.num_concepts, outputs=index.concepts
        )
        if spec.use_concepts
        else None,
        scored_nodes=scored,
        item_scores=item_scores,
        node_scores=node_scores,
    )


def indexed(contexts: RecommenderContexts, index: NodeIndex) -> Contexts:
    """Contexts as rows of the index, as the module reads them."""
    return Contexts(index.entity_rows(contexts.entities), index.concept_rows(contexts.concepts))


def build_recommender(
    params: PyTree,
    spec: RecommenderSpec,
    index: NodeIndex,
    graphs: RecommenderGraphs,
    others: tuple[NodeIndex, RecommenderGraphs],
) -> TrainedRecommender:
    """Builds a recommender from parameters; computes its node vectors and its item head.

    A dialogue may mention nodes that no training dialogue did, such as the author of a known book.
    The graph networks give them vectors as well. Parameters of such a node's own were never
    trained and count as zero, the mean of their initial values.

    Args:
      params: the trained parameters.
      spec: the recommender's shape.
      index: the index of the training.
      graphs: its graphs.
      others: what `other_nodes` returns.
    """
    module = build_module(spec)
    other_index, other_graphs = others
    nodes, kernel, bias = _encode(module, params, graphs, other_graphs)
    user_vectors_of = functools.partial(_user_vectors, module, params, nodes)
    whole = index.extended(other_index.entities, other_index.concepts)
    return TrainedRecommender(spec, whole, nodes, user_vectors_of, Head(kernel, bias))


@functools.partial(jax.jit, static_argnums=0)
def _encode(module, params, graphs, other_graphs):
    trained = module.apply({"params": params}, graphs, method="node_vectors")
    kernel, bias = module.apply({"params": params}, trained, graphs, method="item_head")
    rgcn = params["rgcn"]
    num_others = other_graphs.entities.num_outputs
    root = jnp.zeros((num_others, rgcn["root"].shape[1]), rgcn["root"].dtype)
    others = module.apply(
        {"params": {**params, "rgcn": {**rgcn, "root": root}}}, other_graphs, method="node_vectors"
    )
    nodes = jax.tree.map(lambda *parts: jnp.concatenate(parts), trained, others)
    return nodes, kernel, bias


@functools.partial(jax.jit, static_argnums=0)
def _user_vectors(module, params, nodes, contexts):
    state = module.apply({"params": params}, nodes, contexts, method="user_state")
    return state.user_vectors


# --- files ---------------------------------------------------------------------------------------


def save(
    directory: epath.PathLike,
    params: PyTree,
    spec: RecommenderSpec,
    index: NodeIndex,
    metrics: Mapping[str, int | float],
) -> None:
    """Writes the files that `load` reads; called by every process."""
    directory = epath.Path(directory)
    checkpoint.save(directory / PARAMS, params)
    if not parallel.is_first_process():
        return
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **dataclasses.asdict(index))
    write_whole(directory / INDEX, buffer.getvalue())
    report = {"spec": dataclasses.asdict(spec), "metrics": dict(metrics)}
    write_json(directory / REPORT, report)


def load(directory: epath.PathLike, corpus: Corpus) -> AnyRecommender:
    """Reopens a trained recommender, of either architecture.

    Args:
      directory: the artifact of the stage `rec_teacher`.
      corpus: a corpus with the graphs of the training.

    Raises:
      FileNotFoundError: the artifact is missing or incomplete.
      ValueError: the corpus is not that of the training.
    """
    directory = epath.Path(directory)
    if autorec.is_autorec(directory):
        return autorec.load(directory, corpus)
    return load_graph_recommender(directory, corpus)


def load_spec(directory: epath.Path) -> tuple[RecommenderSpec, NodeIndex]:
    """The shape of a trained recommender that reads graphs, and the nodes of its training."""
    spec = RecommenderSpec(**json.loads((directory / REPORT).read_text())["spec"])
    with np.load(io.BytesIO((directory / INDEX).read_bytes()), allow_pickle=False) as archive:
        index = NodeIndex(
            archive["entities"],
            archive["concepts"],
            int(archive["num_entities"]),
            int(archive["num_concepts"]),
        )
    return spec, index


def load_graph_recommender(directory: epath.PathLike, corpus: Corpus) -> TrainedRecommender:
    """Reopens a trained recommender that reads graphs.

    Args:
      directory: the artifact of the stage `rec_teacher`.
      corpus: a corpus with the graphs of the training.

    Raises:
      FileNotFoundError: the artifact is missing or incomplete.
      ValueError: the graphs of the corpus differ in size from those of the training.
    """
    directory = epath.Path(directory)
    params = checkpoint.load(directory / PARAMS)
    spec, index = load_spec(directory)
    expected = (index.num_entities, index.num_concepts)
    got = (corpus.graph.num_entities, corpus.concept_graph.num_concepts)
    if expected != got:
        raise ValueError(
            f"{directory}: expected a corpus with {expected[0]} entities and {expected[1]} "
            f"concepts, but {corpus.directory} has {got[0]} and {got[1]}. Open the corpus that the "
            "recommender was trained on, or train it again."
        )
    graphs = build_graphs(corpus, spec, index)
    others = other_nodes(corpus, spec, index, graphs)
    return build_recommender(params, spec, index, graphs, others)
