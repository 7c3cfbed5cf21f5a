"""A constant λ = .5 with item rows that start from the recommender. Not in the paper.

The same as `ablations/constant_gate.py` ("λ ↔ .5"), except that the recommender's item vectors are
added to the student's item rows before training. It mixes both teachers at every step, whatever the
context. It shows whether the gate is worth having once the student knows which items are alike:
against `recommender_start/fitted_threshold.py`, the difference is when to follow the recommender.

    python -m conkd_jax.train --config=configs/recommender_start/constant_gate.py:mini
"""

from configs.ablations import constant_gate


def get_config(argument: str = ""):
    config = constant_gate.get_config(f"backbone=dialogpt,{argument}")
    config.student.item_init = "recommender"
    return config
