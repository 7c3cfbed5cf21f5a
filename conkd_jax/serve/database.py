"""SQLite files of a server: opened by one server at a time, readable by their owner alone."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections.abc import Sequence
from typing import Any

from etils import epath

from conkd_jax.errors import UserError

FORMAT_VERSION = 1
TABLES = """
CREATE TABLE IF NOT EXISTS kept_answer (
  conversation TEXT NOT NULL, time TEXT NOT NULL, request TEXT NOT NULL, response TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS kept_by_conversation ON kept_answer (conversation);
CREATE TABLE IF NOT EXISTS arena_system (name TEXT PRIMARY KEY, fingerprint TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS arena_vote (
  round TEXT PRIMARY KEY, time TEXT NOT NULL, first TEXT NOT NULL, second TEXT NOT NULL,
  choice TEXT NOT NULL, voter TEXT, first_answer TEXT NOT NULL, second_answer TEXT NOT NULL);
"""


class DatabaseError(UserError):
    """A file that can't be used as the database of a server."""


class Database:
    """A database; its methods can be called from any thread.

    Args:
      path: the file, created if there is none.
      must_exist: whether a file that isn't there is an error.

    Raises:
      DatabaseError: the file is something else, or can't be written.
    """

    def __init__(self, path: epath.PathLike, *, must_exist: bool = False):
        self.path = os.path.expanduser(os.fspath(path))
        self._lock = threading.Lock()
        if must_exist and not os.path.isfile(self.path):
            raise DatabaseError(f"{self.path}: expected a file of conkd-serve, found none")
        try:
            # conversations are private: the owner alone may read them
            os.close(os.open(self.path, os.O_CREAT | os.O_RDWR, 0o600))
            self._connection = sqlite3.connect(self.path, check_same_thread=False)
            (version,) = self._connection.execute("PRAGMA user_version").fetchone()
            (tables,) = self._connection.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()
            if version != FORMAT_VERSION and (version or tables):
                raise DatabaseError(
                    f"{self.path}: expected a database of conkd-serve, got another one, or one of "
                    "another version. Name a file that does not exist yet"
                )
            self._connection.executescript(TABLES)
            self._connection.execute(f"PRAGMA user_version = {FORMAT_VERSION}")
        except (OSError, sqlite3.Error) as error:
            raise DatabaseError(
                f"{self.path}: expected a database of conkd-serve, or a file that can be created: "
                f"{error}"
            ) from error

    def write(self, statement: str, values: Sequence[Any] = ()) -> int:
        """Runs a statement; returns the number of rows that it changed.

        Raises:
          DatabaseError: the file can't be written any more.
        """
        with self._lock, self._explained(), self._connection:
            return self._connection.execute(statement, values).rowcount

    def read(self, query: str, values: Sequence[Any] = ()) -> list[tuple]:
        """The rows of a query.

        Raises:
          DatabaseError: the file can't be read any more.
        """
        with self._lock, self._explained():
            return self._connection.execute(query, values).fetchall()

    def close(self) -> None:
        """Closes the file."""
        with self._lock:
            self._connection.close()

    @contextlib.contextmanager
    def _explained(self):
        try:
            yield
        except sqlite3.IntegrityError:
            raise
        except sqlite3.Error as error:
            raise DatabaseError(f"{self.path}: can't be used any more: {error}") from error
