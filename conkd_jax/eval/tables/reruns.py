"""Results of CRSLab on ReDial, to stand below the paper's rows of the same systems.

CRSLab is the toolkit that most papers take ReDial, KBRD and KGSF from. Its README has results on
TG-ReDial alone, which is another corpus, in Chinese. What is known of its systems on ReDial was
reported by users in its issues. Metrics have this project's names:

* `recall@k` is CRSLab's hit@k on test. Like ours, it has one sample for each movie of a turn of the
  recommender, but movies without a DBpedia entity are neither targets nor candidates.
* `dist-n_original` is its dist@n, the distinct n-grams over the number of responses, as in Table 8.
  Its evaluator counts n-grams of characters (issue 42); only numbers of words are given here.

Nothing in it measures items in responses, and it computes no perplexity on test.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping


@dataclasses.dataclass(frozen=True)
class Rerun:
    """What somebody else measured with another implementation of a system.

    Attributes:
      name: what a table calls it.
      source: where it was published.
      metrics: its numbers, by our names.
    """

    name: str
    source: str
    metrics: Mapping[str, float]


RERUNS: Mapping[str, Rerun] = {  # by the paper's name of the system
    # CRSLab's default settings, which stopped early after 8 epochs; without pretraining on
    # MovieLens. With all 50 epochs: 0, .00025 and .0602.
    "ReDial": Rerun(
        "CRSLab: ReDial",
        "https://github.com/RUCAIBox/CRSLab/issues/69 (27 February 2023)",
        {"recall@1": 0.00025, "recall@10": 0.009493, "recall@50": 0.08818},
    ),
    # By a user who had corrected DIST to count words.
    "KGSF": Rerun(
        "CRSLab: KGSF",
        "https://github.com/RUCAIBox/CRSLab/issues/44 (13 June 2022)",
        {
            "recall@1": 0.03647,
            "recall@10": 0.1791,
            "recall@50": 0.3615,
            "dist-2_original": 1.244,
            "dist-3_original": 2.06,
            "dist-4_original": 2.544,
        },
    ),
}
