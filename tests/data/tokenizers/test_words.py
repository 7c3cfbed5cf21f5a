"""Whole words: one regex and one unknown token, whether counted, read from KGSF's list or saved."""

import json
import subprocess
import sys
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers

from conkd_jax.data.tokenizers.bpe import END_TOKEN, VocabularyError, train_bpe
from conkd_jax.data.tokenizers.words import (
    UNK_TOKEN,
    is_lower_cased,
    load_tokenizer,
    load_words,
    train_words,
)

TEXTS = [
    "Hi! have you seen @111 ?",
    "I liked it , it's great. have a look: naïve café 🎬",
    "have you seen @222 or @111 ? it is a @mystery",
]
# counted by hand; equal counts stand in the order of their text
HAVE_3, TWICE = ["have", "it"], ["?", "a", "seen", "you"]


def words_of(tokenizer: Tokenizer) -> list[str]:
    vocab = tokenizer.get_vocab()
    return sorted(vocab, key=vocab.__getitem__)


def write_list(path, words: list[str]) -> None:
    path.write_text(json.dumps({word: i + 4 for i, word in enumerate(words)}))


def test_training_counts_words_and_leaves_movies_out():
    words = words_of(train_words(TEXTS))
    assert words[:2] == [END_TOKEN, UNK_TOKEN]
    assert words[2:8] == [*HAVE_3, *TWICE]
    assert words[8:] == sorted(words[8:])
    assert {"Hi", "I", "'", "s", "@", "mystery", "naïve", "café", "🎬"} < set(words[8:])
    assert not [word for word in words if "1" in word or "2" in word]


def test_a_rare_word_is_unknown():
    tokenizer = train_words(TEXTS, min_count=2)
    assert words_of(tokenizer) == [END_TOKEN, UNK_TOKEN, *HAVE_3, *TWICE]
    assert tokenizer.encode("have it mystery").tokens == ["have", "it", UNK_TOKEN]
    with pytest.raises(VocabularyError, match="at least 1"):
        train_words(TEXTS, min_count=0)


def test_words_may_be_lower_cased_when_counted_and_when_read(tmp_path):
    tokenizer = train_words(["Hi hi! HI IT", "@111 It"], lower_case=True)
    assert words_of(tokenizer)[2:] == ["hi", "it", "!"]
    assert tokenizer.encode("hI, It").tokens == ["hi", UNK_TOKEN, "it"]
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    again = load_tokenizer(tmp_path)
    assert is_lower_cased(again) and again.to_str() == tokenizer.to_str()
    assert not is_lower_cased(train_words(TEXTS))


def test_case_is_kept_and_marks_stand_alone():
    tokenizer = train_words(["Hi hi! it's cafe\u0301 @999x"])
    assert tokenizer.encode("Hi,hi").tokens == ["Hi", UNK_TOKEN, "hi"]
    assert tokenizer.encode("  it's\n\tcafe\u0301 ").tokens == ["it", "'", "s", "cafe\u0301"]
    assert tokenizer.encode("x@999x").tokens == ["x", UNK_TOKEN, "x"]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.text(max_size=12), max_size=6).flatmap(st.permutations))
def test_training_is_counting(texts):
    """In any order of the texts; every trained word is cut from them, and cut as itself."""
    texts = [text.replace("@", "") for text in texts]
    tokenizer = train_words(texts)
    counts = Counter(token for text in texts for token in tokenizer.encode(text).tokens)
    assert words_of(tokenizer)[2:] == sorted(
        counts, key=lambda word: (-counts[word], word.encode())
    )
    assert UNK_TOKEN not in counts
    assert train_words(sorted(texts)).to_str() == tokenizer.to_str()


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=20))
def test_no_text_is_a_special_token(text):
    for tokenizer in (train_words([text, END_TOKEN, UNK_TOKEN]), train_words(TEXTS)):
        for odd in (text, text + END_TOKEN, END_TOKEN + text, UNK_TOKEN):
            assert tokenizer.token_to_id(END_TOKEN) not in tokenizer.encode(odd).ids
    assert UNK_TOKEN not in train_words([UNK_TOKEN]).encode(UNK_TOKEN).tokens


def test_broken_surrogates_train():
    assert "\ufffd" in train_words(["a\ud83d"]).get_vocab()


