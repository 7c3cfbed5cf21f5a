"""Free text read as the corpus was linked: movies, people, genres, corrections."""

import pytest

from conkd_jax.data.corpus import Corpus
from conkd_jax.stages.systems.free_text import ENTITY, ITEM, TextLinker
from data_prep.custom.build import build_custom
from data_prep.movieworld.build import build_movieworld
from tests.fixtures.own_data import games


@pytest.fixture(scope="module")
def linker(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    build_movieworld(folder, seed=0, num_movies=40, num_dialogues=60)
    return TextLinker(Corpus.open(folder))


def test_turns_of_the_corpus_are_linked_as_they_were(linker):
    turns = [t for s in ("train", "valid") for d in linker.corpus.dialogues(s) for t in d.turns]
    assert sum(len(turn.entities) - len(turn.items) for turn in turns) > 20  # people and genres
    for turn in turns:
        linked = linker.linker.link([turn.text])
        assert (linked.items, linked.entities, linked.concepts) == (
            turn.items,
            turn.entities,
            turn.concepts,
        )


def test_a_typed_title_is_the_tag(linker):
    items = linker.corpus.items
    title, movie = items.titles[3], int(items.item_ids[3])
    typed, tagged = linker.read(f"I like {title.lower()}!"), linker.read(f"I like @{movie}!")
    assert typed.turn == tagged.turn and typed.turn.text == f"I like @{movie}!"
    assert typed.turn.items == (3,) and int(items.entity_ids[3]) in typed.turn.entities
    assert [link.item_id for link in typed.links if link.kind == ITEM] == [movie]


def test_people_and_genres_are_found_and_shown(linker):
    label, node = next((k, n) for k, n in linker.labels.items() if len(k) > 1)
    reading = linker.read(f"Anything with {' '.join(label)}?")
    assert node in reading.turn.entities
    assert [(x.kind, x.name) for x in reading.links if x.kind == ENTITY] == [
        (ENTITY, linker.corpus.entity_names[node])
    ]


def test_a_correction_changes_or_removes_a_movie(linker):
    items = linker.corpus.items
    text, other = f"I like {items.titles[3]}", int(items.item_ids[5])
    (link,) = [link for link in linker.read(text).links if link.kind == ITEM]
    assert linker.read(text, corrections={link.start: other}).turn.items == (5,)
    removed = linker.read(text, corrections={link.start: None})
    assert removed.turn.items == () and removed.turn.text == text


@pytest.fixture(scope="module")
def games_linker(tmp_path_factory):
    folder = tmp_path_factory.mktemp("own")
    build_custom(games(folder / "games"), folder / "corpus")
    return TextLinker(Corpus.open(folder / "corpus"))


def test_an_item_is_typed_by_its_text_id(games_linker):
    numbers = {key: n for n, key in enumerate(games_linker.corpus.items.keys, start=1)}
    reading = games_linker.read("We own @[dominion]2, @[7-wonders] and @1. @[no-game]? @[@1]?")
    expected = [numbers["dominion"], numbers["7-wonders"], 1]
    assert [link.item_id for link in reading.links if link.kind == ITEM] == expected
    assert reading.unknown == ("@[no-game]", "@[@1]")
    assert reading.turn.text.startswith(f"We own @{expected[0]} 2, @{expected[1]} and @1.")


def test_an_alias_means_its_item_as_its_name_does(games_linker):
    numbers = {key: n for n, key in enumerate(games_linker.corpus.items.keys, start=1)}
    reading = games_linker.read("RFTG, seven wonders and the Settlers of Catan (1995)")
    expected = [numbers[key] for key in ("race-for-the-galaxy", "7-wonders", "catan")]
    assert [link.item_id for link in reading.links if link.kind == ITEM] == expected
    assert reading.links[0].name == "Race for the Galaxy (2007)"


def test_a_corpus_without_text_ids_has_no_marks(linker):
    reading = linker.read("I like @[dominion]")
    assert not reading.links and not reading.unknown and reading.turn.text == reading.text


def test_unknown_tags_are_named(linker):
    reading = linker.read("@999999999 and @12345678901234567890123")
    assert reading.unknown == ("@999999999", "@12345678901234567890123")
    assert not reading.turn.items


@pytest.mark.parametrize("text", ["", "\ud800", "@", "\x00\x1b[31m", "a" * 5000, "@1" * 300])
def test_any_text_can_be_read(linker, text):
    assert linker.read(text).turn.role == "seeker"
