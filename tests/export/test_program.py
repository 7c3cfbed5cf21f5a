"""conkd-export as a user calls it: what it writes, uploads and refuses."""

import json

import pytest
import transformers

from conkd_jax.export import program
from tests.fixtures.hub import Hub
from tests.fixtures.programs import refused

NAME = "someone/conkd-small"


@pytest.fixture
def hub(monkeypatch):
    """A server with the protocol of the hub, which every upload goes to."""
    with Hub() as server:
        server.use(monkeypatch)
        yield server


def test_an_export_has_a_card(call, small_world, tmp_path):
    out = tmp_path / "out"
    code, text, _ = call(program, f"--workdir={small_world.folder}", f"--out={out}")
    assert code == 0 and str(out) in text
    card = (out / "README.md").read_text()
    metrics = json.loads((small_world.folder / "metrics.json").read_text())
    low, high = metrics["intervals"]["ppl"]
    assert f"| ppl | {metrics['metrics']['ppl']:.4g} [{low:.4g}, {high:.4g}] |" in card
    for words in ("license: other", "MovieWorld", "## Limits", "turn classifier", "γ = 0.4"):
        assert words in card, words
    code = card.partition("```python\n")[2].partition("```")[0]
    assert "AutoModelForCausalLM" in code
    exec(code, {})  # our own card, with the name of the folder


def test_rules_of_decoding_are_told(call, small_world, tmp_path):
    from conkd_jax.export.card import use_of_transformers
    from conkd_jax.runs.finished import Run

    run = Run.open(small_world.folder)
    fields = {"decode.allow_mentioned_items": False, "decode.item_offset": 1.5}
    config = run.config.replace({**fields, "decode.item_rule": "mass"})
    told = use_of_transformers(Run(run.home, config, "x", {}, "valid", "valid"), "x")
    for words in ("were mentioned are not recommended", "offset of 1.5", "item_rule=mass"):
        assert words in told, words


def test_what_was_pushed_is_what_transformers_reads(call, small_world, hub, tmp_path):
    out = tmp_path / "out"
    options = (f"--workdir={small_world.folder}", f"--out={out}", f"--push_to_hub={NAME}")
    code, text, errors = call(program, *options, "--private")
    assert code == 0, errors
    assert hub.created == [{"name": "conkd-small", "organization": "someone", "private": True}]
    assert NAME in text
    assert set(hub.files) == {path.name for path in out.iterdir()}
    for path in out.iterdir():
        assert hub.files[path.name] == path.read_bytes(), path.name
    got = tmp_path / "downloaded"
    got.mkdir()
    for name, content in hub.files.items():
        (got / name).write_bytes(content)
    transformers.AutoModelForCausalLM.from_pretrained(got)


def test_an_upload_needs_a_token_and_a_name(call, small_world, hub, monkeypatch, tmp_path):
    options = [f"--workdir={small_world.folder}", f"--out={tmp_path / 'out'}"]
    refused(call(program, *options, "--push_to_hub=a/b/c"), "--push_to_hub=a/b/c", "USER/MODEL")
    monkeypatch.delenv("HF_TOKEN")
    refused(call(program, *options, f"--push_to_hub={NAME}"), "token", "hf auth login")
    assert not (tmp_path / "out").exists() and not hub.created


def test_a_hub_that_refuses(call, small_world, hub, tmp_path):
    hub.refuses = True
    out = tmp_path / "out"
    options = [f"--workdir={small_world.folder}", f"--out={out}", f"--push_to_hub={NAME}"]
    refused(call(program, *options), "did not take the upload", f"hf upload {NAME} {out}")
    assert (out / "model.safetensors").exists()


def test_what_is_refused(call, small_world, tmp_path):
    run, out = f"--workdir={small_world.folder}", f"--out={tmp_path / 'out'}"
    refused(call(program, out), "--workdir=RUN and --out=DIR")
    refused(call(program, f"--workdir={tmp_path}", out), "expected a folder written by")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a").touch()
    refused(call(program, run, f"--out={tmp_path / 'full'}"), "empty or does not exist")
    refused(call(program, run, "--out=gs://b/c"), "a folder on a disk")
    refused(call(program, run, out, "--teachers", "--release=a/b"), "expected one of")
    refused(call(program, run, out, "--dtype=int8"), "int8 is for --release")
    refused(call(program, run, out, "--release=mini"), "OWNER/NAME")
    assert not (tmp_path / "out").exists()
