"""The HTTP server below the application: uvicorn, with limits on connections."""

from __future__ import annotations

import asyncio
from typing import Any

import h11
import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.http.h11_impl import H11Protocol

MAX_CONNECTIONS = 512
IDLE_SECONDS = 30  # a connection may wait for its next request
HEAD_SECONDS = 10  # that the head of a request may take to arrive
CLOSING_SECONDS = 5  # that answers may take when the server is stopped


def http_server(app: Starlette, *, behind_proxy: bool = False) -> uvicorn.Server:
    """A server of an application; give its `run` a socket that listens.

    Args:
      app: the application.
      behind_proxy: whether a proxy on this machine states the addresses of clients.
    """
    config = uvicorn.Config(
        app,
        http=TimedProtocol,
        ws="none",
        log_level="warning",
        server_header=False,
        proxy_headers=behind_proxy,
        limit_concurrency=MAX_CONNECTIONS,
        timeout_keep_alive=IDLE_SECONDS,
        timeout_graceful_shutdown=CLOSING_SECONDS,
    )
    return uvicorn.Server(config)


class TimedProtocol(H11Protocol):
    """A connection that ends if the head of a request takes too long to arrive."""

    _late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Starts to wait for the first request."""
        super().connection_made(transport)
        self._late = self.loop.call_later(HEAD_SECONDS, transport.close)

    def data_received(self, data: Any) -> None:
        """Reads what arrived."""
        super().data_received(data)
        is_head = self.conn.their_state is h11.IDLE
        if self._late is None and is_head and not self.transport.is_closing():
            self._late = self.loop.call_later(HEAD_SECONDS, self.transport.close)
        elif self._late is not None and not is_head:
            self._forget_time()

    def connection_lost(self, exc: Any) -> None:
        """Forgets the connection."""
        self._forget_time()
        super().connection_lost(exc)

    def _forget_time(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None
