"""SmolLM2-135M + ConKD with the soft gate. Not in the paper.

Dialogue teacher and student are the SmolLM2 of `smollm2.py`, which has what to install. At every
token the student follows both teachers, the recommender in proportion to the dialogue teacher's
mass on items (eq. 7). Costs the same as `smollm2_hard.py` and shares its teachers.

    python -m conkd_jax.train --config=configs/smollm2_soft.py:mini
"""

from configs.smollm2 import smollm2


def get_config(argument: str = ""):
    config = smollm2(argument)
    config.distill.gate = "soft"
    return config
