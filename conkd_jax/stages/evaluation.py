"""Stage `evaluation`: a trained system answers every response of a split, and is scored.

Decoding with the predicted prefix, teacher forcing with the gold one, the recommender alone, and
the dialogue teacher's gate on the same responses. Leaves `predictions.jsonl`, from which every
response-level number can be computed again, and the λ of every token.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping

import numpy as np
from etils import epath

from conkd_jax import parallel
from conkd_jax.data.corpus import Corpus, Dialogue
from conkd_jax.data.rows import Rows
from conkd_jax.data.vocabulary import Vocabulary
from conkd_jax.eval import metrics, report
from conkd_jax.eval.decoding import Decoded, greedy_decode
from conkd_jax.eval.predictions import (
    TOP_ITEMS,
    ContextTurn,
    ItemStep,
    Prediction,
    read_predictions,
    word_tokens,
    write_predictions,
)
from conkd_jax.eval.scoring import TokenScores
from conkd_jax.stages import backbones, corpus, language_model, trained_recommender, turn_classifier
from conkd_jax.stages.artifacts import Context, Stage
from conkd_jax.stages.language_model import LanguageModel

VERSION = 1
PREDICTIONS, SCORES, TOKENS = "predictions.jsonl", "scores.json", "tokens.npz"


def stage(config, stages: Mapping[str, Stage], split: str) -> Stage:
    """The evaluation of a config's system on a split.

    Args:
      stages: those that the system is made of, by name.
      split: "dev", "valid" or "test".
    """
    has_tags = config.system == "student" and config.student.turn_tags
    wanted = ["corpus", "vocabulary", "rec_teacher", "dialogue_teacher"]
    wanted += ["student"] if config.system == "student" else []
    wanted += ["turn_classifier"] if has_tags else []
    inputs = {name: stages[name] for name in wanted}
    if split == "test":  # what is trained never reads it, so it lies in a corpus of its own
        inputs["scored_corpus"] = corpus.stage(config, use_test=True)
    identity = {
        "split": split,
        "system": config.system,
        "decode": {
            "item_rule": config.decode.item_rule,
            "max_tokens": config.decode.max_tokens,
        },
        "max_responses": config.evaluation.max_responses,
        "bootstrap_resamples": config.evaluation.bootstrap_resamples,
        "rows": backbones.of(config).row_identity(config),
    }

    def run(directory: epath.Path, context: Context) -> dict:
        system = _open(config, context, split, has_tags)
        answers = _answer(config, system)
        scored = system.model.score(system.rows, system.form, SCORING_ROWS)
        teacher = system.teacher.score(system.rows, "teacher", SCORING_ROWS)
        if parallel.is_first_process():
            np.savez_compressed(
                directory / TOKENS,
                response_index=scored.response_index,
                is_item=scored.is_item,
                nll=scored.nll,
                item_mass=scored.item_mass,
                teacher_item_mass=teacher.item_mass,
                targets=system.rows.targets,
            )
            count = write_predictions(
                directory / PREDICTIONS, _predictions(system, answers, scored)
            )
            print(f"evaluation: {count} responses of {split} answered", flush=True)
            found = _scores(config, system, directory / PREDICTIONS, scored, teacher)
            report.write_json(directory / SCORES, found)
        parallel.barrier("evaluation written")
        return {"predictions": PREDICTIONS, "scores": SCORES}

    return Stage("evaluation", VERSION, identity, inputs, run)


SCORING_ROWS = 16  # rows that are scored at once
PROMPT_BUCKETS = (32, 64, 128, 192, 256, 384)


@dataclasses.dataclass(frozen=True)
class _System:
    """A trained system and the split it answers."""

    corpus: Corpus
    vocabulary: Vocabulary
    dialogues: dict[str, Dialogue]
    rows: Rows
    model: LanguageModel
    form: str
    teacher: LanguageModel
    recommender_top: np.ndarray  # [N, 50] candidate indices
    predicted_is_rec: np.ndarray | None  # [N]


@dataclasses.dataclass(frozen=True)
class _Answers:
    responses: np.ndarray  # response ids
    decoded: list[Decoded]


def _open(config, context: Context, split: str, has_tags: bool) -> _System:
    """Everything that answering needs, opened from artifacts."""
    opened = Corpus.open(context.inputs.get("scored_corpus", context.inputs["corpus"]))
    vocabulary = Vocabulary.load(context.inputs["vocabulary"])
    rows = backbones.of(config).rows_of(config, opened, vocabulary, split)
    teacher = language_model.load(config, context.inputs["dialogue_teacher"], vocabulary)
    model = teacher
    if config.system == "student":
        model = language_model.load(config, context.inputs["student"], vocabulary)
    predicted = None
    if has_tags:
        limit = config.turn_classifier.max_context_tokens
        predicted = turn_classifier.predict(
            context.inputs["turn_classifier"], rows.histories(limit, "teacher")
        )
    recommender = trained_recommender.load(context.inputs["rec_teacher"], opened)
    dialogues = opened.dialogues(split)
    vectors = recommender.user_vectors(recommender.spec.contexts(dialogues, opened))
    return _System(
        corpus=opened,
        vocabulary=vocabulary,
        dialogues={dialogue.conversation_id: dialogue for dialogue in dialogues},
        rows=rows,
        model=model,
        form="student" if has_tags else "teacher",
        teacher=teacher,
        recommender_top=_top(recommender, vectors),
        predicted_is_rec=predicted,
    )


def _top(recommender: trained_recommender.RecTeacher, vectors: np.ndarray) -> np.ndarray:
    """The best candidates of every response, [N, min(50, M)], best first; ties by candidate."""
    parts = []
    for start in range(0, len(vectors), 512):
        scores = recommender.scores(vectors[start : start + 512])
        parts.append(np.argsort(-scores, axis=1, kind="stable")[:, :TOP_ITEMS])
    return np.concatenate(parts)


def _answer(config, system: _System) -> _Answers:
    """Greedy responses to the wanted histories, opened by the predicted tag."""
    rows, words = system.rows, system.vocabulary
    wanted = np.arange(rows.num_responses)
    limit = config.evaluation.max_responses
    if limit and limit < len(wanted):  # spread evenly over the split
        wanted = np.unique(np.linspace(0, len(wanted) - 1, limit).astype(int))
    if system.predicted_is_rec is None:
        first = np.full(len(wanted), words.end_id)
    else:
        first = np.where(system.predicted_is_rec[wanted], words.rec_id, words.gen_id)
    longest = backbones.of(config).longest_prompt(config)
    decoded = greedy_decode(
        system.model.model,
        system.model.variables,
        system.model.head(),
        rows.prompts(wanted.tolist(), first.tolist(), longest, system.form),
        end_id=words.end_id,
        num_words=words.num_words,
        max_tokens=config.decode.max_tokens,
        batch_size=config.decode.batch_size,
        buckets=[length for length in PROMPT_BUCKETS if length < longest] + [longest],
        item_rule=config.decode.item_rule,
    )
    return _Answers(wanted, decoded)


def _predictions(system: _System, answers: _Answers, scored: TokenScores) -> Iterator[Prediction]:
    """One prediction a response, in the order of the split."""
    movie_ids = system.corpus.items.movie_ids
    in_vocabulary = set(system.vocabulary.item_candidates.tolist())
    offsets = np.searchsorted(scored.response_index, np.arange(system.rows.num_responses + 1))
    for response, decoded in zip(answers.responses.tolist(), answers.decoded, strict=True):
        conversation, turn = system.rows.response_keys[response]
        turns = system.dialogues[conversation].turns
        gold = turns[turn]
        known = [item for item in gold.items if item in in_vocabulary]
        unknown = [int(movie_ids[item]) for item in gold.items if item not in in_vocabulary]
        mentioned = [int(movie_ids[i]) for t in turns[:turn] for i in t.items]
        span = slice(offsets[response], offsets[response + 1])
        tokens = [token for token in decoded.tokens if token != system.vocabulary.end_id]
        text = system.vocabulary.decode(tokens)
        predicted = None
        if system.predicted_is_rec is not None:
            predicted = "rec" if system.predicted_is_rec[response] else "gen"
        yield Prediction(
            conversation_id=conversation,
            turn=int(turn),
            turn_type="rec" if system.rows.response_is_rec[response] else "gen",
            predicted_turn_type=predicted,
            context=tuple(ContextTurn(t.role, t.text) for t in turns[:turn]),
            mentioned_items=tuple(dict.fromkeys(mentioned)),
            reference=gold.text,
            reference_items=tuple(int(movie_ids[item]) for item in known),
            reference_items_out_of_vocabulary=(*unknown, *gold.unknown_items),
            generated=text,
            generated_tokens=tuple(word_tokens(text)),
            generated_items=tuple(_movie(system, step.item) for step in decoded.item_steps),
            item_steps=tuple(
                ItemStep(
                    step.step,
                    _movie(system, step.item),
                    tuple(_movie(system, token) for token in step.top),
                )
                for step in decoded.item_steps
            ),
            recommender_top=tuple(int(movie_ids[i]) for i in system.recommender_top[response]),
            token_nll=tuple(scored.nll[span].tolist()),
            token_is_item=tuple(scored.is_item[span].tolist()),
        )


def _movie(system: _System, token: int | np.integer) -> int:
    """The movie id of an item token."""
    return int(system.vocabulary.movie_ids[int(token) - system.vocabulary.num_words])


def _scores(
    config, system: _System, path: epath.Path, scored: TokenScores, teacher: TokenScores
) -> dict:
    """Metrics, intervals and counts of the predictions, and what teacher forcing adds."""
    items = system.corpus.items
    mentions = np.zeros(len(items), np.int64)
    for dialogue in system.corpus.dialogues("train"):
        for turn in dialogue.turns:
            np.add.at(mentions, list(turn.items), 1)
    statistics = metrics.gather(
        read_predictions(path),
        num_items=system.vocabulary.num_items,
        popularity=dict(zip(items.movie_ids.tolist(), mentions.tolist(), strict=True)),
        linked_items=set(items.movie_ids[items.is_linked].tolist()),
        max_response_tokens=config.vocabulary.max_response_tokens,
    )
    found = statistics.metrics()
    forced, gate = scored.summary(), teacher.summary()
    found |= {name: forced[name] for name in ("tf_hit@1", "tf_hit@10", "tf_hit@50")}
    found |= {"lambda_r": gate["lambda_r"], "lambda_v": gate["lambda_v"]}
    found |= {"student_lambda_r": forced["lambda_r"], "student_lambda_v": forced["lambda_v"]}
    return {
        "metrics": found,
        "intervals": statistics.intervals(num_resamples=config.evaluation.bootstrap_resamples),
        "counts": dict(statistics.totals),
    }
