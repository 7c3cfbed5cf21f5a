"""What the handlers of all routes share."""

from __future__ import annotations

from conkd_jax.cli.command_line import UsageError
from conkd_jax.serve.arena import Arena
from conkd_jax.serve.asking import Reader
from conkd_jax.serve.keeping import Memory
from conkd_jax.serve.limits import Settings
from conkd_jax.serve.problems import RequestError
from conkd_jax.serve.systems import MAX_WAITING, Systems


class Server:
    """Systems, settings, and the files that answers and votes go to.

    Args:
      systems: what is served.
      settings: how clients are treated.

    Raises:
      UserError: a file of the settings can't be used.

    Attributes:
      reader: reads texts.
      memory: kept conversations; None where nothing is kept.
      arena: None where there is none.
    """

    def __init__(self, systems: Systems, settings: Settings):
        self.systems, self.settings = systems, settings
        self.reader = Reader(MAX_WAITING, settings.answer_seconds)
        self.memory = Memory(settings.keep) if settings.keep else None
        self.arena = None
        if settings.arena:
            if len(systems) < 2:
                raise UsageError("--arena: expected two runs or more in --workdir, got one")
            fingerprints = {system.name: system.fingerprint for system in systems}
            self.arena = Arena(fingerprints, settings.arena)

    def close(self) -> None:
        """Closes the files; the systems belong to who opened them."""
        for each in (self.memory, self.arena):
            if each is not None:
                each.close()

    @property
    def open_arena(self) -> Arena:
        """The arena.

        Raises:
          RequestError: there is none.
        """
        if self.arena is None:
            raise RequestError(409, "no_arena", "there is no arena: start conkd-serve with --arena")
        return self.arena

    @property
    def open_memory(self) -> Memory:
        """The kept conversations.

        Raises:
          RequestError: nothing is kept.
        """
        if self.memory is None:
            message = "nothing is kept: start conkd-serve with --keep"
            raise RequestError(409, "keeps_nothing", message)
        return self.memory
