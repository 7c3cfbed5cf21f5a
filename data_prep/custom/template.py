"""A small folder of own data to start from: board games, and dialogues made from sentences.

Every file of the schema is there, so that each can be replaced by one's own. The games, their
designers and years are real; the dialogues are not.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator
from typing import Any

from etils import epath

from conkd_jax.errors import UserError
from conkd_jax.io.files import write_whole
from data_prep.custom import schema

# id | name | aliases | designers | mechanics | year
_GAMES = """
catan | Catan | Settlers of Catan | Klaus Teuber | trading, dice rolling | 1995
carcassonne | Carcassonne | | Klaus-Jürgen Wrede | tile placement, area control | 2000
el-grande | El Grande | | Wolfgang Kramer | area control | 1995
ticket-to-ride | Ticket to Ride | TTR | Alan R. Moon | route building, set collection | 2004
kingdom-builder | Kingdom Builder | | Donald X. Vaccarino | route building, area control | 2011
dominion | Dominion | | Donald X. Vaccarino | deck building | 2008
star-realms | Star Realms | | Robert Dougherty | deck building | 2014
clank | Clank! | Clank | Paul Dennen | deck building | 2016
pandemic | Pandemic | | Matt Leacock | cooperative play, set collection | 2008
forbidden-island | Forbidden Island | | Matt Leacock | cooperative play | 2010
forbidden-desert | Forbidden Desert | | Matt Leacock | cooperative play | 2013
hanabi | Hanabi | | Antoine Bauza | cooperative play | 2010
7-wonders | 7 Wonders | Seven Wonders | Antoine Bauza | card drafting, set collection | 2010
takenoko | Takenoko | | Antoine Bauza | tile placement | 2011
tokaido | Tokaido | | Antoine Bauza | set collection | 2012
azul | Azul | | Michael Kiesling | card drafting, pattern building | 2017
sagrada | Sagrada | | Adrian Adamescu | dice rolling, pattern building | 2017
splendor | Splendor | | Marc André | engine building, set collection | 2014
wingspan | Wingspan | | Elizabeth Hargrave | engine building, card drafting | 2019
race-for-the-galaxy | Race for the Galaxy | RFTG | Thomas Lehmann | engine building | 2007
agricola | Agricola | | Uwe Rosenberg | worker placement | 2007
caverna | Caverna | | Uwe Rosenberg | worker placement | 2013
patchwork | Patchwork | | Uwe Rosenberg | tile placement, pattern building | 2014
lords-of-waterdeep | Lords of Waterdeep | | Peter Lee | worker placement | 2012
stone-age | Stone Age | | Bernd Brunnhofer | worker placement, dice rolling | 2008
kingdomino | Kingdomino | | Bruno Cathala | tile placement | 2016
five-tribes | Five Tribes | | Bruno Cathala | area control, set collection | 2014
bohnanza | Bohnanza | | Uwe Rosenberg | trading, set collection | 1997
"""
_NODES = {
    "deck building": ["deck builder", "deck builders"],
    "cooperative play": ["cooperative", "co-op"],
    "worker placement": ["placing workers"],
    "dice rolling": ["rolling dice"],
}
_TRIPLES = (
    ("tile placement", "goes_with", "pattern building"),
    ("deck building", "goes_with", "engine building"),
    ("card drafting", "goes_with", "set collection"),
    ("dice rolling", "goes_with", "trading"),
)
_WORDS = (
    *(("trading", "market"), ("dice", "luck"), ("cards", "deck"), ("tile", "puzzle")),
    *(("team", "cooperative"), ("team", "family"), ("workers", "farm"), ("luck", "fun")),
    *(("strategy", "puzzle"), ("strategy", "planning"), ("evening", "family"), ("cards", "fun")),
    *(("planning", "workers"), ("evening", "fun"), ("route", "planning"), ("area", "map")),
)
_OPENINGS = (
    "Hi! We like @[{liked}] and want more {mechanic} for our family evening.",
    "Hello, I am looking for a game with {mechanic}. I played @[{liked}] and it was fun.",
    "Can you suggest something by {designer}, or with {mechanic}? Strategy is fine, luck is not.",
)
_QUESTIONS = ("How many of you are there?", "Do you want to think a lot, or just have fun?")
_REPLIES = ("There are four of us.", "We want to have fun together.")
_ANSWERS = (
    "You could try @[{first}], it has {mechanic} too.",
    "If you want {mechanic}, @[{first}] is a good choice.",
)
_FOLLOW_UPS = (
    "We own @[{first}] already, it is a nice puzzle. What else?",
    "I have not heard of it. Is there another one for a small team?",
)
_SECOND_ANSWERS = ("Then @[{second}] may suit you.", "Have a look at @[{second}] as well.")
_ENDINGS = ("Thank you, that sounds great!", "Good, we will play it this evening.")
_README = """\
This folder is a template of own data for conkd_jax: board games, and dialogues made from sentences.
Replace the files by your own, one at a time, and check them:

    conkd-data check {folder}

