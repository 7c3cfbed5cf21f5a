"""ConKD (soft) with item rows that start from the recommender. Not in the paper.

The same as `dialogpt_soft.py`, except that the recommender's item vectors are added to the
student's item rows before training. The soft gate has no threshold, so nothing depends on how much
mass the dialogue teacher puts on items except the weight of the recommender. Beside
`recommender_start/hard.py` it shows whether the order of hard and soft gate survives the start.

    python -m conkd_jax.train --config=configs/recommender_start/soft.py:mini
"""

from configs import dialogpt_soft, kgsf_soft


def get_config(argument: str = ""):
    config = dialogpt_soft.get_config(argument)
    config.student.item_init = "recommender"
    if config.backbone == "kgsf":
        config.paper_row = kgsf_soft.get_config().paper_row  # the row of which this is a variant
    return config
