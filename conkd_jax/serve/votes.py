r"""Shows and exports the votes of an arena.

    conkd-arena votes.sqlite
    conkd-arena votes.sqlite --out=DIR

The first command prints the ratings. The second one also writes them to DIR, with every vote as a
row of votes.csv, and the answers of each system as NAME.jsonl in the format of predictions.jsonl.
These files are what the human evaluation takes, so that annotators can judge the same answers on
its scales:

    python -m conkd_jax.human export DIR/A.jsonl DIR/B.jsonl --num_contexts=20 --titles=CORPUS \
        --out=STUDY

A context of that study is a round that both systems answered. CORPUS is the corpus' folder among
the artifacts, or a CSV file with titles.
"""

from __future__ import annotations

import csv
import io
import re

import msgspec
import rich.table
from absl import flags
from etils import epath

from conkd_jax.cli import command_line
from conkd_jax.cli.command_line import UsageError
from conkd_jax.eval.predictions import Prediction, write_predictions
from conkd_jax.io.files import write_json, write_whole
from conkd_jax.io.writable import unwritable
from conkd_jax.serve import schema
from conkd_jax.serve.arena import Ballots, StoredVote

RATINGS, VOTES = "ratings.json", "votes.csv"
_NOT_IN_FILES = re.compile(r"[^\w.+=-]")

OPTIONS = flags.FlagValues()
_OUT = flags.DEFINE_string(
    "out", "", "The folder to write ratings, votes and answers to.", flag_values=OPTIONS
)


def main(argv: list[str]) -> None:
    """Prints the ratings, and exports what they are made from."""
    if len(argv) != 2:
        raise UsageError("expected one file that conkd-serve --arena=FILE wrote")
    ballots = Ballots(argv[1], must_exist=True)
    votes, rated = ballots.votes(), ballots.rated()
    ballots.close()
    if not votes:
        raise UsageError(f"{argv[1]}: there is no vote yet")
    command_line.show(table(rated))
    if _OUT.value:
        if problem := unwritable(_OUT.value):
            raise UsageError(f"--out={_OUT.value}: {problem}")
        command_line.show(*export(votes, rated, epath.Path(_OUT.value)))


def table(rated: schema.Ratings) -> rich.table.Table:
    """The ratings as a table."""
    found = rich.table.Table(box=None, pad_edge=False)
    found.add_column("system")
    for title in ("Elo", "95 % interval", "rounds", "wins", "ties"):
        found.add_column(title, justify="right")
    for one in rated.systems:
        counts = (str(count) for count in (one.rounds, one.wins, one.ties))
        found.add_row(one.name, f"{one.elo:.0f}", f"{one.low:.0f} to {one.high:.0f}", *counts)
    return found


def export(votes: list[StoredVote], rated: schema.Ratings, out: epath.Path) -> list[str]:
    """Writes ratings, votes and answers; returns lines that say what was written."""
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / RATINGS, msgspec.to_builtins(rated))
    cells = io.StringIO()
    writer = csv.writer(cells, lineterminator="\n")
    writer.writerow(["round", "time", "first", "second", "choice", "voter"])
    answers: dict[str, list[Prediction]] = {}
    for stored in votes:
        vote = stored.vote
        writer.writerow([stored.round, stored.time, *vote[:3], _cell(vote.voter or "")])
        for name, answer in zip((vote.first, vote.second), stored.predictions(), strict=True):
            answer = msgspec.structs.replace(answer, conversation_id=stored.round)
            answers.setdefault(name, []).append(answer)
    write_whole(out / VOTES, cells.getvalue())
    lines = [f"{len(votes):,} votes: {out / VOTES}"]
    for name, own in sorted(answers.items()):
        file = out / f"{_NOT_IN_FILES.sub('_', name)}.jsonl"
        # Votes that an earlier version kept have no ids.
        without = () if all(answer.ids is not None for answer in own) else ("ids",)
        write_predictions(file, own, without=without)
        lines.append(f"{len(own):,} answers of {name}: {file}")
    return lines


def _cell(text: str) -> str:
    """A text that no spreadsheet takes for a formula."""
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text


def run() -> None:
    """Runs the command line."""
    command_line.run(main, OPTIONS, positional="FILE")


if __name__ == "__main__":
    run()
