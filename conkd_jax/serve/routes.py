"""The routes of the server, from which the application and its OpenAPI document are made."""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from conkd_jax.serve import handlers, schema
from conkd_jax.serve.server import Server


@dataclasses.dataclass(frozen=True)
class Parameter:
    """A value in the address of a route.

    Attributes:
      name: its name.
      place: "path" or "query".
      type: of its value.
      text: what it means.
      default: of a parameter of the query.
    """

    name: str
    place: str
    type: type
    text: str
    default: str | int | None = None


@dataclasses.dataclass(frozen=True)
class Route:
    """A route.

    Attributes:
      method: the HTTP method.
      path: its path.
      handler: (server, request, body) → an answer or a response.
      request: the type of the body; None for none.
      answer: the type of the answer; None for text.
      media_type: of the response.
      events: types of server-sent events, by name.
      parameters: of the address.
    """

    method: str
    path: str
    handler: Callable[[Server, Request, Any], Awaitable[msgspec.Struct | Response]]
    request: type[msgspec.Struct] | None = None
    answer: type[msgspec.Struct] | None = None
    media_type: str = "application/json"
    events: Mapping[str, type[msgspec.Struct]] = dataclasses.field(default_factory=dict)
    parameters: tuple[Parameter, ...] = ()


async def document(server: Server, request: Request, body: None) -> Response:
    """This document."""
    from conkd_jax.serve.openapi import openapi_document  # which needs the type of routes

    return JSONResponse(openapi_document(ROUTES))


_SYSTEM = Parameter("system", "path", str, "The name of the system that answers.")
_CONVERSATION = Parameter("conversation", "path", str, "The id that came with its answers.")
_SEARCH = (
    Parameter("query", "query", str, "The beginning of a title, or a similar one.", ""),
    Parameter("limit", "query", int, f"The most items, up to {schema.MAX_FOUND}.", 10),
)
_EVENTS = {
    "reading": schema.Reading,
    "piece": schema.Piece,
    "response": schema.Response,
    "error": schema.Problems,
}
ROUTES = (
    Route("GET", "/", handlers.page, media_type="text/html"),
    Route("POST", "/", handlers.simulate, schema.SimulatorRequest, media_type="text/plain"),
    Route(
        "POST",
        "/simulator/{system:path}",
        handlers.simulate,
        schema.SimulatorRequest,
        media_type="text/plain",
        parameters=(_SYSTEM,),
    ),
    Route("GET", "/v1/systems", handlers.list_systems, answer=schema.SystemList),
    Route("GET", "/v1/items", handlers.items, answer=schema.ItemList, parameters=_SEARCH),
    Route("POST", "/v1/read", handlers.read, schema.ReadRequest, schema.Reading),
    Route("POST", "/v1/respond", handlers.respond, schema.RespondRequest, schema.Response),
    Route(
        "POST",
        "/v1/stream",
        handlers.stream,
        schema.RespondRequest,
        media_type="text/event-stream",
        events=_EVENTS,
    ),
    Route("POST", "/v1/compare", handlers.compare, schema.CompareRequest, schema.Comparison),
    Route("POST", "/v1/arena/round", handlers.open_round, schema.RoundRequest, schema.Round),
    Route("POST", "/v1/arena/vote", handlers.vote, schema.VoteRequest, schema.Voted),
    Route("GET", "/v1/arena/ratings", handlers.rated, answer=schema.Ratings),
    Route(
        "GET",
        "/v1/conversations/{conversation}",
        handlers.conversation,
        answer=schema.Conversation,
        parameters=(_CONVERSATION,),
    ),
    Route(
        "DELETE",
        "/v1/conversations/{conversation}",
        handlers.forget,
        answer=schema.Forgotten,
        parameters=(_CONVERSATION,),
    ),
    Route("GET", "/health", handlers.health, answer=schema.Health),
    Route("GET", "/metrics", handlers.metrics, media_type="text/plain"),
    Route("GET", "/openapi.json", document),
)
