"""A student without teachers, its recommender turns opened by [REC] and [GEN].

Not a row of the paper: beside `vanilla.py` it shows what the special tokens do alone, and beside
the full model what distillation adds to them.

    python -m conkd_jax.train --config=configs/ablations/vanilla_special_tokens.py:mini
"""

from configs.ablations import both_teachers_special_tokens


def get_config(argument: str = ""):
    config = both_teachers_special_tokens.get_config(argument)
    config.distill.gamma = 0.0
    return config
