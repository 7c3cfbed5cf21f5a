"""Item first + ConKD (hard): the recommender teaches the picks, the dialogue teacher the rest.

Not in the paper. The rows of `item_first.py` with the gated distillation of `dialogpt_hard.py`. The
dialogue teacher and the teacher store are of item-first rows too. Its item mass at the first token
of a response is the probability of a recommendation, and the gate opens there and at further picks.
In a text the items are given, so λ = 0 there: the recommender's distribution would teach the
student to name something other than its picks.

η is fitted to the picks of the dev split on either backbone. The paper's .6 suits a mass that is
near 0 or 1, but the first token of every response is a choice here, at which the teacher is unsure.

    python -m conkd_jax.train --config=configs/item_first_hard.py:mini
"""

from configs import dialogpt_hard


def get_config(argument: str = ""):
    config = dialogpt_hard.get_config(argument)
    config.vocabulary.max_picks = 16  # no turn of ReDial has more than 11 in train, 5 in valid
    config.distill.eta = 0.0  # fitted
    config.paper_row = ""  # not in the paper
    return config
