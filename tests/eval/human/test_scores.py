"""Human scores: means by hand, α as Krippendorff published it, the paper's rows beside ours."""

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as np_st

from conkd_jax.eval.human.scores import (
    AVERAGE,
    METRICS,
    ordinal_alpha,
    score_study,
    scores_markdown,
)
from conkd_jax.eval.human.sheets import Judgements
from conkd_jax.eval.tables.paper import SYSTEMS
from tests.eval import judged

STUDY = judged.study()
GAP = np.nan


def document(scores=None, study=STUDY) -> dict:
    scores = judged.scores(study) if scores is None else scores
    annotators = tuple(range(1, len(scores) + 1))
    return score_study(study, Judgements(annotators, scores))


# --- agreement ------------------------------------------------------------------------------

# Krippendorff, Computing Krippendorff's Alpha-Reliability (2011), section D: 4 observers, 12 units.
PUBLISHED = np.array(
    [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, GAP, GAP, GAP],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, GAP, 3],
        [GAP, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, GAP],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, GAP],
    ]
)


def test_alpha_is_the_published_one():
    assert ordinal_alpha(PUBLISHED) == pytest.approx(0.815, abs=5e-4)


def test_alpha_by_hand():
    # Scores (0, 1) and (2, 2): pairable values 0, 1, 2, 2 with coincidences o_01 = 1, o_22 = 2.
    # Ordinal δ² = (values between, ends counted half)²: δ_01 = 1, δ_02 = 2.5, δ_12 = 1.5.
    # D_o = 2 · 1, D_e = 2 · (1 · 1 · 1 + 1 · 2 · 2.5² + 1 · 2 · 1.5²) / 3 = 12
    assert ordinal_alpha(np.array([[0.0, 2.0], [1.0, 2.0]])) == pytest.approx(1 - 2 / 12)


@settings(deadline=None)
@given(
    np_st.arrays(float, (3, 8), elements=st.sampled_from([0.0, 1.0, 2.0])),
    st.permutations(range(3)),
    st.permutations(range(8)),
)
def test_alpha_knows_no_order_of_annotators_or_units(scores, annotators, units):
    first = ordinal_alpha(scores)
    second = ordinal_alpha(scores[annotators][:, units])
    assert first == pytest.approx(second)
    if first is not None:
        assert first <= 1
        assert (first == pytest.approx(1)) == (np.ptp(scores, axis=0) == 0).all()


@pytest.mark.parametrize(
    "scores",
    [
        np.ones((3, 5)),  # chance would agree as well
        np.array([[0.0, 1.0, 2.0]]),  # nobody to agree with
        np.array([[0.0, GAP], [GAP, 2.0]]),
        np.array([[1.0, GAP], [1.0, 2.0]]),
        np.full((2, 2), GAP),
    ],
)
def test_alpha_is_none_where_it_is_not_defined(scores):
    assert ordinal_alpha(scores) is None


# --- means ----------------------------------------------------------------------------------


def test_means_are_over_contexts_and_annotators():
    scores = judged.scores(STUDY)
    found = document()
    for place, system in enumerate(found["systems"]):
        expected = [scores[:, :, place, scale].mean() for scale in range(3)]
        expected.append(np.mean(expected))
        assert list(system["metrics"]) == list(METRICS)
        assert list(system["metrics"].values()) == pytest.approx(expected)
        assert system["num_judgements"] == 15
        for metric in METRICS:
            low, high = system["intervals"][metric]
            assert 0 <= low <= system["metrics"][metric] <= high <= 2
            assert low < high
    assert [system["name"] for system in found["systems"]] == list(judged.NAMES)
    assert found["num_judgements"] == 30 and found["annotators"] == [1, 2, 3]
    json.dumps(found, allow_nan=False)


def test_agreement_is_over_single_responses():
    scores = np.zeros((2, 5, 2, 3), np.int64)
    scores[:, :, 1] = 2  # both say so
    scores[:, :, :, 2] = [0, 1]  # … except on coherence: by system, alike
    scores[0, :, :, 1] = 2 - scores[1, :, :, 1]  # … and on informativeness the other way round
    alpha = document(scores)["alpha"]
    assert alpha["human_fluency"] == alpha["human_coherence"] == pytest.approx(1)
    assert alpha["human_informativeness"] < 0


def test_contexts_of_one_dialogue_are_drawn_together():
    one = tuple(("d0", turn) for turn in range(5))
    study = dataclasses.replace(STUDY, contexts=one)
    for system in document(study=study)["systems"]:
        assert all(low == high for low, high in system["intervals"].values())


def test_one_annotator_gives_means_and_no_agreement():
    found = document(judged.scores(STUDY)[:1])
    assert set(found["alpha"].values()) == {None}
    text = scores_markdown(found)
    assert "| Krippendorff's α (ordinal) | – | – | – |" in text and "not defined" in text
    assert "1 of 3 annotators: 10 judgements" in text


# --- the paper ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "corpus", "name"),
    [
        ("dialogpt_hard", "redial", "DialoGPT + ConKD (hard)"),
        ("dialogpt_hard", "movieworld", None),
        ("ablations/vanilla", "redial", None),  # Tables 5-6 have no human scores
        ("mine", "redial", None),
        ("", "", None),
    ],
)
def test_the_papers_row_stands_beside_its_system_only(config, corpus, name):
    systems = tuple(
        dataclasses.replace(system, config=config, corpus=corpus) for system in STUDY.systems
    )
    study = dataclasses.replace(STUDY, systems=systems)
    found = document(study=study)
    rows = [system["paper"] for system in found["systems"]]
    if name is None:
        assert rows == [None, None] and "paper" not in scores_markdown(found)
    else:
        expected = SYSTEMS[name].metrics
        assert rows[0] == {"name": name, "metrics": {m: expected[m] for m in METRICS}}
        assert scores_markdown(found).count(f"paper: {name}") == 1


def test_the_table_shows_what_the_document_holds():
    found = document()
    lines = scores_markdown(found).splitlines()
    metrics, intervals = (found["systems"][1][key] for key in ("metrics", "intervals"))
    cells = [f"{metrics[m]:.3f} [{intervals[m][0]:.3f}, {intervals[m][1]:.3f}]" for m in METRICS]
    assert f"| `dialogpt_hard-mini-seed0` | {' | '.join(cells)} | 15 |" in lines
    assert "| paper: DialoGPT + ConKD (hard) | 1.894 | 0.859 | 1.688 | 1.480 | – |" in lines
    assert "| paper: DialoGPT | 1.766 | 0.781 | 1.580 | 1.376 | – |" in lines
    alphas = " | ".join(f"{value:.3f}" for value in found["alpha"].values())
    assert f"| Krippendorff's α (ordinal) | {alphas} |" in lines


def test_a_name_can_not_break_the_table():
    systems = tuple(dataclasses.replace(s, name=f"a|b{i}") for i, s in enumerate(STUDY.systems))
    text = scores_markdown(document(study=dataclasses.replace(STUDY, systems=systems)))
    assert "| `a\\|b0` |" in text
    assert AVERAGE == METRICS[-1]
