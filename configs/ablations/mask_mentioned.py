"""ConKD (hard, fitted η) whose recommender is not allowed to repeat what the dialogue has named.

A recommender favours the items that a dialogue has just mentioned far more often than references
repeat them. A student learns this habit with the rest, and F1@k rewards it. Here P_ψ is masked to
items that were not mentioned before the response, and renormalised, so that all it teaches is new
items. Labels and the dialogue teacher stay as they are, so a reference that repeats an item is
still learned, from them alone.

Beside `fitted_threshold`, which differs in the mask alone, it tells how much of what distillation
adds is repetition: read the scores without mentioned items (`f1@k_novel`) and the share of named
items that are repeated (`repeated_items`). Not in the paper.

    python -m conkd_jax.train --config=configs/ablations/mask_mentioned.py:mini
    python -m conkd_jax.train --config=configs/ablations/mask_mentioned.py:mini,backbone=kgsf
"""

from configs.ablations import fitted_threshold


def get_config(argument: str = ""):
    config = fitted_threshold.get_config(argument)
    config.distill.mask_mentioned = True
    return config
