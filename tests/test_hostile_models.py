"""Models, releases and judgements that others hand over, on thousands of damaged files."""

import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import gguf
import jax
import numpy as np
import pytest
import safetensors.numpy
from etils import epath

from conkd_jax.config import Config, ConfigError
from conkd_jax.data.corpus import (
    ConceptGraph,
    Corpus,
    Dialogue,
    ItemTable,
    KnowledgeGraph,
    Turn,
)
from conkd_jax.data.corpus_writing import write_corpus
from conkd_jax.data.tokenizers.words import load_tokenizer, train_words
from conkd_jax.eval.convert import convert
from conkd_jax.eval.human.collect import read_key
from conkd_jax.eval.human.study import study_document
from conkd_jax.io import integrity
from conkd_jax.io.array_files import load_arrays, save_arrays
from conkd_jax.models import gpt2, llama, llama_weights, published_names
from conkd_jax.runs.released import RELEASE, VERSION, ReleasedRun
from conkd_jax.serve.arena import Ballots, Duel
from conkd_jax.serve.votes import export
from tests.eval import judged
from tests.eval.predicted import A, B, prediction
from tests.fixtures.hostile import Reader, check

GPT2 = gpt2.GPT2Spec(num_layers=2, embed_dim=16, num_heads=2, num_positions=24)
LLAMA = llama.LlamaSpec(
    num_layers=2,
    embed_dim=16,
    num_heads=2,
    num_kv_heads=1,
    head_dim=8,
    mlp_dim=24,
    num_positions=40,
)
NUM_WORDS = 41
CONFIG, WEIGHTS = "config.json", "model.safetensors"


# --- published weights -------------------------------------------------------------------------


def gpt2_folder() -> dict[str, bytes]:
    tensors = published_names.gpt2_tensors(
        gpt2.GPT2(GPT2, NUM_WORDS).init(jax.random.key(0)), NUM_WORDS
    )
    config = published_names.gpt2_config(GPT2, NUM_WORDS)
    return {CONFIG: json.dumps(config).encode(), WEIGHTS: safetensors.numpy.save(tensors)}


def llama_tensors() -> dict[str, np.ndarray]:
    params = llama.Llama(LLAMA, NUM_WORDS).init(jax.random.key(0))
    return published_names.llama_tensors(params, NUM_WORDS)


def llama_folder() -> dict[str, bytes]:
    config = published_names.llama_config(LLAMA, NUM_WORDS)
    return {CONFIG: json.dumps(config).encode(), WEIGHTS: safetensors.numpy.save(llama_tensors())}


def gguf_file() -> bytes:
    """The same Llama as llama.cpp has it, but for the order of rows in a head."""
    theirs = {ours: name for name, ours in llama_weights._OF_GGUF.items()}
    with tempfile.TemporaryDirectory() as folder:
        writer = gguf.GGUFWriter(Path(folder) / "tiny.gguf", "llama")
        writer.add_block_count(LLAMA.num_layers)
        writer.add_context_length(LLAMA.num_positions)
        writer.add_embedding_length(LLAMA.embed_dim)
        writer.add_feed_forward_length(LLAMA.mlp_dim)
        writer.add_head_count(LLAMA.num_heads)
        writer.add_head_count_kv(LLAMA.num_kv_heads)
        for name, array in llama_tensors().items():
            own = name.removesuffix(".weight")
            layer, _, inner = own.removeprefix("model.layers.").partition(".")
            in_layer = own.startswith("model.layers.")
            own = f"blk.{layer}.{theirs[inner]}" if in_layer else theirs[own]
            writer.add_tensor(f"{own}.weight", array)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return (Path(folder) / "tiny.gguf").read_bytes()


def loaded(load: Callable, name: Path):
    """What a stage makes of weights: what `load` raises by its docstring is told to the user."""
    try:
        return load(name)
    except (FileNotFoundError, ValueError) as error:
        raise ConfigError(f"config.dialogue_teacher.weights: {error}") from error


def in_folder(load: Callable, files: dict[str, bytes]) -> Callable[[Path], object]:
    """Reads a file, which gives its name after a "_", beside the others of its folder."""

    def read(path: Path):
        folder = path.parent / "model"
        folder.mkdir(exist_ok=True)
        for name, content in files.items():
            (folder / name).write_bytes(content)
        path.replace(folder / path.name.partition("_")[2])
        return loaded(load, folder)

    return read


def weights() -> list[Reader]:
    found = [Reader("tiny.gguf", gguf_file(), lambda path: loaded(llama.load_pretrained, path))]
    for kind, files, load in (
        ("gpt2", gpt2_folder(), gpt2.load_pretrained),
        ("llama", llama_folder(), llama.load_pretrained),
    ):
        for name, content in files.items():
            found.append(Reader(f"{kind}_{name}", content, in_folder(load, files)))
    return found


def words(path: Path):
    path.replace(path.parent / "tokenizer.json")
    tokenizer = load_tokenizer(path.parent)
    return tokenizer.encode("I like quiet films, and @7").ids


# --- releases ----------------------------------------------------------------------------------


def arrays() -> bytes:
    table = np.random.default_rng(0).normal(size=(40, 8)).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        save_arrays(Path(folder) / "x", {"params": {"table": table, "bias": table[0]}}, "int8")
        return (Path(folder) / "x").read_bytes()


