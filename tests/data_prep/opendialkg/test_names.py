"""Where marked names become mentions, and which names of entities are labels."""

import collections

import pytest

from data_prep.opendialkg.annotated import AnnotatedDialogue
from data_prep.opendialkg.names import entity_labels, with_mentions

ITEMS = {"Her": 1, "Toy Story": 2, "Toy Story 3": 3, "XXX": 4, "xXx": 5, "M (1931 Film)": 6}


def dialogue(*texts: str, names=()) -> AnnotatedDialogue:
    messages = tuple((i % 2 == 1, text) for i, text in enumerate(texts))
    return AnnotatedDialogue("1", messages, collections.Counter(names), ((),) * len(texts))


WRITTEN = [
    ("I saw toy story!", ["Toy Story"], "I saw @2!"),
    ("I saw Toy Story 3.", ["Toy Story", "Toy Story 3"], "I saw @3."),
    ("I saw Toy Story 3.", ["Toy Story"], "I saw @2 3."),
    ("I told her about Her's end", ["Her"], "I told her about @1's end"),
    ("have you seen her?", ["Her"], "have you seen @1?"),  # nowhere as it is marked
    ("XXX or xXx", ["XXX", "xXx"], "@4 or @5"),
    ("Others and Herself", ["Her"], "Others and Herself"),
    ("Toy Story", [], "Toy Story"),
    ("Fritz Lang made M in 1931", ["M (1931 Film)"], "Fritz Lang made M in 1931"),
    ("Jane Doe", ["Jane Doe"], "Jane Doe"),
]


@pytest.mark.parametrize(("text", "names", "expected"), WRITTEN)
def test_marked_names_of_items_become_mentions(text, names, expected):
    assert with_mentions(dialogue(text, names=names), ITEMS).messages == ((False, expected),)


def test_names_of_the_graph_may_be_written_without_their_qualifier():
    one = dialogue("Fritz Lang made M", "I like M (1931 film)", "m?", names=["M (1931 Film)"])
    texts = [text for _, text in with_mentions(one, ITEMS, has_qualifiers=True).messages]
    assert texts == ["Fritz Lang made @6", "I like @6", "m?"]


def test_labels_are_names_that_are_marked_where_they_are_written():
    nodes = {"Jane Doe": 10, "You": 11, "Western": 12, "New Wave": 13, "Comedy": 14}
    train = [
        dialogue("Do you know Jane Doe?", "Jane Doe?", names=["Jane Doe"]),
        dialogue("You like a western?", "Do you?", names=["Western"]),
        dialogue("Do you like jane doe?", "No"),
    ]
    raw = [with_mentions(each, {}) for each in train]
    labels = entity_labels(train, raw, nodes, {})
    # marked in one of two dialogues; never marked; marked once; two words; one word.
    assert labels == {("jane", "doe"): 10, ("western",): 12, ("new", "wave"): 13}


def test_what_a_last_message_says_is_no_evidence():
    """Only what it recommends is marked there."""
    train = [dialogue("Hi", "Western, western"), dialogue("A western", "Ok", names=["Western"])]
    raw = [with_mentions(each, {}) for each in train]
    assert entity_labels(train, raw, {"Western": 12}, {}) == {("western",): 12}


def test_a_shared_label_is_that_of_the_name_marked_most_often():
    nodes = {"Western": 1, "WESTERN": 2}
    train = [dialogue("A WESTERN", "Ok", names=["WESTERN"])]
    raw = [with_mentions(each, {}) for each in train]
    assert entity_labels(train, raw, nodes, {1: 99}) == {("western",): 2}
