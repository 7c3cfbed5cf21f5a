"""Every metric of a run against worked examples and hand-made cases."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from conkd_jax.eval.metrics import catalogue
from conkd_jax.eval.predictions import Prediction
from tests.eval.predicted import A, B, C, D, E, M, metrics_of, prediction, statistics_of

tops_of_steps = st.lists(st.permutations(range(8)).map(lambda p: p[:5]), max_size=4)
golds = st.lists(st.integers(0, 9), max_size=5)
responses = st.lists(st.tuples(golds, tops_of_steps), min_size=1, max_size=6)


def worked_example() -> list[Prediction]:
    """r1 has gold {A, B} and top-2 [C, A]; r2 gold {A} and chit-chat; r3 no gold and top-1 D."""
    return [
        prediction(1, gold=(A, B), tops=[(C, A)], dialogue="1"),
        prediction(1, gold=(A,), dialogue="2"),
        prediction(1, tops=[(D, E)], dialogue="3"),
    ]


def test_the_worked_example():
    values = metrics_of(worked_example(), ks=(1, 2))
    expected = {
        "rer@1": 0,
        "prr@1": 0,
        "f1@1": 0,
        "rer@2": 1 / 3,
        "prr@2": 1 / 2,
        "f1@2": 0.4,
        "rer@2_original": 1 / 2,
        "rec_ratio": 2 / 3,
        "items_per_response": 2 / 3,
        "item_slots_per_response": 2 / 3,
    }
    assert {name: values[name] for name in expected} == pytest.approx(expected, abs=1e-12)


def test_totals_of_the_worked_example():
    totals = statistics_of(worked_example()).totals
    assert totals["gold_items"] == 3  # N_g
    assert totals["gold_item_responses"] == 2  # R_g
    assert totals["generated_items"] == 2  # N_p
    assert totals["generated_item_responses"] == 2  # Q
    assert totals["responses"] == totals["dialogues"] == 3  # N


def test_a_system_that_names_no_item_scores_zero():
    values = metrics_of([prediction(gold=(A,))])
    assert values["prr@10"] == values["rer@10"] == values["f1@10"] == values["rec_ratio"] == 0
    assert "mismatch" not in values
    assert "ppl" not in values
    assert "recall@1" not in values


def test_gold_items_out_of_the_vocabulary_count_in_all_alone():
    one = prediction(gold=(A,), tops=[(A, B)], reference_items_out_of_vocabulary=(D, E))
    values = metrics_of([one])
    assert values["rer@1"] == 1
    assert values["rer@1_all"] == pytest.approx(1 / 3)
    assert values["f1@1_all"] == pytest.approx(2 / (3 + 1))
    assert "prr@1_all" not in values


def test_novel_leaves_out_what_was_mentioned():
    # A was mentioned: repeating it is a hit, but not a novel one.
    one = prediction(gold=(A, B), tops=[(A, C), (B, C)], mentioned_items=(A,))
    values = metrics_of([one])
    assert values["rer@1"] == 1
    assert values["rer@1_novel"] == values["prr@1_novel"] == values["f1@1_novel"] == 1
    repeats = prediction(gold=(A, B), tops=[(A, B), (C, D)], mentioned_items=(A,))
    assert metrics_of([repeats], ks=(1, 2))["rer@2"] == 0.5
    assert metrics_of([repeats], ks=(1, 2))["rer@2_novel"] == 0


def test_two_hop_hits_are_slots_capped_by_the_gold_items():
    neighbours = {M: frozenset({C, D, E})}
    near = prediction(gold=(A,), tops=[(C, A), (D, A)], mentioned_items=(M,))
    values = metrics_of([near], ks=(1, 2), neighbours=neighbours)
    assert values["rer@1"] == 0
    assert values["rer@1_2hop"] == 1  # two slots hit, one gold item
    assert values["prr@1_2hop"] == 1 / 2
    # Without a mentioned item the gold items stand alone.
    far = prediction(gold=(A,), tops=[(C, A)])
    assert metrics_of([far], neighbours=neighbours)["rer@1_2hop"] == 0
    assert metrics_of([far], ks=(2,), neighbours=neighbours)["rer@2_2hop"] == 1


def test_mismatch_is_the_share_of_slots_that_differ_from_the_recommenders_first():
    same = prediction(1, tops=[(A, B), (C, A)], recommender_top=(A, B))
    without = prediction(2, tops=[(A, B)])  # no recommendation that it could match
    assert metrics_of([same])["mismatch"] == 1 / 2
    assert metrics_of([same, without])["mismatch"] == 2 / 3


@settings(max_examples=25, deadline=None)
@given(responses, st.randoms())
def test_the_order_of_responses_does_not_matter(cases, random):
    run = [prediction(i, gold, tops, dialogue=str(i // 2)) for i, (gold, tops) in enumerate(cases)]
    shuffled = random.sample(run, len(run))
    values = metrics_of(run, ks=(1, 5), num_items=10)
    assert metrics_of(shuffled, ks=(1, 5), num_items=10) == pytest.approx(values, abs=1e-12)
    for name in ("rer", "prr", "f1"):
        assert 0 <= values[f"{name}@5"] <= 1


def test_recall_from_predictions_counts_every_gold_item():
    run = [
        prediction(1, (A,), recommender_top=(A, B)),
        prediction(3, (B, B), recommender_top=(A, B), reference_items_out_of_vocabulary=(E,)),
        prediction(9, recommender_top=(A, B)),
    ]
    values = metrics_of(run, ks=(1, 2), linked_items={A, E})
    assert values["recall@1"] == 1 / 4
    assert values["recall@2"] == 3 / 4
    assert values["recall@2_linked"] == 1 / 2
    assert values["mrr@2"] == pytest.approx((1 + 1 / 2 + 1 / 2) / 4)
    assert values["recall@2_turns_1-2"] == 1
    assert values["recall@2_turns_3-4"] == pytest.approx(2 / 3)
    assert "recall@2_turns_9+" not in values  # a turn without gold items has no recall


def test_cutoffs_beyond_the_stored_rankings_are_refused():
    with pytest.raises(ValueError, match="from 1 to 50"):
        metrics_of([prediction()], ks=(1, 100))


def test_dist_is_refined_or_original():
    run = [prediction(1, generated="a b c"), prediction(3, generated="a b")]
    values = metrics_of(run)
    assert values["dist-2"] == pytest.approx(2 / 3)
    assert values["dist-2_original"] == 1
    assert values["dist-1"] == pytest.approx(3 / 5)
    assert values["dist-3"] == 1
    assert "dist-4" not in values  # nothing is that long
    assert values["generated_length"] == 2.5


def test_perplexities_are_corpus_token_means():
    run = [
        prediction(
            1, token_nll=(1.0, 3.0, 2.0), token_is_item=(False, True, False), reference="see @5"
        ),
        prediction(3, token_nll=(1.0, 1.0), token_is_item=(False, False), reference="ok"),
    ]
    values = metrics_of(run)
    assert values["ppl"] == pytest.approx(math.exp(8 / 5))
    assert values["ppl_words"] == pytest.approx(math.exp(5 / 4))
    assert values["ppl_item"] == pytest.approx(math.exp(3))
    assert values["ppl_per_word"] == pytest.approx(math.exp(8 / (2 + 1 + 1 + 1)))
    assert values["bits_per_character"] == pytest.approx(8 / math.log(2) / (6 + 1 + 2 + 1))


def test_a_cut_reference_is_left_out_of_the_tokeniser_free_forms():
    whole = prediction(1, token_nll=(1.0, 1.0), token_is_item=(False, False), reference="yes")
    cut = prediction(
        3, token_nll=(5.0,) * 4, token_is_item=(False,) * 4, reference="a very long answer " * 5
    )
    values = metrics_of([whole, cut], max_response_tokens=4)
    assert values["ppl_per_word"] == pytest.approx(math.exp(2 / 2))
    assert values["ppl"] == pytest.approx(math.exp(22 / 6))


def test_classifier_accuracy_stands_beside_the_majority():
    run = [
        prediction(1, (A,), predicted_turn_type="rec"),
        prediction(3, (), predicted_turn_type="rec"),
        prediction(5, (), predicted_turn_type="gen"),
        prediction(7, (), predicted_turn_type="gen"),
    ]
    values = metrics_of(run)
    assert values["classifier_accuracy"] == values["classifier_base_rate"] == 3 / 4
    assert "classifier_base_rate" not in metrics_of([prediction()])


def test_coverage_gini_and_popularity():
    run = [prediction(1, (B,), [(A, C)]), prediction(3, (B,), [(A, C)]), prediction(5)]
    values = metrics_of(run, num_items=4, popularity={A: 30, B: 10})
    assert values["coverage"] == 1 / 4
    assert values["distinct_items"] == 1
    assert values["gini"] == pytest.approx(3 / 4)
    assert values["popularity_bias"] == 2
    with pytest.raises(ValueError, match="at least the 2 items"):
        catalogue.coverage({A: 1, B: 1}, 1)


def test_no_response_and_repeated_responses_are_refused():
    with pytest.raises(ValueError, match="at least one response"):
        metrics_of([])
    with pytest.raises(ValueError, match=r"\('d', 1\) again"):
        metrics_of([prediction(1), prediction(1)])


# --- what other systems do not have -------------------------------------------------------------


def test_items_alone_allow_the_first_cut_off():
    # Without item_steps the items that were said stand for the best of their steps.
    full = prediction(gold=(A, B), tops=[(A, C), (D, B)])
    bare = replace(full, item_steps=None)
    values, told = metrics_of([bare]), statistics_of([bare]).left_out
    everything = metrics_of([full], ks=(1,))
    assert values["rer@1"] == values["prr@1"] == 1 / 2
    assert {name for name in values if name.startswith(("rer@10", "f1@50"))} == set()
    assert {k: v for k, v in values.items() if k in everything} == everything
    assert "ReR, PrR and F1 beyond @1 (no field item_steps)" in told


@pytest.mark.parametrize(
    ("field", "gone"),
    [
        ("mentioned_items", ("rer@1_novel", "f1@1_2hop")),
        ("reference_items_out_of_vocabulary", ("rer@1_all",)),
        ("recommender_top", ("recall@1", "mismatch", "recall@1_turns_1-2", "rer@1_refilled")),
        ("token_is_item", ("ppl_words", "ppl_item")),
        ("token_nll", ("ppl", "ppl_words", "bits_per_character")),
        ("token_nll_predprefix", ("ppl_predprefix",)),
        ("token_item_mass", ("ppl_words_renormalised", "student_lambda_r", "student_lambda_v")),
    ],
)
def test_a_field_that_is_absent_takes_its_metrics_and_no_other(field, gone):
    full = prediction(
        gold=(A,),
        tops=[(A, B)],
        mentioned_items=(M,),
        recommender_top=(A, B),
        token_nll=(1.0, 2.0),
        token_is_item=(True, False),
        token_nll_predprefix=(1.5, 2.5),
        token_item_mass=(0.5, 0.25),
    )
    options = {"ks": (1, 2), "neighbours": {M: frozenset({C})}}
    everything = statistics_of([full], **options)
    assert set(gone) <= set(everything.metrics())
    assert everything.left_out == ()
    found = statistics_of([replace(full, **{field: None})], **options)
    left = found.metrics()
    assert not set(gone) & set(left)
    assert left.items() <= everything.metrics().items()
    assert [told for told in found.left_out if field in told]


def test_perplexity_without_marks_of_items_is_that_of_all_tokens():
    one = prediction(token_nll=(1.0, 3.0), token_is_item=None, token_nll_predprefix=(2.0, 4.0))
    values = metrics_of([one])
    assert values["ppl"] == pytest.approx(math.exp(2))
    assert values["ppl_predprefix"] == pytest.approx(math.exp(3))
    assert "ppl_words" not in values


def test_responses_with_other_fields_are_not_added_up():
    run = [prediction(1), prediction(3, mentioned_items=None)]
    with pytest.raises(ValueError, match=r"\('d', 3\), where other metrics are defined.*_novel"):
        metrics_of(run)


def test_cut_offs_beyond_a_list_are_left_out():
    run = [prediction(1, (A,), [(A, B, C)]), prediction(3, (A,), [(D, A)])]
    found = statistics_of(run, ks=(1, 2, 3))
    assert {"rer@2", "f1@2_novel", "rer@2_turns_1-2"} <= set(found.names)
    in_responses = [name for name in found.names if name.startswith(("rer", "prr", "f1"))]
    assert not any("@3" in name for name in in_responses if "_refilled" not in name)
    assert "@3 of item_steps, which lists 2 items" in found.left_out
    # … unless the list is the whole catalogue
    assert "rer@3" in statistics_of([run[1]], ks=(3,), num_items=2).names
    top = [prediction(1, (A,), recommender_top=(B, A)), prediction(3, (A,))]  # none for a turn
    assert "recall@2" in statistics_of(top, ks=(2,)).names
    assert "recall@3" not in statistics_of(top, ks=(3,)).names


def test_the_three_item_ratios_are_three():
    run = [
        prediction(1, tops=[(A,), (B,)]),
        prediction(3),
        prediction(5, generated="", generated_tokens=()),
    ]
    values = metrics_of(run, ks=(1,))
    assert values["rec_ratio"] == pytest.approx(1 / 3)  # ConKD
    assert values["items_per_response"] == pytest.approx(2 / 3)  # NTRD
    assert values["item_slots_per_response"] == pytest.approx(2 / 2)  # UniCRS
