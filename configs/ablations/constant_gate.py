"""A constant λ = .5 at every step, independent of the context (Table 5, "λ ↔ .5").

Both teachers and the special tokens, but no gate. Paper: F1@1/10/50 .021/.105/.245, Rec Ratio .471,
DIST-1/2/3/4 .031/.121/.219/.306, PPL 9.211.

    python -m conkd_jax.train --config=configs/ablations/constant_gate.py:mini
    python -m conkd_jax.train --config=configs/ablations/constant_gate.py:mini,backbone=dialogpt
"""

from configs.ablations import both_teachers_special_tokens


def get_config(argument: str = ""):
    config = both_teachers_special_tokens.get_config(argument)
    config.distill.gate = "constant"
    config.distill.constant = 0.5
    config.paper_row = "λ ↔ 0.5"
    return config
