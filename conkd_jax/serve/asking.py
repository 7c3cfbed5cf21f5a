"""Puts a client's history to a system, and passes on what the worker answers."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator

from starlette.concurrency import run_in_threadpool

from conkd_jax.chat import Sampling
from conkd_jax.chat.response import Piece
from conkd_jax.serve import schema
from conkd_jax.serve.answers import reading_answer
from conkd_jax.serve.problems import RequestError
from conkd_jax.serve.systems import Served
from conkd_jax.serve.worker import Finished, Job
from conkd_jax.stages.free_text import Reading


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


async def ask(served: Served, request: schema.AskRequest | schema.RoundRequest) -> Question:
    """Reads a history and puts it to a system.

    Raises:
      RequestError: a field has a value that makes no sense, or too many requests wait.
      ChatError: the history can't be answered.
    """
    sampling, explain = served.chat.engine.sampling, False
    if isinstance(request, schema.AskRequest):
        sampling, explain = _sampling(request, sampling), request.explain
    loop, events = asyncio.get_running_loop(), asyncio.Queue()
    messages, dialogue, length = await run_in_threadpool(_read, served, request.history)

    def tell(event: Piece | Finished | Exception) -> None:
        try:
            loop.call_soon_threadsafe(events.put_nowait, event)
        except RuntimeError:  # the loop is closed: nobody listens
            job.is_gone = True

    job = Job(dialogue, length, request.seed, sampling, explain, tell)
    served.worker.put(job)
    last = messages[-1]
    assert isinstance(last, Reading)  # a dialogue ends with the seeker's message
    return Question(served, job, events, reading_answer(last, served.title))


def _read(served: Served, history: list[schema.Message]):
    messages = [served.message(message) for message in history]
    dialogue = served.chat.dialogue(messages)
    return messages, dialogue, served.chat.engine.length(dialogue)


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
