"""Both teachers with the gate, without the special tokens [REC] and [GEN] (Table 5, "(+)D&R").

Shows the effect of the gate alone. Paper: F1@1/10/50 .020/.093/.200, Rec Ratio .313, DIST-1/2/3/4
.028/.097/.166/.232, PPL 6.349.

    python -m conkd_jax.train --config=configs/ablations/both_teachers.py:mini
    python -m conkd_jax.train --config=configs/ablations/both_teachers.py:mini,backbone=dialogpt
"""

from configs.ablations import both_teachers_special_tokens


def get_config(argument: str = ""):
    config = both_teachers_special_tokens.get_config(argument)
    config.student.turn_tags = False
    config.paper_row = "(+) D&R"
    return config
