"""The dialogue teacher alone: λ = 0 at every step (Table 5, "(+)D").

Paper: F1@1/10/50 .017/.063/.165, Rec Ratio .334, DIST-1/2/3/4 .029/.100/.172/.241, PPL 7.071.

    python -m conkd_jax.train --config=configs/ablations/dialogue_teacher.py:mini
    python -m conkd_jax.train --config=configs/ablations/dialogue_teacher.py:mini,backbone=dialogpt
"""

from configs.ablations import both_teachers


def get_config(argument: str = ""):
    config = both_teachers.get_config(argument)
    config.distill.gate = "constant"
    config.distill.constant = 0.0
    config.paper_row = "(+) D"
    return config
