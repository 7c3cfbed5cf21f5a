"""Graph rules by hand-counted edges; readers refuse what they can't use."""

import gzip
import pickle
import re

import numpy as np
import pytest

from data_prep import graphs
from data_prep.archives import ArchiveError
from tests.data_prep.raw_files import MOVIES, NODES, URIS, write_graphs


def chain(relation, number, start=0):
    return [(start + i, relation, start + i + 1) for i in range(number)]


def test_the_two_rules_count_differently():
    # Reverse edges count, so 251 triples are 502 edges: kept by KGSF's doubled count only.
    triples = chain(7, 251) + chain(9, 501) + chain(11, 250)
    kgsf = graphs.knowledge_graph(triples, 600, "kgsf")
    kbrd = graphs.knowledge_graph(triples, 600, "kbrd")
    assert kgsf.relation_names == ["relation_7", "relation_9", "self_loop"]
    assert kbrd.relation_names == ["relation_9"]  # 600 self loops are too few for KBRD's count
    assert len(kgsf.edges) == 2 * 251 + 2 * 501 + 600
    assert len(kbrd.edges) == 2 * 501
    assert kgsf.num_relations == 3 and kgsf.rule == "kgsf"


def test_five_hundred_is_too_few_and_five_hundred_and_one_enough():
    names = {5: "five"}
    assert graphs.knowledge_graph([], 500, "kgsf").num_relations == 0
    assert graphs.knowledge_graph([], 501, "kgsf").relation_names == ["self_loop"]
    kept = graphs.knowledge_graph(chain(5, 251), 501, "kgsf", names)
    assert kept.relation_names == ["five", "self_loop"]


def test_a_small_graph_keeps_every_relation_by_the_rule_all():
    triples = [(0, 3, 1), (1, 5, 2), (2, 5, 2)]
    graph = graphs.knowledge_graph(triples, 4, "all", {5: "five"})
    assert graph.relation_names == ["relation_3", "five", "self_loop"] and graph.rule == "all"
    loops = [[node, 2, node] for node in range(4)]
    assert graph.edges.tolist() == sorted([[0, 0, 1], [1, 0, 0], [1, 1, 2], [2, 1, 1], *loops])
    assert graphs.graph_warnings(graph, triples) == []


def test_self_triples_and_the_loop_relation_of_the_file_are_skipped():
    triples = [(4, 3, 4)] * 600 + [(1, graphs.SELF_LOOP, 2)] * 600 + chain(3, 260) + chain(3, 260)
    graph = graphs.knowledge_graph(triples, 501, "kgsf")
    loops = graph.edges[graph.edges[:, 0] == graph.edges[:, 2]]
    assert set(loops[:, 1]) == {1} and len(loops) == 501
    assert len(graph.edges) == 501 + 2 * 260  # repeated triples are one edge
    assert not (
        (graph.edges[:, 0] == 1) & (graph.edges[:, 2] == 2) & (graph.edges[:, 1] == 1)
    ).any()


def test_kbrd_keeps_the_triples_that_share_the_number_of_the_self_loops():
    triples = [(1, graphs.SELF_LOOP, 2), (3, graphs.SELF_LOOP, 3)]
    graph = graphs.knowledge_graph(triples, 1001, "kbrd")
    assert graph.relation_names == ["self_loop"]
    loops = [[node, 0, node] for node in range(1001)]
    assert graph.edges.tolist() == sorted([*loops, [1, 0, 2], [2, 0, 1]])
    assert len(graphs.knowledge_graph(triples, 1001, "kgsf").edges) == 1001


def test_a_small_graph_keeps_every_relation():
    triples = [*chain(graphs.SELF_LOOP, 3), (0, 7, 4), (2, 8, 2)]
    graph = graphs.knowledge_graph(triples, 6, "all", {7: "seven"})
    assert graph.relation_names == ["seven", f"relation_{graphs.SELF_LOOP}", "self_loop"]
    by_relation = [graph.edges[graph.edges[:, 1] == r][:, [0, 2]].tolist() for r in range(3)]
    assert by_relation[0] == [[0, 4], [4, 0]]
    assert by_relation[1] == [[0, 1], [1, 0], [1, 2], [2, 1], [2, 3], [3, 2]]
    assert by_relation[2] == [[node, node] for node in range(6)]
    assert graphs.graph_warnings(graph, triples) == []


