"""An export answers as the run does, in PyTorch's transformers and through `load_model`."""

import json

import jax
import numpy as np
import pytest
import torch
import transformers

from conkd_jax.chat import Chat
from conkd_jax.config import ConfigError
from conkd_jax.config.rules import validate_config
from conkd_jax.data.corpus import RECOMMENDER, Corpus, responses
from conkd_jax.data.tokenizers.bpe import load_bpe
from conkd_jax.data.vocabulary import Vocabulary
from conkd_jax.export import ExportError, load_model
from conkd_jax.export.student import write_student
from conkd_jax.io.array_files import ArrayFileError
from conkd_jax.runs.finished import Run
from conkd_jax.stages import backbones
from tests.fixtures.exports import run_of

BACKBONES = ("dialogpt", "llama")


@pytest.fixture(scope="module", params=BACKBONES)
def run(request, small_world):
    return run_of(small_world, request.param)


@pytest.fixture(scope="module")
def folder(run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported")
    write_student(run, folder, "float32")
    return folder


@pytest.fixture(scope="module")
def tokenizer(folder):
    return transformers.AutoTokenizer.from_pretrained(folder)


@pytest.fixture(scope="module")
def peer(folder):
    return transformers.AutoModelForCausalLM.from_pretrained(folder).eval()


def messages(turns):
    """Turns as transformers has the messages of a chat."""
    roles = {RECOMMENDER: "assistant"}
    return [{"role": roles.get(turn.role, "user"), "content": turn.text} for turn in turns]


def histories(run, count=24):
    """The turns before some responses of the split."""
    found = [d.turns[:turn] for d in run.corpus.dialogues("valid") for turn in responses(d)]
    return found[:count]


# --- models --------------------------------------------------------------------------------------


def test_logits_are_equal(run, peer):
    model = run.system.model
    assert isinstance(peer, (transformers.GPT2LMHeadModel, transformers.LlamaForCausalLM))
    words = model.vocabulary
    ids = np.random.default_rng(0).integers(0, words.pad_id + 1, (3, 40)).astype(np.int32)
    ours = model.head().logits(model.model.features(model.variables, ids))
    with torch.no_grad():
        theirs = peer(torch.tensor(ids).long()).logits.numpy()
    assert theirs.shape[-1] == words.pad_id + 1 and np.abs(ours).max() > 1
    np.testing.assert_allclose(theirs[..., : words.num_targets], ours, atol=2e-4)


def test_greedy_texts_are_equal(run, tokenizer, peer):
    chat = Chat.open(run, batch_size=4, warm=False)
    asked = histories(run)
    answers = chat.respond_all(asked)
    assert len({answer.turn.text for answer in answers}) > 1
    for turns, answer in zip(asked, answers, strict=True):
        inputs = tokenizer.apply_chat_template(
            messages(turns),
            add_generation_prompt=True,
            tag="[REC]" if answer.tag == "rec" else "[GEN]",
            truncation=True,
            return_tensors="pt",
            return_dict=True,
        )
        longest = tokenizer.model_max_length
        assert inputs["input_ids"].shape[1] <= longest == run.system.rows.longest_prompt(8)
        with torch.no_grad():
            ids = peer.generate(**inputs)[0, inputs["input_ids"].shape[1] :]
        assert tokenizer.decode(ids, skip_special_tokens=True) == answer.turn.text


def test_tags_are_never_generated(run, tokenizer, peer):
    words = run.vocabulary
    rows = {"dialogpt": "transformer.wte", "llama": "model.embed_tokens"}
    layer = peer.get_submodule(rows[run.config.backbone]).weight
    before = layer.detach().clone()
    with torch.no_grad():
        layer[words.gen_id :] *= 1000  # now every other token is beaten
        ids = peer.generate(torch.tensor([[words.end_id, words.rec_id]]), max_new_tokens=5)
        layer.copy_(before)
    assert max(ids[0, 2:].tolist()) < words.num_targets


# --- tokenizers ----------------------------------------------------------------------------------


def written(movie, other):
    return [
        f"Have you seen @{movie}?",
        f"@{movie}",
        f"(@{movie}) and@{other}@{movie} !",
        f"  two  spaces  @{movie}  here\n@{other}\n",
        f"@{movie}9 @9999999 @ {movie} @000{movie} @{'0' * 20}{movie}",
        f"@{movie} 3 times, 3@{other}",
        "café 😀 日本 don't 12345 @",
        "[REC] <|endoftext|> [PAD]",
        "",
    ]


def test_texts_have_the_same_tokens(run, tokenizer):
    words = run.vocabulary
    texts = written(*words.item_ids[[3, 30]].tolist())
    texts += [turn.text for d in run.corpus.dialogues("valid") for turn in d.turns]
    for text in texts:
        ids = words.encode(text)
        theirs = tokenizer(text, add_special_tokens=False, split_special_tokens=True)
        assert theirs["input_ids"] == ids, text
        assert tokenizer.decode(ids, skip_special_tokens=True) == words.decode(ids)


def test_any_ids_have_the_same_text(run, tokenizer):
    words, random = run.vocabulary, np.random.default_rng(0)
    for _ in range(200):
        ids = random.integers(0, words.pad_id + 1, 8)
        ids[random.random(8) < 0.4] = words.num_words + random.integers(words.num_items)
        assert tokenizer.decode(ids, skip_special_tokens=True) == words.decode(ids)


def test_the_chat_template_writes_our_prompts(run, tokenizer):
    words = run.vocabulary
    dialogues = [d for d in run.corpus.dialogues("valid") if d.turns[-1].role == RECOMMENDER]
    rows = run.system.rows_of(dialogues)
    for number, dialogue in enumerate(dialogues):
        tokens = rows.dialogue_tokens[run.system.form][number]
        ids = tokenizer.apply_chat_template(messages(dialogue.turns))
        assert ids == tokens.tolist()
        asked = tokenizer.apply_chat_template(
            messages(dialogue.turns[:-1]), add_generation_prompt=True, tag="[GEN]"
        )
        assert asked[-1] == words.gen_id


# --- reading an export again ---------------------------------------------------------------------


def test_an_export_is_where_another_training_starts(run, folder):
    config = run.config
    named = {"dialogue_teacher.weights": str(folder), "vocabulary.tokenizer": str(folder)}
    config = validate_config(config.replace(named))
    backbone = backbones.named(config.backbone)
    backbone.check_sources(config, makes_words=True, makes_model=True)
    corpus = Corpus.open(run.directory("corpus"))
    words = Vocabulary(load_bpe(str(folder)), corpus.items.item_ids, corpus.items.titles)
    assert words.fingerprint == run.vocabulary.fingerprint
    settings = backbone.model_settings(config)
    model, params, _ = settings.initial({}, words, 0, "rbg")
    assert model.spec == run.system.model.model.spec
    rows = {layer: params[layer].pop("embedding") for layer in model.ROW_LAYERS if layer in params}
    expected = jax.tree.map(np.asarray, run.system.model.params)
    for layer, found in rows.items():
        kept = expected[layer].pop("embedding")[: words.pad_id + 1]
        np.testing.assert_array_equal(found[: words.pad_id + 1], kept)
    jax.tree.map(np.testing.assert_array_equal, params, expected)


def test_items_that_an_export_lacks_start_at_their_title(run, folder):
    corpus, config = run.corpus, run.config
    item_ids, titles = corpus.items.item_ids.copy(), corpus.items.titles
    item_ids[5] = item_ids.max() + 1
    words = Vocabulary(load_bpe(str(folder)), item_ids, titles)
    config = config.replace({"dialogue_teacher.weights": str(folder)})
    _, params, _ = (
        backbones.named(config.backbone).model_settings(config).initial({}, words, 0, "rbg")
    )
    layer = run.system.model.model.EMBEDDING
    theirs = np.asarray(run.system.model.params[layer]["embedding"])
    ours = np.asarray(params[layer]["embedding"])
    same = (ours[: words.num_targets] == theirs[: words.num_targets]).all(axis=1)
    assert np.flatnonzero(~same).tolist() == [words.num_words + 5]
    title = ours[words.title_token_ids(5)].mean(axis=0)
    assert np.abs(ours[words.num_words + 5] - title).max() < 0.15


def test_words_of_another_tokenizer_are_refused(run, folder, tmp_path):
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    about = json.loads((tmp_path / "conkd.json").read_text())
    about["num_words"] -= 1
    (tmp_path / "conkd.json").write_text(json.dumps(about))
    config = run.config.replace({"dialogue_teacher.weights": str(tmp_path)})
    settings = backbones.named(config.backbone).model_settings(config)
    with pytest.raises(ConfigError, match="weights: expected an export over the 300 words"):
        settings.initial({}, run.vocabulary, 0, "rbg")


# --- models that transformers does not have ------------------------------------------------------


@pytest.fixture(scope="module")
def kgsf(small_world):
    return run_of(small_world, "kgsf")


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 0.0), ("bfloat16", 0.05)])
def test_kgsf_has_the_same_logits(kgsf, tmp_path, dtype, tolerance):
    write_student(kgsf, tmp_path, dtype)
    loaded, model = load_model(tmp_path), kgsf.system.model
    assert loaded.vocabulary.fingerprint == model.vocabulary.fingerprint
    rows = kgsf.system.rows_of(kgsf.corpus.dialogues("valid"))
    ids = np.arange(6)
    inputs, _ = rows.inputs(ids, 24, "student", model.vocabulary.pad_id)
    ours, theirs = (
        np.asarray(one.head().logits(one.model.states(one.variables, inputs)))
        for one in (model, loaded)
    )
    largest = np.abs(ours).max()
    assert ours.std() > 0.1
    assert np.abs(ours - theirs).max() <= tolerance * largest


def test_folders_that_are_no_export(kgsf, folder, tmp_path):
    with pytest.raises(ExportError, match="config.json is missing"):
        load_model(tmp_path)
    with pytest.raises(ExportError, match="AutoModelForCausalLM"):
        load_model(folder)
    write_student(kgsf, tmp_path, "float32")
    path = tmp_path / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ArrayFileError, match="export it again"):
        load_model(tmp_path)


def test_half_precision_is_close(run, tmp_path):
    write_student(run, tmp_path, "float16")
    peer = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    model = run.system.model
    ids = np.arange(30, dtype=np.int32)[None]
    ours = np.asarray(model.head().logits(model.model.features(model.variables, ids)))
    with torch.no_grad():
        theirs = peer(torch.tensor(ids).long()).logits.numpy()[..., : ours.shape[-1]]
    assert 0 < np.abs(ours - theirs).max() < 0.02 * np.abs(ours).max()


def test_runs_open_again(run):
    assert Run.open(run.home).config == run.config
