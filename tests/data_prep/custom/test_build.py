"""A corpus has the graph that its folder has: triples, attributes, or neither."""

import numpy as np

from conkd_jax.data.corpus import Corpus
from data_prep.custom.build import NO_GRAPH, NO_WORDS, build_custom
from tests.fixtures.own_data import lines_of, without_graph, without_marks, write_lines


def built(folder, **options):
    build_custom(folder, folder.parent / "corpus", **options)
    return Corpus.open(folder.parent / "corpus")


def triples_of(corpus):
    """The edges of a graph as names, without self loops; both directions."""
    names, relations = corpus.entity_names, corpus.graph.relation_names
    return {(names[h], relations[r], names[t]) for h, r, t in corpus.graph.edges if h != t}


def test_the_template_has_nothing_to_warn_of(folder):
    assert build_custom(folder, None)["warnings"] == []


def test_triples_and_attributes_are_one_graph(folder):
    corpus = built(folder)
    found = triples_of(corpus)
    assert ("Clank! (2016)", "mechanic", "deck building") in found
    assert ("deck building", "goes_with", "engine building") in found
    assert ("engine building", "goes_with", "deck building") in found
    assert corpus.entity_names.count("deck building") == 1
    assert corpus.graph.relation_names == ["goes_with", "designer", "mechanic", "self_loop"]
    loops = corpus.graph.edges[corpus.graph.edges[:, 0] == corpus.graph.edges[:, 2]]
    assert len(loops) == corpus.graph.num_entities and set(loops[:, 1]) == {3}
    assert corpus.items.is_linked.all()
    assert corpus.items.keys == [item["id"] for item in lines_of(folder / "items.jsonl")]


def test_a_value_that_is_the_id_of_an_item_is_that_item(folder):
    items = lines_of(folder / "items.jsonl")
    items[0]["attributes"] = {"like": ["azul", "azul"], "year": 1995}
    write_lines(folder / "items.jsonl", items)
    found = triples_of(built(folder))
    assert {t for t in found if t[1] in ("like", "year") and t[0].startswith("Catan")} == {
        ("Catan (1995)", "like", "Azul (2017)"),
        ("Catan (1995)", "year", "1995"),
    }


def test_rare_relations_are_left_out_by_their_share(folder):
    report = build_custom(folder, None, min_relation_share=0.1)  # 4 of 74 triples go with another
    assert report["graph"]["relations"] == 3
    (warning,) = report["warnings"]
    assert "leaves out 1 relations, of which 'goes_with' has the most triples, 4" in warning
    assert build_custom(folder, None, min_relation_share=0.05)["graph"]["relations"] == 4


def test_people_and_mechanics_are_linked_by_their_names(folder):
    corpus = built(folder)
    node = corpus.entity_names.index("deck building")
    linked = [turn for d in corpus.dialogues("train") for turn in d.turns if node in turn.entities]
    assert linked and all("deck building" in turn.text for turn in linked)
    entries = lines_of(folder / "dialogues.jsonl")
    texts = [m for d in entries for m in d["messages"]]
    texts[0]["text"] = "A Deck Builder, please"
    write_lines(folder / "dialogues.jsonl", entries)
    first = next(
        d
        for of in map(built(folder).dialogues, ("train", "dev", "valid", "test"))
        for d in of
        if d.conversation_id == entries[0]["id"]
    )
    assert first.turns[0].entities == (node,)


def test_a_node_of_the_graph_needs_evidence_that_its_name_is_one(folder):
    with (folder / "graph.tsv").open("a") as file:
        file.write("azul\tplayed_in\tevening\n")
    report = build_custom(folder, None)
    (warning,) = report["warnings"]
    assert "1 names of nodes are not looked for in texts, for example 'evening'" in warning


def test_without_a_graph_items_have_self_loops_only(folder):
    without_graph(folder)
    corpus = built(folder)
    assert corpus.graph.num_entities == len(corpus.items) == 28
    np.testing.assert_array_equal(corpus.graph.edges[:, 0], corpus.graph.edges[:, 2])
    assert not corpus.items.is_linked.any()
    assert corpus.report["warnings"] == [NO_GRAPH]


def test_without_a_word_graph_there_are_no_concepts(folder):
    (folder / "words.tsv").unlink()
    corpus = built(folder)
    assert corpus.concept_graph.num_concepts == 0 == corpus.report["graph"]["concept_edges"]
    assert corpus.report["has_word_graph"] is False
    assert corpus.report["warnings"] == [NO_WORDS]


def test_words_of_another_language_and_items_that_nobody_mentions(folder):
    (folder / "words.tsv").write_text("RelatedTo\thund\tkatze\n")
    items = [*lines_of(folder / "items.jsonl"), {"id": "chess", "name": "Chess"}]
    write_lines(folder / "items.jsonl", items)
    warnings = " ".join(build_custom(folder, None)["warnings"])
    assert "no word of words.tsv occurs" in warnings
    assert "1 of 29 items are in no triple and have no attribute, for example 'chess'" in warnings
    assert "1 of 29 items are mentioned in no training dialogue, for example 'chess'" in warnings


def test_texts_without_marks(folder):
    without_marks(folder)
    (warning,) = build_custom(folder, None)["warnings"]
    assert "no training response marks an item" in warning and "conkd-data link" in warning
