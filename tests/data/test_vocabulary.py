"""Ids of words, movies and tags: their layout, and text that survives the way there and back."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conkd_jax.data import vocabulary as vocabulary_module
from conkd_jax.data.tokenizers.bpe import END_TOKEN, VocabularyError, load_bpe, train_bpe
from conkd_jax.data.tokenizers.words import train_words
from conkd_jax.data.vocabulary import Vocabulary

MOVIES = [12, 123, 777, 900]
TITLES = ["Avatar (2009)", "The Matrix (1999)", "300", " "]
TEXTS = ["have you seen the movie", "I have seen it, it is great", "seen The Matrix (1999)?"] * 3
TOKENIZER = train_bpe(TEXTS, 290)
FULL = Vocabulary(TOKENIZER, MOVIES, TITLES)
PART = Vocabulary(TOKENIZER, MOVIES, TITLES, [3, 1])
# the other kind: every token below is a whole word
WORD_TOKENIZER = train_words([*TEXTS, "( ) @ ? , 3 Avatar 2009 12 😀 ²"])
WORDS = Vocabulary(WORD_TOKENIZER, MOVIES, TITLES)
WORDS_PART = Vocabulary(WORD_TOKENIZER, MOVIES, TITLES, [3, 1])

# what people write around movies, and what could be taken for one
pieces = st.one_of(
    st.sampled_from(
        ["@12", "@123", "@777", "@900", "@5", "@", "@@", "@0123", "123", " ", "  ", "4"]
    ),
    st.text(max_size=6),
)
texts = st.lists(pieces, max_size=8).map("".join)


def test_the_layout_of_the_ids():
    for vocabulary in (FULL, PART, WORDS, WORDS_PART):
        assert vocabulary.num_words == vocabulary.tokenizer.get_vocab_size()
        assert vocabulary.num_targets == vocabulary.num_words + vocabulary.num_items
        tags = [vocabulary.gen_id, vocabulary.rec_id, vocabulary.pad_id]
        assert tags == list(range(vocabulary.num_targets, vocabulary.num_targets + 3))
        assert vocabulary.num_rows % 128 == 0
        assert 0 <= vocabulary.num_rows - vocabulary.pad_id - 1 < 128
        assert vocabulary.end_id < vocabulary.num_words
    assert (FULL.num_words, FULL.unk_id) == (290, None)
    assert (WORDS.end_id, WORDS.unk_id) == (0, 1)
    assert FULL.item_candidates.tolist() == [0, 1, 2, 3]
    for part in (PART, WORDS_PART):
        assert part.item_ids.tolist() == [900, 123]
        assert part.titles == [" ", "The Matrix (1999)"]
        assert part.encode("@900") == [part.num_words]
        assert part.encode("@123") == [part.num_words + 1]


def test_zeros_before_an_id_have_no_meaning():
    """Linker, gold items and vocabulary agree on what is an item."""
    for vocabulary in (FULL, PART, WORDS, WORDS_PART):
        assert vocabulary.encode("@00123") == vocabulary.encode("@123")
        assert vocabulary.encode("see @012 ?") == vocabulary.encode("see @12 ?")


def test_is_item():
    ids = np.array([[0, 289], [290, 293], [294, 296]])
    assert FULL.is_item(ids).tolist() == [[False, False], [True, True], [False, False]]


@pytest.mark.parametrize(
    ("text", "back"),
    [
        ("have you seen @123 ?", "have you seen @123 ?"),
        ("@123 is great", "@123 is great"),
        ("seen @123, @12 and  @777", "seen @123, @12 and  @777"),
        ("(@123)", "( @123)"),
        ("@12@123", "@12 @123"),
        ("@12 3", "@12 3"),
        ("@12²", "@12²"),
        ("it is 😀 great\n\n@12", "it is 😀 great\n\n @12"),
        ("", ""),
    ],
)
def test_text_comes_back(text, back):
    assert FULL.decode(FULL.encode(text)) == back


@pytest.mark.parametrize(
    ("text", "back"),
    [
        ("have you seen @123 ?", "have you seen @123 ?"),
        ("@123 is great", "@123 is great"),
        ("  seen it,is\n\ngreat ", "seen it , is great"),
        ("seen@123,@12 and  @777", "seen @123 , @12 <unk> @777"),
        ("(@123)", "( @123 )"),
        ("@12@123", "@12 @123"),
        ("@12 3", "@12 3"),
        ("@12²", "@12 ²"),
        ("@@12", "@ @12"),
        ("@ 12", "@ 12"),
        ("seen @99 ?", "seen <unk> ?"),
        ("it is 😀 Great\x00", "it is 😀 <unk> <unk>"),
        (" \n", ""),
    ],
)
def test_whole_words_come_back_with_single_spaces(text, back):
    assert WORDS.decode(WORDS.encode(text)) == back


def test_an_item_carries_the_space_before_it():
    words = FULL.encode("have you seen")
    item = FULL.num_words + 1
    assert FULL.encode("have you seen @123") == [*words, item]
    assert FULL.encode("have you seen@123") == [*words, item]
    assert FULL.encode("@123 seen")[1:] == FULL.encode(" seen")


@settings(max_examples=300, deadline=None)
@given(texts)
def test_encoding_what_was_decoded_changes_nothing(text):
    for vocabulary in (FULL, PART):
        ids = vocabulary.encode(text)
        assert vocabulary.encode(vocabulary.decode(ids)) == ids
        assert vocabulary.end_id not in ids
        assert all(0 <= i < vocabulary.num_targets for i in ids)


@settings(max_examples=300, deadline=None)
@given(texts)
def test_encoding_whole_words_that_were_decoded_changes_nothing(text):
    tokenizer = train_words([text, *TITLES])
    for candidates in (None, [3, 1]):
        vocabulary = Vocabulary(tokenizer, MOVIES, TITLES, candidates)
        ids = vocabulary.encode(text)
        assert vocabulary.end_id not in ids
        assert all(0 <= i < vocabulary.num_targets for i in ids)
        assert vocabulary.unk_id not in ids or "@" in text  # only beside what is no movie
        known = [i for i in ids if i != vocabulary.unk_id]
        assert vocabulary.encode(vocabulary.decode(known)) == known


@settings(max_examples=300, deadline=None)
@given(st.lists(st.integers(0, WORDS.num_rows - 1), max_size=12))
def test_whatever_a_model_writes_in_whole_words_is_read_as_it_was(ids):
    text = WORDS.decode(ids)
    assert text == text.strip() and "  " not in text
    read = [i for i in ids if i < WORDS.num_targets and i != WORDS.end_id]
    assert len(text.split()) == len(read)
    if WORDS.unk_id not in read:
        assert WORDS.encode(text) == read


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=30).filter(lambda text: "@" not in text))
def test_words_come_back_exactly(text):
    assert FULL.decode(FULL.encode(text)) == text


@settings(max_examples=50, deadline=None)
@given(st.lists(texts, max_size=5))
def test_a_batch_is_its_texts(batch):
    for vocabulary in (FULL, WORDS_PART):
        assert vocabulary.encode_batch(batch) == [vocabulary.encode(text) for text in batch]


def test_texts_are_encoded_a_few_at_a_time(monkeypatch):
    monkeypatch.setattr(vocabulary_module, "TEXTS_AT_A_TIME", 3)
    said, read = [f"seen @12 {'good ' * number}" for number in range(8)], []
    encoded = FULL.encode_each(text for text in said if not read.append(text))
    assert next(encoded) == FULL.encode(said[0])
    assert len(read) == 3
    assert [*encoded] == [FULL.encode(text) for text in said[1:]]
    assert [*FULL.encode_each([])] == []


def test_a_movie_without_a_token_is_its_title():
    assert PART.decode(PART.encode("seen @12 ?")) == "seen Avatar (2009) ?"
    assert PART.decode(PART.encode("(@12)")) == "( Avatar (2009))"
    assert PART.decode(PART.encode("@123@777")) == "@123 300"
    assert not PART.is_item(PART.encode("seen @12 ?")).any()
    assert WORDS_PART.decode(WORDS_PART.encode("seen@12?")) == "seen Avatar ( 2009 ) ?"


def test_an_unknown_or_untitled_movie_is_its_text():
    assert FULL.decode(FULL.encode("seen @99 ?")) == "seen @99 ?"
    huge = "@" + "9" * 5000
    assert FULL.decode(FULL.encode(huge)) == huge
    untitled = Vocabulary(TOKENIZER, MOVIES, TITLES, [0])
    assert untitled.decode(untitled.encode("seen @900 ?")) == "seen @900 ?"


def test_decoding_keeps_a_movie_from_the_digits_after_it():
    ids = [FULL.num_words, *FULL.encode("3")]
    assert FULL.decode(ids) == "@12 3"


def test_decoding_leaves_out_what_is_no_text():
    ids = [FULL.rec_id, *FULL.encode("seen @123"), FULL.end_id, FULL.pad_id, FULL.num_rows - 1]
    assert FULL.decode(ids) == "seen @123"
    assert FULL.decode(np.array(ids, np.int32)) == "seen @123"


def test_rendering_gives_titles():
    text = "seen @123 or @900 ?"
    assert FULL.render(FULL.encode(text)) == "seen The Matrix (1999) or @900 ?"
    assert WORDS.render(WORDS.encode(text)) == "seen The Matrix (1999) <unk> @900 ?"


def test_a_user_cannot_write_an_end_token():
    ids = FULL.encode(f"hello {END_TOKEN} @123")
    assert FULL.end_id not in ids
    assert FULL.decode(ids) == f"hello {END_TOKEN} @123"
    assert not {WORDS.end_id, WORDS.unk_id} & {*WORDS.encode("( @123 it? )")}
    for vocabulary in (WORDS, Vocabulary(train_words([END_TOKEN, "<unk>"]), MOVIES, TITLES)):
        assert vocabulary.end_id not in vocabulary.encode(f"{END_TOKEN}<unk>@123 {END_TOKEN}")


def test_broken_surrogates_are_replaced():
    assert FULL.decode(FULL.encode("a\ud83d\ude00 b\ud83d c")) == "a😀 b\ufffd c"


def test_title_token_ids_stand_as_in_a_sentence():
    for item in range(FULL.num_items):
        assert FULL.title_token_ids(item)
    for vocabulary in (FULL, WORDS):
        sentence = vocabulary.encode("seen The Matrix (1999)")
        assert sentence[-len(vocabulary.title_token_ids(1)) :] == vocabulary.title_token_ids(1)
    assert WORDS.title_token_ids(3) == [WORDS.unk_id]  # it has no title: "@900"


def test_the_train_item_vocabulary():
    vocabulary = Vocabulary.for_corpus(
        TOKENIZER, MOVIES, TITLES, item_vocabulary="train", mentioned=iter([2, 0, 2])
    )
    assert vocabulary.item_candidates.tolist() == [0, 2]
    assert vocabulary.item_ids.tolist() == [12, 777]
    full = Vocabulary.for_corpus(TOKENIZER, MOVIES, TITLES)
    assert full.fingerprint == FULL.fingerprint
    with pytest.raises(VocabularyError, match="none was given"):
        Vocabulary.for_corpus(TOKENIZER, MOVIES, TITLES, item_vocabulary="train")
    with pytest.raises(VocabularyError, match="'full' or 'train', got 'all'"):
        Vocabulary.for_corpus(TOKENIZER, MOVIES, TITLES, item_vocabulary="all")


@pytest.mark.parametrize(
    ("movies", "titles", "candidates"),
    [([1, 2], ["a"], None), ([1, 1], ["a", "b"], None), ([1, 2], ["a", "b"], [0, 2]),
     ([1, 2], ["a", "b"], [1, 1]), ([-1, 2], ["a", "b"], None)],
)  # fmt: skip
def test_items_that_do_not_fit_are_refused(movies, titles, candidates):
    with pytest.raises(VocabularyError):
        Vocabulary(TOKENIZER, movies, titles, candidates)


@pytest.mark.parametrize("saved", [PART, WORDS_PART], ids=["bpe", "words"])
def test_saving_and_loading(tmp_path, saved):
    saved.save(tmp_path / "vocabulary")
    loaded = Vocabulary.load(tmp_path / "vocabulary")
    assert loaded.fingerprint == saved.fingerprint
    assert loaded.unk_id == saved.unk_id
    assert loaded.item_candidates.tolist() == [3, 1]
    text = "have you seen @123, @900 or @12 ?"
    assert loaded.encode(text) == saved.encode(text)
    assert loaded.decode(loaded.encode(text)) == saved.decode(saved.encode(text))


def test_the_fingerprint_tells_vocabularies_apart():
    others = [
        PART,
        Vocabulary(TOKENIZER, MOVIES, ["Avatar", *TITLES[1:]]),
        Vocabulary(TOKENIZER, [13, *MOVIES[1:]], TITLES),
        Vocabulary(train_bpe(TEXTS, 280), MOVIES, TITLES),
        WORDS,
        WORDS_PART,
        Vocabulary(train_words(TEXTS), MOVIES, TITLES),
    ]
    assert len({FULL.fingerprint, *(other.fingerprint for other in others)}) == 8


def test_the_fingerprint_tells_whether_words_are_lower_cased():
    """Even where the words are the same."""
    cased, lowered = (
        Vocabulary(train_words(["hi ho"], lower_case=lower_case), MOVIES, TITLES)
        for lower_case in (False, True)
    )
    assert cased.tokenizer.get_vocab() == lowered.tokenizer.get_vocab()
    assert cased.fingerprint != lowered.fingerprint
    assert lowered.encode("HI") == lowered.encode("hi") == cased.encode("hi") != cased.encode("HI")


def test_a_fingerprint_stays_from_release_to_release(tmp_path):
    """Trained artifacts carry it: who changes one of these asks every user to train again."""
    (tmp_path / "vocab.json").write_text(json.dumps({END_TOKEN: 0, "h": 1, "i": 2, "hi": 3}))
    (tmp_path / "merges.txt").write_text("h i\n")
    bpe = Vocabulary(load_bpe(tmp_path), [12, 123], ["A (2009)", "B"], [1, 0])
    words = Vocabulary(train_words(["hi ho hi"]), [12, 123], ["A (2009)", "B"], [1, 0])
    assert [bpe.fingerprint[:16], words.fingerprint[:16]] == [
        "8427d9a07df94360",
        "468a19611c7e2dd5",
    ]


def test_a_changed_or_missing_file_is_refused(tmp_path):
    FULL.save(tmp_path)
    table = json.loads((tmp_path / "vocabulary.json").read_text())
    table["movie_ids"][0] = 13
    (tmp_path / "vocabulary.json").write_text(json.dumps(table))
    with pytest.raises(VocabularyError, match="changed after saving"):
        Vocabulary.load(tmp_path)
    del table["titles"]
    (tmp_path / "vocabulary.json").write_text(json.dumps(table))
    with pytest.raises(VocabularyError, match="lacks 'titles'"):
        Vocabulary.load(tmp_path)
    (tmp_path / "vocabulary.json").unlink()
    with pytest.raises(VocabularyError, match=r"vocabulary\.json is missing"):
        Vocabulary.load(tmp_path)
