"""Talks with a trained run in the terminal.

    conkd-chat --workdir=runs/dialogpt_hard-demo-seed0

Type what you are looking for. Items are found by their titles, in any spelling, or as "@123" (on
your own data also as "@[id]"), and other nodes of the graph, such as people and genres, by their
names; the line below your message shows what was understood. The answer appears as it is decoded,
with its items marked. Lines that begin with "/" are commands:

    /items          the items of the last answer, and their rivals
    /why            graph paths to them, and the first five of each model
    /fix 1 TITLE    the first link above means TITLE, or @123; `/fix 1 no` means no item
    /undo           takes the last message and its answer back
    /compare RUN    another run answers the same message
    /save FILE      writes the conversation's answers, in the format of predictions.jsonl
    /help, /quit

The same works over a pipe, with one message a line: `conkd-chat --workdir=RUN < messages.txt`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator

import jax
from absl import flags
from etils import epath

from conkd_jax.chat.conversation import Chat
from conkd_jax.chat.session import Session
from conkd_jax.chat.view import View
from conkd_jax.cli import command_line
from conkd_jax.cli.command_line import UsageError
from conkd_jax.errors import UserError
from conkd_jax.io import terminal

OPTIONS = flags.FlagValues()
_WORKDIR = flags.DEFINE_string(
    "workdir", "", "The run: a folder written by conkd_jax.train.", flag_values=OPTIONS
)
_SEED = flags.DEFINE_integer(
    "seed",
    -1,
    "Draw random answers with this seed; -1 says the most probable token at each step.",
    -1,
    flag_values=OPTIONS,
)


def main(argv: list[str]) -> None:
    """Opens the run, and answers until the input ends."""
    if not _WORKDIR.value:
        raise UsageError("expected --workdir=RUN, for example runs/dialogpt_hard-demo-seed0")
    keep_compiled_programs()
    view = View(terminal.console(), echo=not sys.stdin.isatty())
    view.say(f"Opening {_WORKDIR.value} …")
    chat = Chat.open(_WORKDIR.value)
    _ = (
        chat.engine.linker.titles,
        chat.engine.linker.linker,
    )  # now, so that the first answer doesn't wait
    view.say(f"{chat.run.title}. Say what you like; /help lists the commands.\n")
    session = Session(chat, seed=None if _SEED.value < 0 else _SEED.value)
    for line in lines(view):
        if not line.strip():
            continue
        if line.strip() in ("/quit", "/exit"):
            return
        try:
            answer_line(line.strip(), session, view)
        except UserError as error:  # a typing error must not end the conversation
            view.say(f"error: {error}\n")
        except KeyboardInterrupt:
            view.say("\nStopped.")
            return


def answer_line(line: str, session: Session, view: View) -> None:
    """Does what a line asks for: a command, or the answer to a message."""
    if not line.startswith("/"):
        reading = session.chat.read(line)
        view.reading(reading)
        view.answer(session.say(reading))
        session.finish()
        return
    name, _, argument = line[1:].partition(" ")
    commands: dict[str, Callable[[], None]] = {
        "help": lambda: view.say((__doc__ or "").partition("commands:\n\n")[2]),
        "items": lambda: view.items(session.last),
        "why": lambda: view.explanation(session.explain(), session.last),
        "undo": lambda: view.undone(session.undo()),
        "save": lambda: view.say(f"{session.save(argument.strip())} answers written\n"),
    }
    if name in commands:
        commands[name]()
    elif name == "fix":
        reading = session.corrected(argument)
        view.reading(reading)
        view.answer(session.say(reading))
        session.finish()
    elif name == "compare":
        other = session.other(argument.strip())
        view.compared(session, other)
    else:
        known = ", ".join(f"/{each}" for each in (*commands, "fix", "compare", "quit"))
        raise UsageError(f"expected one of {known}; got /{name}")


def lines(view: View) -> Iterator[str]:
    """The lines that a person types, or that a pipe holds."""
    while True:
        try:
            line = input("you: " if sys.stdin.isatty() else "")
        except EOFError:
            return
        except KeyboardInterrupt:
            view.say("")
            return
        view.typed(line)
        yield line


def keep_compiled_programs() -> None:
    """Keeps compiled programs on disk, so that a run opens fast the second time."""
    if jax.config.values["jax_compilation_cache_dir"] is None:
        folder = epath.Path("~/.cache/conkd_jax/compiled").expanduser()
        jax.config.update("jax_compilation_cache_dir", str(folder))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)


def run() -> None:
    """Runs the command line."""
    command_line.run(main, OPTIONS)


if __name__ == "__main__":
    run()
