"""The fine-tuned model with item rows that start from the recommender. Not in the paper.

The same as `dialogpt.py` (or `kgsf.py`, with `backbone=kgsf`), except that the recommender's item
vectors are added to the item rows before training, so the model knows from its first step which
items are alike. It shows how much of a recommendation teacher's help comes from its item vectors
alone, without distillation, turn tags or a second model. It is a control for the students of this
folder; their own dialogue teacher is the paper's, without this start.

KGSF's decoder and its copy term read the recommender's graph in any case; with this start, so do
the rows that score items.

    python -m conkd_jax.train --config=configs/recommender_start/fine_tuned.py:mini
    python -m conkd_jax.train --config=configs/recommender_start/fine_tuned.py:mini,backbone=kgsf
"""

from configs import dialogpt, kgsf


def get_config(argument: str = ""):
    config = dialogpt.get_config(argument)
    config.dialogue_teacher.item_init = "recommender"
    if config.backbone == "kgsf":
        config.paper_row = kgsf.get_config().paper_row  # the row of which this is a variant
    return config
