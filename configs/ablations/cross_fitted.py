"""ConKD (hard, fitted η) with training responses labelled by recommenders not trained on them.

A recommender memorises its training dialogues and is overconfident on them. With K folds, each part
of train is labelled by a recommender trained on the other parts. Not in the paper.

    python -m conkd_jax.train --config=configs/ablations/cross_fitted.py:mini
"""

from configs.ablations import fitted_threshold


def get_config(argument: str = ""):
    config = fitted_threshold.get_config(argument)
    config.rec_teacher.cross_fit_folds = 3
    return config
