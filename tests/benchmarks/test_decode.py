"""The benchmark of decoding."""

import numpy as np
import pytest

from benchmarks import decode
from tests.benchmarks.conftest import differences


def test_all_write_the_same_tokens(run_tiny):
    status, document, _ = run_tiny(decode)
    assert status == 0
    compared = differences(document)
    assert set(compared) == {decode.SHARED} | {
        f"{decode.HUGGING_FACE}, batch {size}{part}"
        for size in (1, 3)
        for part in ("", decode.FIRST)
    }
    assert set(compared.values()) == {0.0}
    case, split = document["cases"]
    absent = case["contenders"]["CTranslate2 int8, batch 3"]["absent"]
    assert absent == "not installed: pip install ctranslate2"
    assert any(each["name"].startswith("responses a second") for each in case["numbers"])
    facts, (ratio,) = split["facts"], split["ratios"]
    assert facts["responses"] < facts["read once"] < facts["tokens of all prompts"]
    assert (ratio["of"], ratio["over"]) == (decode.SHARED, decode.WHOLE)


def test_another_token_ends_the_program(run_tiny, monkeypatch):
    peer = decode.hugging_face

    def wrong(size, prompts):
        generate = peer(size, prompts)

        def generate_wrong(count):
            tokens = np.array(generate(count))
            tokens[-1, -1] += len(tokens[0]) > 1
            return tokens

        return generate_wrong

    monkeypatch.setattr(decode, "hugging_face", wrong)
    with pytest.raises(SystemExit, match="Hugging Face generate, batch 1: expected output 0"):
        run_tiny(decode)
