"""The hard gate's threshold η from .02 to .6, scored on dev.

The paper gives η = .6 for DialoGPT and no value for KGSF; the list is ours, dense where the gates
of small teachers open. One run per value; teachers, store and classifier are shared. Writes
`sweep.md`, `sweep.json` and `sweep.png` beside the runs. `python -m conkd_jax.gate` tells the
precision and recall of the gate at each value.

    python -m conkd_jax.train --config=configs/sweeps/eta.py:mini
"""

from configs import kgsf_hard


def get_config(argument: str = ""):
    config = kgsf_hard.get_config(argument)
    config.evaluation.split = "dev"  # never choose a setting on the reported split
    config.sweep.field = "distill.eta"
    config.sweep.over = (0.02, 0.05, 0.1, 0.18, 0.3, 0.5, 0.6)
    config.paper_row = ""  # the paper has no sweep
    return config
