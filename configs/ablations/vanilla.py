"""A student trained by NLL alone: no teachers, no special tokens (Table 5, "Vanilla").

The baseline of the ablation. It has the same steps, schedule and initialisation as the other rows
and keeps the last step, whereas `kgsf.py` keeps the best one. Paper: F1@1/10/50 .012/.062/.155, Rec
Ratio .337, DIST-1/2/3/4 .029/.100/.176/.246, PPL 7.538.

    python -m conkd_jax.train --config=configs/ablations/vanilla.py:mini
    python -m conkd_jax.train --config=configs/ablations/vanilla.py:mini,backbone=dialogpt
"""

from configs.ablations import both_teachers


def get_config(argument: str = ""):
    config = both_teachers.get_config(argument)
    config.distill.gamma = 0.0
    config.paper_row = "Vanilla"
    return config
