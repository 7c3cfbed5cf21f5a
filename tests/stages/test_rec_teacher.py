"""Training of the recommender, on a world so small that it is learnt quickly."""

import dataclasses
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath

from conkd_jax.artifacts.stage import Context
from conkd_jax.config import OptimizerConfig, RecommenderConfig
from conkd_jax.data.batches.loader import BatchLoader
from conkd_jax.data.batches.plan import BatchPlan
from conkd_jax.data.corpus import (
    ConceptGraph,
    Corpus,
    Dialogue,
    ItemTable,
    KnowledgeGraph,
    Turn,
)
from conkd_jax.data.corpus_writing import write_corpus
from conkd_jax.data.recommender_inputs import build_recommender_targets
from conkd_jax.distill.head import Head
from conkd_jax.models.recommenders.recommender import Contexts, mim_loss, recommendation_loss
from conkd_jax.stages import rec_teacher
from conkd_jax.stages.recommender import (
    RecommenderSpec,
    build_graphs,
    build_index,
    build_module,
    build_recommender,
    indexed,
    load,
    other_nodes,
)
from conkd_jax.stages.systems.recall import score, target_scores
from conkd_jax.stages.training import Execution

NUM_GENRES, MOVIES_PER_GENRE = 3, 8
NUM_MOVIES = NUM_GENRES * MOVIES_PER_GENRE
NUM_ENTITIES = NUM_MOVIES + NUM_GENRES  # movies in reverse order, then genres
MOVIE_ENTITIES = np.arange(NUM_MOVIES, dtype=np.int32)[::-1]
SELF_LOOP, HAS_GENRE = 0, 1


def dialogue(rng, conversation_id):
    """Seekers name a movie and the word of its genre; recommenders name another of that genre."""
    genre = int(rng.integers(NUM_GENRES))
    liked, answer = (genre * MOVIES_PER_GENRE + rng.permutation(MOVIES_PER_GENRE)[:2]).tolist()
    return Dialogue(
        conversation_id,
        (
            Turn("seeker", f"I like @{liked}", (liked,), (), (NUM_MOVIES - 1 - liked,), (genre,)),
            Turn("recommender", f"See @{answer}", (answer,), (), (NUM_MOVIES - 1 - answer,), ()),
            Turn("seeker", "thanks", concepts=(NUM_GENRES,)),
            Turn("recommender", "bye"),
        ),
    )


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    rng = np.random.default_rng(0)
    sizes = {"train": 150, "dev": 30, "valid": 30, "inferred": 10}
    nodes = np.arange(NUM_ENTITIES)
    loops = np.stack([nodes, np.full(NUM_ENTITIES, SELF_LOOP), nodes], axis=1)
    movies = np.arange(NUM_MOVIES)
    genres = NUM_MOVIES + movies // MOVIES_PER_GENRE
    kind = np.full(NUM_MOVIES, HAS_GENRE)
    of_movie = np.stack([genres, kind, MOVIE_ENTITIES], axis=1)
    edges = np.concatenate([loops, of_movie, of_movie[:, [2, 1, 0]]])
    directory = tmp_path_factory.mktemp("corpus")
    write_corpus(
        directory,
        splits={
            split: [dialogue(rng, f"{split}{i}") for i in range(size)]
            for split, size in sizes.items()
        },
        items=ItemTable(
            np.arange(NUM_MOVIES, dtype=np.int64),
            [f"Movie {i} (2000)" for i in range(NUM_MOVIES)],
            MOVIE_ENTITIES,
            np.arange(NUM_MOVIES) % 4 != 0,
        ),
        graph=KnowledgeGraph(NUM_ENTITIES, 2, ["loop", "genre"], edges.astype(np.int32), "kgsf"),
        concept_graph=ConceptGraph(
            NUM_GENRES + 2,
            np.array([[0, 4], [1, 4]], np.int32),
            ["funny", "scary", "sad", "thanks", "unsaid"],
            np.array([False, False, False, True, False]),
        ),
        report={},
    )
    return Corpus.open(directory)


