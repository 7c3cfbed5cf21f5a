"""The words: one pipeline, whether a BPE is trained, read from two files or from one."""

import json
import subprocess
import sys

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import GPT2TokenizerFast

from conkd_jax.data.tokenizers.bpe import END_TOKEN, VocabularyError, load_bpe, train_bpe

TEXTS = [
    "Hi! Have you seen The Matrix?",
    "I liked @111 and @222 , they're great movies",
    "No I haven't seen the movie. Is it scary? 🎬",
    "It is scary, but the movie is great!! Have a good night",
] * 3
ODD = [
    "",
    " ",
    "naïve café 東京 🎬👨‍👩‍👧",
    "\x00\x07\u200b\ufeff",
    "I'LL  we'll\n\n\tso...",
    "a" * 300,
]


@pytest.fixture(scope="module")
def trained() -> Tokenizer:
    return train_bpe(TEXTS, 320)


def write_files(tokenizer: Tokenizer, folder) -> None:
    model = json.loads(tokenizer.to_str())["model"]
    (folder / "vocab.json").write_text(json.dumps(model["vocab"]))
    merges = [" ".join(merge) for merge in model["merges"]]
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n")


def test_training_gives_the_asked_size_and_learns_words(trained):
    assert trained.get_vocab_size() == 320
    assert trained.token_to_id(END_TOKEN) is not None
    assert len(trained.encode("Have you seen the movie").ids) < len("Have you seen the movie") / 2


def test_training_leaves_movies_out():
    words = train_bpe(["@123456 @123456 @123456 hello hello"] * 9, 300).get_vocab()
    assert not [word for word in words if "12" in word]
    assert "hello" in words or "Ġhello" in words


def test_training_is_the_same_in_another_process(trained):
    program = (
        "import sys; from conkd_jax.data.tokenizers.bpe import train_bpe; "
        f"sys.stdout.write(train_bpe({TEXTS!r}, 320).to_str())"
    )
    run = subprocess.run(
        [sys.executable, "-X", "utf8", "-c", program], capture_output=True, check=True
    )
    assert run.stdout.decode() == trained.to_str()


@pytest.mark.parametrize("text", [*TEXTS[:4], *ODD])
def test_two_files_give_the_ids_of_transformers(trained, tmp_path, text):
    write_files(trained, tmp_path)
    peer = GPT2TokenizerFast(str(tmp_path / "vocab.json"), str(tmp_path / "merges.txt"))
    loaded = load_bpe(tmp_path)
    assert loaded.encode(text).ids == peer(text)["input_ids"] == trained.encode(text).ids
    assert loaded.decode(loaded.encode(text).ids, skip_special_tokens=False) == text


def test_one_file_gives_the_same_ids_and_no_special_token(trained, tmp_path):
    other = Tokenizer.from_str(trained.to_str())
    other.add_special_tokens([END_TOKEN])
    text = f"scary {END_TOKEN} movie"
    assert trained.token_to_id(END_TOKEN) in other.encode(text).ids  # what must not come through
    (tmp_path / "tokenizer.json").write_text(other.to_str())
    loaded = load_bpe(tmp_path)
    assert loaded.encode(text).ids == trained.encode(text).ids
    assert trained.token_to_id(END_TOKEN) not in loaded.encode(text).ids


def test_too_few_words_are_refused():
    with pytest.raises(VocabularyError, match="at least 257"):
        train_bpe(TEXTS, 200)


@pytest.mark.parametrize("name", ["no/such/folder", "nobody-has-this/tokenizer"])
def test_nothing_there_says_what_to_do(name):
    with pytest.raises(VocabularyError, match="train a BPE on the corpus"):
        load_bpe(name)


def test_an_empty_folder_says_what_was_expected(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(VocabularyError, match=r"vocab\.json and merges\.txt.*model\.safetensors"):
        load_bpe(tmp_path)


def test_damaged_files_are_refused(trained, tmp_path):
    write_files(trained, tmp_path)
    (tmp_path / "merges.txt").write_text("h e\nzz yy\n")
    with pytest.raises(VocabularyError, match="'zz yy' does not join"):
        load_bpe(tmp_path)
    vocab = json.loads((tmp_path / "vocab.json").read_text())
    (tmp_path / "vocab.json").write_text(json.dumps({**vocab, "extra": 99999}))
    with pytest.raises(VocabularyError, match="each once"):
        load_bpe(tmp_path)
    (tmp_path / "vocab.json").write_text(json.dumps(vocab)[:50])
    with pytest.raises(VocabularyError, match="not valid JSON"):
        load_bpe(tmp_path)


def test_another_kind_of_tokenizer_is_refused(tmp_path):
    words = Tokenizer(models.WordLevel({"hello": 0, END_TOKEN: 1}, unk_token=END_TOKEN))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(VocabularyError, match="WordLevel"):
        load_bpe(tmp_path)


@pytest.mark.real_data
def test_the_published_bpe(raw_dir):
    folder = raw_dir / "gpt2_bpe"
    tokenizer = load_bpe(folder)
    peer = GPT2TokenizerFast(str(folder / "vocab.json"), str(folder / "merges.txt"))
    assert tokenizer.get_vocab_size() == 50257
    assert tokenizer.token_to_id(END_TOKEN) == 50256
    for text in [*TEXTS, *ODD]:
        assert tokenizer.encode(text).ids == peer(text)["input_ids"]
