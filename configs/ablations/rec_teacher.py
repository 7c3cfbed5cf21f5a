"""The recommendation teacher alone: λ = 1 at every step, words included (Table 5, "(+)R").

Every word of a response is pulled towards items as well. Paper: F1@1/10/50 .019/.066/.146, Rec
Ratio .293, DIST-1/2/3/4 .019/.066/.115/.164, PPL 12.331.

    python -m conkd_jax.train --config=configs/ablations/rec_teacher.py:mini
    python -m conkd_jax.train --config=configs/ablations/rec_teacher.py:mini,backbone=dialogpt
"""

from configs.ablations import both_teachers


def get_config(argument: str = ""):
    config = both_teachers.get_config(argument)
    config.distill.gate = "constant"
    config.distill.constant = 1.0
    config.paper_row = "(+) R"
    return config
