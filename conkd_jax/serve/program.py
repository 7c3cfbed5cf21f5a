"""Serves trained runs: a page in the browser, an API, user simulators, an arena.

    conkd-serve --workdir=runs/dialogpt_hard-demo-seed0

Open the address that it prints. Several runs on the same items can be served at once, separated by
commas: the page then compares them. Only programs on this machine can reach the server; for others,
name an address with --host, and a token that they have to send. Ctrl-C stops it.
docs/howto/serve.md describes the API.
"""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import os
import socket

from absl import flags

from conkd_jax.chat.program import keep_compiled_programs
from conkd_jax.cli import command_line
from conkd_jax.cli.command_line import UsageError

TOKEN_VARIABLE = "CONKD_SERVE_TOKEN"

OPTIONS = flags.FlagValues()
_WORKDIR = flags.DEFINE_list(
    "workdir", [], "The runs: folders written by conkd_jax.train.", flag_values=OPTIONS
)
_HOST = flags.DEFINE_string("host", "127.0.0.1", "The address to listen on.", flag_values=OPTIONS)
_PORT = flags.DEFINE_integer(
    "port", 8000, "The port to listen on; 0 for any that is free.", 0, 65535, flag_values=OPTIONS
)
_BATCH_SIZE = flags.DEFINE_integer(
    "batch_size", 8, "The most requests that are answered at once.", 1, flag_values=OPTIONS
)
_TOKEN = flags.DEFINE_string(
    "token",
    "",
    "What clients have to send as `Authorization: Bearer TOKEN`. Other users of this machine can "
    f"see it on the command line, but not in the variable {TOKEN_VARIABLE}.",
    flag_values=OPTIONS,
)
_KEEP = flags.DEFINE_string(
    "keep",
    "",
    "The SQLite file for conversations whose clients ask for it. Without it, nothing is kept.",
    flag_values=OPTIONS,
)
_ARENA = flags.DEFINE_string(
    "arena", "", "The SQLite file for votes in the arena, with two runs.", flag_values=OPTIONS
)
_PUBLIC_NAME = flags.DEFINE_list(
    "public_name",
    [],
    "The names that a proxy in front of the server passes on, such as chat.example.org. The "
    "addresses of clients are then those that the proxy states.",
    flag_values=OPTIONS,
)
_RATE = flags.DEFINE_float(
    "rate", 20.0, "Requests a second from one client; 0 for any number.", 0, flag_values=OPTIONS
)


def main(argv: list[str]) -> None:
    """Opens the runs, and serves them until it is interrupted."""
    workdirs = [folder for folder in _WORKDIR.value if folder]
    if not workdirs:
        raise UsageError("expected --workdir=RUN, for example runs/dialogpt_hard-demo-seed0")
    host, token = _HOST.value, _TOKEN.value or os.environ.get(TOKEN_VARIABLE, "")
    expect_token_beyond_loopback(host, token)
    try:
        from conkd_jax.serve.app import create_app
        from conkd_jax.serve.connections import http_server
        from conkd_jax.serve.limits import LOOPBACK, Settings
        from conkd_jax.serve.systems import Systems
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in ("starlette", "uvicorn", "h11"):
            raise
        raise UsageError(
            f"the package {package} is missing. Install it with: pip install 'conkd_jax[serve]'"
        ) from error
    settings = Settings(
        token=token,
        hosts=(*LOOPBACK, *(name.lower() for name in _PUBLIC_NAME.value)),
        rate=_RATE.value,
        burst=max(int(5 * _RATE.value), 1),
        keep=_KEEP.value,
        arena=_ARENA.value,
    )
    if not is_loopback(host):
        settings = settings.for_any_host()
    # before the runs are opened, which takes a while
    with contextlib.closing(listen(host, _PORT.value)) as listening:
        keep_compiled_programs()
        logging.basicConfig(level=logging.WARNING)
        command_line.show(f"Opening {', '.join(workdirs)} …")
        systems = Systems.open(workdirs, batch_size=_BATCH_SIZE.value)
        titles = [system.card.title for system in systems]
        try:
            server = http_server(
                create_app(systems, settings), behind_proxy=bool(_PUBLIC_NAME.value)
            )
            command_line.show(*welcome(listening, titles, settings))
            server.run(sockets=[listening])
        except KeyboardInterrupt:
            pass  # the server has ended its connections, and raises it again
        finally:
            systems.close()
    command_line.show("Stopped.")


def expect_token_beyond_loopback(host: str, token: str) -> None:
    """Checks that no stranger can reach a server without a token.

    Raises:
      UsageError: other machines can, or a proxy may pass them on.
    """
    if token and len(token) < 16:
        raise UsageError(
            "--token: expected 16 characters or more, which nobody can guess; for example of "
            "`openssl rand -hex 16`"
        )
    if token:
        return
    how = f"add --token=TOKEN, or set {TOKEN_VARIABLE}"
    if not is_loopback(host):
        raise UsageError(f"--host={host}: other machines can reach this address; {how}")
    if _PUBLIC_NAME.value:
        raise UsageError(f"--public_name: a proxy passes other machines on; {how}")


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address.

    >>> is_loopback("localhost"), is_loopback("::1"), is_loopback("0.0.0.0")
    (True, True, False)
    """
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens on an address.

    Raises:
      UsageError: it can't.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=512)
    except OSError as error:
        raise UsageError(
            f"--host={host} --port={port}: can't listen there: {error.strerror or error}"
        ) from error


def welcome(listening: socket.socket, titles: list[str], settings) -> list[str]:
    """Lines that say what is served, where, and how to stop."""
    host, port = listening.getsockname()[:2]
    lines = [f"Serving {', '.join(titles)}."]
    if settings.keep:
        lines.append(f"Conversations whose clients ask for it are kept in {settings.keep}.")
    if settings.arena:
        lines.append(f"Votes, and the conversations they are on, are kept in {settings.arena}.")
    lines.append(f"Open http://{f'[{host}]' if ':' in host else host}:{port}/ - Ctrl-C stops it.")
    return lines


def run() -> None:
    """Runs the command line."""
    command_line.run(main, OPTIONS)


if __name__ == "__main__":
    run()