def release() -> dict[str, bytes]:
    """The files of a release that are read when it is opened."""
    record = {"name": "kgsf", "split": "valid", "overrides": {}, "settings": Config().to_dict()}
    files = {CONFIG: json.dumps(record).encode(), "params.safetensors": arrays()}
    with tempfile.TemporaryDirectory() as folder:
        for name, content in files.items():
            (Path(folder) / name).write_bytes(content)
        listed = integrity.inventory(folder)
    about = {"version": VERSION, "name": "a/b", "artifacts": [], integrity.FILES: listed}
    return {RELEASE: integrity.sealed(about).encode(), **files}


def released(files: dict[str, bytes]) -> Callable[[Path], object]:
    def read(path: Path):
        folder = path.parent / "release"
        folder.mkdir(exist_ok=True)
        for name, content in files.items():
            (folder / name).write_bytes(content)
        path.replace(folder / path.name.partition("_")[2])
        return ReleasedRun.of_folder(folder)

    return read


def nested_sums(path: Path) -> dict[str, float]:
    return {name: np.sum(leaf) for name, leaf in load_arrays(path)["params"].items()}


# --- responses and judgements ------------------------------------------------------------------

TURNS = (
    Turn("seeker", f"I like @{A}", (0,)),
    Turn("recommender", f"Try @{B} and more.", (1,)),
    Turn("seeker", "Seen it"),
    Turn("recommender", "Can't help"),
)
UNICRS = (
    {"pred": "System: See <movie> or Alien (1979) !", "label": "System: Try <movie> and more."},
    {"pred": "System: ok", "label": "System: Can't help"},
)
CRSLAB = (
    {"pred": f"__start__ see @ {B} !", "label": f"Try @ {B} and more . __end__"},
    {"pred": "__unk__", "label": "Ca n't __unk__"},
)


def lines(values) -> bytes:
    return b"".join(json.dumps(value).encode() + b"\n" for value in values)


def converted(path: Path):
    """Responses or rankings of another toolkit, for a corpus of two responses."""
    folder, name = path.parent / "corpus", path.name
    if not folder.exists():
        write_corpus(
            folder,
            splits={"train": [], "test": [Dialogue("t", TURNS)]},
            items=ItemTable(
                np.array([A, B]),
                ["Alien (1979)", "Brazil (1985)"],
                np.arange(2, dtype=np.int32),
                np.ones(2, bool),
            ),
            graph=KnowledgeGraph(2, 1, ["r"], np.array([[0, 0, 1]], np.int32), "kgsf"),
            concept_graph=ConceptGraph(0, np.zeros((0, 2), np.int32), [], np.zeros(0, bool)),
            report={},
        )
        (path.parent / "good.jsonl").write_bytes(lines(UNICRS))
        (path.parent / "good_rankings").write_bytes(lines([[B, "Alien (1979)"], []]))
    corpus = Corpus.open(folder)
    if name == "crslab.jsonl":
        return list(convert(path, "crslab", corpus, "test"))
    if name == "rankings.jsonl":
        return list(convert(path.parent / "good.jsonl", "unicrs", corpus, "test", path))
    return list(convert(path, "unicrs", corpus, "test", path.parent / "good_rankings"))


def arena() -> bytes:
    """A file with votes on answers."""
    with tempfile.TemporaryDirectory() as folder:
        ballots = Ballots(Path(folder) / "votes")
        ballots.expect_systems({"a": "1", "b": "2"})
        for number, choice in enumerate(["first", "second", "tie", "neither"]):
            duel = Duel(("a", "b"), (prediction(1, tops=[(1, 2)]), prediction(1)))
            ballots.add(f"r{number}", duel, choice, None)
        ballots.close()
        return (Path(folder) / "votes").read_bytes()


def exported(path: Path):
    """What conkd-arena does with a file of votes."""
    path.with_name("votes-journal").unlink(missing_ok=True)
    ballots = Ballots(path, must_exist=True)
    try:
        votes, rated = ballots.votes(), ballots.rated()
    finally:
        ballots.close()
    return export(votes, rated, epath.Path(path.parent / "out"))


def key() -> bytes:
    return json.dumps(study_document(judged.study())).encode()


# --- all of them -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def readers() -> dict[str, Reader]:
    files = release()
    made = [
        *weights(),
        Reader("words", train_words(["I like quiet films", "quiet, I"]).to_str().encode(), words),
        *(
            Reader(f"release_{name}", content, released(files), has_checksum=True)
            for name, content in files.items()
        ),
        Reader("arrays.safetensors", arrays(), nested_sums),
        Reader("unicrs.jsonl", lines(UNICRS), converted),
        Reader("crslab.jsonl", lines(CRSLAB), converted),
        Reader("rankings.jsonl", lines([[B, "Alien (1979)"], []]), converted),
        Reader("key.json", key(), lambda path: read_key(path), has_checksum=True),
        Reader("votes", arena(), exported),
    ]
    return {reader.name: reader for reader in made}


NAMES = (
    *("tiny.gguf", "gpt2_config.json", "gpt2_model.safetensors"),
    *("llama_config.json", "llama_model.safetensors", "words"),
    *("release_release.json", "release_config.json", "release_params.safetensors"),
    *("arrays.safetensors", "unicrs.jsonl", "crslab.jsonl", "rankings.jsonl", "key.json", "votes"),
)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_damaged_file_is_read_or_refused(readers, name: str, tmp_path: Path):
    check(readers[name], tmp_path)


@pytest.mark.slow
def test_every_reader_is_tested(readers):
    assert set(readers) == set(NAMES)
