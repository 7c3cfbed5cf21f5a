"""ConKD (hard) with item rows that start from the recommender. Not in the paper.

The same as `dialogpt_hard.py`, except that the recommender's item vectors are added to the
student's item rows before training. Gate, threshold and both teachers are the paper's; the dialogue
teacher starts from titles, so that the gate and the labels are exactly those of the paper's rows,
which share teachers and store. It shows whether the gated distillation adds to a student that
already knows which items are alike (against `recommender_start/vanilla_special_tokens.py`), and
what the start adds to the distilled student (against `dialogpt_hard.py`).

The paper gives no η for KGSF; with `backbone=kgsf` it is fitted, and this is the same student as
`recommender_start/fitted_threshold.py`.

    python -m conkd_jax.train --config=configs/recommender_start/hard.py:mini
"""

from configs import dialogpt_hard, kgsf_hard


def get_config(argument: str = ""):
    config = dialogpt_hard.get_config(argument)
    config.student.item_init = "recommender"
    if config.backbone == "kgsf":
        config.paper_row = kgsf_hard.get_config().paper_row  # the row of which this is a variant
    return config
