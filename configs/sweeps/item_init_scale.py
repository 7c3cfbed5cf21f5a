"""The scale of the start from the recommender over 0, .75, 1.5, 3 and 6, scored on dev.

For `recommender_start/vanilla_special_tokens.py`, a student without teachers, trained for three
epochs: the start matters most early, and here it is all that tells the runs apart. The scale is in
standard deviations of the embedding; 0 adds nothing. Not in the paper. Writes `sweep.md`,
`sweep.json` and `sweep.png` beside the runs.

    python -m conkd_jax.train --config=configs/sweeps/item_init_scale.py:mini
"""

from configs.recommender_start import vanilla_special_tokens


def get_config(argument: str = ""):
    config = vanilla_special_tokens.get_config(argument)
    config.student.epochs = 3
    config.evaluation.split = "dev"  # never choose a setting on the reported split
    config.sweep.field = "student.item_init_scale"
    config.sweep.over = (0.0, 0.75, 1.5, 3.0, 6.0)
    return config
