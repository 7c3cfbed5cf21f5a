"""The systems that are served: opened once, each with its worker."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Sequence

import numpy as np
from etils import epath
from msgspec import UNSET

from conkd_jax.chat import Chat, ChatError
from conkd_jax.chat.explanation import explain
from conkd_jax.chat.session import same_items
from conkd_jax.data.corpus import RECOMMENDER, Turn
from conkd_jax.eval.own_ids import OwnIds
from conkd_jax.serve import schema
from conkd_jax.serve.metrics import Metrics
from conkd_jax.serve.problems import RequestError
from conkd_jax.serve.worker import Worker
from conkd_jax.stages.systems.free_text import Reading

MAX_WAITING = 64  # requests for a system


@dataclasses.dataclass(frozen=True)
class Served:
    """A system that is served.

    Attributes:
      name: as clients name it.
      chat: its models.
      worker: the thread that answers for it.
    """

    name: str
    chat: Chat
    worker: Worker

    @property
    def card(self) -> schema.SystemCard:
        """What clients are told about it."""
        run, system = self.chat.run, self.chat.system
        return schema.SystemCard(
            name=self.name,
            title=run.title,
            backbone=run.config.backbone,
            has_tags=system.has_tags,
            has_teacher=system.has_teacher,
            batch_size=self.chat.engine.batch_size,
            max_tokens=self.chat.engine.max_tokens,
            corpus=run.config.corpus.name,
            num_items=len(system.corpus.items.titles),
        )

    def title(self, item_id: int) -> str:
        """The title of an item of the corpus."""
        items = self.chat.system.corpus.items
        return items.titles[self.chat.engine.linker.index_of[item_id]].strip() or f"@{item_id}"

    @functools.cached_property
    def _ids(self) -> OwnIds:
        return OwnIds(self.chat.system.corpus.items)

    def own_id(self, item_id: int | None) -> schema.OwnId:
        """The text id of an item, if the corpus has such ids."""
        return self._ids.of(item_id) or UNSET

    def item(self, item_id: int) -> schema.Item:
        """An item as the API names it."""
        return schema.Item(item_id=item_id, title=self.title(item_id), id=self.own_id(item_id))

    def read(self, text: str, role: str, corrections: schema.Corrections) -> Reading:
        """Reads a text.

        Raises:
          RequestError: a correction names an item that the corpus lacks.
        """
        known = self.chat.engine.linker.index_of
        for item_id in corrections.values():
            if item_id is not None and item_id not in known:
                raise RequestError(
                    422, "no_such_movie", f"corrections: expected an item's id, got {item_id}"
                )
        return self.chat.read(text, role, corrections)

    def found(self, text: str, limit: int) -> list[schema.Item]:
        """The items that a text may mean, the most likely first."""
        linker = self.chat.engine.linker
        item_ids = self.chat.system.corpus.items.item_ids
        return [self.item(int(item_ids[item])) for item in linker.titles.alike(text, limit)]

    @property
    def fingerprint(self) -> str:
        """What tells the run from every other one, whatever its name."""
        return self.chat.run.fingerprint

    def message(self, message: schema.Message) -> Reading | Turn:
        """A message as the models read it.

        A recommender's text is a text of the models, in which only "@123" is an item.
        """
        if message.role == RECOMMENDER:
            return self.chat.engine.linker.turn(message.text, RECOMMENDER)
        return self.read(message.text, message.role, message.corrections)


class Systems:
    """All systems of a server.

    Args:
      chats: opened runs.
      metrics: what is counted.
      max_waiting: the most requests that wait for a system.
    """

    def __init__(
        self,
        chats: Sequence[Chat],
        metrics: Metrics | None = None,
        *,
        max_waiting: int = MAX_WAITING,
    ):
        self.metrics = metrics or Metrics()
        self._systems: dict[str, Served] = {}
        for chat in chats:
            name = self._new_name(chat)
            self._systems[name] = Served(name, chat, Worker(chat, name, max_waiting, self.metrics))

    @classmethod
    def open(cls, runs: Sequence[epath.PathLike], *, batch_size: int = 8) -> Systems:
        """Opens runs, and compiles all that an answer may need.

        Raises:
          RunError: a folder holds no run, or a trained artifact is missing.
          ChatError: the runs are on different items.
        """
        chats = [Chat.open(run, batch_size=batch_size, warm=False) for run in runs]
        expect_same_items(chats)
        for chat in chats:
            make_ready(chat)
        return cls(chats)

    def __iter__(self):
        return iter(self._systems.values())

    def __len__(self) -> int:
        return len(self._systems)

    def __getitem__(self, name: str | None) -> Served:
        """The system of a name, or the first one.

        Raises:
          RequestError: there is none of that name.
        """
        if name is None:
            return next(iter(self))
        if name not in self._systems:
            known = ", ".join(self._systems)
            raise RequestError(
                404, "no_such_system", f"system: expected one of {known}; got {name!r}"
            )
        return self._systems[name]

    @property
    def waiting(self) -> dict[str, int]:
        """How many requests wait for each system."""
        return {system.name: system.worker.waiting for system in self}

    def close(self) -> None:
        """Ends all workers."""
        for system in self:
            system.worker.close()

    def _new_name(self, chat: Chat) -> str:
        label, name = chat.run.label, chat.run.run_name
        numbered = (f"{name}-{number}" for number in itertools.count(2))
        wanted = itertools.chain((label, name), numbered)
        return next(one for one in wanted if one not in self._systems)


def make_ready(chat: Chat) -> None:
    """Compiles, reads and indexes all that an answer may need, so that no client has to wait."""
    chat.warm_up(sampled=True)
    engine = chat.engine
    _ = engine.linker.titles, engine.linker.index_of, engine.paths
    explain(chat, ["Hi"], chat.respond(["Hi"]))
    question = engine.question([chat.dialogue(["Hi"])])
    for length in engine.lengths:
        padded = dataclasses.replace(question, length=length)
        engine.read_as_system(padded, np.zeros((1, 1), np.int32))


def expect_same_items(chats: Sequence[Chat]) -> None:
    """Checks that all runs know the same items, as a reading is for all of them.

    Raises:
      ChatError: they don't.
    """
    for chat in chats[1:]:
        if not same_items(chats[0].system.corpus.items, chat.system.corpus.items):
            raise ChatError(
                f"{chat.run.home}: expected a run on the items of {chats[0].run.home}, got one on "
                "others. Serve it from another port"
            )
