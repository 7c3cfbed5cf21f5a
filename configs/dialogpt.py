"""DialoGPT fine-tuned on ReDial, with items as tokens, without distillation (Table 2, "DialoGPT").

This system is also the dialogue teacher of the ConKD rows, so it is trained only once. Paper,
three seeds: F1@1/10/50 .011/.070/.173, Rec Ratio .462, PPL 17.552, DIST-2/3/4 .206/.419/.595.

    python -m conkd_jax.train --config=configs/dialogpt.py:mini
"""

from conkd_jax import config as conkd


def get_config(argument: str = ""):
    config = conkd.from_argument(argument)
    config.system = "dialogue_teacher"
    config.paper_row = "DialoGPT"
    return config
