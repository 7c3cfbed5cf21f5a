"""λ along any text that could have been a response to a history.

The models read the text by teacher forcing, exactly as an evaluation reads gold responses, and give
the item mass at every step. Nothing is trained, decoded or written here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from conkd_jax.config import ConfigError
from conkd_jax.data.corpus import RECOMMENDER, SEEKER, Corpus, Dialogue, Turn, responses
from conkd_jax.data.mentions import MENTION
from conkd_jax.data.vocabulary import Vocabulary
from conkd_jax.eval.gate.traces import GateTrace, token_labels
from conkd_jax.stages import backbones
from conkd_jax.stages.language_model import LanguageModel
from data_prep.linking import Linker

SCORING_ROWS = 4  # rows that are scored at once


@dataclasses.dataclass(frozen=True)
class Reader:
    """The models that read a text, as a run's evaluation has them.

    Attributes:
      config: of the run.
      corpus, vocabulary: of the run.
      teacher: the dialogue teacher, whose item mass is λ.
      student: the student; None for a run that has none.
      form: of the student's rows, "student" where turns open with [REC] or [GEN].
    """

    config: Any
    corpus: Corpus
    vocabulary: Vocabulary
    teacher: LanguageModel
    student: LanguageModel | None
    form: str

    def traces(self, history: Sequence[Turn], texts: Sequence[str]) -> list[GateTrace]:
        """The traces of texts, each in the place of a response to the same history.

        The student's turn opens with the tag that the text asks for: [REC] where it holds an item.

        Args:
          history: the turns before it; the last one is the seeker's.
          texts: items as "@123".

        Raises:
          ConfigError: a text is empty, or names a movie that the vocabulary has no token for.
        """
        for text in texts:
            _check_text(text, self.vocabulary)
        dialogues = [
            Dialogue(f"text {number}", (*history, Turn(RECOMMENDER, text)))
            for number, text in enumerate(texts)
        ]
        rows = (
            backbones.named(self.config.backbone)
            .row_settings(self.config)
            .rows_of(self.corpus, self.vocabulary, dialogues)
        )
        last = np.cumsum([len(responses(dialogue)) for dialogue in dialogues]) - 1
        scored = self.teacher.score(rows, "teacher", SCORING_ROWS)
        own = self.student and self.student.score(rows, self.form, SCORING_ROWS)
        traces = []
        for text, response in zip(texts, last.tolist(), strict=True):
            of = scored.response_index == response
            targets = rows.response_targets(response)
            is_cut = targets[-1] != self.vocabulary.end_id
            title = self.vocabulary.render(self.vocabulary.encode(text))
            traces.append(
                GateTrace(
                    title=f"{title} (cut at {len(targets)} tokens)" if is_cut else title,
                    tokens=token_labels(targets, self.vocabulary),
                    gate=scored.item_mass[of].tolist(),
                    is_item=scored.is_item[of].tolist(),
                    student=own.item_mass[of].tolist() if own else None,
                    student_name=self._student_name(bool(rows.response_is_rec[response])),
                )
            )
        return traces

    def _student_name(self, is_rec: bool) -> str:
        if self.student is None:
            return ""
        if self.form != "student":
            return "student"
        return f"student, opened by {'[REC]' if is_rec else '[GEN]'}"


def opening_turn(text: str, corpus: Corpus) -> Turn:
    """A seeker's turn of free text, linked to the corpus' movies and concepts.

    Names of people and genres stay unlinked: the corpus keeps no labels of its graph.
    """
    linker = Linker.for_corpus(corpus.items, corpus.concept_graph, labels={})
    linked = linker.link([text])
    return Turn(SEEKER, text, linked.items, linked.unknown_items, linked.entities, linked.concepts)


def _check_text(text: str, vocabulary: Vocabulary) -> None:
    if not text.strip():
        raise ConfigError("--text: expected a response, got an empty text.")
    known = {str(movie) for movie in vocabulary.movie_ids.tolist()}
    for match in MENTION.finditer(text):
        if match.group(1) not in known:
            some = ", ".join(
                f"@{movie} is {title}"
                for movie, title in zip(vocabulary.movie_ids[:3], vocabulary.titles, strict=False)
            )
            raise ConfigError(
                f"--text={text!r}: expected movies of the run's vocabulary, {match.group(0)} is "
                f"none. For example {some}"
            )
