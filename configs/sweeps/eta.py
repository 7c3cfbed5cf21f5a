"""The hard gate's threshold η over .1, .3, .5 and .6, scored on dev.

The paper gives η = .6 for DialoGPT and no value for KGSF; the list is ours. One run per value;
teachers, store and classifier are shared. Writes `sweep.md`, `sweep.json` and `sweep.png` beside
the runs.

    python -m conkd_jax.train --config=configs/sweeps/eta.py:mini
"""

from configs import kgsf_hard


def get_config(argument: str = ""):
    config = kgsf_hard.get_config(argument)
    config.evaluation.split = "dev"  # never choose a setting on the reported split
    config.sweep.field = "distill.eta"
    config.sweep.over = (0.1, 0.3, 0.5, 0.6)
    config.paper_row = ""  # the paper has no sweep
    return config
