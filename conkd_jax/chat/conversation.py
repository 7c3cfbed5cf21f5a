"""`Chat`: a trained run that answers histories.

A chat holds models and no conversation: an answer depends on the history, the seed and nothing
else, so that one object serves many people. Histories are answered in batches of a fixed size and
a few fixed lengths, each of which is compiled once.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence

import numpy as np
from etils import epath

from conkd_jax.chat.engine import ChatError, Engine, Sampling
from conkd_jax.chat.response import Response
from conkd_jax.chat.stream import Stream
from conkd_jax.data.corpus import RECOMMENDER, SEEKER, Dialogue, Turn
from conkd_jax.runs.finished import Run
from conkd_jax.runs.released import open_run
from conkd_jax.stages.systems.free_text import Reading

Message = str | Turn | Reading | Response


class Chat:
    """A run that answers; open one with `Chat.open`.

    Attributes:
      run: the run.
      system: its models.
      engine: answers batches.
    """

    def __init__(self, run: Run, batch_size: int = 1):
        self.run, self.system = run, run.system
        self.engine = Engine(run, batch_size)

    @classmethod
    def open(cls, run: Run | epath.PathLike, *, batch_size: int = 1, warm: bool = True) -> Chat:
        """Opens a run.

        Args:
          run: a folder written by conkd_jax.train, an opened run, or the name of a release, such as
            "conkd/redial-mini" (`conkd_jax.runs.released`).
          batch_size: the most histories that are answered at once.
          warm: whether to compile every shape now, so that no answer has to wait for it.

        Raises:
          RunError: the folder holds no run, or a trained artifact is missing.
        """
        run = run if isinstance(run, Run) else open_run(run)
        run.expect_trained()
        chat = cls(run, batch_size)
        if warm:
            chat.warm_up()
        return chat

    # --- reading -------------------------------------------------------------------------------

    def read(
        self,
        text: str,
        role: str = SEEKER,
        corrections: Mapping[int, int | None] | None = None,
    ) -> Reading:
        """Reads what a person typed; arguments as of `TextLinker.read`."""
        return self.engine.linker.read(text, role, corrections)

    def dialogue(self, history: Sequence[Message]) -> Dialogue:
        """The history as the models read it: turns of alternating speakers.

        Raises:
          ChatError: the history is empty, or its last message is not the seeker's.
        """
        if isinstance(history, str) or not history:
            raise ChatError(
                f"history: expected a list of one or more messages, the last one the seeker's; got "
                f"{history!r}"
            )
        turns: list[Turn] = []
        alternate = all(isinstance(message, str) for message in history)
        for place, message in enumerate(history):
            is_answer = alternate and (len(history) - place) % 2 == 0
            role = RECOMMENDER if is_answer else SEEKER
            turn = self.read(message, role).turn if isinstance(message, str) else message
            turn = turn if isinstance(turn, Turn) else turn.turn
            if turns and turns[-1].role == turn.role:
                turn = _joined(turns.pop(), turn)
            turns.append(turn)
        if turns[-1].role != SEEKER:
            raise ChatError("history: expected a message of the seeker last, got a response")
        return Dialogue("chat", tuple(turns))

    # --- answering -----------------------------------------------------------------------------

    def respond(
        self,
        history: Sequence[Message],
        *,
        seed: int | None = None,
        sampling: Sampling | None = None,
    ) -> Response:
        """Answers a history.

        Args:
          history: the messages so far, the last one the seeker's. Titles and other names are
            found in texts. What `read` and `respond` return and turns of the corpus know their
            speaker; texts beside them are the seeker's. Texts alone alternate between speakers.
          seed: None for the most probable token at each step, by the rules of the run's decoding
            (beams can't be streamed); a number draws a random response, the same for the same
            number.
          sampling: how it is drawn; None for the run's own temperature and top-p.

        Returns:
          The response. Nothing in the chat changes.

        Raises:
          ChatError: the history can't be answered.
        """
        return self.stream(history, seed=seed, sampling=sampling).response()

    def stream(
        self,
        history: Sequence[Message],
        *,
        seed: int | None = None,
        sampling: Sampling | None = None,
    ) -> Stream:
        """Answers a history a token at a time; arguments as of `respond`."""
        began = time.perf_counter()
        seeds = None if seed is None else [seed]
        question = self.engine.question([self.dialogue(history)])
        return Stream(self.engine, question, seeds, sampling or self.engine.sampling, began)

    def respond_all(
        self,
        histories: Sequence[Sequence[Message]],
        *,
        seeds: Sequence[int] | None = None,
        sampling: Sampling | None = None,
    ) -> list[Response]:
        """Answers many histories, up to `batch_size` at once; each as if it were alone.

        Args:
          histories: as of `respond`.
          seeds: one for each history, or None.
          sampling: as of `respond`.

        Raises:
          ChatError: a history can't be answered, or the seeds are not as many as the histories.
        """
        began = time.perf_counter()
        if seeds is not None and len(seeds) != len(histories):
            raise ChatError(f"seeds: expected {len(histories)}, as of histories, got {len(seeds)}")
        dialogues = [self.dialogue(history) for history in histories]
        alone = [self.engine.length(dialogue) for dialogue in dialogues]
        found: dict[int, Response] = {}
        for length in sorted(set(alone)):
            members = [place for place, own in enumerate(alone) if own == length]
            for start in range(0, len(members), self.engine.batch_size):
                some = members[start : start + self.engine.batch_size]
                question = self.engine.question([dialogues[place] for place in some])
                of_some = None if seeds is None else [seeds[place] for place in some]
                stream = Stream(
                    self.engine, question, of_some, sampling or self.engine.sampling, began
                )
                found |= zip(some, stream.responses(), strict=True)
        return [found[place] for place in range(len(histories))]

    def warm_up(self, *, sampled: bool = False) -> float:
        """Compiles every shape; returns the seconds that it took.

        Args:
          sampled: whether to compile what draws random answers as well.
        """
        began = time.perf_counter()
        dialogue = Dialogue("warm-up", (Turn(SEEKER, "Hi"),))
        question = self.engine.question([dialogue])
        for length in self.engine.lengths:
            padded = dataclasses.replace(question, length=length)
            for seeds in (None, [0]) if sampled else (None,):
                Stream(self.engine, padded, seeds, self.engine.sampling, began).warm_up()
        if self.system.has_tags:
            for length in self.engine.classifier_lengths:
                self.engine.classify([np.zeros(length, np.int32)])
        return time.perf_counter() - began


def _joined(first: Turn, second: Turn) -> Turn:
    """Two messages of one speaker as one turn, as in the corpus."""
    return Turn(
        first.role,
        f"{first.text} {second.text}".strip(),
        first.items + second.items,
        first.unknown_items + second.unknown_items,
        first.entities + second.entities,
        first.concepts + second.concepts,
    )
