"""What each route does: (server, request, body) → an answer, or a response."""

from __future__ import annotations

import asyncio
import re

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from conkd_jax.chat.session import prediction
from conkd_jax.serve import page as html
from conkd_jax.serve import schema
from conkd_jax.serve.answers import reading_answer
from conkd_jax.serve.arena import Duel
from conkd_jax.serve.asking import ask, checked, put
from conkd_jax.serve.metrics import CONTENT_TYPE as METRICS_TYPE
from conkd_jax.serve.problems import RequestError
from conkd_jax.serve.server import Server
from conkd_jax.serve.simulator import spoken
from conkd_jax.serve.waiting import (
    EventStream,
    answer_of,
    ask_each,
    finish,
    kept,
    while_connected,
)


async def page(server: Server, request: Request, body: None) -> Response:
    """The page."""
    document = html.document()
    headers = {"Content-Security-Policy": html.policy()}
    return Response(document, headers=headers, media_type="text/html")


async def list_systems(server: Server, request: Request, body: None) -> schema.SystemList:
    """The systems that are served."""
    return schema.SystemList(
        systems=[system.card for system in server.systems],
        arena=server.arena is not None,
        keeps=server.memory is not None,
    )


async def items(server: Server, request: Request, body: None) -> schema.ItemList:
    """Items by the beginning of a title, or a similar one."""
    query, limit = request.query_params.get("query", ""), request.query_params.get("limit", "10")
    if not (re.fullmatch("[0-9]{1,3}", limit) and 1 <= int(limit) <= schema.MAX_FOUND):
        raise RequestError(
            422, "not_valid", f"limit: expected 1 to {schema.MAX_FOUND}, got {limit[:100]!r}"
        )
    served = server.systems[None]
    found = await server.reader.read(lambda: served.found(query[:200], int(limit)))
    return schema.ItemList(items=found)


async def read(server: Server, request: Request, body: schema.ReadRequest) -> schema.Reading:
    """What is understood of a text: items, and other nodes of the graph by their names."""
    served = server.systems[None]
    reading = await server.reader.read(lambda: served.read(body.text, body.role, body.corrections))
    return reading_answer(served, reading)


async def respond(server: Server, request: Request, body: schema.RespondRequest) -> schema.Response:
    """The answer of a system to a history."""
    conversation = await asyncio.to_thread(conversation_of, server, body)
    question = await ask(server.systems[body.system], body, server.reader)
    (finished,) = await while_connected(request, finish(server, question))
    return await kept(server, body, answer_of(question, finished, conversation))


async def stream(server: Server, request: Request, body: schema.RespondRequest) -> Response:
    """The answer of a system a token at a time.

    Server-sent events: one `reading`, then `piece` for each piece of the text, then `response`; or
    `error`, which ends the stream.
    """
    conversation = await asyncio.to_thread(conversation_of, server, body)
    question = await ask(server.systems[body.system], body, server.reader)
    return EventStream(server, body, question, conversation)


async def compare(
    server: Server, request: Request, body: schema.CompareRequest
) -> schema.Comparison:
    """The answers of two systems to one history."""
    conversation = await asyncio.to_thread(conversation_of, server, body)
    questions = await ask_each(server, body.systems, body)
    finished = await while_connected(request, finish(server, *questions))
    pairs = zip(questions, finished, strict=True)
    answers = [answer_of(*pair, conversation) for pair in pairs]
    return schema.Comparison(responses=[await kept(server, body, answer) for answer in answers])


async def simulate(server: Server, request: Request, body: schema.SimulatorRequest) -> Response:
    """The next message of a system, as text, for user simulators (UserSimCRS, iEvaLM).

    Without a system in the address, the first one answers.
    """
    served = server.systems[request.path_params.get("system")]
    said = checked(spoken(body))
    messages = await server.reader.read(
        lambda: [served.chat.read(each.text, each.role) for each in said]
    )
    question = await put(served, messages, server.reader)
    (finished,) = await while_connected(request, finish(server, question))
    return PlainTextResponse(finished.response.text)


# --- the arena and the memory ------------------------------------------------------------------


async def open_round(server: Server, request: Request, body: schema.RoundRequest) -> schema.Round:
    """Answers of two systems that are not named, for a person to choose from.

    Nothing is stored before a vote; a vote is stored with the history and both answers.
    """
    arena = server.open_arena
    names = arena.draw()
    questions = await ask_each(server, names, body)
    finished = await while_connected(request, finish(server, *questions))
    first, second = (
        prediction(question.served.chat, question.job.dialogue, one.response)
        for question, one in zip(questions, finished, strict=True)
    )
    number = arena.open(Duel(names, (first, second)))
    answers = [
        schema.Blind(
            text=one.response.text,
            turn=schema.Turn(role="recommender", text=one.response.turn.text),
        )
        for one in finished
    ]
    return schema.Round(round=number, answers=answers)


async def vote(server: Server, request: Request, body: schema.VoteRequest) -> schema.Voted:
    """Stores which answer is better, and tells whose they were."""
    arena = server.open_arena
    names = await asyncio.to_thread(arena.vote, body.round, body.choice, body.voter)
    return schema.Voted(systems=list(names))


async def rated(server: Server, request: Request, body: None) -> schema.Ratings:
    """The ratings of all systems by all votes."""
    return await server.reader.read(server.open_arena.ratings)


async def conversation(server: Server, request: Request, body: None) -> schema.Conversation:
    """A conversation that was kept."""
    memory, number = server.open_memory, request.path_params["conversation"]
    return await asyncio.to_thread(memory.read, number)


async def forget(server: Server, request: Request, body: None) -> schema.Forgotten:
    """Deletes a conversation that was kept."""
    memory, number = server.open_memory, request.path_params["conversation"]
    return schema.Forgotten(deleted=await asyncio.to_thread(memory.forget, number))


def conversation_of(server: Server, body: schema.AskRequest) -> str | None:
    """The id under which an answer will be kept; None where that isn't asked for.

    Raises:
      RequestError: nothing is kept here, or there is no conversation of the id that is given.
    """
    if body.keep:
        return server.open_memory.conversation(body.conversation)
    if body.conversation is not None:
        raise RequestError(422, "not_valid", "conversation: expected keep to be true as well")
    return None


# --- operation ---------------------------------------------------------------------------------


async def health(server: Server, request: Request, body: None) -> schema.Health:
    """Whether the server answers, and how many requests wait."""
    waiting = sum(server.systems.waiting.values())
    return schema.Health(status="ok", systems=len(server.systems), waiting=waiting)


async def metrics(server: Server, request: Request, body: None) -> Response:
    """Counters in the text format of Prometheus."""
    text = server.systems.metrics.text(server.systems.waiting)
    return Response(text, headers={"Content-Type": METRICS_TYPE})
