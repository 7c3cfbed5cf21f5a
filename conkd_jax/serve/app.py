"""The web application: routes, the guard before them, and errors as JSON."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route as StarletteRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from conkd_jax.errors import UserError
from conkd_jax.serve import limits
from conkd_jax.serve.limits import Settings
from conkd_jax.serve.problems import RequestError, problem_of
from conkd_jax.serve.routes import ROUTES, Route
from conkd_jax.serve.server import Server
from conkd_jax.serve.systems import Systems

HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}
CLIENT_CLOSED = 499  # nobody reads it; a status for the metrics


def create_app(systems: Systems, settings: Settings) -> Starlette:
    """The application that serves systems.

    Args:
      systems: what is served.
      settings: how clients are treated.

    Raises:
      UserError: a file of the settings can't be used.
    """
    server = Server(systems, settings)

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        server.close()

    app = Starlette(
        routes=[
            StarletteRoute(route.path, _endpoint(server, route), methods=[route.method])
            for route in ROUTES
        ],
        exception_handlers={HTTPException: _http_problem, Exception: _bug},
        lifespan=lifespan,
    )
    app.add_middleware(Guard, server=server)
    app.state.server = server
    return app


def _endpoint(server: Server, route: Route) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        status = 500
        try:
            body = None
            if route.request is not None:
                content = await limits.read_body(request, server.settings)
                body = limits.parse(content, route.request)
            response = await route.handler(server, request, body)
            if isinstance(response, msgspec.Struct):
                response = json_response(response)
            status = response.status_code
            return response
        except ClientDisconnect:
            status = CLIENT_CLOSED
            return Response(status_code=status)
        except UserError as error:
            response = problem_response(error)
            status = response.status_code
            return response
        finally:
            server.systems.metrics.requested(route.path, status)

    return endpoint


class Guard:
    """Refuses strangers and floods before anything is read; adds headers to every response."""

    def __init__(self, app: ASGIApp, server: Server):
        self._app, self._server = app, server
        self._rate = limits.Rate(server.settings.rate, server.settings.burst)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message) -> None:
            if message["type"] == "http.response.start":
                given = {key.lower() for key, _ in message["headers"]}
                message["headers"] = [*message["headers"]] + [
                    (key.lower().encode(), value.encode())
                    for key, value in HEADERS.items()
                    if key.lower().encode() not in given
                ]
            await send(message)

        request = Request(scope)
        try:
            self._check(request)
        except RequestError as error:
            self._server.systems.metrics.requested("refused", error.status)
            response = problem_response(error)
            if request.method not in ("GET", "HEAD"):  # its body is not read
                response.headers["Connection"] = "close"
            await response(scope, receive, send_with_headers)
            return
        await self._app(scope, receive, send_with_headers)

    def _check(self, request: Request) -> None:
        settings, host = self._server.settings, request.headers.get("host", "")
        limits.expect_host(host, settings.hosts)
        self._rate.take(limits.client_of(request.scope))
        if request.method not in ("GET", "HEAD"):
            limits.expect_same_origin(request.headers.get("origin"), host)
        is_open = request.method in ("GET", "HEAD") and request.url.path in limits.OPEN_PATHS
        if settings.token and not is_open:
            limits.expect_token(request.headers.get("authorization", ""), settings.token)


def json_response(
    answer: msgspec.Struct, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """An answer as JSON."""
    content = msgspec.json.encode(answer)
    return Response(content, status, headers, media_type="application/json")


def problem_response(error: Exception) -> Response:
    """An error as JSON."""
    status, problem, headers = problem_of(error)
    return json_response(problem, status, headers)


async def _http_problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = {404: "no_such_route", 405: "wrong_method"}.get(error.status_code, "not_valid")
    message = f"{request.method} {request.url.path[:200]}: {error.detail}"
    return problem_response(RequestError(error.status_code, code, message, error.headers))


async def _bug(request: Request, error: Exception) -> Response:
    return problem_response(error)
