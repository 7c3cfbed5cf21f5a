"""Draws the idea of ConKD at one response of a trained run: what each teacher and the student says.

    python -m conkd_jax.idea --workdir=RUN --response=CONVERSATION_ID:TURN --json=FILE --figures=DIR
    python -m conkd_jax.idea --draw=docs/results/idea.json --figures=docs/figures

At the first item of the response, the dialogue teacher's distribution over words and items, the
recommender's over items, the target that the gate makes of both, and the student's own; along the
response, the gate. --json writes the numbers, to be committed, and --draw draws such a file again
without the run. docs/idea.md shows the figures.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from etils import epath

from conkd_jax.chat import Chat
from conkd_jax.cli import command_line
from conkd_jax.cli.command_line import UsageError
from conkd_jax.data.corpus import Dialogue, Turn
from conkd_jax.data.mentions import replace_mentions
from conkd_jax.distill.gates import hard_gate, soft_gate
from conkd_jax.distill.losses import mixture_target
from conkd_jax.errors import UserError
from conkd_jax.eval.figures.idea import FIGURES, draw_idea
from conkd_jax.eval.gate.responses import ResponseKey, find_response, response_name, turns_before
from conkd_jax.eval.gate.traces import token_labels
from conkd_jax.eval.metrics.ranking import best_indices
from conkd_jax.eval.tables.documents import portable_command, write_document
from conkd_jax.io.files import parse_json
from conkd_jax.runs.document import machine
from conkd_jax.runs.finished import SPLITS, Run

TOP = 6  # of each distribution
DISTRIBUTIONS = ("dialogue_teacher", "recommender", "hard_target", "soft_target", "student")

OPTIONS = flags.FlagValues()
_WORKDIR = flags.DEFINE_string(
    "workdir", "", "The run: a folder written by conkd_jax.train.", flag_values=OPTIONS
)
_SPLIT = flags.DEFINE_enum("split", "valid", SPLITS, "The split.", flag_values=OPTIONS)
_RESPONSE = flags.DEFINE_string(
    "response", "", "A gold response with an item, as CONVERSATION_ID:TURN.", flag_values=OPTIONS
)
_JSON = flags.DEFINE_string("json", "", "Write the numbers into this file.", flag_values=OPTIONS)
_DRAW = flags.DEFINE_string(
    "draw", "", "Draw a file that --json wrote, without opening a run.", flag_values=OPTIONS
)
_FIGURES = flags.DEFINE_string(
    "figures", "", f"The folder for {', '.join(FIGURES)}.", flag_values=OPTIONS
)


def main(argv: list[str]) -> None:
    """Reads the run, or the file of an earlier call; writes and draws what is asked for."""
    if bool(_DRAW.value) == bool(_WORKDIR.value and _RESPONSE.value):
        raise UsageError(
            "expected --workdir=RUN and --response=CONVERSATION_ID:TURN, or --draw=FILE."
        )
    if _DRAW.value:
        try:
            document = parse_json(epath.Path(_DRAW.value).read_text())
        except (OSError, ValueError) as error:
            raise UserError(f"--draw={_DRAW.value}: expected a file of --json: {error}") from error
    else:
        run = Run.open(_WORKDIR.value, _SPLIT.value)
        document = {
            "command": portable_command(" ".join(sys.argv)),
            "machine": machine(),
            **idea_of_response(run, find_response(run.corpus, run.split, _RESPONSE.value)),
        }
    if _JSON.value:
        write_document(_JSON.value, document)
    if _FIGURES.value:
        draw_idea(document, epath.Path(_FIGURES.value))
    command_line.show(*_summary(document))


def idea_of_response(run: Run, key: ResponseKey) -> dict[str, Any]:
    """What the models of a run say at a gold response.

    Args:
      run: a run with a student and a hard gate.
      key: the response.

    Returns:
      Plain JSON: the response with λ at each token, and at its first item the probabilities of the
      targets that some distribution has among its `TOP` best.

    Raises:
      UserError: the run has no student or no threshold, or the response names no item.
    """
    if not run.system.has_student or run.eta is None:
        raise UserError(
            f"{run.home}: expected a run with a student and a hard gate, got {run.label}. For "
            "example configs/ablations/fitted_threshold.py"
        )
    chat, words = Chat.open(run, warm=False), run.vocabulary
    conversation, turn = key
    turns = [*turns_before(run.corpus, run.split, key)]
    reference = _turn_at(run, key)
    tokens = np.array([*words.encode(reference.text), words.end_id], np.int32)
    tokens = tokens[: chat.engine.max_tokens]
    is_item = tokens >= words.num_words
    if not is_item.any():
        raise UserError(
            f"--response={response_name(key)}: expected a response with an item in its first "
            f"{chat.engine.max_tokens} tokens, got {reference.text!r}"
        )
    place = int(np.argmax(is_item))
    question = chat.engine.question([Dialogue(conversation, tuple(turns))])
    teacher = chat.engine.read_as_teacher(question, tokens[None])
    student = chat.engine.read_as_system(question, tokens[None])
    mass = teacher.item_mass[0, : len(tokens)]
    gates = {"hard": hard_gate(mass, eta=run.eta), "soft": soft_gate(mass)}
    log_dialogue = _log_probs(chat.engine.teacher_head, teacher.features[0, place])
    log_rec = _recommender_log_probs(run, question.dialogues)
    probabilities = {
        "dialogue_teacher": jnp.exp(log_dialogue),
        "recommender": jnp.concatenate([jnp.zeros(words.num_words), jnp.exp(log_rec)]),
        "student": jnp.exp(_log_probs(chat.engine.head, student.features[0, place])),
    }
    label = jnp.asarray(tokens[place : place + 1])
    probabilities |= {
        f"{name}_target": _target(run, label, log_dialogue, log_rec, gate[place : place + 1])
        for name, gate in gates.items()
    }
    titles = dict(zip(run.corpus.items.item_ids.tolist(), run.corpus.items.titles, strict=True))
    return {
        "run": run.label,
        "preset": run.config.preset,
        "split": run.split,
        "response": response_name(key),
        "eta": run.eta,
        "gamma": run.config.distill.gamma,
        "seeker": replace_mentions(turns[-1].text, titles.get) if turn else "",
        "tokens": token_labels(tokens, words),
        "is_item": is_item.tolist(),
        "item_mass": np.asarray(mass, float).tolist(),
        "student_item_mass": np.asarray(student.item_mass[0, : len(tokens)], float).tolist(),
        "gates": {name: np.asarray(gate, float).tolist() for name, gate in gates.items()},
        "place": place,
        "targets": _targets(probabilities, words, int(tokens[place])),
    }


def _target(run: Run, label, log_dialogue, log_rec, gate) -> jax.Array:
    """q_t of eq. 11 at one step, [Y]; `label` and `gate` have one entry."""
    gamma, num_words = run.config.distill.gamma, run.vocabulary.num_words
    return mixture_target(label, log_dialogue[None], log_rec[None], gate, gamma, num_words)[0]


def _turn_at(run: Run, key: ResponseKey) -> Turn:
    conversation, turn = key
    dialogues = run.corpus.dialogues(run.split)
    return next(d for d in dialogues if d.conversation_id == conversation).turns[turn]


def _log_probs(head, features) -> jax.Array:
    return jax.nn.log_softmax(head.logits(jnp.asarray(features)[None])[0])


def _recommender_log_probs(run: Run, dialogues: Sequence[Dialogue]) -> jax.Array:
    """Returns log P_ψ of the items that have a token, for the last response of the dialogues."""
    recommender = run.system.recommender
    vectors = recommender.user_vectors(recommender.spec.contexts(dialogues, run.corpus))[-1:]
    scores = np.asarray(recommender.scores(vectors)[0])[run.vocabulary.item_candidates]
    return jax.nn.log_softmax(jnp.asarray(scores))


def _targets(probabilities, words, gold: int) -> list[dict[str, Any]]:
    """The targets among the `TOP` best of a distribution, and the gold one, with probabilities."""
    values = {name: np.asarray(probabilities[name], float) for name in DISTRIBUTIONS}
    best = best_indices(np.stack([*values.values()]), TOP).tolist()
    shown = sorted({gold, *(target for each in best for target in each)})
    return [
        {
            "text": words.render([target]).strip(),
            "is_item": target >= words.num_words,
            "is_gold": target == gold,
            **{name: float(value[target]) for name, value in values.items()},
        }
        for target in shown
    ]


def _summary(document: dict[str, Any]) -> list[str]:
    """The response and, at its first item, what each distribution likes best."""
    lines = [
        f"{document['run']}, {document['split']}, response {document['response']}",
        f"  seeker: {document['seeker']}",
        f"  reference: {'·'.join(document['tokens'])}",
        f"  at {document['tokens'][document['place']]!r}, λ = "
        f"{document['item_mass'][document['place']]:.2f}, η = {document['eta']:.2f}",
    ]
    for name in DISTRIBUTIONS:
        best = sorted(document["targets"], key=lambda each: -each[name])[:3]
        said = ", ".join(f"{each['text']} {each[name]:.3f}" for each in best)
        lines.append(f"  {name.replace('_', ' '):>16}: {said}")
    return lines


def run() -> None:
    """Runs the command line."""
    command_line.run(main, OPTIONS)


if __name__ == "__main__":
    run()
