"""ConKD distilled into KBRD, with the hard gate: a row that is not in the paper.

KBRD's logits are affine in its features, so it can be taught as it is, like any backbone here: the
student is a KBRD model, one of its teachers is `kbrd`, the other is KBRD's own recommender. The
paper distils into KGSF and DialoGPT; this row says whether the method needs their strengths. In
KBRD the recommender already reaches every logit through the vocabulary bias, which is the same at
word steps and item steps; what distillation adds is when to follow it. η is fitted to the dev split
and γ is .4, as for the KGSF backbone.

    python -m conkd_jax.train --config=configs/kbrd_hard.py:mini
"""

from configs import kbrd


def get_config(argument: str = ""):
    config = kbrd.get_config(argument)
    config.system = "student"
    config.distill.gate = "hard"
    config.paper_row = ""
    return config
