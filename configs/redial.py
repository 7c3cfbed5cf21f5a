"""ReDial: a hierarchical recurrent encoder, AutoRec and a switching decoder (Table 2, "ReDial").

The oldest system of the tables (Li et al. 2018). A bidirectional GRU reads the words of each
utterance, a GRU the utterances with their senders; a GRU decoder chooses at every step between
saying a word and recommending a movie (a class-factored softmax). Which movie, AutoRec says from
the probabilities that the seeker likes the movies mentioned so far, and those come from a sentiment
model trained on the questionnaires that both speakers fill in. The model reads what was said before
a response and never the response itself, so its AutoRec is one utterance behind.

Where this departs from the released code:

* A movie is one token, read, targeted and scored once. There it is its lower-cased title, and the
  target at each of the title's words is the movie.
* Words start from word2vec on the training turns: the weights of the sentence encoder that the
  released code reads (GenSen) can no longer be downloaded. The word list is counted on train; the
  released one (15,000 words) on validation and test as well.
* The loss counts real tokens only; theirs counts padding. Dialogue model and AutoRec are trained
  together there and here; the sentiment model is frozen in both.
* Movies that the dialogue has named are not treated in a special way. The released decoder draws
  movies at random, forbids those that the model has said, and sets the logit of those mentioned
  earlier to 0, which does not mask them. Both can be forbidden here
  (`--config.decode.allow_repeated_items=False`, `--config.decode.allow_mentioned_items=False`);
  decoding is greedy.
* AutoRec is pretrained on MovieLens where the user has it (`autorec.movielens_dir`). Otherwise it
  is trained on the questionnaires alone, and the run prints that it is.
* A dialogue without the seeker's questionnaire is left out when AutoRec is trained by itself, and
  one that lacks either questionnaire when the sentiment model is. The dialogue model is trained on
  all dialogues.

Paper, three seeds: F1@1/10/50 .002/.019/.043, Rec Ratio .014, PPL 17.577, DIST-2/3/4
.075/.123/.166.

    python -m conkd_jax.train --config=configs/redial.py:mini
"""

from conkd_jax import config as conkd


def get_config(argument: str = ""):
    config = conkd.from_argument(argument, backbone="redial")
    config.system = "dialogue_teacher"
    config.paper_row = "ReDial"
    return config