def test_training_is_the_same_in_another_process():
    program = (
        "import sys; from conkd_jax.data.tokenizers.words import train_words; "
        f"sys.stdout.write(train_words({TEXTS!r}).to_str())"
    )
    run = subprocess.run(
        [sys.executable, "-X", "utf8", "-c", program], capture_output=True, check=True
    )
    assert run.stdout.decode() == train_words(TEXTS).to_str()


def test_the_list_of_kgsf_keeps_its_order_without_what_no_text_gives(tmp_path):
    write_list(
        tmp_path / "list.json",
        ["I", ".", "@111", "n't", "you", "_split_", "sci-fi", "Hi", "a\ud83d", "@", UNK_TOKEN],
    )
    tokenizer = load_words(tmp_path / "list.json")
    assert words_of(tokenizer) == [END_TOKEN, UNK_TOKEN, "I", ".", "you", "Hi", "@"]
    assert tokenizer.encode("Hi you, @111.").tokens == ["Hi", "you", UNK_TOKEN, UNK_TOKEN, "."]
    # what counts is the index, not the place in the file
    (tmp_path / "list.json").write_text('{"b": 6, "c": 4, "a": 5}')
    assert words_of(load_words(tmp_path / "list.json"))[2:] == ["c", "a", "b"]


@pytest.mark.parametrize(
    "content",
    [
        "{}",
        '{"a": 0, "b": 1}',
        '{"a": 4, "b": 4}',
        '{"a": 4, "b": 6}',
        '{"a": 4, "b": "5"}',
        '{"a": [4]}',
        '{"a": 4.0}',
    ],
)
def test_another_list_is_refused(tmp_path, content):
    (tmp_path / "list.json").write_text(content)
    with pytest.raises(VocabularyError, match="expected KGSF's word list"):
        load_words(tmp_path / "list.json")


def test_a_damaged_or_missing_list_is_refused(tmp_path):
    write_list(tmp_path / "list.json", ["I", "."])
    (tmp_path / "cut.json").write_text((tmp_path / "list.json").read_text()[:9])
    with pytest.raises(VocabularyError, match="not valid JSON"):
        load_words(tmp_path / "cut.json")
    for path in (tmp_path, tmp_path / "none.json"):
        with pytest.raises(VocabularyError, match="set the tokenizer to 'train'"):
            load_words(path)


def test_either_kind_is_recognised(tmp_path):
    words, bpe = train_words(TEXTS), train_bpe(TEXTS, 270)
    for name, tokenizer in (("words", words), ("bpe", bpe)):
        (tmp_path / name).mkdir()
        tokenizer.save(str(tmp_path / name / "tokenizer.json"))
        assert load_tokenizer(tmp_path / name).to_str() == tokenizer.to_str()
    (tmp_path / "empty").mkdir()
    with pytest.raises(VocabularyError, match="or tokenizer.json"):
        load_tokenizer(tmp_path / "empty")


def test_a_foreign_or_damaged_tokenizer_is_refused(tmp_path):
    path = tmp_path / "tokenizer.json"
    words = Tokenizer(models.WordLevel({"hello": 0, END_TOKEN: 1}, unk_token=END_TOKEN))
    words.save(str(path))
    with pytest.raises(VocabularyError, match="'<unk>' among its 2 words"):
        load_tokenizer(tmp_path)
    words = train_words(TEXTS)
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.save(str(path))
    with pytest.raises(VocabularyError, match="cuts text by the regex .* got .*Whitespace"):
        load_tokenizer(tmp_path)
    content = json.loads(train_words(TEXTS).to_str())
    content["model"]["vocab"]["have"] = 99
    path.write_text(json.dumps(content))
    with pytest.raises(VocabularyError, match="the file is damaged"):
        load_tokenizer(tmp_path)
    del content["model"]["vocab"]
    path.write_text(json.dumps(content))
    with pytest.raises(VocabularyError, match="the file is damaged"):
        load_tokenizer(tmp_path)


@pytest.mark.real_data
def test_the_published_list(raw_dir):
    tokenizer = load_words(raw_dir / "kg" / "word2index_redial.json")
    words = words_of(tokenizer)
    assert words[2:6] == ["I", ".", "you", "!"]
    assert len(words) == 2 + 16_484
