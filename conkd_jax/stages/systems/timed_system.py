"""Prepares a trained system for the timing in `eval.latency`: its decoder and its questions."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np

from conkd_jax.config import DecodeConfig
from conkd_jax.data.rows.contract import Rows
from conkd_jax.eval.latency import TimedDecoder, TimedSystem, build_questions
from conkd_jax.stages import turn_classifier
from conkd_jax.stages.systems.system import System, prompt_buckets, spread_evenly


def timed_system(
    system: System, split: str, decode: DecodeConfig, num_responses: int
) -> TimedSystem:
    """Loads a system's models, and builds questions from histories spread over a split.

    Args:
      system: the system of a run.
      split: the split of the histories.
      decode: the run's decoding; its constraints on items are ignored.
      num_responses: the most histories.
    """
    rows = system.rows_of(system.corpus.dialogues(split))
    wanted = spread_evenly(rows.num_responses, num_responses)
    model, longest = system.model, system.rows.longest_prompt(decode.max_tokens)
    # Gold tags: they don't affect the time, and the classifier is timed separately.
    opening = system.openings(rows.response_is_rec[wanted])
    classify = context = None
    if system.has_tags:
        classify, context = _classifier(system, rows, wanted)
    singles, batches, shares = build_questions(
        rows.prompts(wanted.tolist(), opening.tolist(), longest, system.form),
        prompt_buckets(longest),
        decode.batch_size,
        context,
    )
    decoder = TimedDecoder(
        model.model,
        model.variables,
        model.head(),
        num_words=system.vocabulary.num_words,
        num_tokens=decode.max_tokens,
        item_rule=decode.item_rule,
    )
    return TimedSystem(decoder, classify, singles, batches, shares, decode.batch_size)


def _classifier(system: System, rows: Rows, wanted: np.ndarray) -> tuple[Callable, Callable]:
    """The compiled turn classifier, and a function that returns its inputs for some responses."""
    model, params = turn_classifier.load(system.directory("turn_classifier"))
    histories = rows.histories(model.num_positions, "teacher")
    lengths = turn_classifier.scoring_lengths(model, histories)

    def context(members: list[int]) -> tuple[np.ndarray, np.ndarray]:
        chosen = [histories[wanted[member]] for member in members]
        longest = max(map(len, chosen))
        return turn_classifier.padded(chosen, next(n for n in lengths if n >= longest))

    return functools.partial(turn_classifier.log_probs, params, model=model), context