def config_part(**changes) -> RecommenderConfig:
    """A recommender for this world."""
    small = {
        "embed_dim": 8,
        "num_bases": 2,
        "max_context_entities": 4,
        "max_context_concepts": 3,
        "user_dropout": 0.1,
        "context_dropout": 0.1,
        "mim_epochs": 1,
        "epochs": 16,
        "patience": 0,
        "ema_decay": 0.5,
        "batch_size": 32,
        "optimizer": OptimizerConfig(
            2e-2, name="adam", schedule="constant", warmup_steps=0, b2=0.999, weight_decay=0.0
        ),
    }
    return RecommenderConfig(**{**small, **changes})


def settings_of(part: RecommenderConfig) -> rec_teacher.RecTeacherSettings:
    """The stage's settings for a recommender, on two devices."""
    return rec_teacher.RecTeacherSettings(
        model=part,
        seed=0,
        rng_impl="threefry2x32",
        fold=None,
        compute_dtype=None,
        execution=Execution(num_devices=2, checkpoint_every=0, chunk_size=1),
    )


def run(part, corpus, directory):
    """Runs the stage."""
    context = Context({"corpus": corpus.directory}, {}, is_resumed=False)
    return rec_teacher.run(settings_of(part), epath.Path(directory), context)


@pytest.fixture(scope="module")
def trained(corpus, tmp_path_factory):
    directory = tmp_path_factory.mktemp("rec_teacher")
    return directory, run(config_part(), corpus, directory)


def parts_of(part, corpus):
    """Returns (module, parameters, graphs, index) before training, without dropout."""
    spec = RecommenderSpec.of(part)
    index = build_index(corpus, spec, corpus.dialogues("train"))
    graphs = build_graphs(corpus, spec, index)
    module = build_module(spec)
    example = indexed(spec.contexts(corpus.dialogues("dev"), corpus), index)
    params = jax.jit(module.init)(jax.random.key(0), graphs, example)["params"]
    return module, params, graphs, index


def batches_of(part, corpus, index):
    spec, dialogues = RecommenderSpec.of(part), corpus.dialogues("dev")
    return rec_teacher.RecommenderBatches(
        indexed(spec.contexts(dialogues, corpus), index), build_recommender_targets(dialogues)
    )


def test_learns_from_the_graph_and_from_words(trained):
    """Knowing the genre is worth log 3; which of its other movies follows is left to chance."""
    _, metrics = trained
    for split in ("dev", "valid"):
        assert metrics[f"{split}_num_targets"] == 30
        assert metrics[f"{split}_cross_entropy"] < np.log(NUM_MOVIES) - 0.6 * np.log(NUM_GENRES)
    assert metrics["num_samples"] == 150
    assert metrics["valid_recall@10"] >= 0.8


def test_a_reopened_teacher_is_the_one_that_was_scored(trained, corpus):
    directory, metrics = trained
    teacher = load(directory, corpus)
    again = score(teacher, corpus, "valid")
    assert again == {
        name.removeprefix("valid_"): value
        for name, value in metrics.items()
        if name.startswith("valid_")
    }
    assert json.loads((directory / "rec_teacher.json").read_text())["metrics"] == metrics

    contexts = teacher.spec.contexts(corpus.dialogues("valid"), corpus)
    vectors = teacher.user_vectors(contexts)
    assert vectors.shape == (60, 8) and vectors.dtype == np.float32
    kernel, bias = np.asarray(teacher.head.kernel), np.asarray(teacher.head.bias)
    assert kernel.shape == (8, NUM_MOVIES)
    np.testing.assert_allclose(
        teacher.scores(vectors), vectors @ kernel + bias, rtol=1e-5, atol=1e-5
    )


def test_user_vectors_do_not_depend_on_the_batch(trained, corpus):
    teacher = load(trained[0], corpus)
    dialogues = corpus.dialogues("valid")
    every = teacher.user_vectors(teacher.spec.contexts(dialogues, corpus))
    alone = teacher.user_vectors(teacher.spec.contexts(dialogues[3:4], corpus))
    np.testing.assert_allclose(alone, every[6:8], rtol=1e-6, atol=1e-6)


