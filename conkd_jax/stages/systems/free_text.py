"""Turns what a person types into a turn of the corpus: items, other nodes, and concepts.

Items become "@123", as in the corpus: as typed, by their text id ("@[clank]"), by their title
or an alias (`data.title_links`), or by a correction. Other nodes, such as people, are found by the
labels of the graph, as when the corpus was built.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence

from conkd_jax.data.corpus import SEEKER, Corpus, Turn
from conkd_jax.data.mentions import MARK, MENTION, encodable, mention_id, token_places
from conkd_jax.data.title_links import TitleIndex
from conkd_jax.eval.own_ids import OwnIds
from conkd_jax.stages import released_corpus
from data_prep.linking import Label, LabelMatcher, Linker, labels_of_corpus

ITEM, ENTITY = "movie", "entity"


@dataclasses.dataclass(frozen=True)
class Link:
    """Something in a text that was understood.

    Attributes:
      start: its first character in the text.
      end: the character after it.
      kind: "movie" for an item of any kind, the word of the first readers of this API, or "entity",
        another node of the graph, such as a person.
      name: the title of the item, or the name of the node.
      item_id: of an item; None for an entity.
      score: 100, or the similarity of a misspelled title.
      rivals: ids of other items that could be meant, the most likely first.
    """

    start: int
    end: int
    kind: str
    name: str
    item_id: int | None = None
    score: float = 100.0
    rivals: tuple[int, ...] = ()


@dataclasses.dataclass(frozen=True)
class Reading:
    """A text as it was understood.

    Attributes:
      text: as it was typed.
      role: "seeker" or "recommender".
      links: what was found in it, in order.
      unknown: "@" ids that are no item of the corpus, as typed; in a corpus with text ids, marks
        ("@[clank]") too.
      turn: what the models read; its text has items as "@123".
    """

    text: str
    role: str
    links: tuple[Link, ...]
    unknown: tuple[str, ...]
    turn: Turn


@dataclasses.dataclass(frozen=True, eq=False)
class TextLinker:
    """Understands texts by the items and the graphs of a corpus.

    Attributes:
      corpus: the corpus; its training dialogues say how titles and labels are used.
    """

    corpus: Corpus

    @functools.cached_property
    def titles(self) -> TitleIndex:
        """The titles and aliases of the corpus; reads the training dialogues on first use."""
        items = self.corpus.items
        if (counts := released_corpus.read_counts(self.corpus)) is not None:
            return counts.title_index(items)
        texts = (turn.text for d in self.corpus.dialogues("train") for turn in d.turns)
        counted = self.corpus.mention_counts()
        return TitleIndex(items.titles, counted, texts, aliases=items.aliases)

    @functools.cached_property
    def labels(self) -> dict[Label, int]:
        """The labels of the nodes that are no items, such as people."""
        if (counts := released_corpus.read_counts(self.corpus)) is not None:
            return counts.labels
        return labels_of_corpus(self.corpus)

    @functools.cached_property
    def linker(self) -> Linker:
        """The linker that the corpus was built with."""
        return Linker.for_corpus(self.corpus.items, self.corpus.concept_graph, self.labels)

    @functools.cached_property
    def _matcher(self) -> LabelMatcher:
        return LabelMatcher(self.labels)

    @functools.cached_property
    def index_of(self) -> dict[int, int]:
        """The candidate index of every item id."""
        return {item_id: index for index, item_id in enumerate(self.corpus.items.item_ids.tolist())}

    @functools.cached_property
    def own_ids(self) -> OwnIds:
        """The text ids of items, if the corpus has such ids."""
        return OwnIds(self.corpus.items)

    def read(
        self,
        text: str,
        role: str = SEEKER,
        corrections: Mapping[int, int | None] | None = None,
    ) -> Reading:
        """Reads a text.

        Args:
          text: what a person typed, or a text with items as "@123", or "@[id]" for a text id.
          role: whose turn it is.
          corrections: of items that were understood wrongly: the first character of the link → the
            item id that is meant, or None for no item.

        Returns:
          The reading. A text without a link is a reading too.
        """
        text = encodable(text)
        links = self._items(text, corrections or {})
        written, end = "", 0
        for link in links:
            written += f"{text[end : link.start]}@{link.item_id}"
            end = link.end
            # "@12" followed by a digit would be another item
            written += " " if text[end : end + 1].isdigit() else ""
        written += text[end:]
        turn = self.turn(written, role)
        known = {(link.start, link.end) for link in links}
        unknown = tuple(
            text[start:end] for start, end, _ in self._typed(text) if (start, end) not in known
        )
        entities = self._entities(text, [(link.start, link.end) for link in links])
        both = sorted([*links, *entities], key=lambda link: link.start)
        return Reading(text, role, tuple(both), unknown, turn)

    def turn(self, text: str, role: str) -> Turn:
        """The turn of a text with items as "@123", as in the corpus; titles stay words."""
        found = self.linker.link([text])
        return Turn(role, text, found.items, found.unknown_items, found.entities, found.concepts)

    def _items(self, text: str, corrections: Mapping[int, int | None]) -> list[Link]:
        items = self.corpus.items
        typed = self._typed(text)
        links = [self._item(start, end, one) for start, end, one in typed if one is not None]
        named = [(link.start, link.end) for link in self._entities(text, [])]
        for match in self.titles.find(text, taken=named):
            if any(match.start < end and start < match.end for start, end, _ in typed):
                continue  # a title in an id
            rivals = tuple(int(items.item_ids[item]) for item in match.rivals)
            item_id = int(items.item_ids[match.item])
            links.append(self._item(match.start, match.end, item_id, match.score, rivals))
        corrected = []
        for link in sorted(links, key=lambda link: link.start):
            item_id = corrections.get(link.start, link.item_id)
            if item_id is not None:
                corrected.append(self._item(link.start, link.end, item_id, link.score, link.rivals))
        return corrected

    def _typed(self, text: str) -> list[tuple[int, int, int | None]]:
        """What is typed as an item by its number or id: (start, end, item id or None), in order."""
        marks = MARK.finditer(text) if self.own_ids else ()
        found = [(*mark.span(), self.own_ids.number(mark[1])) for mark in marks]
        for match in MENTION.finditer(text):
            if not any(start < match.end() and match.start() < end for start, end, _ in found):
                number = mention_id(match[1])
                found.append((*match.span(), number if number in self.index_of else None))
        return sorted(found, key=lambda place: place[0])

    def _item(
        self, start: int, end: int, item_id: int, score: float = 100.0, rivals: tuple[int, ...] = ()
    ) -> Link:
        title = self.corpus.items.titles[self.index_of[item_id]] or f"@{item_id}"
        return Link(start, end, ITEM, title, item_id, score, rivals)

    def _entities(self, text: str, items: Sequence[tuple[int, int]]) -> list[Link]:
        places = token_places(text)
        pieces = [text[start:end] for start, end in places]
        links = []
        for first, label in self._matcher.spans(pieces):
            start, end = places[first][0], places[first + len(label) - 1][1]
            if not any(start < stop and begin < end for begin, stop in items):
                name = self.corpus.entity_names[self._matcher.node(label)]
                links.append(Link(start, end, ENTITY, name))
        return links
