"""The map of the start from the recommender: random, PCA or least squares, scored on dev.

For `recommender_start/vanilla_special_tokens.py`, a student without teachers, trained for three
epochs, as in `item_init_scale.py`. `models.item_rows` says what each map keeps: where the embedding
is as wide as the item vectors or wider, random and PCA keep inner products, and differ in whether
single coordinates have a meaning; least squares aligns items with the words of their titles, which
only a pretrained embedding, or KGSF's word vectors, make meaningful. Not in the paper. Writes
`sweep.md`, `sweep.json` and `sweep.png` beside the runs.

    python -m conkd_jax.train --config=configs/sweeps/item_init_map.py:mini
"""

from configs.sweeps import item_init_scale


def get_config(argument: str = ""):
    config = item_init_scale.get_config(argument)
    config.sweep.field = "student.item_init_map"
    config.sweep.over = ("random", "pca", "least_squares")
    return config
