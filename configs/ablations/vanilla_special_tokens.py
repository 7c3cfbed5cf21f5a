"""A student without teachers, with the special tokens [REC] and [GEN].

Not in the paper. The comparison with `vanilla.py` shows the effect of the special tokens, the
comparison with the full model that of distillation.

    python -m conkd_jax.train --config=configs/ablations/vanilla_special_tokens.py:mini
"""

from configs.ablations import both_teachers_special_tokens


def get_config(argument: str = ""):
    config = both_teachers_special_tokens.get_config(argument)
    config.distill.gamma = 0.0
    config.paper_row = ""  # not in the paper
    return config
