"""Puts a server under load, and checks that no answer depends on the company it had.

    conkd-serve --workdir=RUN --rate=0 --port=8000
    python -m conkd_jax.serve.load --url=http://127.0.0.1:8000 --users=32 --out=serve.json

Every user has a conversation: a message, the answer, and the next message with the history so far;
all users at once. Some stream, some draw random answers, and the messages name items of the
server's corpus. Afterwards each request is sent again, alone, and the two answers are compared: all
but their times must be the same, bit for bit.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import http.client
import json
import os
import platform
import time
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote, urlsplit

import numpy as np
from absl import flags

from conkd_jax.cli import command_line
from conkd_jax.cli.command_line import UsageError
from conkd_jax.errors import UserError
from conkd_jax.io.files import write_json
from conkd_jax.serve.program import TOKEN_VARIABLE

OPENINGS = (
    "Hi! I am looking for something like {}.",
    "I liked {} a lot, and I would like another one for tonight with my family.",
    "{}?",
    "My favourites are {} and comedies. I don't like horror.",
)
LATER = ("I have seen that. What else?", "Is it scary?", "Thanks! One more?", "And an older one?")
SECONDS = 120  # that one answer may take

OPTIONS = flags.FlagValues()
_URL = flags.DEFINE_string(
    "url", "http://127.0.0.1:8000", "The server, as it prints it.", flag_values=OPTIONS
)
_USERS = flags.DEFINE_integer("users", 32, "Users at once.", 1, flag_values=OPTIONS)
_TURNS = flags.DEFINE_integer("turns", 3, "Messages of each user.", 1, flag_values=OPTIONS)
_OUT = flags.DEFINE_string("out", "", "Write the result to this file.", flag_values=OPTIONS)


class LoadError(UserError):
    """A server that can't be put under load."""


@dataclasses.dataclass(frozen=True)
class Asked:
    """A request, its answer without times, and how long it took; an error instead of an answer."""

    path: str
    body: dict[str, Any]
    answer: dict[str, Any]
    seconds: float
    first_seconds: float
    error: str = ""


class Client:
    """A client with a connection of its own."""

    def __init__(self, url: str):
        parts = urlsplit(url)
        if parts.scheme != "http" or not parts.hostname:
            raise UsageError(f"--url: expected http://HOST:PORT, got {url!r}")
        self._connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=SECONDS)
        token = os.environ.get(TOKEN_VARIABLE, "")
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}

    def close(self) -> None:
        """Closes the connection."""
        self._connection.close()

    def get(self, path: str) -> dict[str, Any]:
        """The JSON at a path.

        Raises:
          LoadError: the server does not answer, or answers with an error.
        """
        try:
            self._connection.request("GET", path, headers=self._headers)
            response = self._connection.getresponse()
            content = response.read()
        except OSError as error:
            raise LoadError(f"{path}: expected a running conkd-serve: {error}") from error
        if response.status != 200:
            raise LoadError(f"{path}: expected status 200, got {response.status}: {content[:200]}")
        return json.loads(content)

    def ask(self, path: str, body: dict[str, Any]) -> Asked:
        """Asks for an answer; what goes wrong is part of the result."""
        began, first = time.perf_counter(), 0.0
        answer: dict[str, Any] = {}
        try:
            headers = {"Content-Type": "application/json", **self._headers}
            self._connection.request("POST", path, json.dumps(body), headers)
            response = self._connection.getresponse()
            if path.endswith("stream") and response.status == 200:
                names = []
                while line := response.readline():
                    name, _, data = line.decode().rstrip("\n").partition(": ")
                    if name == "event":
                        names.append(data)
                        first = first or (data == "piece") * (time.perf_counter() - began)
                    elif name == "data" and names[-1] in ("response", "error"):
                        answer = json.loads(data)
            else:
                answer = json.loads(response.read())
        except (OSError, ValueError, http.client.HTTPException) as error:
            self._connection.close()
            return Asked(path, body, {}, time.perf_counter() - began, first, repr(error))
        error = json.dumps(answer["error"]) if "error" in answer else "" if answer else "no answer"
        times = answer.pop("seconds", 0.0), answer.pop("first_seconds", 0.0)
        first = first or times[1]
        return Asked(path, body, answer, time.perf_counter() - began, first, error)


def conversation(url: str, user: int, systems: Sequence[str], title: str, turns: int):
    """What one user asked and was answered."""
    history, found = [], []
    with contextlib.closing(Client(url)) as client:
        for turn in range(turns):
            text = LATER[(user + turn) % len(LATER)] if turn else OPENINGS[user % 4].format(title)
            history.append({"role": "seeker", "text": text})
            body: dict[str, Any] = {"history": [*history], "system": systems[user % len(systems)]}
            if user % 3 == 0:
                body |= {"seed": user, "temperature": 1.2}
            asked = client.ask("/v1/stream" if user % 2 else "/v1/respond", body)
            found.append(asked)
            if asked.error:
                break
            history.append(asked.answer["turn"])
    return found


def main(argv: list[str]) -> None:
    """Runs the load, prints the result, and writes it."""
    with contextlib.closing(Client(_URL.value)) as client:
        result, asked = measured(client)
    command_line.show(*(f"{name}: {value}" for name, value in result.items()))
    command_line.show(*dict.fromkeys(f"error: {one.error}" for one in asked if one.error))
    if _OUT.value:
        write_json(_OUT.value, result, indent=2)


def measured(client: Client) -> tuple[dict[str, Any], list[Asked]]:
    """Runs the load; returns the result, and every request of it."""
    cards = client.get("/v1/systems")["systems"]
    systems, titles = [card["name"] for card in cards], []
    for letter in "abcdefghijklmnopqrstuvwxyz":
        found = client.get(f"/v1/items?query={quote(letter)}&limit=4")["items"]
        titles += [item["title"] for item in found]
    users, turns = _USERS.value, _TURNS.value
    began = time.perf_counter()
    with concurrent.futures.ThreadPoolExecutor(users) as pool:
        jobs = [
            pool.submit(conversation, _URL.value, user, systems, titles[user % len(titles)], turns)
            for user in range(users)
        ]
        asked = [one for job in jobs for one in job.result()]
    wall = time.perf_counter() - began
    alone = [client.ask(one.path, one.body) for one in asked]
    result: dict[str, Any] = {
        "command": f"python -m conkd_jax.serve.load --url=URL --users={users} --turns={turns}",
        "server": [f"{card['name']}, batches of {card['batch_size']}" for card in cards],
        "machine": f"{platform.machine()}, {len(os.sched_getaffinity(0))} of {os.cpu_count()} "
        f"cores, load {os.getloadavg()[0]:.1f}",
        "users": users,
        "requests": len(asked),
        "errors": sum(bool(one.error) for one in asked),
        "crosstalk": sum(
            one.answer != other.answer for one, other in zip(asked, alone, strict=True)
        ),
        "requests_per_second": len(asked) / wall,
        "seconds": quantiles([one.seconds for one in asked]),
        "first_token_seconds": quantiles([one.first_seconds for one in asked]),
        "seconds_alone": quantiles([one.seconds for one in alone]),
    }
    return result, asked


def quantiles(seconds: Sequence[float]) -> dict[str, float]:
    """Median and 99th percentile."""
    return {"p50": float(np.quantile(seconds, 0.5)), "p99": float(np.quantile(seconds, 0.99))}


def run() -> None:
    """Runs the command line."""
    command_line.run(main, OPTIONS)


if __name__ == "__main__":
    run()
