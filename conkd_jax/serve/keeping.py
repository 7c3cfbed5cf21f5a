"""Conversations that are kept because their clients ask for it; nothing else is.

A conversation has an id that can't be guessed. Who knows it can read the conversation, and delete
it.
"""

from __future__ import annotations

import datetime
import secrets

import msgspec
from etils import epath

from conkd_jax.serve import schema
from conkd_jax.serve.database import Database
from conkd_jax.serve.problems import RequestError


class Memory:
    """Kept conversations.

    Args:
      path: the SQLite file.

    Raises:
      DatabaseError: the file can't be used.
    """

    def __init__(self, path: epath.PathLike):
        self._database = Database(path)

    def conversation(self, wanted: str | None) -> str:
        """The id to keep an answer under: the one that is wanted, or a new one.

        Raises:
          RequestError: there is no conversation of that id.
        """
        if wanted is None:
            return secrets.token_urlsafe(16)
        self.read(wanted)
        return wanted

    def add(self, conversation: str, request: schema.AskRequest, response: schema.Response) -> None:
        """Keeps an answer."""
        row = (conversation, now(), _text(request), _text(response))
        self._database.write("INSERT INTO kept_answer VALUES (?, ?, ?, ?)", row)

    def read(self, conversation: str) -> schema.Conversation:
        """A conversation.

        Raises:
          RequestError: there is none of that id.
        """
        rows = self._database.read(
            "SELECT time, request, response FROM kept_answer WHERE conversation = ? ORDER BY rowid",
            (conversation,),
        )
        if not rows:
            raise RequestError(404, "no_such_conversation", "there is no conversation of this id")
        answers = [
            schema.KeptAnswer(
                time=time,
                request=msgspec.json.decode(request),
                response=msgspec.json.decode(response),
            )
            for time, request, response in rows
        ]
        return schema.Conversation(conversation=conversation, answers=answers)

    def forget(self, conversation: str) -> int:
        """Deletes a conversation; returns the number of its answers."""
        self.read(conversation)
        statement = "DELETE FROM kept_answer WHERE conversation = ?"
        return self._database.write(statement, (conversation,))

    def close(self) -> None:
        """Closes the file."""
        self._database.close()


def now() -> str:
    """The time in UTC, to the second."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def _text(value: msgspec.Struct) -> str:
    return msgspec.json.encode(value).decode()