docs/howto/own_data.md explains every file and how to train.
"""


class FolderExistsError(UserError, FileExistsError):
    """A folder for new files that has files already."""


def write_template(directory: epath.PathLike) -> list[str]:
    """Writes the template into a new folder; returns the names of its files.

    Raises:
      FolderExistsError: the folder has files already.
    """
    folder = expect_new_folder(directory)
    folder.mkdir(parents=True, exist_ok=True)
    files = template_files(directory)
    for name, text in files.items():
        write_whole(folder / name, text)
    return list(files)


def expect_new_folder(directory: epath.PathLike) -> epath.Path:
    """The path of a folder that is not there yet, or is empty.

    Raises:
      FolderExistsError: the folder has files already.
    """
    folder = epath.Path(directory).expanduser()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FolderExistsError(f"{directory}: expected a new or empty folder, got one with files")
    return folder


def template_files(folder: epath.PathLike) -> dict[str, str]:
    """The text of each file, by name; the same in every version of Python."""
    return {
        "README.txt": _README.format(folder=folder),
        schema.ABOUT: json.dumps({"version": schema.VERSION}) + "\n",
        schema.ITEMS: _lines(_items()),
        schema.DIALOGUES: _lines(_dialogues()),
        schema.NODES: _lines({"id": n, "name": n, "aliases": of} for n, of in _NODES.items()),
        schema.GRAPH: "".join("\t".join(triple) + "\n" for triple in _TRIPLES),
        schema.WORDS: "".join(f"RelatedTo\t{one}\t{other}\n" for one, other in _WORDS),
    }


def _lines(entries: Iterable[dict[str, Any]]) -> str:
    return "".join(json.dumps(entry, ensure_ascii=False) + "\n" for entry in entries)


def _items() -> list[dict[str, Any]]:
    items = []
    for line in _GAMES.strip().splitlines():
        key, name, aliases, designer, mechanics, year = (cell.strip() for cell in line.split("|"))
        items.append(
            {
                "id": key,
                "name": f"{name} ({year})",
                "aliases": [alias for alias in aliases.split(", ") if alias],
                "attributes": {"designer": designer, "mechanic": mechanics.split(", ")},
            }
        )
    return items


def _dialogues() -> Iterator[dict[str, Any]]:
    """Two dialogues for each game and each of its mechanics; the answers share the mechanic."""
    mechanics = {item["id"]: item["attributes"]["mechanic"] for item in _items()}
    designers = {item["id"]: item["attributes"]["designer"] for item in _items()}
    pairs = [(game, mechanic) for game, of in mechanics.items() for mechanic in of]
    for number, (liked, mechanic) in enumerate(itertools.chain(pairs, pairs)):
        others = [game for game, of in mechanics.items() if mechanic in of and game != liked]
        first = others[number % len(others)]
        rest = [game for game in (*others, *mechanics) if game not in (liked, first)]
        words = {
            "liked": liked,
            "mechanic": mechanic,
            "designer": designers[liked],
            "first": first,
            "second": rest[number % max(len(others) - 1, 1)],
        }
        # Every other recommender asks first, so that not all responses recommend.
        asked = (_QUESTIONS, _REPLIES) if number % 2 else ()
        patterns = (_OPENINGS, *asked, _ANSWERS, _FOLLOW_UPS, _SECOND_ANSWERS, _ENDINGS)
        texts = [
            of[number // (turn + 1) % len(of)].format(**words) for turn, of in enumerate(patterns)
        ]
        yield {
            "id": f"game-{number + 1}",
            "messages": [
                {"role": ("seeker", "recommender")[turn % 2], "text": text}
                for turn, text in enumerate(texts)
            ],
        }
