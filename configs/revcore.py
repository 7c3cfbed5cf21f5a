"""RevCore: KGSF, with a review of each mentioned movie in the context (Table 2, "RevCore").

A review follows each mention of its movie in the context, never in a response. The encoder reads
the context with its reviews, and the reviews once more alone; their pooled states are the input of
a third term in the logits, beside KGSF's two, which raises the words of these reviews alone
(`models/revcore.py` has the formulas). The recommender is KGSF's, and the concepts of the reviews
are among those that it reads. All three terms are trained and decoded.
Paper, three seeds: F1@1/10/50 .008/.044/.109, Rec Ratio .203, PPL 9.283, DIST-2/3/4
.098/.170/.235; its recommender alone has R@1/10/50 .052/.195/.341.

What the released code does instead, as we read it:

* Its review encoder is inert. Review words are recognised by a mark ("#"), the line that sets it is
  commented out, and no published review has one. So the second encoder pass sees padding only, the
  pooled reviews do not depend on the reviews, and the third term is added to the padding token.
* Training uses the word logits alone, as in KGSF, and decoding adds two terms that were never
  trained.
* Responses get reviews too and keep their last 30 tokens, so that targets are often review text.
* The last 20 tokens of every message are skipped when its movies are looked up, in order to skip a
  review; in a short message without a reviewed movie these are its movies.
* The mask of review words keeps the head of a long context, while the tokens keep its tail.
* The checkpoint is the one with the smallest dist-4 on test.

None of this is done here. Of the reviews, the recommender reads the concepts alone; the pooled
reviews never reach it, here or in the released code.

Reviews are RevCore's own by default, `movie2tokenreview_helpful.pkl` in the folder of raw files:
the first 20 tokens of a review of 2,711 movies, of which 18 are blank. They belong to 30 % of the
mentions in training, so 42 % of the contexts have at least one. Another source is set by
`--config.corpus.reviews=FILE.jsonl` (format: `data_prep/reviews.py`), and the run is then named
after it. The sentiment of a movie's mention is not predicted, as in the paper; a review with a
rating is left out if the rating is low. Words of reviews are part of the word list, which grows by
a quarter. `:demo` generates reviews.

    python -m conkd_jax.train --config=configs/revcore.py:mini
"""

from conkd_jax import config as conkd


def get_config(argument: str = ""):
    config = conkd.from_argument(argument, backbone="revcore")
    config.system = "dialogue_teacher"
    config.paper_row = "RevCore"
    return config
