"""KBRD trained as published: first its recommender, then its dialogue model (Table 2, "KBRD").

The recommender pools the DBpedia nodes of what the dialogue has mentioned into a user vector t_u.
The dialogue model is a transformer over the whole history; t_u enters only its output layer, as a
vocabulary bias b_u = W₂ relu(W₁ t_u + b₁) + b₂ that is the same at every step of a response. Paper,
three seeds: F1@1/10/50 .009/.045/.109, Rec Ratio .317, PPL 19.039, DIST-2/3/4 .123/.223/.304; of
the recommender, R@1/10/50 .034/.168/.360.

Where this departs from the released code: a movie is a token of its own in the text (there it is an
unknown word, and titles are filled in afterwards), so that an item step has a distribution over
movies; Adam with 1e-3 trains the dialogue model (the released script names no optimizer, which
makes it ParlAI's default, SGD with 1); entities are linked by the labels of the graph, since
KBRD's own links were never published; a response that opens a dialogue is no sample. The presets
below `paper` read 256 tokens of the history and take the recommender's softmax over the movies,
which costs a seventh of the softmax over all entities
(--config.rec_teacher.score_over=entities).

    python -m conkd_jax.train --config=configs/kbrd.py       # the paper's sizes: GPU, TPU
    python -m conkd_jax.train --config=configs/kbrd.py:mini  # ReDial on 2 cores
"""

from conkd_jax import config as conkd


def get_config(argument: str = ""):
    config = conkd.from_argument(argument, backbone="kbrd")
    config.system = "dialogue_teacher"
    config.paper_row = "KBRD"
    return config
