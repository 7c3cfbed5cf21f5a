"""The caption says what the documents say."""

import pytest

from conkd_jax.eval.tables.build import build_table
from tests.eval.scored import document


def test_the_caption_says_what_the_documents_say():
    runs = [document(), document("dialogpt", machine="a big one"), document("dialogpt", seed=1)]
    caption = build_table("2", runs).caption
    for said in ("preset mini", "valid split", "1,234 responses", "dialogpt_hard: seed 0"):
        assert said in caption
    assert "dialogpt: seeds 0, 1" in caption
    assert "1 x cpu, 2 CPU cores, jax 0.10.2 and a big one" in caption


@pytest.mark.parametrize(
    ("teacher_seeds", "told"),
    [
        ({"kgsf": (0, 0), "kgsf_hard": (0, 0)}, "over students; teachers are shared."),
        (
            {"kgsf": (0, 1), "kgsf_hard": (0,)},
            "over whole trainings, recommender and teachers included.",
        ),
        (
            {"kgsf": (0, 1), "kgsf_hard": (0, 0)},
            "over students that share their teachers; of kgsf over all trainings.",
        ),
    ],
)
def test_the_caption_says_what_the_deviation_is_over(teacher_seeds, told):
    runs = [
        document(name, seed=seed, teacher_seed=teacher_seed)
        for name, of_name in teacher_seeds.items()
        for seed, teacher_seed in enumerate(of_name)
    ]
    assert f"Mean ± standard deviation {told}" in build_table("2", runs).caption


def test_the_caption_explains_how_rows_were_decoded():
    caption = build_table("2", [document(decoding="mass+once"), document()]).caption
    assert "+mass: an item is generated" in caption and "+once: an item appears" in caption
    assert "+novel" not in caption
