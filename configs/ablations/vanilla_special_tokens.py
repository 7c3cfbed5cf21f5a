"""A student without teachers, with recommender turns opened by [REC] and [GEN].

Not in the paper. Compared with `vanilla.py` it shows the effect of the special tokens, compared
with the full model the effect of distillation.

    python -m conkd_jax.train --config=configs/ablations/vanilla_special_tokens.py:mini
"""

from configs.ablations import both_teachers_special_tokens


def get_config(argument: str = ""):
    config = both_teachers_special_tokens.get_config(argument)
    config.distill.gamma = 0.0
    config.paper_row = ""  # not in the paper
    return config
