"""Stage `evaluation`: generates the responses of a split with a trained system, and scores them.

Includes decoding with the predicted prefix, teacher forcing with the gold and the predicted prefix,
the recommender alone, and the dialogue teacher's gate on the same responses. Responses are decoded
in chunks, kept so that a stopped evaluation can be resumed (`kept_responses`), and read again one
by one to be scored. Writes `predictions.jsonl`, from which all response-level metrics can be
recomputed, and λ of every token.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax.numpy as jnp
import msgspec
import numpy as np
from etils import epath

from conkd_jax.artifacts.fingerprint import outside_fingerprint, view
from conkd_jax.artifacts.stage import Context, Stage
from conkd_jax.config import Config, DecodingRules
from conkd_jax.config.parts import SearchConfig
from conkd_jax.data.corpus import TRANSFER_SPLITS
from conkd_jax.data.mentioned_items import mentioned_with_token
from conkd_jax.data.mentions import tokens
from conkd_jax.data.rows.picks import charged_to_text
from conkd_jax.distill.head import Head
from conkd_jax.eval.decoding import DecodedResponse, Decoding, KeepBatch, decode_responses
from conkd_jax.eval.item_rankings import FORBIDDEN_LOGIT
from conkd_jax.eval.metrics.bootstrap import bootstrap_intervals
from conkd_jax.eval.metrics.options import options_from_corpus
from conkd_jax.eval.metrics.picks import PickCounts
from conkd_jax.eval.metrics.run_metrics import run_statistics
from conkd_jax.eval.own_ids import OwnIds
from conkd_jax.eval.pick_grammar import PickRules
from conkd_jax.eval.prediction_checks import spell_apart
from conkd_jax.eval.predictions import (
    ItemStep,
    Prediction,
    read_predictions,
    write_predictions,
)
from conkd_jax.eval.scoring import TokenScores
from conkd_jax.io import terminal
from conkd_jax.io.files import whole_file, write_json
from conkd_jax.runtime import parallel
from conkd_jax.stages import backbones, corpus, transfer
from conkd_jax.stages.backbones import RowSettings
from conkd_jax.stages.kept_responses import kept
from conkd_jax.stages.systems.system import System, prompt_buckets, spread_evenly
from conkd_jax.stages.systems.system_on_split import SystemOnSplit, open_system
from conkd_jax.stages.training import compute_setting
from conkd_jax.training.checkpoint import CHECKPOINTS
from conkd_jax.training.progress import Counting

VERSION = 4
PREDICTIONS, SCORES, TOKENS = "predictions.jsonl", "scores.json", "tokens.npz"


@dataclasses.dataclass(frozen=True)
class EvaluationSettings:
    """Settings of an evaluation.

    Attributes:
      split: "dev", "valid" or "test".
      system: "student" or "dialogue_teacher".
      decode: what a response may contain.
      max_responses: number of responses to decode; 0 = all.
      bootstrap_resamples: number of resamples for the intervals.
      item_offset: what is added to the logits of items; None for nothing.
      search: sampling or beams; None for greedy decoding.
      compute_dtype: the type of the language models' products (`compute_setting`).
      rows: the rows of the language models.
      backbone: the backbone of the language models.
      batch_size: number of responses that are decoded at once.
    """

    split: str
    system: str
    decode: DecodingRules
    max_responses: int
    bootstrap_resamples: int
    item_offset: float | None  # not 0.0: an evaluation without one has its old fingerprint
    search: SearchConfig | None  # None for the same reason
    compute_dtype: str | None  # not "float32", likewise
    rows: RowSettings
    backbone: str = outside_fingerprint(because="inputs and rows already depend on it")
    batch_size: int = outside_fingerprint(because="it changes speed and memory only")


def stage(config: Config, stages: Mapping[str, Stage], *, split: str | None = None) -> Stage:
    """The evaluation of a config's system on a split.

    Args:
      config: the whole config.
      stages: the stages that the system consists of, by name.
      split: "dev", "valid", "test" or a split of another source; None means the config's.
    """
    is_student = config.system == "student"
    wanted = ["corpus", "vocabulary", "rec_teacher", "dialogue_teacher"]
    wanted += ["student"] if is_student else []
    wanted += ["turn_classifier"] if is_student and config.student.turn_tags else []
    inputs = {name: stages[name] for name in wanted}
    split = split or config.evaluation.split
    if split == "test":  # training never reads it, so it is part of another corpus
        inputs["scored_corpus"] = corpus.stage(config, stages, use_test=True)
    elif split in TRANSFER_SPLITS:
        inputs["scored_corpus"] = transfer.stage(config, stages, split=split)
    settings = EvaluationSettings(
        split=split,
        system=config.system,
        decode=view(config.decode, DecodingRules),
        max_responses=config.evaluation.max_responses,
        bootstrap_resamples=config.evaluation.bootstrap_resamples,
        item_offset=config.decode.item_offset or None,
        search=None if config.decode.strategy == "greedy" else view(config.decode, SearchConfig),
        compute_dtype=compute_setting(config),
        rows=backbones.named(config.backbone).row_settings(config),
        backbone=config.backbone,
        batch_size=config.decode.batch_size,
    )
    return Stage("evaluation", VERSION, settings, inputs, run)


def run(settings: EvaluationSettings, directory: epath.Path, context: Context) -> dict[str, Any]:
    """Decodes and scores the responses of the split; returns the names of the written files."""
    system = System(
        settings.backbone,
        settings.rows,
        context.inputs.keys(),
        context.inputs.__getitem__,
        settings.compute_dtype,
    )
    opened = open_system(system, settings.split)
    scored = system.model.score(opened.rows, system.form, SCORING_ROWS, "evaluation, scoring")
    predicted_nll = _nll_under_predicted_prefix(opened, scored)
    teacher = scored
    if system.has_student:
        name = "evaluation, scoring with the dialogue teacher"
        teacher = system.dialogue_teacher.score(opened.rows, "teacher", SCORING_ROWS, name)
    if parallel.is_first_process():
        arrays = {
            "response_index": scored.response_index,
            "is_item": scored.is_item,
            "nll": scored.nll,
            "item_mass": scored.item_mass,
            "teacher_item_mass": teacher.item_mass,
            "targets": opened.rows.targets,
        }
        if opened.rows.pick_tokens is not None:
            arrays["is_choice"] = opened.rows.is_choice
        with whole_file(directory / TOKENS, "wb") as file:
            np.savez_compressed(file, allow_pickle=False, **arrays)
        picks, ids = PickCounts(), OwnIds(system.corpus.items)
        with Counting(
            "evaluation, decoding", "responses", len(wanted_responses(settings, opened))
        ) as display:
            found = answers(settings, opened, keep_in=directory / CHECKPOINTS, progress=display.add)
            predictions = _predictions(opened, picks.counting(found), scored, predicted_nll)
            count = write_predictions(directory / PREDICTIONS, map(ids.beside, predictions))
        found = _scores(settings, opened, directory / PREDICTIONS, scored, teacher)
        if opened.rows.pick_tokens is not None:
            found["metrics"] |= picks.metrics(opened.rows, scored.nll)
        write_json(directory / SCORES, found)
        terminal.say(f"evaluation: {count:,} responses of {settings.split} decoded and scored")
    parallel.barrier("evaluation written")
    return {"predictions": PREDICTIONS, "scores": SCORES}


SCORING_ROWS = 16  # rows that are scored at once
RESPONSES_AT_A_TIME = 1024  # responses that are decoded before they are written


def _nll_under_predicted_prefix(opened: SystemOnSplit, scored: TokenScores) -> np.ndarray | None:
    """NLL of every gold token given the predicted tag of its response; past tags stay gold.

    Only responses with a wrong prediction are scored again; for the others the NLL is the same.
    """
    if opened.predicted_is_rec is None:
        return None
    wrong = np.flatnonzero(opened.predicted_is_rec != opened.rows.response_is_rec)
    nll = scored.nll.copy()
    if wrong.size:
        tags = opened.system.openings(opened.predicted_is_rec[wrong])
        reopened = opened.rows.reopened(wrong.tolist(), tags.tolist())
        name = "evaluation, scoring with the predicted prefix"
        again = opened.system.model.score(reopened, "student", SCORING_ROWS, name)
        nll[np.isin(scored.response_index, wrong)] = again.nll  # both by response, then by step
    return nll


def wanted_responses(settings: EvaluationSettings, opened: SystemOnSplit) -> np.ndarray:
    """The ids of the responses that are decoded."""
    return spread_evenly(opened.rows.num_responses, settings.max_responses or None)


def answers(
    settings: EvaluationSettings,
    opened: SystemOnSplit,
    *,
    keep_in: epath.PathLike | None = None,
    progress: Callable[[int], object] = lambda number: None,
) -> Iterator[tuple[int, DecodedResponse]]:
    """Decodes; yields (response id, response) in the order of the split.

    Args:
      settings: of the evaluation.
      opened: the system on its split.
      keep_in: a folder in which decoded responses are kept, and found by a later call; None keeps
        none.
      progress: called with the number of responses of every batch, if they are kept.
    """
    wanted = wanted_responses(settings, opened)
    decode = _decoder(settings, opened)
    for start in range(0, len(wanted), RESPONSES_AT_A_TIME):
        some = wanted[start : start + RESPONSES_AT_A_TIME].tolist()
        if keep_in is None:
            decoded = decode(some)
        else:
            decoded = kept(keep_in, some, functools.partial(decode, some), progress)
        yield from zip(some, decoded, strict=True)


def _decoder(
    settings: EvaluationSettings, opened: SystemOnSplit
) -> Callable[..., list[DecodedResponse]]:
    """A function that decodes the responses of some ids, and may keep their batches."""
    system, rows, rules = opened.system, opened.rows, settings.decode
    words, longest = system.vocabulary, settings.rows.longest_prompt(rules.max_tokens)
    head = decoding_head(system, settings.item_offset or 0.0)
    how = Decoding(
        end_id=words.end_id,
        num_words=words.num_words,
        max_tokens=rules.max_tokens,
        batch_size=settings.batch_size,
        buckets=prompt_buckets(longest),
        item_rule=rules.item_rule,
        allow_repeats=rules.allow_repeated_items,
        search=settings.search or SearchConfig(),
    )
    # Without a turn classifier, `openings` ignores this.
    is_rec = rows.response_is_rec if opened.predicted_is_rec is None else opened.predicted_is_rec

    def decode(some: list[int], keep: KeepBatch | None = None) -> list[DecodedResponse]:
        return decode_responses(
            system.model.model,
            system.model.variables,
            head,
            rows.prompts(some, system.openings(is_rec[some]).tolist(), longest, system.form),
            how,
            forbidden_items=None
            if rules.allow_mentioned_items
            else [
                [words.num_words + item for item in mentioned_with_token(words, dialogue, turn)]
                for dialogue, turn in map(opened.dialogue_and_turn, some)
            ],
            pick_rules=None
            if settings.rows.max_picks is None
            else PickRules(
                settings.rows.max_picks,
                is_rec[some].tolist() if system.has_tags else [None] * len(some),
            ),
            response_ids=some,
            keep=keep,
        )

    return decode


def decoding_head(system: System, item_offset: float = 0.0) -> Head:
    """The head that responses are decoded with.

    It lacks the token for unknown words, which must not be generated.

    Args:
      system: the trained system.
      item_offset: what is added to the logits of items.
    """
    head, words = system.model.head(), system.vocabulary
    if words.unk_id is not None:
        head = head._replace(bias=jnp.asarray(head.bias).at[words.unk_id].set(FORBIDDEN_LOGIT))
    return head.with_item_offset(words.num_words, item_offset) if item_offset else head


def _predictions(
    opened: SystemOnSplit,
    answers: Iterator[tuple[int, DecodedResponse]],
    scored: TokenScores,
    predicted_nll: np.ndarray | None,
) -> Iterator[Prediction]:
    """One prediction per response, in the order of the split."""
    offsets = np.searchsorted(scored.response_index, np.arange(opened.rows.num_responses + 1))
    pick_tokens = opened.rows.pick_tokens
    if pick_tokens is None:
        pick_tokens = np.zeros(opened.rows.num_responses, np.int32)
    for response, decoded in answers:
        whole = slice(offsets[response], offsets[response + 1])
        span = slice(whole.start + pick_tokens[response], whole.stop)  # of the text
        yield msgspec.structs.replace(
            prediction_of(opened, response, decoded),
            token_nll=_nll_of_text(opened, response, scored.nll[whole]),
            token_is_item=tuple(scored.is_item[span].tolist()),
            token_nll_predprefix=None
            if predicted_nll is None
            else _nll_of_text(opened, response, predicted_nll[whole]),
            token_item_mass=tuple(scored.item_mass[span].clip(0, 1).tolist()),
        )


def prediction_of(opened: SystemOnSplit, response: int, decoded: DecodedResponse) -> Prediction:
    """What a system says at a response, without scores of the reference."""
    system = opened.system
    item_ids = system.corpus.items.item_ids
    ids = [token for token in decoded.tokens if token != system.vocabulary.end_id]
    items = tuple(_item_id(system, step.item) for step in decoded.item_steps)
    text = spell_apart(system.vocabulary.decode(ids), items)
    predicted = None
    if opened.predicted_is_rec is not None:
        predicted = "rec" if opened.predicted_is_rec[response] else "gen"
    return msgspec.structs.replace(
        opened.reference(response),
        predicted_turn_type=predicted,
        generated=text,
        generated_tokens=tuple(tokens(text)),
        generated_items=items,
        item_steps=tuple(
            ItemStep(
                step.step,
                _item_id(system, step.item),
                tuple(_item_id(system, token) for token in step.top),
            )
            for step in decoded.item_steps
        ),
        recommender_top=tuple(item_ids[opened.recommender_top[response]].tolist()),
    )


def _nll_of_text(opened: SystemOnSplit, response: int, nll: np.ndarray) -> tuple[float, ...]:
    """NLL of the tokens of a gold response's text, with that of its picks charged to them."""
    rows, words = opened.rows, opened.system.vocabulary
    if rows.pick_tokens is not None:
        targets, count = rows.response_targets(response), int(rows.pick_tokens[response])
        nll = charged_to_text(nll, targets, count, words.end_id)
    return tuple(nll.tolist())


def _item_id(system: System, token: int | np.integer) -> int:
    """The item id of an item token."""
    return int(system.vocabulary.item_ids[int(token) - system.vocabulary.num_words])


def _scores(
    settings: EvaluationSettings,
    opened: SystemOnSplit,
    path: epath.Path,
    scored: TokenScores,
    teacher: TokenScores,
) -> dict:
    """Metrics, intervals and counts of the predictions, with the metrics of teacher forcing."""
    statistics = run_statistics(
        read_predictions(path),
        options_from_corpus(
            opened.system.corpus, max_response_tokens=settings.rows.max_response_tokens
        ),
    )
    is_choice = opened.rows.is_choice
    forced, gate = scored.summary(is_choice), teacher.summary(is_choice)
    found = statistics.metrics()
    found |= {name: forced[name] for name in ("tf_hit@1", "tf_hit@10", "tf_hit@50")}
    found |= {"lambda_r": gate["lambda_r"], "lambda_v": gate["lambda_v"]}
    return {
        "metrics": found,
        "intervals": bootstrap_intervals(statistics, num_resamples=settings.bootstrap_resamples),
        "counts": dict(statistics.totals),
    }
