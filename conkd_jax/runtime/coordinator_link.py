"""Connects JAX to the coordinator of a run, so that its loss can be told in words.

JAX aborts a process at once when the connection to its coordination service breaks, with a dump of
C++. So a process does not connect to process 0, which holds that service, but to a relay in itself.
When the other end is gone, the relay keeps JAX's end open and reports it. This module does not
depend on what is sent.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Callable

CONNECT_SECONDS = 10.0
BLOCK = 1 << 16


class CoordinatorLink:
    """A relay on this machine for connections to a coordinator elsewhere.

    It runs in threads of its own, until the process ends.

    Args:
      coordinator: "host:port".

    Attributes:
      address: "host:port" of the relay.
      has_connected: whether the coordinator has ever accepted a connection.
      on_loss: called when a connection is ended by the coordinator, and not by this process. None
        ends it on this side too.
    """

    def __init__(self, coordinator: str):
        host, _, port = coordinator.rpartition(":")
        self._coordinator = host.strip("[]"), int(port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.has_connected = False
        self.on_loss: Callable[[], None] | None = None
        _avoid_proxy("127.0.0.1")
        self._start(self._accept)

    def _start(self, target: Callable[..., None], *arguments: object) -> threading.Thread:
        name = "conkd-coordinator-link"
        thread = threading.Thread(target=target, args=arguments, daemon=True, name=name)
        thread.start()
        return thread

    def _accept(self) -> None:
        while True:
            near, _ = self._listener.accept()
            self._start(self._relay, near)

    def _relay(self, near: socket.socket) -> None:
        with near:
            try:
                far = socket.create_connection(self._coordinator, CONNECT_SECONDS)
            except OSError:
                return  # looks to JAX like a coordinator that is not there yet: it tries again
            self.has_connected = True
            with far:
                far.settimeout(None)
                for end in (near, far):
                    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                is_ours = threading.Event()  # whether this process ended the connection
                sender = self._start(_send, near, far, is_ours)
                _receive(near, far)
                if self.on_loss is not None and not is_ours.is_set():
                    self.on_loss()
                else:
                    _shut(near)
                sender.join()  # until JAX ends the connection


def _avoid_proxy(host: str) -> None:
    """Keeps gRPC, which JAX connects with, from reaching a host through an HTTP proxy."""
    direct = os.environ.get("no_grpc_proxy") or os.environ.get("no_proxy")
    os.environ["no_grpc_proxy"] = ",".join(filter(None, (direct, host)))


def _receive(near: socket.socket, far: socket.socket) -> None:
    while block := _next_block(far):
        try:
            near.sendall(block)
        except OSError:
            return


def _send(near: socket.socket, far: socket.socket, is_ours: threading.Event) -> None:
    while block := _next_block(near):
        with contextlib.suppress(OSError):  # nobody is there any more, which JAX must not see
            far.sendall(block)
    is_ours.set()
    _shut(far)


def _next_block(end: socket.socket) -> bytes:
    """What arrives next; empty once the connection has ended."""
    try:
        return end.recv(BLOCK)
    except OSError:
        return b""


def _shut(end: socket.socket) -> None:
    with contextlib.suppress(OSError):  # it has ended already
        end.shutdown(socket.SHUT_RDWR)