def test_nodes_that_no_training_dialogue_names_are_read(trained, corpus):
    teacher = load(trained[0], corpus)
    known = Turn("seeker", "x", entities=(2,), concepts=(0,))
    # Entity 25 is a genre and concept 4 a word that no dialogue names.
    more = Turn("seeker", "x", entities=(2, NUM_MOVIES + 1), concepts=(0, 4))
    vectors = [
        teacher.user_vectors(
            teacher.spec.contexts([Dialogue("c", (turn, Turn("recommender", "?")))], corpus)
        )
        for turn in (known, more)
    ]
    assert not np.allclose(*vectors, atol=1e-3)


def test_nodes_that_training_never_read_have_the_vectors_of_the_whole_graph(corpus):
    """As if every node had parameters, and those that training never touched were zero."""
    part = config_part()
    spec = RecommenderSpec.of(part)
    index = build_index(corpus, spec, corpus.dialogues("train")[:2])
    graphs = build_graphs(corpus, spec, index)
    others = other_nodes(corpus, spec, index, graphs)
    assert len(others[0].entities) and len(others[0].concepts)
    contexts = Contexts(np.zeros((1, 2), np.int32), np.zeros((1, 2), np.int32))
    params = jax.jit(build_module(spec).init)(jax.random.key(0), graphs, contexts)["params"]
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda x: rng.normal(size=x.shape).astype(x.dtype), params)
    teacher = build_recommender(params, spec, index, graphs, others)
    assert sorted(teacher.index.entities.tolist()) == list(range(NUM_ENTITIES))
    assert sorted(teacher.index.concepts) == list(range(corpus.concept_graph.num_concepts))

    everything = teacher.index
    whole = build_graphs(corpus, spec, everything)

    def scattered(values, ids, all_ids):
        rows = np.zeros((len(all_ids), *values.shape[1:]), np.float32)
        place = {node: row for row, node in enumerate(np.asarray(all_ids).tolist())}
        rows[[place[node] for node in np.asarray(ids).tolist()]] = values
        return rows

    entity_nodes, concept_nodes = whole.entities.graph.nodes, whole.concepts.graph.nodes
    rgcn, concepts = params["rgcn"], params["concept_encoder"]
    embedding = scattered(concepts["embedding"], graphs.concepts.graph.nodes, concept_nodes)
    filled = {
        **params,
        "rgcn": {
            **rgcn,
            "basis": scattered(rgcn["basis"], graphs.entities.graph.nodes, entity_nodes),
            "root": scattered(rgcn["root"], index.entities, everything.entities),
        },
        "concept_encoder": {**concepts, "embedding": embedding},
    }
    expected = jax.jit(
        lambda p: build_module(spec).apply({"params": p}, whole, method="node_vectors")
    )(filled)
    for actual, wanted in zip(
        jax.tree.leaves(teacher.nodes), jax.tree.leaves(expected), strict=True
    ):
        np.testing.assert_allclose(actual, wanted, rtol=2e-4, atol=1e-5)


def test_scoring_over_entities_ranks_items_only(corpus):
    """Training normalises over all entities, as the public code does; the head has items only."""
    part = config_part(score_over="entities")
    _, params, graphs, index = parts_of(part, corpus)
    assert params["head"]["bias"].shape == (NUM_ENTITIES,)
    bias = np.random.default_rng(0).normal(size=NUM_ENTITIES).astype(np.float32)
    params["head"]["bias"] = bias
    spec = RecommenderSpec.of(part)
    others = other_nodes(corpus, spec, index, graphs)
    teacher = build_recommender(params, spec, index, graphs, others)
    assert teacher.head.kernel.shape == (8, NUM_MOVIES)
    np.testing.assert_array_equal(teacher.head.bias, bias[index.entity_rows(MOVIE_ENTITIES)])
    members = np.arange(NUM_ENTITIES)
    np.testing.assert_array_equal(graphs.node_scores, members)  # MIM names genres too


