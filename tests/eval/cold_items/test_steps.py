"""Ranks within groups against loops, and a constant that fills exactly its share of places."""

import numpy as np
import pytest

from conkd_jax.eval.cold_items.groups import Group
from conkd_jax.eval.cold_items.steps import (
    ItemSteps,
    chances,
    level_offset,
    levelled,
    step_statistics,
)

NUM_ITEMS, NUM_STEPS = 120, 60
KEYS = [(f"d{number // 3}", number % 3) for number in range(30)]


def group(name: str, *members: int) -> Group:
    return Group(name, np.isin(np.arange(NUM_ITEMS), members))


GROUPS = (group("0", *range(0, 120, 3)), group("few", 1, 4, 7), group("all", *range(120)))


@pytest.fixture
def steps() -> ItemSteps:
    """Scores with ties, so that the order of the catalogue counts."""
    rng = np.random.default_rng(0)
    return ItemSteps(
        rng.integers(0, len(KEYS), NUM_STEPS),
        rng.integers(0, NUM_ITEMS, NUM_STEPS),
        rng.integers(0, 40, (NUM_STEPS, NUM_ITEMS)).astype(np.float32),
    )


def ranked(scores: np.ndarray, of: list[int]) -> list[int]:
    return sorted(of, key=lambda item: (-scores[item], item))


@pytest.mark.parametrize("which", GROUPS, ids=lambda each: each.name)
@pytest.mark.parametrize("k", [1, 10, 50])
def test_every_metric_is_what_a_loop_counts(steps, which, k):
    found = step_statistics(steps, GROUPS, KEYS).metrics()
    everything, members = list(range(NUM_ITEMS)), np.flatnonzero(which.members).tolist()
    hits, inside, places, mass = [], [], [], []
    for gold, scores in zip(steps.gold.tolist(), steps.scores, strict=True):
        best = ranked(scores, everything)[:k]
        places.append(sum(item in members for item in best) / k)
        probability = np.exp(scores - scores.max())
        mass.append(probability[members].sum() / probability.sum())
        if gold in members:
            hits.append(gold in best)
            inside.append(gold in ranked(scores, members)[:k])
    assert found[f"top@{k}|{which.name}"] == pytest.approx(np.mean(places))
    assert found[f"mass|{which.name}"] == pytest.approx(np.mean(mass), rel=1e-5)
    if hits:
        assert found[f"hit@{k}|{which.name}"] == pytest.approx(np.mean(hits))
        assert found[f"hit@{k}_in_group|{which.name}"] == pytest.approx(np.mean(inside))


def test_a_gold_movie_without_a_token_is_missed_and_changes_no_list(steps):
    missed = ItemSteps(steps.response, steps.gold, steps.scores, np.array([0, 4]), np.array([3, 1]))
    before, after = (step_statistics(each, GROUPS, KEYS) for each in (steps, missed))
    metrics, others = before.metrics(), after.metrics()
    num_cold = int(GROUPS[0].members[steps.gold].sum())
    for name, value in metrics.items():
        if name.startswith("hit@") and name.endswith("|0"):
            assert others[name] == pytest.approx(value * num_cold / (num_cold + 1)), name
        elif not name.startswith("hit@"):
            assert others[name] == value, name


def test_a_group_keeps_its_inner_order_when_it_is_levelled(steps):
    shifted = levelled(steps, GROUPS[0], 7.5)
    before, after = (step_statistics(each, GROUPS, KEYS).metrics() for each in (steps, shifted))
    for k in (1, 10, 50):
        assert after[f"hit@{k}_in_group|0"] == before[f"hit@{k}_in_group|0"]
        assert after[f"top@{k}|0"] >= before[f"top@{k}|0"]
    assert after["top@10|0"] > before["top@10|0"]


@pytest.mark.parametrize("share", [0.0, 0.1, 0.37, 0.8, 1.0])
def test_the_constant_fills_its_share_of_the_ten_best_places(share):
    rng = np.random.default_rng(1)
    scores = rng.normal(size=(50, NUM_ITEMS))
    members = GROUPS[0].members
    scores[:, members] -= 5.0
    offset = level_offset(scores, members, share)
    best = np.argsort(-(scores + offset * members), axis=1)[:, :10]
    assert members[best].mean() == pytest.approx(share, abs=1 / 500)


def test_a_group_without_ten_members_has_no_level():
    with pytest.raises(ValueError, match="ten|10"):
        level_offset(np.zeros((1, NUM_ITEMS)), GROUPS[1].members, 0.5)


def test_random_scores_give_chance():
    rng = np.random.default_rng(2)
    number = 4000
    steps = ItemSteps(
        rng.integers(0, len(KEYS), number),
        rng.integers(0, NUM_ITEMS, number),
        rng.normal(size=(number, NUM_ITEMS)),
    )
    found = step_statistics(steps, GROUPS, KEYS).metrics()
    for each in GROUPS:
        for metric, chance in chances(each).items():
            if metric != "mass":  # which random scores give in expectation only
                assert found[f"{metric}|{each.name}"] == pytest.approx(chance, abs=0.05), metric


@pytest.mark.parametrize("depends", [True, False])
def test_scores_of_other_steps_show_whether_a_preference_depends_on_the_dialogue(depends):
    rng = np.random.default_rng(3)
    number, members = 90, np.flatnonzero(GROUPS[0].members)
    gold = rng.choice(members, number) if depends else np.full(number, members[5])
    scores = rng.normal(size=(number, NUM_ITEMS))
    scores[np.arange(number), gold] += 20
    found = step_statistics(ItemSteps(np.arange(number) % 30, gold, scores), GROUPS, KEYS).metrics()
    assert found["hit@1_in_group|0"] == 1.0
    expected = pytest.approx(1 / 40, abs=0.03) if depends else pytest.approx(1.0)
    assert found["hit@1_in_group_elsewhere|0"] == expected
