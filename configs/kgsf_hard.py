"""KGSF + ConKD with the hard gate (Table 2, "KGSF + ConKD (hard)"; Table 5, "(+)D&R&ST").

One teacher at a time (eq. 6). Paper, three seeds: F1@1/10/50 .023/.111/.253, Rec Ratio .499, PPL
8.886, DIST-2/3/4 .138/.249/.344. The paper does not give η and γ for this backbone; η is fitted to
the dev split, γ is .4 as for DialoGPT.

    python -m conkd_jax.train --config=configs/kgsf_hard.py       # the paper's sizes: GPU, TPU
    python -m conkd_jax.train --config=configs/kgsf_hard.py:mini  # ReDial on 2 cores
"""

from conkd_jax import config as conkd


def get_config(argument: str = ""):
    config = conkd.from_argument(argument, backbone="kgsf")
    config.distill.gate = "hard"
    config.paper_row = "KGSF + ConKD (hard)"
    return config
