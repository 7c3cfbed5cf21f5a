"""γ, the weight of the teachers against the label (eq. 10), over .2, .4, .6 and .8, scored on dev.

The paper gives γ = .4 for DialoGPT and no value for KGSF; the list is ours. One run per value;
teachers, store and classifier are shared. Writes `sweep.md`, `sweep.json` and `sweep.png` beside
the runs.

    python -m conkd_jax.train --config=configs/sweeps/gamma.py:mini
"""

from configs import kgsf_hard


def get_config(argument: str = ""):
    config = kgsf_hard.get_config(argument)
    config.evaluation.split = "dev"  # never choose a setting on the reported split
    config.sweep.field = "distill.gamma"
    config.sweep.over = (0.2, 0.4, 0.6, 0.8)
    config.paper_row = ""  # the paper has no sweep
    return config
