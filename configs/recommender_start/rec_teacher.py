"""The recommendation teacher alone, λ = 1, with item rows that start from it. Not in the paper.

The same as `ablations/rec_teacher.py` ("(+)R"), except that the recommender's item vectors are
added to the student's item rows before training. Every step, words included, is pulled towards the
recommender's items, so of all rows this one hears most of the recommender. It shows whether the
start replaces that pull: if (+)R stood out only because it taught the geometry of the items, the
lead over `recommender_start/fitted_threshold.py` is gone here.

    python -m conkd_jax.train --config=configs/recommender_start/rec_teacher.py:mini
"""

from configs.ablations import rec_teacher


def get_config(argument: str = ""):
    config = rec_teacher.get_config(f"backbone=dialogpt,{argument}")
    config.student.item_init = "recommender"
    return config
