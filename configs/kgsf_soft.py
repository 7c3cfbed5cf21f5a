"""KGSF + ConKD with the soft gate (Table 2, "KGSF + ConKD (soft)").

Both teachers at every token, in proportion to the item mass (eq. 7). Paper, three seeds: F1@1/10/50
.023/.108/.248, Rec Ratio .479, PPL 8.689, DIST-2/3/4 .132/.236/.326. Shares the teachers of
`kgsf_hard.py`.

    python -m conkd_jax.train --config=configs/kgsf_soft.py:mini
"""

from configs import kgsf_hard


def get_config(argument: str = ""):
    config = kgsf_hard.get_config(argument)
    config.distill.gate = "soft"
    config.paper_row = "KGSF + ConKD (soft)"
    return config
