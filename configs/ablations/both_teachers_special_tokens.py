"""Both teachers and the special tokens: the full ConKD with the hard gate (Table 5, "(+)D&R&ST").

The same student as `kgsf_hard.py` (with `backbone=dialogpt`: as `dialogpt_hard.py`), so it is not
trained again if that one exists. Paper: F1@1/10/50 .023/.111/.253, Rec Ratio .499, DIST-1/2/3/4
.035/.138/.249/.344, PPL 8.886.

    python -m conkd_jax.train --config=configs/ablations/both_teachers_special_tokens.py:mini
"""

from configs import kgsf_hard


def get_config(argument: str = ""):
    config = kgsf_hard.get_config(argument)
    config.paper_row = "(+) D&R&ST"
    return config
