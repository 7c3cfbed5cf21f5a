"""The scores of all items at the item steps of gold responses, by a trained system's models.

The evaluation keeps the rank of the gold item only; here the whole list is computed again, for
analyses of which items a system prefers. Nothing is trained or written.
"""

from __future__ import annotations

import functools

import jax
import numpy as np

from conkd_jax.data.rows.contract import Rows
from conkd_jax.eval.cold_items.steps import ItemSteps
from conkd_jax.eval.scoring import response_features
from conkd_jax.models.backbone import Backbone
from conkd_jax.stages.systems.system import System

SCORING_ROWS = 16  # rows that are scored at once
STEPS_AT_A_TIME = 512


def language_model_steps(system: System, split: str) -> ItemSteps:
    """The model's scores at the item steps of a split, in the order of its responses.

    Gold items beyond the last token of a response that was cut have no step, whatever the system.
    Those of item-first rows are chosen before the text, so their steps are there: one for each
    different item (`Rows.choices_of`).
    """
    dialogues = system.corpus.dialogues(split)
    rows, words, model = system.rows_of(dialogues), system.vocabulary, system.model
    head = model.head().items(words.num_words)
    kernel, bias = np.asarray(head.kernel), np.asarray(head.bias)
    responses, tokens, features = [], [], []
    for ids, batch in model.batches(rows, system.form, SCORING_ROWS):
        count = int(batch["num_tokens"])
        is_choice = batch.get("is_choice", np.ones(len(batch["labels"])))[:count] > 0
        at_items = np.flatnonzero(is_choice & (batch["labels"][:count] >= words.num_words))
        computed = np.asarray(_features(model.variables, batch, model=model.model))
        features.append(computed[at_items, : len(kernel)].astype(np.float32))
        tokens.append(batch["labels"][at_items] - words.num_words)
        responses.append(ids[batch["response_index"][at_items]])
    response, token = np.concatenate(responses), np.concatenate(tokens)
    order = np.argsort(response, kind="stable")
    candidates = words.item_candidates
    scores = np.full((len(order), len(system.corpus.items)), -np.inf, np.float32)
    scores[:, candidates] = np.concatenate(features)[order] @ kernel.astype(np.float32) + bias
    missed = _without_token(system, split, rows)
    return ItemSteps(response[order], candidates[token[order]], scores, *missed)


def recommender_steps(system: System, split: str, steps: ItemSteps) -> ItemSteps:
    """The recommender's scores at the same steps; it gives every step of a response one list.

    Gold items without a token are steps of their own here, since the recommender ranks them.
    """
    dialogues = system.corpus.dialogues(split)
    recommender = system.recommender
    vectors = recommender.user_vectors(recommender.spec.contexts(dialogues, system.corpus))
    response = np.concatenate([steps.response, steps.missed_response])
    scores = [
        recommender.scores(vectors[response[start : start + STEPS_AT_A_TIME]])
        for start in range(0, len(response), STEPS_AT_A_TIME)
    ]
    gold = np.concatenate([steps.gold, steps.missed_gold])
    return ItemSteps(response, gold, np.concatenate(scores))


@functools.partial(jax.jit, static_argnames="model")
def _features(variables, batch, *, model: Backbone) -> jax.Array:
    return response_features(model, variables, batch)


def _without_token(system: System, split: str, rows: Rows) -> tuple[np.ndarray, np.ndarray]:
    """Responses and gold items, where the item has no token."""
    dialogues = {each.conversation_id: each for each in system.corpus.dialogues(split)}
    has_token = set(system.vocabulary.item_candidates.tolist())
    found = [
        (number, item)
        for number, (conversation, turn) in enumerate(rows.response_keys)
        for item in dialogues[conversation].turns[turn].items
        if item not in has_token
    ]
    pairs = np.array(found, np.int64).reshape(-1, 2)
    return pairs[:, 0], pairs[:, 1]
