"""Talks with a finished run of any system, from Python or in a terminal.

    from conkd_jax.chat import Chat

    chat = Chat.open("runs/dialogpt_hard-demo-seed0")
    response = chat.respond(["Hi! I liked Titanic, and anything with Tom Hanks."])
    print(response.text)
    for item in response.items:
        print(item.title, item.probability, item.ranking[:3])

`conkd-chat --workdir=RUN` is the same in a terminal (`chat.program`).
"""

from conkd_jax.chat.conversation import Chat
from conkd_jax.chat.engine import ChatError, Sampling
from conkd_jax.chat.response import RankedItem, RecommendedItem, Response, ResponseToken
from conkd_jax.chat.stream import Stream

__all__ = [
    "Chat",
    "ChatError",
    "RankedItem",
    "RecommendedItem",
    "Response",
    "ResponseToken",
    "Sampling",
    "Stream",
]
