"""Blind rounds of two systems: a person reads two answers and says which is better.

The pair and its order are drawn for each round. Nothing about a round is stored until somebody
votes; a vote is stored with the two answers and the history before them.
"""

from __future__ import annotations

import collections
import dataclasses
import random
import secrets
import sqlite3
import threading
from collections.abc import Mapping, Sequence

import msgspec
from etils import epath

from conkd_jax.eval.predictions import Prediction
from conkd_jax.serve import schema
from conkd_jax.serve.database import Database, DatabaseError
from conkd_jax.serve.keeping import now
from conkd_jax.serve.problems import RequestError
from conkd_jax.serve.ratings import CHOICES, MEAN, TIES, Vote, ratings

MAX_OPEN = 1000  # rounds without a vote; the oldest are forgotten


@dataclasses.dataclass(frozen=True)
class Duel:
    """Two systems and what they answered, in the order shown."""

    names: tuple[str, str]
    answers: tuple[Prediction, Prediction]


@dataclasses.dataclass(frozen=True)
class StoredVote:
    """A vote as it is stored; the answers are lines of predictions.jsonl."""

    round: str
    time: str
    vote: Vote
    answers: tuple[str, str]

    def predictions(self) -> list[Prediction]:
        """The answers.

        Raises:
          DatabaseError: one of them is damaged.
        """
        try:
            return [msgspec.json.decode(line, type=Prediction) for line in self.answers]
        except msgspec.MsgspecError as error:
            raise DatabaseError(
                f"the vote on round {self.round[:80]!r}: expected two answers as conkd-serve "
                f"stores them, found others ({error}). The file of votes is damaged: take a copy"
            ) from error


class Ballots:
    """The votes in a file.

    Args:
      path: the SQLite file.
      must_exist: whether a file that isn't there is an error.

    Raises:
      DatabaseError: the file can't be used.
    """

    def __init__(self, path: epath.PathLike, *, must_exist: bool = False):
        self._database = Database(path, must_exist=must_exist)

    def expect_systems(self, fingerprints: Mapping[str, str]) -> None:
        """Checks that votes for a name are votes for one and the same run.

        Args:
          fingerprints: of the runs, by name.

        Raises:
          DatabaseError: there are votes for another run of that name.
        """
        known = dict(self._database.read("SELECT name, fingerprint FROM arena_system"))
        for name, fingerprint in fingerprints.items():
            if known.get(name, fingerprint) != fingerprint:
                raise DatabaseError(
                    f"{self._database.path}: has votes for another run that is named {name} "
                    f"({known[name]}, not {fingerprint}). Name another file with --arena"
                )
        statement = "INSERT OR IGNORE INTO arena_system VALUES (?, ?)"
        for item in fingerprints.items():
            self._database.write(statement, item)

    def add(self, number: str, duel: Duel, choice: str, voter: str | None) -> None:
        """Stores a vote.

        Raises:
          sqlite3.IntegrityError: the round has one already.
        """
        lines = [msgspec.json.encode(answer).decode() for answer in duel.answers]
        row = (number, now(), *duel.names, choice, voter, *lines)
        self._database.write("INSERT INTO arena_vote VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)

    def has(self, number: str) -> bool:
        """Whether there is a vote on a round."""
        query = "SELECT 1 FROM arena_vote WHERE round = ?"
        return bool(self._database.read(query, (number,)))

    def votes(self) -> list[StoredVote]:
        """All votes, the first one first.

        Raises:
          DatabaseError: a row holds something else.
        """
        rows = self._database.read(
            "SELECT round, time, first, second, choice, voter, first_answer, second_answer "
            "FROM arena_vote ORDER BY rowid"
        )
        for row in rows:
            is_text = all(isinstance(cell, str) for cell in (*row[:5], row[5] or "", *row[6:]))
            if not is_text or row[4] not in CHOICES:
                raise DatabaseError(
                    f"{self._database.path}: expected a vote in every row of arena_vote, found "
                    f"{str(row)[:200]}. The file is damaged: take a copy"
                )
        return [
            StoredVote(number, time, Vote(first, second, choice, voter), (one, other))
            for number, time, first, second, choice, voter, one, other in rows
        ]

    def rated(self, names: Sequence[str] = ()) -> schema.Ratings:
        """The ratings of all systems with votes, and of `names`; the best first."""
        votes = [stored.vote for stored in self.votes()]
        every = sorted({*names, *(n for vote in votes for n in (vote.first, vote.second))})
        return schema.Ratings(systems=rated(every, votes))

    def close(self) -> None:
        """Closes the file."""
        self._database.close()


def rated(names: Sequence[str], votes: Sequence[Vote]) -> list[schema.Rating]:
    """The ratings of systems by votes on two of them each, the best first."""
    intervals = ratings(names, votes) if votes else [(MEAN, MEAN, MEAN)] * len(names)
    found = []
    for name, (elo, low, high) in zip(names, intervals, strict=True):
        mine = [vote for vote in votes if name in (vote.first, vote.second)]
        chosen = [{"first": v.first, "second": v.second}.get(v.choice) for v in mine]
        found.append(
            schema.Rating(
                name=name,
                elo=elo,
                low=low,
                high=high,
                rounds=len(mine),
                wins=chosen.count(name),
                ties=sum(vote.choice in TIES for vote in mine),
            )
        )
    return sorted(found, key=lambda rating: -rating.elo)


class Arena:
    """The rounds that are open, and the votes on those that are closed.

    Args:
      fingerprints: of the systems that are served, by name.
      path: the SQLite file for votes.

    Raises:
      DatabaseError: the file can't be used, or has votes on other runs of these names.
    """

    def __init__(self, fingerprints: Mapping[str, str], path: epath.PathLike):
        self._names = list(fingerprints)
        self._ballots = Ballots(path)
        self._ballots.expect_systems(fingerprints)
        self._open: collections.OrderedDict[str, Duel] = collections.OrderedDict()
        self._lock = threading.Lock()
        self._random = random.SystemRandom()

    def draw(self) -> tuple[str, str]:
        """Two systems, in the order in which they will be shown."""
        first, second = self._random.sample(self._names, 2)
        return first, second

    def open(self, duel: Duel) -> str:
        """Opens a round; returns its id."""
        number = secrets.token_urlsafe(16)
        with self._lock:
            self._open[number] = duel
            if len(self._open) > MAX_OPEN:
                self._open.popitem(last=False)
        return number

    def vote(self, number: str, choice: str, voter: str | None) -> tuple[str, str]:
        """Stores the vote on a round; returns its systems.

        Raises:
          RequestError: there is no such round, or it has a vote already.
          DatabaseError: the vote can't be stored; the round stays open.
        """
        with self._lock:
            duel = self._open.get(number)
        again = RequestError(409, "voted_already", "this round has a vote already")
        if duel is None:
            if self._ballots.has(number):
                raise again
            raise RequestError(404, "no_such_round", "there is no round of this id any more")
        try:
            self._ballots.add(number, duel, choice, voter)
        except sqlite3.IntegrityError:
            raise again from None
        with self._lock:
            self._open.pop(number, None)
        return duel.names

    def ratings(self) -> schema.Ratings:
        """The ratings of all systems."""
        return self._ballots.rated(self._names)

    def close(self) -> None:
        """Closes the file."""
        self._ballots.close()
