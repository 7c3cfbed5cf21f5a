"""The start from the recommender and the special tokens, without any teacher. Not in the paper.

The same as `ablations/vanilla_special_tokens.py`, except that the recommender's item vectors are
added to the student's item rows before training. It shows what the start alone is worth. The other
students of this folder have to be read against it: only what they add to it is distillation, and
what it adds to `ablations/vanilla_special_tokens.py` is the start.

    python -m conkd_jax.train --config=configs/recommender_start/vanilla_special_tokens.py:mini
"""

from configs.ablations import vanilla_special_tokens


def get_config(argument: str = ""):
    config = vanilla_special_tokens.get_config(f"backbone=dialogpt,{argument}")
    config.student.item_init = "recommender"
    return config
