"""Requests and answers of the API.

These structs validate what comes in, shape what goes out, and are the schemas of the OpenAPI
document (`serve.openapi`): the three can't differ. An item's number is `movie_id` in JSON and an
item's link has the kind "movie", whatever the items are: clients were written before there were
corpora of other things.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType, field

MAX_MESSAGES = 64  # of a history; models read only its end
MAX_CHARACTERS = 4000  # of a message
MAX_HISTORY = 20_000  # characters of all messages together
RANKED = 10  # items of a ranking
MAX_FOUND = 50  # items of a search

Role = Literal["seeker", "recommender"]
Text = Annotated[str, Meta(max_length=MAX_CHARACTERS)]
Name = Annotated[str, Meta(max_length=200)]
ItemId = Annotated[int, Meta(ge=0, lt=2**53)]  # what JavaScript can count
Corrections = dict[Annotated[int, Meta(ge=0, le=MAX_CHARACTERS)], ItemId | None]
Seed = Annotated[int, Meta(ge=0, lt=2**31)]
Temperature = Annotated[float, Meta(gt=0, le=10)]
Share = Annotated[float, Meta(ge=0, le=1)]
OwnId = str | UnsetType  # the text id of an item, where the corpus has such ids; else left out


class Request(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a client sends; a field that isn't known is refused."""


class Answer(msgspec.Struct, frozen=True):
    """What a client gets."""


# --- requests ----------------------------------------------------------------------------------


class ReadRequest(Request, frozen=True, kw_only=True):
    """A text to be understood.

    `corrections` says what items really are: the first character of a link → the item that is
    meant, or null for no item.
    """

    text: Text
    role: Role = "seeker"
    corrections: Corrections = {}


class Message(Request, frozen=True, kw_only=True):
    """A message of a conversation.

    A seeker's text is what a person typed. A recommender's text is the `turn.text` of an answer,
    with items as "@123".
    """

    role: Role
    text: Text
    corrections: Corrections = {}


History = Annotated[list[Message], Meta(min_length=1, max_length=MAX_MESSAGES)]


class AskRequest(Request, frozen=True, kw_only=True):
    """A history to be answered; its last message is the seeker's.

    Without a seed, each token is the most probable one. With one, tokens are drawn: the same for
    the same seed. `keep` stores the conversation, where the server was started for that, under the
    id `conversation`, or a new one.
    """

    history: History
    seed: Seed | None = None
    temperature: Temperature | None = None
    top_p: Share | None = None
    explain: bool = False
    keep: bool = False
    conversation: Name | None = None


class RespondRequest(AskRequest, frozen=True, kw_only=True):
    """A history for one system, by default the first."""

    system: Name | None = None


class CompareRequest(AskRequest, frozen=True, kw_only=True):
    """A history for two systems."""

    systems: Annotated[list[Name], Meta(min_length=2, max_length=2)]


class SimulatorRequest(msgspec.Struct, frozen=True):
    """What UserSimCRS sends to a system of iEvaLM.

    `context` has the texts so far, of alternating speakers, and `message` is the seeker's last one.
    """

    context: Annotated[list[Text], Meta(max_length=MAX_MESSAGES)]
    message: Text


class RoundRequest(Request, frozen=True, kw_only=True):
    """A history for a round of the arena."""

    history: History
    seed: Seed | None = None


class VoteRequest(Request, frozen=True, kw_only=True):
    """Which answer of a round is better."""

    round: Name
    choice: Literal["first", "second", "tie", "neither"]
    voter: Annotated[str, Meta(min_length=1, max_length=64)] | None = None


# --- answers -----------------------------------------------------------------------------------


class Link(Answer, frozen=True, kw_only=True):
    """Something in a text that was understood; places count characters (code points)."""

    start: int
    end: int
    text: str
    kind: Literal["movie", "entity"]
    name: str
    item_id: int | None = field(name="movie_id")
    score: float
    rivals: list[Item]
    id: OwnId = UNSET


class Reading(Answer, frozen=True, kw_only=True):
    """A text as it was understood; `unknown` has "@" ids that are no item here."""

    text: str
    links: list[Link]
    unknown: list[str]


class Item(Answer, frozen=True, kw_only=True):
    """An item of the corpus; `id` is its text id, in a corpus that has such ids."""

    item_id: int = field(name="movie_id")
    title: str
    id: OwnId = UNSET


