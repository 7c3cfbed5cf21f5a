"""How a conversation looks in a terminal: 80 columns are enough, and so is plain text.

Titles of an answer are bold where the terminal can show it, and in brackets where it can't: with
NO_COLOR, or over a pipe.
"""

from __future__ import annotations

import re

import rich.console
import rich.text

from conkd_jax.chat.conversation import Chat
from conkd_jax.chat.explanation import Explanation
from conkd_jax.chat.response import RankedItem, Response
from conkd_jax.chat.session import Session
from conkd_jax.chat.stream import Stream
from conkd_jax.stages.systems.free_text import ITEM, Reading

WIDEST = 80
SHOWN = 5  # of a ranking
INDENT = "     "


class View:
    """Prints a conversation.

    Args:
      console: where to.
      echo: whether to print what was typed: over a pipe, nothing else shows it.
    """

    def __init__(self, console: rich.console.Console, *, echo: bool = False):
        self._console, self._echo = console, echo
        self._is_plain = console.color_system is None or console.no_color
        self._width = min(WIDEST, console.width)
        self._column = 0

    def say(self, text: str) -> None:
        """Prints a text as it is."""
        self._print(text + "\n")

    def typed(self, line: str) -> None:
        """Shows a line that came over a pipe."""
        if self._echo:
            self.say(f"you: {line}")

    def reading(self, reading: Reading) -> None:
        """Shows what was understood."""
        number, found = 0, []
        for link in reading.links:
            number += link.kind == ITEM
            name = f"{number}. {link.name}" if link.kind == ITEM else link.name
            found.append(f"{name} ({link.score:.0f} % alike)" if link.score < 100 else name)
        if found:
            self._wrapped(f"[understood: {'; '.join(dict.fromkeys(found))}]", "dim")
        for mention in reading.unknown:
            self._wrapped(f"[{mention} is no item of this corpus]", "dim")

    def answer(self, stream: Stream, name: str = "bot") -> None:
        """Shows an answer as it is decoded."""
        self._column = 0
        self._write(f"{name}:", "bold cyan")
        rest = ""
        for piece in stream:
            if piece.item_id is None:
                rest = self._words(rest + piece.text)
                continue
            rest = self._words(rest + " ")  # the empty text
            title = piece.text.strip()
            for word in (f"[{title}]" if self._is_plain else title).split():
                self._word(word, "bold green")
        self._words(rest + " ")
        self._write("\n\n")

    def items(self, response: Response) -> None:
        """Shows the items of an answer and their rivals."""
        for item in response.items:
            self.say(f"{INDENT}{item.title}, {_percent(item.probability)}")
            self._ranking([one for one in item.ranking if one.item_id != item.item_id])
        self.say(f"{INDENT}The answer names no item.\n" if not response.items else "")

    def explanation(self, found: Explanation, response: Response) -> None:
        """Shows graph paths to the items of a response, and the first items of each model."""
        titles = {item.item_id: item.title for item in response.items}
        for item_id, paths in found.paths.items():
            self.say(f"{INDENT}{titles[item_id]}")
            for path in paths:
                self._wrapped("  " + " – ".join(path))
            if not paths and item_id not in found.mentioned:
                self.say(f"{INDENT}  no path of two edges from what was mentioned")
            if item_id in found.mentioned:
                self.say(f"{INDENT}  was already mentioned")
        for name, ranking in found.rankings.items():
            self.say(f"{INDENT}{name}")
            self._ranking(ranking)
        self.say("")

    def undone(self, reading: Reading) -> None:
        """Says what was taken back."""
        self._wrapped(f"[taken back: {reading.text}]", "dim")
        self.say("")

    def compared(self, session: Session, other: Chat) -> None:
        """Shows what another run answers."""
        self.answer(session.answer_of(other), other.run.label)

    def _ranking(self, ranking) -> None:
        one: RankedItem
        for one in ranking[:SHOWN]:
            share = _percent(one.probability)
            room = self._width - len(INDENT) - 2 - len(share) - 1
            title = one.title if len(one.title) <= room else one.title[: room - 1] + "…"
            self.say(f"{INDENT}  {title:{min(room, 50)}} {share}")

    # --- words on lines ------------------------------------------------------------------------

    def _words(self, text: str) -> str:
        """Writes the complete words of a text; returns the rest, which the next piece may end."""
        *complete, rest = re.split(r"\s+", text)
        for word in filter(None, complete):
            self._word(word)
        return rest

    def _word(self, word: str, style: str = "") -> None:
        if self._column + 1 + len(word) > self._width and self._column > len(INDENT):
            self._write("\n" + INDENT[1:])
            self._column = len(INDENT) - 1
        self._write(" ")
        self._write(word, style)

    def _wrapped(self, text: str, style: str = "") -> None:
        self._column = 0
        self._write(INDENT[1:])
        for word in text.split():
            self._word(word, style)
        self._write("\n")

    def _write(self, text: str, style: str = "") -> None:
        self._column += len(text)
        self._print(text, "" if self._is_plain else style)

    def _print(self, text: str, style: str = "") -> None:
        # not `console.print`: it would wrap each piece by itself
        self._console.print(rich.text.Text(text, style), end="", soft_wrap=True)
        self._console.file.flush()


def _percent(probability: float) -> str:
    return f"{100 * probability:.1f} %"
