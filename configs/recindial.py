"""RecInDial, re-implemented from its description (Table 2, "RecInDial").

DialoGPT with two additions. A *knowledge-aware bias*: the items that the dialogue has mentioned are
pooled into a user vector t_u by self-attention over the vectors of an R-GCN, and t_u · n_i is added
to the logit of every item i. A *vocabulary pointer*: P_vp = σ(w · h_t + b) says at every step
whether an item comes next. The system is trained and scored without distillation:

1. The R-GCN and its pooling are trained to recommend, by cross-entropy over items, from mentioned
   items alone (`rec_teacher.context_nodes = items`, `use_concepts = False`).
2. The language model is trained on -log P(y), where P(y) is P_vp · softmax over items for an item
   and (1 - P_vp) · softmax over words for a word. On each token this is the sum of two losses of
   RecInDial: the cross-entropy under the mask of the gold token's class, and the pointer's binary
   cross-entropy.

Paper, three seeds: F1@1/10/50 .020/.099/.229, Rec Ratio .438, PPL 5.858, DIST-2/3/4
.065/.124/.183; 6.100 ms a token.

The repository that RecInDial's paper names (Wang et al. 2022, arXiv 2110.07477) holds a heading and
no code. These are our readings of the description, and departures from it:

* **Perplexity is reported with the pointer mixed in**, as in 2. Under the mask of decoding, a token
  that the pointer rejects has probability 0, and a single one makes the perplexity infinite. How
  the paper's 5.858 was computed is not known.
* **Decoding** masks words where P_vp ≥ .5 and items elsewhere, and takes the best token that is
  left (`decode.item_rule = class`). Tables therefore mark the runs with "+class".
* **The R-GCN is frozen** while the language model is trained, like those of the other systems here.
  The term α L_KG of RecInDial's loss is then constant and is left out.
* **An item also has an embedding of its own**, as in all our rows on DialoGPT. With published
  weights, it starts at the mean of its title's words.
* **Rows** are whole dialogues of up to 512 tokens, with a user vector for each response. RecInDial
  reads 256 tokens. Responses are those of every other row, of at most 30 tokens.
* **Movies without a DBpedia entity** are nodes without neighbours, and pooled like the others.
* **Training** of the recommender (learning rate, dropout, early stopping) is that of our other
  recommenders. The language model's learning rate of 1e-4 in the `paper` preset is our choice for
  fine-tuning, a tenth of the ConKD rows'.

    python -m conkd_jax.train --config=configs/recindial.py:mini
"""

from conkd_jax import config as conkd


def get_config(argument: str = ""):
    config = conkd.from_argument(argument, backbone="recindial")
    config.system = "dialogue_teacher"
    config.paper_row = "RecInDial"
    return config
