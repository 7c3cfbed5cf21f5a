"""Serves trained runs: a page in the browser, an API, user simulators, an arena.

    conkd-serve --workdir=runs/dialogpt_hard-demo-seed0

Open the address that it prints. Several runs on the same movies can be served at once, separated by
commas: the page then compares them. Only programs on this machine can reach the server; for others,
name an address with --host, and a token that they have to send. Ctrl-C stops it.
"""

from __future__ import annotations

import logging

from absl import flags

from conkd_jax import command_line
from conkd_jax.chat.program import keep_compiled_programs
from conkd_jax.command_line import UsageError

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
    "see a command line; the variable CONKD_SERVE_TOKEN is not shown to them.",
    flag_values=OPTIONS,
)


def main(argv: list[str]) -> None:
    """Opens the runs, and serves them until it is interrupted."""
    if not _WORKDIR.value:
        raise UsageError("expected --workdir=RUN, for example runs/dialogpt_hard-demo-seed0")
    import uvicorn

    from conkd_jax.serve.app import create_app
    from conkd_jax.serve.limits import Settings
    from conkd_jax.serve.systems import Systems

    keep_compiled_programs()
    logging.basicConfig(level=logging.WARNING)
    command_line.show(f"Opening {', '.join(_WORKDIR.value)} …")
    systems = Systems.open(_WORKDIR.value, batch_size=_BATCH_SIZE.value)
    app = create_app(systems, Settings(token=_TOKEN.value))
    command_line.show(f"http://{_HOST.value}:{_PORT.value}")
    uvicorn.run(app, host=_HOST.value, port=_PORT.value, log_level="warning")


def run() -> None:
    """Runs the command line."""
    command_line.run(main, OPTIONS)


if __name__ == "__main__":
    run()
