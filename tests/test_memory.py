"""The command that reports the memory of a train step."""

import json

import pytest

from conkd_jax import memory

CONFIG = "--config=tests/fixtures/small_world.py"


def test_it_prints_a_row_per_variant_and_keeps_every_number(call, tmp_path):
    file = tmp_path / "memory.json"
    code, out, err = call(
        memory,
        CONFIG,
        "--items=40",
        "--variants=float32,bfloat16+remat",
        f"--json={file}",
    )
    assert (code, err) == (0, "")
    document = json.loads(file.read_text())
    found = document["bytes_per_device"]
    assert list(found) == ["float32", "bfloat16+remat"]
    assert all(label in out for label in found)
    assert (document["words"], document["items"]) == (300, 40)  # a BPE trained to bpe_size words
    assert document["compiled_for"] == "cpu" and document["devices"] == 1
    parts = found["float32"]
    held = parts["arguments"] + parts["outputs"] - parts["donated"]
    assert parts["total"] == held + parts["temporaries"] + parts["program"]
    assert f"{parts['total'] / 1e9:.2f}" in out
    assert f"{document['parameters']:,} parameters" in out
    assert str(tmp_path) not in document["command"]


@pytest.mark.parametrize(
    "option, message",
    [
        ("--variants=float16", "--variants: expected some of float32"),
        ("--topology=v5e:7x7x7x7", "--topology=v5e:7x7x7x7: expected a TPU"),
        ("--words=0", "--words"),
    ],
)
def test_what_cannot_be_compiled_is_refused(call, option, message):
    code, _, err = call(memory, CONFIG, option)
    assert code == 2
    assert message in err


def test_a_step_that_does_not_fit_is_a_row_of_its_own():
    document = {
        "config": "dialogpt_hard",
        "parameters": 1,
        "micro_batch": {"rows": 8, "row_tokens": 512},
        "compiled_for": "TPU v5 lite",
        "bytes_per_device": {"float32": {"does_not_fit": "RESOURCE_EXHAUSTED: …"}},
        "flops_per_device": {"float32": {"products": 3 * 10**12, "model": 10**12}},
    }
    table = memory.memory_table(document)
    assert [list(column.cells) for column in table.columns[-2:]] == [["does not fit"], ["3"]]
