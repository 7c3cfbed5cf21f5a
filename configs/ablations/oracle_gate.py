"""ConKD with a gate that is never wrong: λ = 1 where the gold token is an item, else 0.

A gate has two ways to fail. It can miss the steps at which an item is due, or fire where a word is;
or it can find them and still choose between teachers that have little to say. This row removes the
first: every item is learned from the recommender, every word from the dialogue teacher. Beside
`fitted_threshold`, which differs in the gate alone, it tells how much a better detector of item
steps could add at most. Where the two are equal, the gate is good enough and the teachers are the
limit.

The gate looks at the gold token and is used in training only, as every gate is; the student decodes
without it. Not in the paper.

    python -m conkd_jax.train --config=configs/ablations/oracle_gate.py:mini
    python -m conkd_jax.train --config=configs/ablations/oracle_gate.py:mini,backbone=kgsf
"""

from configs.ablations import fitted_threshold


def get_config(argument: str = ""):
    config = fitted_threshold.get_config(argument)
    config.distill.gate = "oracle"
    return config
