"""docs/metrics.md names every number and every field, and its example can be scored."""

import re
from pathlib import Path

import pytest

from conkd_jax.eval.predictions import FIELDS, REQUIRED, read_predictions
from tests.eval.predicted import A, B, metrics_of, prediction, statistics_of

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "metrics.md").read_text(encoding="utf-8")
NAMED = set(re.findall(r"`([^`\n]+)`", PAGE))


def test_every_metric_has_its_line():
    full = prediction(
        gold=(A,),
        tops=[(A, B)],
        mentioned_items=(B,),
        recommender_top=(A, B),
        predicted_turn_type="rec",
        token_nll=(1.0, 2.0),
        token_is_item=(True, False),
        token_nll_predprefix=(1.0, 2.0),
        token_item_mass=(0.5, 0.25),
    )
    found = statistics_of(
        [full], num_items=2, popularity={A: 1}, neighbours={B: {A}}, linked_items={A}
    )
    for name in (*found.names, *found.whole_run_metrics):
        general = re.sub(r"@\d+", "@k", re.sub(r"-\d(?!\+?\d*$|-)", "-n", name, count=1))
        general = re.sub(r"^(dist|bleu)-\d", r"\1-n", general)
        stem, _, suffix = general.partition("@k_")
        known = general in NAMED or f"…_{suffix}" in NAMED or suffix.startswith("turns_")
        assert known and (f"{stem}@k" in NAMED or stem in NAMED), name


@pytest.mark.parametrize("field", FIELDS)
def test_every_field_is_told_and_whether_it_is_required(field):
    (row,) = [line for line in PAGE.splitlines() if re.match(rf"\| [^|]*`{field}`[^|]* \|", line)]
    assert ("| required |" in row) == (field in REQUIRED)


def test_the_example_is_a_file(tmp_path):
    path = tmp_path / "p.jsonl"
    path.write_text(re.search(r"```json\n(.*?)```", PAGE, re.DOTALL)[1])
    (one,) = read_predictions(path)
    assert one.generated_items == (13,)
    assert metrics_of([one])["rec_ratio"] == 1
