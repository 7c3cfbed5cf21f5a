"""Answers many clients with one set of models: waiting requests share batches.

One thread does all of a system's decoding. It takes the requests that have waited longest and can
share a batch, pads them to a shape that is compiled, and passes each token on to its own client at
once. The rows of a batch do not depend on each other, so an answer is the same in every company.
"""

from __future__ import annotations

import dataclasses
import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from conkd_jax.chat import Chat, Response, Sampling, Stream
from conkd_jax.chat.explanation import Explanation, explain
from conkd_jax.chat.response import Piece
from conkd_jax.data.corpus import Dialogue
from conkd_jax.errors import UserError
from conkd_jax.serve.metrics import Metrics
from conkd_jax.serve.problems import RequestError

LOG = logging.getLogger(__name__)


@dataclasses.dataclass(eq=False)
class Job:
    """A history that waits for its answer.

    Attributes:
      dialogue: the history.
      length: what its prompt is padded to.
      seed: of a random answer; None for the most probable tokens.
      sampling: how a random answer is drawn.
      with_explanation: whether to explain the answer.
      tell: called in the worker's thread with a `Piece`, then with a `Finished` or an exception.
      began: when the request arrived, by `time.perf_counter`.
      is_gone: whether nobody waits any more; the worker then stops to decode it.
    """

    dialogue: Dialogue
    length: int
    seed: int | None
    sampling: Sampling
    with_explanation: bool
    tell: Callable[[Piece | Finished | Exception], Any]
    began: float = dataclasses.field(default_factory=time.perf_counter)
    is_gone: bool = False

    @property
    def company(self) -> tuple:
        """Jobs of the same company can share a batch."""
        return self.length, self.seed is None, self.seed is not None and self.sampling


@dataclasses.dataclass(frozen=True)
class Finished:
    """An answer, and why it names what it names, where that was asked for."""

    response: Response
    explanation: Explanation | None


class Worker:
    """The thread that answers for a system.

    Args:
      chat: the system.
      name: its name in the metrics.
      max_waiting: the most jobs that wait.
      metrics: what is counted.
    """

    def __init__(self, chat: Chat, name: str, max_waiting: int, metrics: Metrics):
        self._chat, self._name, self._metrics = chat, name, metrics
        self._max_waiting = max_waiting
        self._jobs: list[Job] = []
        self._changed = threading.Condition()
        self._is_closed = False
        self._thread = threading.Thread(target=self._work, name=f"answers of {name}", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """The number of jobs that wait, and whose clients do."""
        return sum(not job.is_gone for job in self._jobs)

    def put(self, job: Job) -> None:
        """Adds a job.

        Raises:
          RequestError: too many jobs wait, or the worker is closed.
        """
        with self._changed:
            self._jobs = [each for each in self._jobs if not each.is_gone]
            if self._is_closed:
                raise RequestError(503, "closing", "the server is being stopped")
            if len(self._jobs) >= self._max_waiting:
                raise RequestError(
                    503,
                    "busy",
                    f"{len(self._jobs)} requests wait already; try again in a moment",
                    {"Retry-After": "2"},
                )
            self._jobs.append(job)
            self._changed.notify()

    def close(self) -> None:
        """Ends the thread after its current batch; jobs that wait are refused."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        self._thread.join()

    def _work(self) -> None:
        while jobs := self._taken():
            try:
                self._answer(jobs)
            except Exception as error:
                if not isinstance(error, UserError):
                    LOG.exception("a batch of %s failed", self._name)
                for job in jobs:
                    job.tell(error)
        for job in self._jobs:
            job.tell(RequestError(503, "closing", "the server is being stopped"))

    def _taken(self) -> Sequence[Job]:
        """The jobs of the next batch; none when the worker is closed."""
        with self._changed:
            while True:
                self._jobs = [job for job in self._jobs if not job.is_gone]
                if self._is_closed:
                    return []
                if self._jobs:
                    break
                self._changed.wait()
            first = self._jobs[0]
            alike = [job for job in self._jobs if job.company == first.company]
            batch = alike[: self._chat.engine.batch_size]
            self._jobs = [job for job in self._jobs if job not in batch]
            return batch

    def _answer(self, jobs: Sequence[Job]) -> None:
        engine, began = self._chat.engine, time.perf_counter()
        question = engine.question([job.dialogue for job in jobs])
        seeds = None if jobs[0].seed is None else [job.seed or 0 for job in jobs]
        stream = Stream(engine, question, seeds, jobs[0].sampling, began)
        for pieces in stream.pieces():
            for job, piece in zip(jobs, pieces, strict=True):
                if piece.text and not job.is_gone:
                    job.tell(piece)
            if all(job.is_gone for job in jobs):
                return
        for job, response in zip(jobs, stream.responses(), strict=True):
            if job.is_gone:
                continue
            found = None
            if job.with_explanation:
                found = explain(self._chat, job.dialogue.turns, response)
            waited = began - job.began
            response = dataclasses.replace(
                response,
                seconds=time.perf_counter() - job.began,
                first_seconds=response.first_seconds + waited,
            )
            self._metrics.answered(self._name, len(response.ids), response.seconds)
            job.tell(Finished(response, found))
        self._metrics.decoded(self._name, len(jobs))
