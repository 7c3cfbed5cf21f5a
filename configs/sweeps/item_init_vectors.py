"""The vectors of the start from the recommender: with the items' biases or without, scored on dev.

For `recommender_start/vanilla_special_tokens.py`, a student without teachers, trained for three
epochs, as in `item_init_scale.py`. An item's bias in eq. 4 is close to its popularity, which a
student soon learns by itself: the sweep says whether it helps or harms to have it in the rows. Not
in the paper. Writes `sweep.md`, `sweep.json` and `sweep.png` beside the runs.

    python -m conkd_jax.train --config=configs/sweeps/item_init_vectors.py:mini
"""

from configs.sweeps import item_init_scale


def get_config(argument: str = ""):
    config = item_init_scale.get_config(argument)
    config.sweep.field = "student.item_init_vectors"
    config.sweep.over = ("kernel", "kernel_and_bias")
    return config
