"""The routes of the server: what each one takes, does and returns."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any, TypeVar

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse

from conkd_jax.errors import UserError
from conkd_jax.serve import page as html
from conkd_jax.serve import schema
from conkd_jax.serve.answers import reading_answer, response_answer
from conkd_jax.serve.asking import Question, ask
from conkd_jax.serve.limits import Settings
from conkd_jax.serve.problems import RequestError
from conkd_jax.serve.systems import Systems
from conkd_jax.serve.worker import Finished

T = TypeVar("T")


class Server:
    """What the handlers of routes share.

    Attributes:
      systems: what is served.
      settings: how clients are treated.
    """

    def __init__(self, systems: Systems, settings: Settings):
        self.systems, self.settings = systems, settings

    def close(self) -> None:
        """Ends the workers and closes files."""
        self.systems.close()


@dataclasses.dataclass(frozen=True)
class Route:
    """A route, from which the application and its OpenAPI document are made.

    Attributes:
      method: the HTTP method.
      path: its path.
      handler: (server, request, body) → an answer or a response.
      request: the type of the body; None for none.
      answer: the type of the answer; None for text.
      media_type: of the response.
    """

    method: str
    path: str
    handler: Callable[[Server, Request, Any], Awaitable[msgspec.Struct | Response]]
    request: type[msgspec.Struct] | None = None
    answer: type[msgspec.Struct] | None = None
    media_type: str = "application/json"


async def page(server: Server, request: Request, body: None) -> Response:
    """The page."""
    document = html.document()
    headers = {"Content-Security-Policy": html.policy()}
    return Response(document, headers=headers, media_type="text/html")


async def list_systems(server: Server, request: Request, body: None) -> schema.SystemList:
    """The systems that are served."""
    cards = [system.card for system in server.systems]
    return schema.SystemList(systems=cards, arena=False, keeps=False)


async def read(server: Server, request: Request, body: schema.ReadRequest) -> schema.Reading:
    """What is understood of a text: movies, people and genres."""
    served = server.systems[None]
    reading = await asyncio.to_thread(served.read, body.text, body.role, body.corrections)
    return reading_answer(reading, served.title)


async def respond(server: Server, request: Request, body: schema.RespondRequest) -> schema.Response:
    """The answer of a system to a history."""
    question = await ask(server.systems[body.system], body)
    (finished,) = await while_connected(request, finish(server, question))
    return answer_of(question, finished)


async def stream(server: Server, request: Request, body: schema.RespondRequest) -> Response:
    """The same a token at a time.

    Server-sent events: one `reading`, then `piece` for each piece of the text, then `response`; or
    `error`, which ends the stream.
    """
    question = await ask(server.systems[body.system], body)
    return EventStream(question, server.settings.answer_seconds)


async def compare(
    server: Server, request: Request, body: schema.CompareRequest
) -> schema.Comparison:
    """The answers of two systems to one history."""
    questions = [await ask(server.systems[name], body) for name in body.systems]
    finished = await while_connected(request, finish(server, *questions))
    pairs = zip(questions, finished, strict=True)
    return schema.Comparison(responses=[answer_of(*pair) for pair in pairs])


# --- waiting for answers -----------------------------------------------------------------------


def answer_of(question: Question, finished: Finished) -> schema.Response:
    """The answer of the API to a question."""
    name = question.served.name
    return response_answer(name, question.reading, finished.response, finished.explanation)


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

    def __init__(self, question: Question, seconds: float):
        self._question = question
        super().__init__(self._events(seconds), media_type="text/event-stream")

    async def __call__(self, scope, receive, send) -> None:
        """Sends the events."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._question.job.is_gone = True

    async def _events(self, seconds: float) -> AsyncIterator[bytes]:
        yield event("reading", self._question.reading)
        try:
            async for told in self._question.answers(seconds):
                if isinstance(told, Finished):
                    yield event("response", answer_of(self._question, told))
                else:
                    yield event("piece", schema.Piece(text=told.text, movie_id=told.movie_id))
        except Exception as error:
            is_known = isinstance(error, UserError)
            code = error.code if isinstance(error, RequestError) else "not_valid"
            problem = schema.Problem(
                code=code if is_known else "internal",
                message=str(error) if is_known else "the server failed on this request",
            )
            yield event("error", schema.Problems(error=problem))
            if not is_known:
                raise


def event(name: str, content: msgspec.Struct) -> bytes:
    """A server-sent event.

    Source: https://html.spec.whatwg.org/multipage/server-sent-events.html
    """
    return b"event: " + name.encode() + b"\ndata: " + msgspec.json.encode(content) + b"\n\n"


ROUTES = (
    Route("GET", "/", page, media_type="text/html"),
    Route("GET", "/v1/systems", list_systems, None, schema.SystemList),
    Route("POST", "/v1/read", read, schema.ReadRequest, schema.Reading),
    Route("POST", "/v1/respond", respond, schema.RespondRequest, schema.Response),
    Route("POST", "/v1/stream", stream, schema.RespondRequest, None, "text/event-stream"),
    Route("POST", "/v1/compare", compare, schema.CompareRequest, schema.Comparison),
)