class RankedItem(Item, frozen=True, kw_only=True):
    """An item in a ranking."""

    probability: float


class RecommendedItem(RankedItem, frozen=True, kw_only=True):
    """An item that an answer names, at one of its tokens, and its rivals there."""

    token: int
    ranking: list[RankedItem]


class Token(Answer, frozen=True, kw_only=True):
    """A token of an answer.

    `item_mass` is the probability of all items together by the system, `teacher_mass` the same by
    its dialogue teacher (λ of the soft gate).
    """

    text: str
    item_id: int | None = field(name="movie_id")
    probability: float
    item_mass: float
    teacher_mass: float | None
    id: OwnId = UNSET


class Turn(Answer, frozen=True, kw_only=True):
    """A message as models read it, items as "@123"; send it with the next request."""

    role: Role
    text: str


class ExplainedItem(Item, frozen=True, kw_only=True):
    """An item of an answer, with paths in the knowledge graph to it, as names of nodes."""

    mentioned: bool
    paths: list[list[str]]


class Explanation(Answer, frozen=True, kw_only=True):
    """What speaks for the items of an answer, and each model's own ranking at one token."""

    items: list[ExplainedItem]
    token: int
    rankings: dict[str, list[RankedItem]]


class Response(Answer, frozen=True, kw_only=True):
    """An answer of a system."""

    system: str
    reading: Reading
    text: str
    turn: Turn
    items: list[RecommendedItem]
    tokens: list[Token]
    tag: Literal["rec", "gen"] | None
    seconds: float
    first_seconds: float
    ended: bool
    explanation: Explanation | None
    conversation: str | None = None


class Comparison(Answer, frozen=True, kw_only=True):
    """The answers of two systems to one history."""

    responses: list[Response]


class Piece(Answer, frozen=True, kw_only=True):
    """What a step of decoding adds to the text."""

    text: str
    item_id: int | None = field(name="movie_id")
    id: OwnId = UNSET


class SystemCard(Answer, frozen=True, kw_only=True):
    """A system that is served."""

    name: str
    title: str
    backbone: str
    has_tags: bool
    has_teacher: bool
    batch_size: int
    max_tokens: int
    corpus: str
    num_items: int


class SystemList(Answer, frozen=True, kw_only=True):
    """The systems that are served, the default first, and whether there is an arena or a memory."""

    systems: list[SystemCard]
    arena: bool
    keeps: bool


class ItemList(Answer, frozen=True, kw_only=True):
    """Items that a text may mean, the most likely first."""

    items: list[Item]


class Blind(Answer, frozen=True, kw_only=True):
    """An answer in the arena, without anything that tells whose it is.

    `turn` is the same text as the next history has it, with items as "@123".
    """

    text: str
    turn: Turn


class Round(Answer, frozen=True, kw_only=True):
    """Two answers to choose from."""

    round: str
    answers: list[Blind]


class Voted(Answer, frozen=True, kw_only=True):
    """The systems behind the two answers of a round, in their order."""

    systems: list[str]


class Rating(Answer, frozen=True, kw_only=True):
    """The rating of a system with its 95 % interval (`serve.ratings`)."""

    name: str
    elo: float
    low: float
    high: float
    rounds: int
    wins: int
    ties: int


class Ratings(Answer, frozen=True, kw_only=True):
    """The ratings of all systems, the best first."""

    systems: list[Rating]


class KeptAnswer(Answer, frozen=True, kw_only=True):
    """A message that was kept, with its answer."""

    time: str
    request: dict
    response: dict


class Conversation(Answer, frozen=True, kw_only=True):
    """A conversation that was kept because its client asked for it."""

    conversation: str
    answers: list[KeptAnswer]


class Forgotten(Answer, frozen=True, kw_only=True):
    """How many answers of a conversation were deleted."""

    deleted: int


class Health(Answer, frozen=True, kw_only=True):
    """Whether the server answers, and how many requests wait."""

    status: Literal["ok"]
    systems: int
    waiting: int


class Problem(Answer, frozen=True, kw_only=True):
    """What is wrong, for programs and for people."""

    code: str
    message: str


class Problems(Answer, frozen=True, kw_only=True):
    """The body of every error."""

    error: Problem
