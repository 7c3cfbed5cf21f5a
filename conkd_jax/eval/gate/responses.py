"""Finds a response of a split by its name, CONVERSATION_ID:TURN."""

from __future__ import annotations

from collections.abc import Sequence

from conkd_jax.data.corpus import Corpus, Turn, responses
from conkd_jax.errors import UserError

ResponseKey = tuple[str, int]  # conversation_id and merged-turn index


class NoSuchResponse(UserError):
    """A response that is not in the split."""


def response_name(key: ResponseKey) -> str:
    """The name of a response, as `--response` takes it.

    >>> response_name(("2041", 5))
    '2041:5'
    """
    return f"{key[0]}:{key[1]}"


def response_keys(corpus: Corpus, split: str) -> list[ResponseKey]:
    """The keys of all responses of a split, in order."""
    return [
        (dialogue.conversation_id, turn)
        for dialogue in corpus.dialogues(split)
        for turn in responses(dialogue)
    ]


def find_response(corpus: Corpus, split: str, name: str) -> ResponseKey:
    """The key of the response named CONVERSATION_ID:TURN.

    Raises:
      NoSuchResponse: the split has no such response.
    """
    conversation, _, turn = name.rpartition(":")
    keys = response_keys(corpus, split)
    if turn.isdecimal() and (conversation, int(turn)) in keys:
        return conversation, int(turn)
    turns = [str(turn) for other, turn in keys if other == conversation]
    hint = f"{conversation} has responses at turns {', '.join(turns)}"
    raise NoSuchResponse(
        f"--response={name}: expected CONVERSATION_ID:TURN of a response of {split}; "
        + (hint if turns else f"for example {response_name(keys[0])}")
    )


def turns_before(corpus: Corpus, split: str, key: ResponseKey) -> Sequence[Turn]:
    """The turns of a dialogue before a response."""
    conversation, turn = key
    dialogues = {dialogue.conversation_id: dialogue for dialogue in corpus.dialogues(split)}
    return dialogues[conversation].turns[:turn]
