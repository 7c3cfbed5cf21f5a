"""What is missing is missed, left out or told: no system chooses its own denominator."""

import pytest

from tests.eval.predicted import A, B, C, metrics_of, prediction, statistics_of


def test_a_turn_without_recommendations_misses_its_gold_items():
    run = [prediction(1, (A,), recommender_top=(A, B)), prediction(3, (A,), recommender_top=())]
    found = statistics_of(run, ks=(1, 2), linked_items={A})
    values = found.metrics()
    for name in ("recall@1", "recall@2", "mrr@2", "ndcg@2", "recall@1_linked"):
        assert values[name] == 0.5, name
    assert (values["recall@1_turns_1-2"], values["recall@1_turns_3-4"]) == (1, 0)
    assert any("in 1 of 2 responses: their 1 gold items are missed" in n for n in found.notes)


def test_an_item_without_a_recommendation_is_a_mismatch():
    run = [prediction(1, (A,), [(A,)], recommender_top=(A,)), prediction(3, (A,), [(B,)])]
    assert metrics_of(run, ks=(1,))["mismatch"] == 0.5


def test_a_field_that_is_empty_everywhere_is_absent():
    run = [prediction(1, (A,), [(A,)]), prediction(3, (A,))]
    found = statistics_of(run, ks=(1,))
    assert not any(n.startswith(("recall", "mismatch", "ppl")) for n in found.metrics())
    assert not any("_refilled" in n for n in found.metrics())
    for field in ("recommender_top", "token_nll"):
        assert any(f"{field} is empty in every response" in told for told in found.left_out)


def test_perplexities_need_every_response():
    fields = {"token_is_item": (False,) * 2, "token_item_mass": (0.1,) * 2}
    easy = prediction(1, token_nll=(0.1, 0.1), **fields)
    hard = prediction(3, token_nll=(), token_is_item=(), token_item_mass=())
    assert metrics_of([easy])["ppl"] == pytest.approx(1.105, abs=1e-3)
    found = statistics_of([easy, hard])
    names = set(found.metrics())
    assert not any("ppl" in n or n.startswith(("bits", "student")) for n in names)
    assert any("is empty in 1 of 2 responses, the first ('d', 3)" in n for n in found.left_out)


def test_references_that_are_scored_in_part_are_told():
    part = prediction(1, reference="three words here", token_nll=(0.1,), token_is_item=(False,))
    found = statistics_of([part])
    assert "ppl_per_word" not in found.metrics()
    assert any("1 of 1 references are scored in part" in note for note in found.notes)


def test_items_outside_the_catalogue_count_as_items_and_cover_nothing():
    run = [prediction(1, (A,), [(A,), (99,), (98,)]), prediction(3, (B,))]
    options = {"num_items": 3, "catalogue": {A, B, C}, "popularity": {A: 10, B: 10, C: 0}}
    found = statistics_of(run, ks=(1,), **options)
    values = found.metrics()
    assert values["coverage"] == pytest.approx(1 / 3) and values["distinct_items"] == 1
    assert values["gini"] == pytest.approx(2 / 3)
    assert values["popularity_bias"] == 0
    assert values["prr@1"] == pytest.approx(1 / 3)  # two of three are missed
    assert found.totals["generated_items_outside_catalogue"] == 2
    assert any("2 generated items are not in the catalogue" in note for note in found.notes)


def test_gold_items_outside_the_vocabulary_are_told():
    one = prediction(1, (A,), reference=f"@{A} or @{B}", reference_items_out_of_vocabulary=(B,))
    assert any("1 of 2 gold items are outside" in note for note in statistics_of([one]).notes)
