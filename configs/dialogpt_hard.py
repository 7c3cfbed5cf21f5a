"""DialoGPT + ConKD with the hard gate (Table 2, "DialoGPT + ConKD (hard)").

At every token of a response the student follows one teacher: the recommender where the dialogue
teacher puts at least η of its mass on items, the dialogue teacher elsewhere (eq. 6). Paper, three
seeds: F1@1/10/50 .022/.116/.243, Rec Ratio .525, PPL 12.412, DIST-2/3/4 .179/.344/.489.

    python -m conkd_jax.train --config=configs/dialogpt_hard.py       # the paper's: GPU, TPU
    python -m conkd_jax.train --config=configs/dialogpt_hard.py:mini  # ReDial, 1-2 hours on 2 cores
    python -m conkd_jax.train --config=configs/dialogpt_hard.py:demo  # synthetic, 5 minutes
"""

from conkd_jax import config as conkd


def get_config(argument: str = ""):
    config = conkd.from_argument(argument)
    config.distill.gate = "hard"
    config.paper_row = "DialoGPT + ConKD (hard)"
    return config
