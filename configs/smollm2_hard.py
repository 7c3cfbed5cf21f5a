"""SmolLM2-135M + ConKD with the hard gate. Not in the paper.

Dialogue teacher and student are the SmolLM2 of `smollm2.py`, which has what to install. η is the
paper's .6, which was chosen for a teacher whose mean item mass on item steps is .65. Teachers that
are trained from scratch in the smaller presets rarely reach it; this row asks whether one that
knows English does. `--config.distill.eta=0` fits η to dev instead, and trains only another student.

    python -m conkd_jax.train --config=configs/smollm2_hard.py:mini
"""

from configs.smollm2 import smollm2


def get_config(argument: str = ""):
    config = smollm2(argument)
    config.distill.gate = "hard"
    return config
