"""Perplexity of generated text under a fixed judge, beside how diverse it is.

The perplexity that an evaluation reports is of the references, so it does not depend on how
responses are decoded. Whether generated text is fluent is asked here in the usual way: a fixed
language model reads it (Holtzman et al., 2020). The judge is the run's own dialogue teacher, which
all systems with the same teachers share. It knows the domain, and it is partial to text like its
own. A low perplexity is no virtue by itself: the references have one too, and text far below it is
repetitive. Nothing is trained or written here.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import msgspec
import numpy as np

from conkd_jax.config.parts import SearchConfig
from conkd_jax.data.corpus import RECOMMENDER, Dialogue, Turn, responses
from conkd_jax.data.mentions import tokens
from conkd_jax.eval.metrics.options import options_from_corpus
from conkd_jax.eval.metrics.run_metrics import run_statistics
from conkd_jax.eval.prediction_checks import mentioned_ids
from conkd_jax.eval.predictions import Prediction
from conkd_jax.stages.evaluation import (
    SCORING_ROWS,
    EvaluationSettings,
    answers,
    prediction_of,
)
from conkd_jax.stages.systems.system import System, spread_evenly
from conkd_jax.stages.systems.system_on_split import SystemOnSplit

KEPT = (  # metrics of responses that decoding changes
    *("dist-1", "dist-2", "dist-3", "dist-4", "generated_length", "items_per_response"),
    *("rec_ratio", "distinct_items"),
    *("f1@1", "f1@10", "f1@50", "f1@10_novel"),
)


def judged(system: System, dialogues: Sequence[Dialogue]) -> dict[str, float]:
    """Perplexities of the last turns of dialogues under the dialogue teacher.

    exp of the mean NLL over all their tokens, ends included: `judge_ppl`; over those that are no
    items: `judge_ppl_word`.

    Args:
      system: the run's; its dialogue teacher judges.
      dialogues: each ends with the text to judge, a turn of the recommender.
    """
    rows = system.rows_of(dialogues)
    scored = system.dialogue_teacher.score(rows, "teacher", SCORING_ROWS)
    last = np.cumsum([len(responses(dialogue)) for dialogue in dialogues]) - 1
    is_judged = np.isin(scored.response_index, last)
    is_word = is_judged & ~scored.is_item
    return {
        "judge_ppl": math.exp(scored.nll[is_judged].mean(dtype=np.float64)),
        "judge_ppl_word": math.exp(scored.nll[is_word].mean(dtype=np.float64)),
        "judged_tokens": float(is_judged.sum()),
    }


def decoded_and_judged(
    settings: EvaluationSettings, opened: SystemOnSplit, search: SearchConfig
) -> dict[str, float]:
    """Generates the responses of a split by a search; returns their metrics and perplexities."""
    chosen = dataclasses.replace(settings, search=search)
    said = {
        response: prediction_of(opened, response, decoded)
        for response, decoded in answers(chosen, opened)
    }
    return _measured(settings, opened, said)


def references_judged(settings: EvaluationSettings, opened: SystemOnSplit) -> dict[str, float]:
    """The same of the references to those responses, as if a system had said them."""
    said = {}
    wanted = spread_evenly(opened.rows.num_responses, settings.max_responses or None)
    for response in wanted.tolist():
        reference = opened.reference(response)
        text = reference.reference
        said[response] = msgspec.structs.replace(
            reference,
            generated=text,
            generated_tokens=tuple(tokens(text)),
            generated_items=tuple(mentioned_ids(text)),
        )
    return _measured(settings, opened, said)


def _measured(
    settings: EvaluationSettings, opened: SystemOnSplit, said: dict[int, Prediction]
) -> dict[str, float]:
    options = options_from_corpus(
        opened.system.corpus, max_response_tokens=settings.rows.max_response_tokens
    )
    metrics = run_statistics(iter(said.values()), options).metrics()
    dialogues = []
    for response, prediction in said.items():
        dialogue, turn = opened.dialogue_and_turn(response)
        answer = Turn(RECOMMENDER, prediction.generated)
        dialogues.append(Dialogue(f"{response}", (*dialogue.turns[:turn], answer)))
    found = {name: float(metrics[name]) for name in KEPT if name in metrics}
    return found | judged(opened.system, dialogues)
