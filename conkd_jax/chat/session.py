"""A conversation of one person with a run: its history, corrections, and the file it is saved to.

A `Chat` keeps nothing between answers; a session is what a program keeps for one person.
"""

from __future__ import annotations

import dataclasses

import msgspec
from etils import epath

from conkd_jax.chat.conversation import Chat
from conkd_jax.chat.engine import ChatError
from conkd_jax.chat.explanation import Explanation, explain
from conkd_jax.chat.response import Response
from conkd_jax.chat.stream import Stream
from conkd_jax.data.corpus import RECOMMENDER, Dialogue, ItemTable, Turn
from conkd_jax.data.mentions import tokens
from conkd_jax.eval.own_ids import OwnIds
from conkd_jax.eval.predictions import ItemStep, Prediction, write_predictions
from conkd_jax.eval.template import empty_response
from conkd_jax.io.writable import unwritable
from conkd_jax.stages.systems.free_text import ITEM, Link, Reading


@dataclasses.dataclass
class Session:
    """What one person and a run have said.

    Attributes:
      chat: the run.
      seed: of random answers; None for the most probable ones.
      history: readings and responses, in order.
    """

    chat: Chat
    seed: int | None = None
    history: list[Reading | Response] = dataclasses.field(default_factory=list)
    _stream: Stream | None = None
    _others: dict[str, Chat] = dataclasses.field(default_factory=dict)
    _corrections: dict[int, int | None] = dataclasses.field(default_factory=dict)

    def say(self, reading: Reading) -> Stream:
        """Adds a message, and begins the answer to it; `finish` completes it."""
        if not self.history or self.history[-1] is not reading:
            self._corrections = {}
        self.history.append(reading)
        self._stream = self.answer_of(self.chat)
        return self._stream

    def answer_of(self, chat: Chat) -> Stream:
        """The answer of a run to the last message; each message has its own random numbers."""
        asked = self.history
        while asked and not isinstance(asked[-1], Reading):
            asked = asked[:-1]
        seed = None if self.seed is None else self.seed + len(asked)
        return chat.stream(asked, seed=seed)

    def finish(self) -> Response:
        """Completes the answer, and adds it to the history."""
        if self._stream is None:
            raise ChatError("expected a message first, got none")
        self.history.append(self._stream.response())
        return self.last

    @property
    def last(self) -> Response:
        """The last answer.

        Raises:
          ChatError: there is none.
        """
        if not self.history or not isinstance(self.history[-1], Response):
            raise ChatError("there is no answer yet: say something first")
        return self.history[-1]

    def explain(self) -> Explanation:
        """Why the last answer names what it names."""
        return explain(self.chat, self.history[:-1], self.last)

    def undo(self) -> Reading:
        """Takes the last message and its answer back; returns the message."""
        _ = self.last
        self.history.pop()
        reading = self.history.pop()
        assert isinstance(reading, Reading)  # answers follow messages
        return reading

    def corrected(self, argument: str) -> Reading:
        """The last message with another meaning of one of its links, taken back to be said again.

        Args:
          argument: "1 no", "1 @123" or "1 Another Title": the number of an item among the links.

        Raises:
          ChatError: there is no such link, or no such item.
        """
        _ = self.last
        reading = self.history[-2]
        assert isinstance(reading, Reading)  # answers follow messages
        number, _, meant = argument.strip().partition(" ")
        items = [link for link in reading.links if link.kind == ITEM]
        if not items:
            raise ChatError("/fix: no item was understood in the last message, so none is wrong")
        if not number.isdecimal() or not 1 <= int(number) <= len(items) or not meant.strip():
            raise ChatError(
                f"/fix: expected a number from 1 to {len(items)} and a title, @123 or no; got "
                f"{argument!r}"
            )
        corrections = self._corrections | {
            items[int(number) - 1].start: self._item(meant.strip(), items[int(number) - 1])
        }
        self.undo()
        self._corrections = corrections
        return self.chat.read(reading.text, reading.role, corrections)

    def _item(self, meant: str, link: Link) -> int | None:
        if meant.casefold() == "no":
            return None
        found = [one for one in self.chat.read(f'"{meant}"').links if one.kind == ITEM]
        if len(found) != 1:
            raise ChatError(f"expected an item of the corpus instead of {link.name}, got {meant!r}")
        return found[0].item_id

    def other(self, folder: str) -> Chat:
        """Another run, opened once.

        Raises:
          ChatError: its corpus is another one.
        """
        if folder not in self._others:
            other = Chat.open(epath.Path(folder).expanduser(), warm=False)
            if not same_items(self.chat.system.corpus.items, other.system.corpus.items):
                raise ChatError(f"{folder}: expected a run on the same items, got other ones")
            self._others[folder] = other
        return self._others[folder]

    def save(self, path: str) -> int:
        """Writes the answers as a predictions.jsonl; returns their number.

        There is no reference: `reference` is empty, and so are the scores.

        Raises:
          ChatError: no answer, no path, or one that can't be written.
        """
        if not path:
            raise ChatError("/save: expected a file, for example /save chat.jsonl")
        found = [
            self.prediction(place)
            for place, message in enumerate(self.history)
            if isinstance(message, Response)
        ]
        if not found:
            raise ChatError("there is no answer yet: say something first")
        file = epath.Path(path).expanduser()
        if problem := unwritable(file.parent):
            raise ChatError(f"/save {path}: expected a file that can be written: {problem}")
        if file.is_dir():
            raise ChatError(f"/save {path}: expected a file, but this is a folder")
        file.parent.mkdir(parents=True, exist_ok=True)
        return write_predictions(file, found)

    def prediction(self, place: int) -> Prediction:
        """An answer of the history in the format of predictions.jsonl."""
        response = self.history[place]
        assert isinstance(response, Response)
        return prediction(self.chat, self.chat.dialogue(self.history[:place]), response)


def same_items(one: ItemTable, other: ItemTable) -> bool:
    """Whether two tables have the same items: of one number, and of one text id if they have any.

    Numbers alone would not do: every corpus of your own numbers its items from 1.
    """
    mine, its = (
        dict(zip(table.item_ids.tolist(), table.keys or table.item_ids.tolist(), strict=True))
        for table in (one, other)
    )
    return mine == its


def prediction(chat: Chat, dialogue: Dialogue, response: Response) -> Prediction:
    """The answer of a chat to a dialogue as predictions.jsonl has it, without a reference."""
    asked = Dialogue(dialogue.conversation_id, (*dialogue.turns, Turn(RECOMMENDER, "")))
    item_ids = chat.system.corpus.items.item_ids.tolist()
    empty = empty_response(asked, len(dialogue.turns), item_ids, split="valid")
    answered = msgspec.structs.replace(
        empty,
        split=None,
        predicted_turn_type=response.tag,
        generated=response.turn.text,
        generated_tokens=tuple(tokens(response.turn.text)),
        generated_items=tuple(item.item_id for item in response.items),
        item_steps=tuple(
            ItemStep(
                item.token,
                item.item_id,
                tuple(dict.fromkeys([item.item_id, *(one.item_id for one in item.ranking)]))[
                    : max(len(item.ranking), 1)
                ],
            )
            for item in response.items
        ),
    )
    return OwnIds(chat.system.corpus.items).beside(answered)
