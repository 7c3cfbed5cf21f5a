"""ConKD (hard, fitted η) with item rows that start from the recommender. Not in the paper.

The same as `ablations/fitted_threshold.py`, except that the recommender's item vectors are added to
the student's item rows before training. A small dialogue teacher puts little mass on items, so that
with the paper's η = .6 the student hears of the recommender only rarely, and the start may be most
of what it gets. Here the gate opens where it separates items from words best. The two rows together
answer whether a student with the start still gains from a gate that does open.

η is fitted to the paper's dialogue teacher, which starts from titles, as in the other rows.

    python -m conkd_jax.train --config=configs/recommender_start/fitted_threshold.py:mini
"""

from configs.ablations import fitted_threshold


def get_config(argument: str = ""):
    config = fitted_threshold.get_config(argument)
    config.student.item_init = "recommender"
    return config
