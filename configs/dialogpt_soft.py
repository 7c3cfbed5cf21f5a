"""DialoGPT + ConKD with the soft gate (Table 2, "DialoGPT + ConKD (soft)").

At every token the student follows both teachers, the recommender in proportion to the dialogue
teacher's mass on items (eq. 7). Paper, three seeds: F1@1/10/50 .019/.102/.222, Rec Ratio
.505, PPL 12.336, DIST-2/3/4 .180/.350/.505. Costs the same as `dialogpt_hard.py` and shares its
teachers.

    python -m conkd_jax.train --config=configs/dialogpt_soft.py:mini
"""

from conkd_jax import config as conkd


def get_config(argument: str = ""):
    config = conkd.from_argument(argument)
    config.distill.gate = "soft"
    config.paper_row = "DialoGPT + ConKD (soft)"
    return config