def test_a_rule_that_drops_most_of_a_graph_is_named_with_counts():
    triples = chain(7, 250) + chain(9, 251, start=250)
    kept = graphs.knowledge_graph(triples, 502, "kgsf")
    assert graphs.graph_warnings(kept, triples) == []
    (warning,) = graphs.graph_warnings(graphs.knowledge_graph(triples, 502, "kbrd"), triples)
    assert "keeps 0 of 501 triples and 0 of 3 relations" in warning
    assert "1,000 edges or fewer" in warning and "--graph_rule=all" in warning
    loops = [(1, 7, 1)]
    for found in (loops, []):
        (warning,) = graphs.graph_warnings(graphs.knowledge_graph(found, 600, "kgsf"), found)
        assert "no triple joins two nodes" in warning


def test_edges_are_symmetric_unique_and_sorted():
    rng = np.random.default_rng(0)
    triples = [tuple(int(x) for x in t) for t in zip(*rng.integers(0, 40, (3, 3000)), strict=True)]
    edges = graphs.knowledge_graph(triples, 40, "all").edges
    as_set = {tuple(e) for e in edges.tolist()}
    assert len(as_set) == len(edges)
    assert {(t, r, h) for h, r, t in as_set} == as_set
    assert edges.tolist() == sorted(edges.tolist())


def test_bad_rules_and_nodes_are_refused():
    with pytest.raises(ValueError, match="kgsf, kbrd, all; got 'mine'"):
        graphs.knowledge_graph([], 3, "mine")
    with pytest.raises(ValueError, match="numbers from 0, got -1"):
        graphs.knowledge_graph([(0, -1, 2)], 3, "all")
    with pytest.raises(ValueError, match="node 9, beyond the 3 nodes"):
        graphs.knowledge_graph([(0, 1, 9)], 3, "kgsf")
    for triple in ((0, -1, 2), (-1, 1, 2)):
        with pytest.raises(ValueError, match="expected triples of numbers from 0, got -1"):
            graphs.knowledge_graph([triple], 3, "all")


def test_movies_without_a_uri_are_nodes(tmp_path):
    write_graphs(tmp_path)
    entities = graphs.read_entities(
        tmp_path / "entity2entityId.pkl", tmp_path / "id2entity.pkl", MOVIES
    )
    assert entities.linked == {10, 11, 12, 13}
    assert entities.movie_nodes == {10: 0, 11: 1, 12: 2, 13: 3, 14: 10, 15: 17}
    # 11 nodes, the six spare ones of the published code, one new.
    assert entities.num_entities == 18
    assert entities.ids[URIS[12]] == 2 and 14 not in entities.ids


@pytest.mark.parametrize("value", [[1], {1: "x"}, {"a": "b"}, {(1,): 2}, {"a": -1}, {}])
def test_a_dictionary_of_something_else_is_refused(tmp_path, value):
    write_graphs(tmp_path)
    (tmp_path / "entity2entityId.pkl").write_bytes(pickle.dumps(value))
    with pytest.raises(graphs.GraphError, match=r"entity2entityId\.pkl: expected"):
        graphs.read_entities(tmp_path / "entity2entityId.pkl", tmp_path / "id2entity.pkl", MOVIES)


@pytest.mark.parametrize(
    "value", [[1], {0: [(1,)]}, {0: [(1, "x")]}, {"a": [(1, 2)]}, {0: [5]}, {0: 5}]
)
def test_triples_of_another_form_are_refused(tmp_path, value):
    (tmp_path / "subkg.pkl").write_bytes(pickle.dumps(value))
    with pytest.raises(graphs.GraphError, match=r"subkg\.pkl: expected"):
        graphs.read_triples(tmp_path / "subkg.pkl")


