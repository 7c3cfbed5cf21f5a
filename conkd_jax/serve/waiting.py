"""Waits for answers as long as their clients do."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine, Sequence
from typing import Any, TypeVar

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import StreamingResponse

from conkd_jax.errors import UserError
from conkd_jax.serve import schema
from conkd_jax.serve.answers import piece_answer, response_answer
from conkd_jax.serve.asking import Question, ask
from conkd_jax.serve.problems import problem_of
from conkd_jax.serve.server import Server
from conkd_jax.serve.worker import Finished

T = TypeVar("T")


async def ask_each(
    server: Server, names: Sequence[str], body: schema.AskRequest | schema.RoundRequest
) -> list[Question]:
    """Puts a history to several systems; errors as of `ask`."""
    served = [server.systems[name] for name in names]
    questions: list[Question] = []
    try:
        for one in served:
            questions.append(await ask(one, body, server.reader))
    except UserError:
        for question in questions:
            question.job.is_gone = True
        raise
    return questions


def answer_of(
    question: Question, finished: Finished, conversation: str | None = None
) -> schema.Response:
    """The answer of the API to a question."""
    served, reading = question.served, question.reading
    return response_answer(served, reading, finished.response, finished.explanation, conversation)


async def finish(server: Server, *questions: Question) -> list[Finished]:
    """The answers to questions that were asked."""
    seconds = server.settings.answer_seconds
    try:
        return await asyncio.gather(*(question.finished(seconds) for question in questions))
    finally:
        for question in questions:
            question.job.is_gone = True


async def while_connected(request: Request, answer: Coroutine[Any, Any, T]) -> T:
    """Waits for an answer as long as its client does.

    Raises:
      ClientDisconnect: the client went away; the answer is cancelled.
    """
    task, gone = asyncio.ensure_future(answer), asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientDisconnect()
        return task.result()
    finally:
        for each in (task, gone):
            each.cancel()
            with contextlib.suppress(asyncio.CancelledError, UserError):
                await each


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


class EventStream(StreamingResponse):
    """An answer as server-sent events; a client that goes away ends it."""

    def __init__(
        self,
        server: Server,
        body: schema.RespondRequest,
        question: Question,
        conversation: str | None,
    ):
        self._server, self._body = server, body
        self._question, self._conversation = question, conversation
        super().__init__(self._events(), media_type="text/event-stream")

    async def __call__(self, scope, receive, send) -> None:
        """Sends the events."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._question.job.is_gone = True

    async def _events(self) -> AsyncIterator[bytes]:
        yield event("reading", self._question.reading)
        try:
            async for told in self._question.answers(self._server.settings.answer_seconds):
                if isinstance(told, Finished):
                    answer = answer_of(self._question, told, self._conversation)
                    yield event("response", await kept(self._server, self._body, answer))
                else:
                    yield event("piece", piece_answer(self._question.served, told))
        except Exception as error:
            _, problem, _ = problem_of(error)
            yield event("error", problem)
            if not isinstance(error, UserError):
                raise


def event(name: str, content: msgspec.Struct) -> bytes:
    """A server-sent event.

    Source: https://html.spec.whatwg.org/multipage/server-sent-events.html
    """
    return b"event: " + name.encode() + b"\ndata: " + msgspec.json.encode(content) + b"\n\n"


async def kept(server: Server, body: schema.AskRequest, answer: schema.Response) -> schema.Response:
    """An answer, kept where that is asked for."""
    if answer.conversation is not None:
        memory = server.open_memory
        await asyncio.to_thread(memory.add, answer.conversation, body, answer)
    return answer
