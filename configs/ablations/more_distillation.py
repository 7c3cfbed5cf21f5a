"""ConKD (hard, fitted η) with γ = .7: more from the teachers, less from the label (eq. 10).

The constant λ of Table 5 follows the recommender at half strength at every step, the hard gate at
full strength at few. So a row with a constant gate and one with a hard gate differ in how much is
learned from the recommender, not only in where. With γ = .7 the gate keeps its place and the
teachers count 1.75 times as much as with the paper's .4: if this row gains what a constant gate
does, strength is what mattered.

`configs/sweeps/gamma.py` tries more values, on KGSF. Not in the paper.

    python -m conkd_jax.train --config=configs/ablations/more_distillation.py:mini
    python -m conkd_jax.train --config=configs/ablations/more_distillation.py:mini,backbone=kgsf
"""

from configs.ablations import fitted_threshold


def get_config(argument: str = ""):
    config = fitted_threshold.get_config(argument)
    config.distill.gamma = 0.7
    return config