def test_kbrd_learns_from_the_graph_alone(corpus, tmp_path):
    """No concepts anywhere, scores over all entities; a reopened teacher is the scored one."""
    part = config_part(
        use_concepts=False,
        attention_init="xavier_uniform",
        distinct_targets=True,
        norm="sum",
        score_over="entities",
        mim_epochs=0,
        mim_weight=0.0,
        epochs=20,
        user_dropout=0.0,
        context_dropout=0.0,
    )
    metrics = run(part, corpus, tmp_path)
    assert metrics["valid_cross_entropy"] < np.log(NUM_MOVIES) - 0.4 * np.log(NUM_GENRES)
    teacher = load(tmp_path, corpus)
    again = score(teacher, corpus, "valid")
    assert again == {name: metrics[f"valid_{name}"] for name in again}
    assert teacher.nodes.concepts is None and len(teacher.index.concepts) == 0
    assert teacher.head.kernel.shape == (8, NUM_MOVIES)
    # Of the last responses' contexts, only the entities count.
    contexts = teacher.spec.contexts(corpus.dialogues("valid"), corpus)
    assert contexts.concepts.shape == (60, 0)
    nothing = dataclasses.replace(contexts, entities=np.full_like(contexts.entities, -1))
    assert not teacher.user_vectors(nothing).any()


def test_a_spec_of_an_earlier_version_still_opens(trained, corpus, tmp_path):
    shutil.copytree(trained[0], tmp_path / "old")
    report = json.loads((tmp_path / "old" / "rec_teacher.json").read_text())
    for added in ("use_concepts", "attention_init", "context_nodes"):
        del report["spec"][added]
    (tmp_path / "old" / "rec_teacher.json").write_text(json.dumps(report))
    assert load(tmp_path / "old", corpus).spec == load(trained[0], corpus).spec


def test_loss_is_mim_alone_at_first_then_cross_entropy_with_a_little_mim(corpus):
    part = config_part()
    module, params, graphs, index = parts_of(part, corpus)
    batch = batches_of(part, corpus, index)(np.arange(6), 1, np.arange(6))
    loss = jax.jit(rec_teacher.make_loss(module, mim_weight=0.1))
    contexts = Contexts(batch["entities"], batch["concepts"])
    logits, scores = jax.jit(module.apply)({"params": params}, graphs, contexts)
    members = np.where(batch["entities"] >= 0, graphs.node_scores[batch["entities"]], -1)
    cross_entropy = recommendation_loss(logits, batch["targets"]).mean()
    mim = mim_loss(scores, members).mean()

    for only, expected in ((0.0, cross_entropy + 0.1 * mim), (1.0, mim)):
        batch["mim_only"] = np.float32(only)
        value, metrics = loss(params, batch, jax.random.key(0), graphs)
        np.testing.assert_allclose(value, expected, rtol=1e-5)
        np.testing.assert_allclose(metrics["cross_entropy"][0], cross_entropy, rtol=1e-5)
    gradients, _ = jax.jit(jax.grad(loss, has_aux=True))(params, batch, jax.random.key(0), graphs)
    assert not np.any(gradients["head"]["bias"]) and np.any(gradients["mim_head"]["bias"])


def test_loss_sums_over_devices_without_the_filled_rows(corpus):
    part = config_part()
    module, params, graphs, index = parts_of(part, corpus)
    assemble = batches_of(part, corpus, index)
    loss = jax.jit(rec_teacher.make_loss(module, mim_weight=0.1))

    def total(pieces, step_rows):
        value = 0.0
        for rows in pieces:
            batch = assemble(np.array(rows), 1, np.array(step_rows))
            batch["mim_only"] = np.float32(0)
            value += loss(params, batch, jax.random.key(0), graphs)[0]
        return value

    whole = total([[4, 2, 7]], [4, 2, 7])
    filled = [4, 2, 7, -1, -1, -1]
    np.testing.assert_allclose(total([filled], filled), whole, rtol=1e-5)
    np.testing.assert_allclose(total([[4, 2], [7, -1], [-1, -1]], filled), whole, rtol=1e-5)


