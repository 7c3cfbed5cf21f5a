"""λ along any text, read as a response.

Texts are scored with teacher forcing, exactly like gold responses in an evaluation: the item mass
at each token, given the history and the tokens before it. Nothing is trained, decoded or written.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from conkd_jax.data.corpus import RECOMMENDER, SEEKER, Corpus, Dialogue, Turn, responses
from conkd_jax.data.mentions import MENTION, mention_id
from conkd_jax.data.vocabulary import Vocabulary
from conkd_jax.errors import UserError
from conkd_jax.eval.gate.traces import GateTrace, token_labels
from conkd_jax.stages.systems.system import System
from data_prep.linking import Linker

SCORING_ROWS = 4  # rows that are scored at once


class TextError(UserError):
    """A text that can't be read as a response."""


@dataclasses.dataclass(frozen=True)
class TextReader:
    """Reads texts with the models of a trained system.

    Attributes:
      system: the dialogue teacher gives λ; a student's item mass is added for comparison.
    """

    system: System

    def traces(self, history: Sequence[Turn], texts: Sequence[str]) -> list[GateTrace]:
        """The traces of texts, each read as a response to the same history.

        For a student with tags, a text with an item starts with [REC], any other with [GEN].

        Args:
          history: the turns before the response; the last one is the seeker's.
          texts: the responses, with items written as "@123".

        Raises:
          TextError: a text is empty, or mentions an item that is not in the vocabulary.
          UserError: a model is missing; see `system.directory`.
        """
        system, vocabulary = self.system, self.system.vocabulary
        for text in texts:
            _check_text(text, vocabulary)
        dialogues = [
            Dialogue(f"text {number}", (*history, Turn(RECOMMENDER, text)))
            for number, text in enumerate(texts)
        ]
        rows = system.rows_of(dialogues)
        # The history can contain responses too; the text is the last one of its dialogue.
        last = np.cumsum([len(responses(dialogue)) for dialogue in dialogues]) - 1
        scored = system.dialogue_teacher.score(rows, "teacher", SCORING_ROWS)
        own = system.model.score(rows, system.form, SCORING_ROWS) if system.has_student else None
        traces = []
        for text, response in zip(texts, last.tolist(), strict=True):
            of = scored.response_index == response
            targets = rows.response_targets(response)
            is_cut = targets[-1] != vocabulary.end_id
            title = vocabulary.render(vocabulary.encode(text))
            traces.append(
                GateTrace(
                    title=f"{title} (cut at {len(targets)} tokens)" if is_cut else title,
                    tokens=token_labels(targets, vocabulary),
                    gate=scored.item_mass[of].tolist(),
                    is_item=scored.is_item[of].tolist(),
                    student=own.item_mass[of].tolist() if own else None,
                    student_name=self._student_name(bool(rows.response_is_rec[response])),
                )
            )
        return traces

    def _student_name(self, is_rec: bool) -> str:
        if not self.system.has_student:
            return ""
        if not self.system.has_tags:
            return "student"
        return f"student, opened by {'[REC]' if is_rec else '[GEN]'}"


def opening_turn(text: str, corpus: Corpus) -> Turn:
    """A seeker's turn from free text, linked to the items and concepts of the corpus.

    Titles, people and genres are not looked for, which `free_text` does: a text that is analysed
    says exactly what is meant.

    Args:
      text: the turn, with items written as "@123".
      corpus: the corpus of the run.
    """
    items, concepts = corpus.items, corpus.concept_graph
    linker = Linker(
        dict(zip(items.item_ids.tolist(), range(len(items)), strict=True)),
        items.entity_ids.tolist(),
        {},
        {w: i for i, w in enumerate(concepts.words) if not concepts.is_stop_word[i]},
    )
    linked = linker.link([text])
    return Turn(SEEKER, text, linked.items, linked.unknown_items, linked.entities, linked.concepts)


def _check_text(text: str, vocabulary: Vocabulary) -> None:
    if not text.strip():
        raise TextError("--text: expected a response, got an empty text")
    known = set(vocabulary.item_ids.tolist())
    for match in MENTION.finditer(text):
        if mention_id(match[1]) not in known:
            some = ", ".join(
                f"@{item_id} is {title}"
                for item_id, title in zip(vocabulary.item_ids[:3], vocabulary.titles, strict=False)
            )
            raise TextError(
                f"--text={text!r}: expected items of the run's vocabulary, got {match.group()}. "
                f"For example {some}"
            )
