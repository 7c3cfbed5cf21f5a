"""Turns what a chat returns into what the API returns."""

from __future__ import annotations

from collections.abc import Iterable

from conkd_jax.chat import Response
from conkd_jax.chat.explanation import Explanation
from conkd_jax.chat.response import Piece, RankedItem
from conkd_jax.serve import schema
from conkd_jax.serve.systems import Served
from conkd_jax.stages.systems.free_text import ENTITY, ITEM, Reading


def reading_answer(served: Served, reading: Reading) -> schema.Reading:
    """A text as a system understood it."""
    links = [
        schema.Link(
            start=link.start,
            end=link.end,
            text=reading.text[link.start : link.end],
            kind=ITEM if link.item_id is not None else ENTITY,
            name=link.name,
            item_id=link.item_id,
            score=link.score,
            rivals=[served.item(one) for one in link.rivals],
            id=served.own_id(link.item_id),
        )
        for link in reading.links
    ]
    return schema.Reading(text=reading.text, links=links, unknown=list(reading.unknown))


def response_answer(
    served: Served,
    reading: schema.Reading,
    response: Response,
    explanation: Explanation | None,
    conversation: str | None = None,
) -> schema.Response:
    """An answer of a system."""
    return schema.Response(
        system=served.name,
        reading=reading,
        text=response.text,
        turn=schema.Turn(role="recommender", text=response.turn.text),
        items=[
            schema.RecommendedItem(
                item_id=item.item_id,
                title=item.title,
                probability=item.probability,
                token=item.token,
                ranking=_ranked(served, item.ranking[: schema.RANKED]),
                id=served.own_id(item.item_id),
            )
            for item in response.items
        ],
        tokens=[
            schema.Token(
                text=token.text,
                item_id=token.item_id,
                probability=token.probability,
                item_mass=token.item_mass,
                teacher_mass=token.teacher_mass,
                id=served.own_id(token.item_id),
            )
            for token in response.tokens
        ],
        tag=None if response.tag is None else "rec" if response.tag == "rec" else "gen",
        seconds=response.seconds,
        first_seconds=response.first_seconds,
        ended=response.ended,
        explanation=None
        if explanation is None
        else explanation_answer(served, response, explanation),
        conversation=conversation,
    )


def explanation_answer(
    served: Served, response: Response, found: Explanation
) -> schema.Explanation:
    """What speaks for the items of an answer."""
    titles = {item.item_id: item.title for item in response.items}
    return schema.Explanation(
        items=[
            schema.ExplainedItem(
                item_id=item_id,
                title=titles[item_id],
                mentioned=item_id in found.mentioned,
                paths=[list(path) for path in paths],
                id=served.own_id(item_id),
            )
            for item_id, paths in found.paths.items()
        ],
        token=found.token,
        rankings={name: _ranked(served, ranking) for name, ranking in found.rankings.items()},
    )


def piece_answer(served: Served, piece: Piece) -> schema.Piece:
    """What a step adds to an answer."""
    return schema.Piece(text=piece.text, item_id=piece.item_id, id=served.own_id(piece.item_id))


def _ranked(served: Served, items: Iterable[RankedItem]) -> list[schema.RankedItem]:
    return [
        schema.RankedItem(
            item_id=one.item_id,
            title=one.title,
            probability=one.probability,
            id=served.own_id(one.item_id),
        )
        for one in items
    ]
