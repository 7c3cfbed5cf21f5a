"""Puts a client's history to a system, and passes on what the worker answers."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Callable, Sequence
from typing import TypeVar

import anyio
import anyio.to_thread

from conkd_jax.chat import Sampling
from conkd_jax.chat.response import Piece
from conkd_jax.data.corpus import Dialogue, Turn
from conkd_jax.serve import schema
from conkd_jax.serve.answers import reading_answer
from conkd_jax.serve.problems import RequestError
from conkd_jax.serve.systems import Served
from conkd_jax.serve.worker import Finished, Job
from conkd_jax.stages.systems.free_text import Reading

THREADS = 2  # that read texts

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Question:
    """A history that was understood.

    Attributes:
      served: the system that it is for.
      job: what its worker is given.
      events: what the worker tells.
      reading: the last message as it was understood.
    """

    served: Served
    job: Job
    events: asyncio.Queue[Piece | Finished | Exception]
    reading: schema.Reading

    async def answers(self, seconds: float) -> AsyncIterator[Piece | Finished]:
        """Yields the pieces of the answer, and the whole answer at the end.

        Args:
          seconds: the longest time that the answer may take.

        Raises:
          RequestError: it takes longer.
          UserError: the history can't be answered.
        """
        deadline = asyncio.get_running_loop().time() + seconds
        try:
            while True:
                left = deadline - asyncio.get_running_loop().time()
                event = await asyncio.wait_for(self.events.get(), left)
                if isinstance(event, Exception):
                    raise event
                yield event
                if isinstance(event, Finished):
                    return
        except TimeoutError:
            message = f"the answer took longer than {seconds:g} seconds"
            raise RequestError(504, "timeout", message) from None
        finally:
            self.job.is_gone = True

    async def finished(self, seconds: float) -> Finished:
        """The whole answer; arguments and errors as of `answers`."""
        async for event in self.answers(seconds):
            if isinstance(event, Finished):
                return event
        raise AssertionError("a worker tells the end of each answer")


async def ask(
    served: Served, request: schema.AskRequest | schema.RoundRequest, reader: Reader
) -> Question:
    """Reads a history and puts it to a system.

    Raises:
      RequestError: a field has a value that makes no sense, or too many requests wait.
      ChatError: the history can't be answered.
    """
    sampling, explain = served.chat.engine.sampling, False
    if isinstance(request, schema.AskRequest):
        sampling, explain = _sampling(request, sampling), request.explain
    messages = await reader.read(lambda: [served.message(one) for one in checked(request.history)])
    return await put(served, messages, reader, request.seed, sampling, explain)


def checked(history: Sequence[schema.Message]) -> Sequence[schema.Message]:
    """A history whose messages together are not too long.

    Raises:
      RequestError: they are.
    """
    if (size := sum(len(message.text) for message in history)) > schema.MAX_HISTORY:
        raise RequestError(
            422,
            "not_valid",
            f"history: expected up to {schema.MAX_HISTORY:,} characters in all messages, got "
            f"{size:,}; leave the oldest ones out",
        )
    return history


async def put(
    served: Served,
    messages: Sequence[Reading | Turn],
    reader: Reader,
    seed: int | None = None,
    sampling: Sampling | None = None,
    explain: bool = False,
) -> Question:
    """Puts messages that were read to a system; errors as of `ask`."""
    loop, events = asyncio.get_running_loop(), asyncio.Queue()
    chat = served.chat

    def ready() -> tuple[Dialogue, int]:
        dialogue = chat.dialogue(messages)
        return dialogue, chat.engine.length(dialogue)

    def tell(event: Piece | Finished | Exception) -> None:
        try:
            loop.call_soon_threadsafe(events.put_nowait, event)
        except RuntimeError:  # the loop is closed: nobody listens
            job.is_gone = True

    dialogue, length = await reader.read(ready)
    job = Job(dialogue, length, seed, sampling or chat.engine.sampling, explain, tell)
    served.worker.put(job)
    last = messages[-1]
    assert isinstance(last, Reading)  # a dialogue ends with the seeker's message
    return Question(served, job, events, reading_answer(served, last))


class Reader:
    """Reads texts in a few threads of its own, so that long ones can't occupy the server.

    Args:
      max_waiting: the most texts that wait.
      seconds: the longest time that one waits and is read.
    """

    def __init__(self, max_waiting: int, seconds: float):
        self._max_waiting, self._seconds = max_waiting, seconds
        self._threads = anyio.CapacityLimiter(THREADS)
        self._waiting = 0

    async def read(self, function: Callable[[], T]) -> T:
        """Calls a function in a thread.

        Raises:
          RequestError: too many wait, or it takes too long.
        """
        if self._waiting >= self._max_waiting:
            raise RequestError(
                503,
                "busy",
                f"{self._waiting} requests wait already; try again in a moment",
                {"Retry-After": "2"},
            )
        self._waiting += 1
        try:
            async with asyncio.timeout(self._seconds):
                return await anyio.to_thread.run_sync(
                    function, limiter=self._threads, abandon_on_cancel=True
                )
        except TimeoutError:
            message = f"reading took longer than {self._seconds:g} seconds"
            raise RequestError(504, "timeout", message) from None
        finally:
            self._waiting -= 1


def _sampling(request: schema.AskRequest, default: Sampling) -> Sampling:
    given = {
        key: value
        for key, value in (("temperature", request.temperature), ("top_p", request.top_p))
        if value is not None
    }
    if given and request.seed is None:
        raise RequestError(
            422, "not_valid", f"{', '.join(given)}: only random answers have it; add a seed"
        )
    return dataclasses.replace(default, **given)
