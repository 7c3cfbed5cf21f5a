"""The hard gate's threshold η over the values the paper's search names, scored on dev.

The paper gives η = .6 for DialoGPT and nothing for KGSF. One run a value; teachers, store and
classifier are made once. Leaves `sweep.md`, `sweep.json` and `sweep.png` beside the runs.

    python -m conkd_jax.train --config=configs/sweeps/eta.py:mini
"""

from configs import kgsf_hard


def get_config(argument: str = ""):
    config = kgsf_hard.get_config(argument)
    config.distill.fit_eta = False
    config.evaluation.split = "dev"  # a setting is never chosen on the split that is reported
    config.sweep.field = "distill.eta"
    config.sweep.over = (0.1, 0.3, 0.5, 0.6)
    return config
