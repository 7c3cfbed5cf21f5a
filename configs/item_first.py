"""Item first, without distillation: intent, items, then the words that name them.

Not in the paper. The student's rows list the items of a response directly after its tag, and the
text follows: "[REC] @A @B END You should see @A and @B . END" (`conkd_jax/data/rows/picks.py`).
Which item is decided before any word, instead of in the middle of a sentence, as in "Generative
Conversational Recommender System" (arXiv 2605.21987). Backbone, budget, turn classifier, decoder
and scorer are those of all other rows, so that only the format differs. The text alone is scored,
with the rankings of the steps at which its items were picked; `docs/metrics.md` says how
perplexities stay comparable.

It is the control of `item_first_hard.py`, and beside `ablations/vanilla_special_tokens.py` it shows
what the format alone does. With `--config.system=dialogue_teacher` the dialogue teacher itself is
scored. It has no tags, so its first token is the intent: an item, or a word.

    python -m conkd_jax.train --config=configs/item_first.py:mini
    python -m conkd_jax.train --config=configs/item_first.py:mini --config.system=dialogue_teacher
"""

from configs import item_first_hard


def get_config(argument: str = ""):
    config = item_first_hard.get_config(argument)
    config.distill.gamma = 0.0
    return config
