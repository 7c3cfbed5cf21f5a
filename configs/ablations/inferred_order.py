"""ConKD (hard, fitted η) whose dialogue teacher has read twice as many dialogues.

The data at hand have 4,729 further training dialogues whose texts are real, while who speaks when
was inferred (see docs/data_card.md). Here the dialogue teacher is trained on both kinds together.
Recommender and student see the exact ones only, as always. Is a small language model limited by how
much text it has read? Then its item mass should separate item steps better, and its student speak
better; `python -m conkd_jax.gate` shows the first, perplexity the second.

An epoch has about twice as many steps. To keep the steps instead of the epochs, give half of the
epochs (four instead of eight with `:mini`). Not in the paper; needs train_inferred_order.jsonl
beside the training file.

    python -m conkd_jax.train --config=configs/ablations/inferred_order.py:mini
    python -m conkd_jax.train --config=configs/ablations/inferred_order.py:mini,backbone=kgsf
"""

from configs.ablations import fitted_threshold


def get_config(argument: str = ""):
    config = fitted_threshold.get_config(argument)
    config.dialogue_teacher.use_inferred_order = True
    return config
