"""RecInDial + ConKD with the hard gate. Not in the paper.

The system of `recindial.py` as dialogue teacher and as student, whose recommender, an R-GCN over
the mentioned items, is the recommendation teacher. RecInDial already has a pointer between words
and items and a bias from the same recommender; this row asks what distillation adds to both. The
gate reads the teacher's item mass, which is its pointer P_vp. η is fitted to the dev split, since
the paper's .6 was chosen for another model.

    python -m conkd_jax.train --config=configs/recindial_hard.py:mini
"""

from conkd_jax import config as conkd


def get_config(argument: str = ""):
    config = conkd.from_argument(argument, backbone="recindial")
    config.distill.gate = "hard"
    config.distill.eta = 0.0  # fitted
    return config
