"""OpenDialKG's official files: speakers, the names that a path marks, the triples of the graph."""

import json

import pytest

from data_prep.opendialkg.annotated import OpenDialKGError
from data_prep.opendialkg.files import find_files
from data_prep.opendialkg.official import read_official
from tests.data_prep.opendialkg.handmade import CONVERSATION, says, write_official

FILM = "Alpha Rising (1990 Film)"


def read(folder):
    _, files = find_files(folder)
    return read_official(files)


def test_messages_roles_and_the_names_of_paths(tmp_path):
    found = read(write_official(tmp_path, CONVERSATION))
    ((dialogue,),) = (split for split in found.splits.values() if split)
    assert dialogue.messages == (
        (False, "Any film with Jane Doe?"),
        (True, "She is in Alpha Rising, a movie."),
        (False, "Thanks!"),
    )
    assert dialogue.recommended == ((), ("Jane Doe", FILM), ())
    assert set(dialogue.names) == {"Jane Doe", FILM}
    assert not found.ends_with_recommendation


def test_the_graph_is_what_touches_a_named_film(tmp_path):
    known = read(write_official(tmp_path, CONVERSATION)).knowledge
    names = {node: name for name, node in known.nodes.items()}
    assert [names[item] for item in known.items] == [FILM]
    assert {(names[h], known.relation_names[r], names[t]) for h, r, t in known.triples} == {
        (FILM, "release_year", "1990"),
        (FILM, "starred_actors", "Jane Doe"),
        (FILM, "has_genre", "Drama"),
    }
    assert len(known.triples) == 3  # a relation and its reverse are one


def test_dialogues_are_split_by_their_number_alone(tmp_path):
    one, other = (
        read(write_official(tmp_path / name, *[conversation] * 60)).splits
        for name, conversation in (("a", CONVERSATION), ("b", CONVERSATION[:4]))
    )
    ids = [
        {name: [d.conversation_id for d in s] for name, s in each.items()} for each in (one, other)
    ]
    assert ids[0] == ids[1]
    assert all(ids[0].values()) and sum(map(len, ids[0].values())) == 60


BAD_ROWS = [
    ("{", "Expecting property name"),
    ("{}", "expected a list of messages, got dict"),
    (json.dumps([{"message": "Hi"}]), "message 1: .*sender user or assistant"),
    (
        json.dumps([{**CONVERSATION[1], "metadata": {"path": [0.5, [["Jane Doe"]], ""]}}]),
        "message 1: path: expected",
    ),
]


@pytest.mark.parametrize(("bad", "message"), BAD_ROWS, ids=[m for _, m in BAD_ROWS])
def test_a_bad_row_is_an_error_that_names_its_line(tmp_path, bad, message):
    with pytest.raises(OpenDialKGError, match=rf"opendialkg.csv, line 3: {message}"):
        read(write_official(tmp_path, CONVERSATION, bad))


BAD_TRIPLES = [
    ("Jane Doe\tHer\n", r"got 2 column\(s\)"),
    ("Jane Doe\tlikes\tNobody\n", "the unknown entity 'Nobody'"),
]


@pytest.mark.parametrize(("bad", "message"), BAD_TRIPLES)
def test_a_bad_triple_is_an_error_that_names_its_line(tmp_path, bad, message):
    good = f"{FILM}\tstarred_actors\tJane Doe\n"
    with pytest.raises(OpenDialKGError, match=rf"opendialkg_triples.txt, line 2: .*{message}"):
        read(write_official(tmp_path, CONVERSATION, triples=good + bad))


def test_files_that_do_not_belong_together_are_refused(tmp_path):
    with pytest.raises(OpenDialKGError, match="expected films or books"):
        read(write_official(tmp_path, [says("user", "Hi")]))


def test_a_file_without_messages_is_refused(tmp_path):
    write_official(tmp_path, CONVERSATION)
    path = tmp_path / "opendialkg" / "data" / "opendialkg.csv"
    path.write_text("Dialogue,Rating\na,b\n")
    with pytest.raises(OpenDialKGError, match="line 1: expected a column Messages, found Dialogue"):
        read(tmp_path)
