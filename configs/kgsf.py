"""KGSF trained as published: first its recommender, then its dialogue model (Table 2, "KGSF").

This system is also the dialogue teacher of the KGSF + ConKD rows, so it is trained only once.
Paper, three seeds: F1@1/10/50 .009/.045/.116, Rec Ratio .445, PPL 11.191, DIST-2/3/4
.168/.305/.420. The released code decodes with a copy layer that is not part of its training loss;
here training and decoding use the same sum.

    python -m conkd_jax.train --config=configs/kgsf.py:mini
"""

from conkd_jax import config as conkd


def get_config(argument: str = ""):
    config = conkd.from_argument(argument, backbone="kgsf")
    config.system = "dialogue_teacher"
    config.paper_row = "KGSF"
    return config