def test_triples_keep_their_order(tmp_path):
    write_graphs(tmp_path)
    assert graphs.read_triples(tmp_path / "subkg.pkl") == [
        (0, 68, 4), (0, 86, 0), (1, 68, 4), (1, 68, 5),
    ]  # fmt: skip
    assert max(NODES.values()) == 10


def test_concepts_come_from_the_edges_own_words():
    lines = [
        b"IsA\tDog\tanimal\n",
        b"IsA\tanimal\tdog\n",
        b"\n",
        b"IsA\tthe\tdog\n",
        b"IsA\tox\tox\n",
    ]
    pairs = graphs.read_concept_edges(lines, "edges.txt")
    graph = graphs.concept_graph(pairs, {"the", "absent"})
    assert graph.words == ["animal", "dog", "ox", "the"]
    assert graph.edges.tolist() == [[0, 1]]
    assert graph.is_stop_word.tolist() == [False, False, False, True]


@pytest.mark.parametrize(
    "line",
    [
        "IsA\tDog\tanimal",
        "\ufeffIsA\tdog/n\tanimal/n/wn/animal\t1.0",
        "/r/IsA\t/c/en/dog/n\t/c/en/Animal",
        "/a/[x]\t/r/IsA\t/c/en/dog/n/wn\t/c/en/animal\t{}\r",
    ],
)
def test_every_form_of_a_concept_edge_is_read(line):
    foreign = "/r/IsA\t/c/de/hund\t/c/en/dog\n/r/ExternalURL\t/c/en/dog\thttp://a.org/c/en/dog\n"
    lines = f"{line}\n{foreign}".encode().splitlines(keepends=True)
    assert graphs.read_concept_edges(lines, "edges.txt") == [("dog", "animal")]


def test_a_broken_concept_line_is_named():
    with pytest.raises(graphs.GraphError, match="edges.txt, line 2: expected relation, word"):
        graphs.read_concept_edges([b"IsA\ta\tb\n", b"IsA a b\n"], "edges.txt")


def test_the_official_dump_gives_english_edges_within_the_vocabulary(tmp_path):
    rows = [
        ("/r/IsA", "/c/en/dog/n/wn/animal", "/c/en/animal"),
        ("/r/IsA", "/c/en/dog", "/c/de/tier"),
        ("/r/IsA", "/c/en/dog", "/c/en/quadruped"),
        ("/r/ExternalURL", "/c/en/dog", "http://example.org/c/en/dog"),
        ("/r/RelatedTo", "/c/en/Cat/n", "/c/en/dog/v"),
        ("/r/RelatedTo", "/c/fr/chat", "/c/en/cat"),
    ]
    text = "".join(f"/a/[{r}]\t{r}\t{a}\t{b}\t{{}}\n" for r, a, b in rows) + "short line\n"
    path = tmp_path / "conceptnet-assertions-5.7.0.csv.gz"
    path.write_bytes(gzip.compress(text.encode()))
    pairs = graphs.read_concept_dump(path, {"dog", "animal", "cat", "tier"})
    assert pairs == [("dog", "animal"), ("cat", "dog")]
    for damaged in (gzip.compress(text.encode())[:-9], b"plain text"):
        path.write_bytes(damaged)
        with pytest.raises(ArchiveError, match="expected a gzip file"):
            graphs.read_concept_dump(path, {"dog"})


@pytest.mark.parametrize(
    "header, found",
    [
        (b"", "none"),
        (b"5,We the Women (1953),1\n", "5, We the Women (1953), 1"),
        (b"id,title\n", "id, title"),
        (b"movieName,movieId,nbMentions\n", "movieName, movieId, nbMentions"),
        (b"movieId;movieName;nbMentions\n", "movieId;movieName;nbMentions"),
    ],
)
def test_a_movie_list_of_other_columns_is_refused(header, found):
    message = (
        rf"m\.csv, line 1: expected the columns movieId, movieName, …; found {re.escape(found)}\."
    )
    with pytest.raises(graphs.GraphError, match=message):
        graphs.read_movies(header + b"6,Mowgli (2019),2\n" * bool(header), "m.csv")