def test_mim_steps_come_first_and_resume_in_place(corpus):
    part = config_part()
    assemble = batches_of(part, corpus, parts_of(part, corpus)[3])
    plan = BatchPlan(np.ones(len(assemble.targets)), 8, (1,), seed=0)
    batches = rec_teacher.MimFirst(BatchLoader(plan, assemble, num_devices=2), num_mim_steps=3)
    straight, resumed = batches.iterate(0), batches.iterate(2)
    first = [next(straight) for _ in range(5)]
    assert [float(batch["mim_only"].max()) for batch in first] == [1, 1, 1, 0, 0]
    assert first[0]["mim_only"].shape == (2, 1)
    for expected in first[2:]:
        actual = next(resumed)
        for name, value in expected.items():
            np.testing.assert_array_equal(actual[name], value)
    straight.close()
    resumed.close()
    np.testing.assert_array_equal(batches.row_ids(4), plan.step(4).rows)


def test_early_stopping_waits_for_mim_to_end(corpus):
    part = config_part(patience=1, mim_epochs=5)
    spec = RecommenderSpec.of(part)
    index = build_index(corpus, spec, corpus.dialogues("train"))
    graphs = build_graphs(corpus, spec, index)
    dialogues, others = corpus.dialogues("train"), other_nodes(corpus, spec, index, graphs)
    task = rec_teacher.make_task(settings_of(part), corpus, dialogues, index, graphs, others)
    assert task.patience == 6
    part = config_part(patience=0, mim_epochs=5)
    task = rec_teacher.make_task(settings_of(part), corpus, dialogues, index, graphs, others)
    assert task.patience == 0


def test_folds_partition_train_and_leave_one_part_out(corpus):
    part = config_part()
    everyone = {d.conversation_id for d in corpus.dialogues("train")}
    seen = [
        {d.conversation_id for d in rec_teacher.training_dialogues(part, corpus, (fold, 3))}
        for fold in range(3)
    ]
    held_out = [everyone - kept for kept in seen]
    assert sum(map(len, held_out)) == len(everyone) == len(set().union(*held_out))
    assert all(20 < len(fold) < 80 for fold in held_out)
    for fold, names in enumerate(held_out):
        assert {rec_teacher.fold_of(name, 3) for name in names} == {fold}
    assert rec_teacher.fold_of("1234", 5) == 4  # a fold must never move


def test_inferred_order_is_an_option(corpus):
    assert len(rec_teacher.training_dialogues(config_part(), corpus)) == 150
    part = config_part(use_inferred_order=True)
    assert len(rec_teacher.training_dialogues(part, corpus)) == 160


def test_bad_input_is_named(corpus, trained, tmp_path):
    with pytest.raises(ValueError, match="fold: .* got 3 of 3"):
        rec_teacher.training_dialogues(config_part(), corpus, (3, 3))
    with pytest.raises(FileNotFoundError, match="no saved parameters in"):
        load(tmp_path / "nothing", corpus)
    write_corpus(
        tmp_path / "other",
        splits={"train": corpus.dialogues("train")},
        items=corpus.items,
        graph=corpus.graph,
        concept_graph=ConceptGraph(
            2, np.zeros((0, 2), np.int32), ["funny", "scary"], np.zeros(2, bool)
        ),
        report={},
    )
    with pytest.raises(ValueError, match="27 entities and 5 concepts, .* has 27 and 2"):
        load(trained[0], Corpus.open(tmp_path / "other"))


def test_ties_rank_as_in_the_list_of_best_items():
    """An untrained head that gives all items one score must not look perfect."""
    head = Head(jnp.zeros((2, 4)), jnp.array([0.0, 1.0, 0.0, 0.0]))
    ranks, nll = target_scores(head, np.zeros((2, 2), np.float32), np.array([1, 2]))
    np.testing.assert_array_equal(ranks, [1, 3])
    best = np.argsort(-np.array([0.0, 1.0, 0.0, 0.0]), kind="stable").tolist()  # recommender_top
    assert [best.index(item) + 1 for item in (1, 2)] == ranks.tolist()
    np.testing.assert_allclose(nll, np.log(3 + np.e) - np.array([1.0, 0.0]), rtol=1e-5)
