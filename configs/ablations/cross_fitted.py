r"""ConKD (hard, fitted η) with training responses labelled by recommenders not trained on them.

A recommender memorises its training dialogues and is overconfident on them. With K folds, each part
of train is labelled by a recommender trained on the other parts. With three folds each recommender
has seen two thirds of train; with ten, nine tenths, at the price of ten recommenders. AutoRec
(`:mini,backbone=redial`) reads a sentiment model, which is trained for each fold as well. Not in
the paper.

    python -m conkd_jax.train --config=configs/ablations/cross_fitted.py:mini
    python -m conkd_jax.train --config=configs/ablations/cross_fitted.py:mini \
        --config.rec_teacher.cross_fit_folds=10
"""

from configs.ablations import fitted_threshold


def get_config(argument: str = ""):
    config = fitted_threshold.get_config(argument)
    config.rec_teacher.cross_fit_folds = 3
    return config
