"""What a server refuses: strangers, floods, and bodies that are too large, too slow or no JSON."""

from __future__ import annotations

import asyncio
import base64
import binascii
import dataclasses
import hmac
import math
import time
from collections.abc import Callable, Mapping
from typing import TypeVar
from urllib.parse import urlsplit

import msgspec
from starlette.requests import Request

from conkd_jax.io.files import parse_json
from conkd_jax.serve.problems import RequestError

LOOPBACK = ("localhost", "127.0.0.1", "::1")
OPEN_PATHS = ("/", "/health")  # the page has no secrets, and asks for the token itself
MAX_CLIENTS = 10_000  # whose rate is remembered

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Settings:
    """How a server treats its clients.

    Attributes:
      token: that clients have to send; "" for none.
      hosts: the names that the server answers to; () for any.
      max_body: the most bytes of a request.
      body_seconds: the longest time that a body may take to arrive.
      answer_seconds: the longest time that an answer may take.
      rate: requests a second that a client may send in the long run; 0 for any number.
      burst: requests that a client may send at once.
      keep: the SQLite file for conversations whose clients ask for it; "" for none.
      arena: the SQLite file for votes; "" for no arena.
    """

    token: str = ""
    hosts: tuple[str, ...] = LOOPBACK
    max_body: int = 256 * 1024
    body_seconds: float = 10.0
    answer_seconds: float = 60.0
    rate: float = 20.0
    burst: int = 100
    keep: str = ""
    arena: str = ""

    def for_any_host(self) -> Settings:
        """The settings of a server that other machines reach by names that it can't know."""
        return dataclasses.replace(self, hosts=())


class Rate:
    """A token bucket for each client: `burst` requests at once, then `rate` a second.

    Args:
      rate: tokens that are added a second; 0 for no limit.
      burst: the most tokens.
      clock: the time in seconds.
    """

    def __init__(self, rate: float, burst: int, clock: Callable[[], float] = time.monotonic):
        self._rate, self._burst, self._clock = rate, float(burst), clock
        self._buckets: dict[str, tuple[float, float]] = {}

    def take(self, client: str) -> None:
        """Takes a token of a client.

        Raises:
          RequestError: there is none.
        """
        if not self._rate:
            return
        now = self._clock()
        if client not in self._buckets and len(self._buckets) >= MAX_CLIENTS:
            self._forget(now)
        tokens = self._tokens(client, now)
        if tokens < 1:
            seconds = math.ceil((1 - tokens) / self._rate)
            raise RequestError(
                429,
                "too_many_requests",
                f"expected up to {self._burst:g} requests at once and {self._rate:g} a second",
                {"Retry-After": str(seconds)},
            )
        self._buckets[client] = (tokens - 1, now)

    def _tokens(self, client: str, now: float) -> float:
        tokens, then = self._buckets.get(client, (self._burst, now))
        return min(self._burst, tokens + (now - then) * self._rate)

    def _forget(self, now: float) -> None:
        """Drops those whose bucket is full again, or else those that asked least recently."""
        full = [one for one in self._buckets if self._tokens(one, now) >= self._burst]
        oldest = sorted(self._buckets, key=lambda one: self._buckets[one][1])[: MAX_CLIENTS // 2]
        for client in full or oldest:
            del self._buckets[client]


def expect_host(host: str, hosts: tuple[str, ...]) -> None:
    """Checks the Host header: a page of another site must not reach a server on loopback by DNS.

    Raises:
      RequestError: it is none of the names.
    """
    if hosts and _hostname(f"//{host}") not in hosts:
        raise RequestError(
            421, "wrong_host", f"Host: expected {' or '.join(hosts)}, got {host[:100]!r}"
        )


def expect_same_origin(origin: str | None, host: str) -> None:
    """Checks the Origin header of a POST, which browsers send: pages of other sites may not ask.

    Raises:
      RequestError: it is another site.
    """
    if origin is not None and _netloc(origin) != host.lower():
        raise RequestError(403, "wrong_origin", f"Origin: another site, {origin[:100]!r}")


def _netloc(url: str) -> str | None:
    try:
        return urlsplit(url).netloc.lower()
    except ValueError:
        return None


def _hostname(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None


def expect_token(authorization: str, token: str) -> None:
    """Checks the Authorization header: "Bearer TOKEN", or Basic with the token as password.

    Basic is for clients that only know an address, such as `http://any:TOKEN@host/`.

    Raises:
      RequestError: it has another token, or none.
    """
    kind, _, value = authorization.partition(" ")
    if kind.lower() == "basic":
        try:
            value = base64.b64decode(value, validate=True).decode().partition(":")[2]
        except (binascii.Error, UnicodeDecodeError):
            value = ""
    elif kind.lower() != "bearer":
        value = ""
    if not hmac.compare_digest(value.strip().encode(), token.encode()):
        raise RequestError(
            401,
            "wrong_token",
            "expected the header Authorization: Bearer TOKEN, with the token of this server",
            {"WWW-Authenticate": "Bearer"},
        )


async def read_body(request: Request, settings: Settings) -> bytes:
    """The body of a request.

    Raises:
      RequestError: it is too large, too slow or not sent as JSON; one that says its length is
        refused before it is read.
      ClientDisconnect: the client went away.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        message = "Content-Type: expected application/json"
        raise RequestError(415, "not_json", message, {"Connection": "close"})
    length = request.headers.get("content-length", "0")
    parts, size = [], int(length) if length.isdecimal() else 0
    _expect_size(size, settings)
    size = 0
    try:
        async with asyncio.timeout(settings.body_seconds):
            async for part in request.stream():
                size += len(part)
                _expect_size(size, settings)
                parts.append(part)
    except TimeoutError:
        raise RequestError(
            408,
            "too_slow",
            f"the body took longer than {settings.body_seconds:g} seconds",
            {"Connection": "close"},
        ) from None
    return b"".join(parts)


def _expect_size(size: int, settings: Settings) -> None:
    if size > settings.max_body:
        raise RequestError(
            413,
            "too_large",
            f"expected up to {settings.max_body:,} bytes",
            {"Connection": "close"},
        )


def parse(body: bytes, kind: type[T]) -> T:
    """The request that a body holds.

    Raises:
      RequestError: it is not JSON, or not such a request; the message names the field.
    """
    try:
        value = parse_json(body)
    except ValueError as error:
        raise RequestError(400, "not_json", f"expected JSON: {str(error)[:200]}") from error
    try:
        return msgspec.convert(value, kind, str_keys=True)
    except msgspec.ValidationError as error:
        raise RequestError(422, "not_valid", str(error)[:500]) from error


def client_of(scope: Mapping) -> str:
    """The address of a client."""
    client = scope.get("client")
    return client[0] if client else ""
