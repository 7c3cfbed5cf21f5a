"""Words link to what they name, and everyday words to nothing."""

import pytest

from data_prep import linking
from data_prep.raw_dialogues import RawDialogue
from tests.data_prep.raw_files import NODES, RESOURCE

IDS = {uri: node for uri, node in NODES.items() if isinstance(uri, str)}


def labels_of(*names, degrees=None, movies=()):
    ids = {RESOURCE.format(name): node for node, name in enumerate(names)}
    return linking.uri_labels(ids, movies, degrees or {})


def test_labels_are_read_off_uris():
    labels = linking.uri_labels(IDS, {0, 1, 2, 3}, {})
    assert labels == {("jane", "doe"): 4, ("josé", "roe"): 5, ("josé", "roe", "band"): 6}


def test_candidate_movies_have_no_label():
    assert labels_of("Star_Wars", "George_Lucas", movies={0}) == {("george", "lucas"): 1}


def test_the_best_node_wins_a_shared_label():
    names = ("Kevin_Hart_(poet)", "Kevin_Hart", "Kevin_Hart_(actor)")
    assert labels_of(*names, degrees={2: 50}) == {("kevin", "hart"): 1}
    assert labels_of("Ann_Lee_(poet)", "Ann_Lee_(actor)", degrees={1: 9}) == {("ann", "lee"): 1}
    assert labels_of("War_(band)", "War_(film_genre)", "War_(novel)") == {("war",): 1}


@pytest.mark.parametrize("name", ["!!!", "Ha!_(TV_channel)", "Get_Ready_(X_album)", "A_B__2", ""])
def test_names_that_are_no_labels(name):
    assert labels_of(name) == {}


def test_the_longest_label_wins_and_case_does_not_matter():
    matcher = linking.LabelMatcher({("new", "york"): 1, ("new", "york", "city"): 2, ("york",): 3})
    tokens = "In NEW York City , new york , York".split()
    assert list(matcher.spans(tokens)) == [
        (1, ("new", "york", "city")),
        (5, ("new", "york")),
        (8, ("york",)),
    ]
    assert list(matcher.spans([])) == []


def linker():
    return linking.Linker(
        {10: 0, 11: 1}, [100, 101], {("jane", "doe"): 4, ("doe",): 5}, {"dog": 0, "cat": 1}
    )


def test_movies_entities_and_concepts_keep_order_and_repeats():
    linked = linker().link(["Jane Doe in @11, a DOG and a dog;", "@10 @10 @77 cat", "doe"])
    assert linked.items == (1, 0, 0)
    assert linked.unknown_items == (77,)
    assert linked.entities == (4, 101, 100, 100, 5)
    assert linked.concepts == (0, 0, 1)


def test_a_label_ends_with_its_message():
    assert linker().link(["so jane", "doe"]).entities == (5,)


def test_ids_that_no_list_can_hold():
    linked = linker().link(["@99999999999999999999999 @ 10 @x me@10.com"])
    assert linked.unknown_items == (linking.NOT_AN_ID,)
    assert linked.items == (0,)


def test_a_dialogue_is_merged_and_linked():
    raw = RawDialogue("1", ((False, "a cat"), (False, ""), (False, "@10"), (True, "")), {})
    dialogue = linking.link_dialogue(raw, linker())
    assert [turn.role for turn in dialogue.turns] == ["seeker", "recommender"]
    assert dialogue.turns[0].text == "a cat @10"
    assert (dialogue.turns[0].items, dialogue.turns[0].concepts) == ((0,), (1,))
    assert dialogue.turns[1].text == ""


def training_text():
    """Forty dialogues on each of two clusters of movies; "war" is said on one, "friend" on both."""
    texts = []
    for number in range(80):
        is_war = number % 2 == 0
        movie = (1 if is_war else 100) + number % 5
        messages = [f"My friend saw @{movie}", f"and Jane Doe liked @{movie + 1} on DVD"]
        if is_war:
            messages.append("a war film, very good")
        texts.append(messages)
    return texts


def test_everyday_words_are_misleading_and_telling_ones_are_not():
    labels = [("friend",), ("war",), ("dvd",), ("jane", "doe"), ("very", "good"), ("unseen",)]
    labels += [("quentin", "tarantino")]
    found = linking.misleading_labels(labels, training_text(), min_deviations=3, min_lift=1.5)
    # Both clusters say "friend" and "dvd"; "very good" says as much as "war" does.
    assert found == {("friend",), ("dvd",), ("unseen",)}


def test_evidence_is_asked_for():
    labels = [("war",)]
    assert linking.misleading_labels(labels, training_text()[:6]) == set(labels)
    assert linking.misleading_labels(labels, []) == set(labels)
    assert linking.misleading_labels(labels, training_text(), min_lift=10) == set(labels)
