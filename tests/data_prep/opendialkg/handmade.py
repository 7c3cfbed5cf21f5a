"""A small OpenDialKG, invented, in both of its layouts: what the readers' tests read."""

import csv
import json
from pathlib import Path
from typing import Any

# Films and a book, then people, a genre and years; "Her" is an everyday word.
NAMES = (
    *("Alpha Rising", "Beta", "Her", "The Gamma Letters"),
    *("Jane Doe", "John Roe", "Drama", "1990", "1991", "You"),
)
NODES = {name: node for node, name in enumerate(NAMES)}
ITEMS = (0, 1, 2, 3)
TRIPLES = (
    ("Alpha Rising", "release_year", "1990"),
    ("Alpha Rising", "starred_actors", "Jane Doe"),
    ("Alpha Rising", "starred_actors", "Jane Doe"),  # the published file repeats some
    ("Alpha Rising", "has_genre", "Drama"),
    ("Beta", "release_year", "1990"),
    ("Beta", "release_year", "1991"),
    ("Beta", "directed_by", "John Roe"),
    ("Her", "starred_actors", "Jane Doe"),
    ("The Gamma Letters", "written_by", "John Roe"),
)
_RELATIONS = {
    name: number
    for number, name in enumerate(
        ("release_year", "starred_actors", "directed_by", "has_genre", "in_language", "written_by")
    )
}
EDGES = "RelatedTo\tfilm\tmovie\nRelatedTo\tfilm\tbanana\nRelatedTo\tthe\tmovie\n"


def line(dialog: int, context: list[str], resp: str, rec: list, **others: Any) -> dict:
    """A line of a processed file; `entity` is given, or nothing is marked in the context."""
    return {
        "dialog_id": dialog,
        "turn_id": len(context),
        "context": context,
        "entity": others.pop("entity", []),
        "rec": rec,
        "resp": resp,
        **others,
    }


FIRST = ["Any film with Jane Doe?", "She is in alpha rising.", "You know a movie by John Roe?"]
LINES = {
    "train": [
        line(1, FIRST[:1], FIRST[1], ["Alpha Rising"], entity=["Jane Doe"]),
        line(
            1, FIRST, 'He made "Beta".', ["Beta"], entity=["Jane Doe", "Alpha Rising", "John Roe"]
        ),
        line(2, ["Hi", "Hello!", "A film for her?"], "She may like Her.", ["Her"]),
        line(3, ["A movie?"], "Beta, by John Roe", ["Beta"]),
        line(7, ["I like a book about a movie"], "The Gamma Letters", ["The Gamma Letters"]),
    ],
    "valid": [
        line(
            3, ["A movie?", "Beta, by John Roe", "Another film?"], "Her", ["Her"], entity=["Beta"]
        ),
        line(4, ["A movie?"], "Try Alpha Rising, or Nowhere.", ["Alpha Rising", "Nowhere"]),
    ],
    "test": [
        line(1, FIRST[:1], FIRST[1], ["Alpha Rising"]),
        line(9, ["A movie?"], "Beta", ["Beta"]),
    ],
}


def write_processed(folder: Path, **lines: list) -> Path:
    """Writes iEvaLM's files, and ConceptNet's edges beside them; returns the folder above both.

    Args:
      folder: the folder above both.
      **lines: other lines than `LINES` for a split; text is written as it is.
    """
    files = {
        "kg.json": _graph(),
        "entity2id.json": NODES,
        "item_ids.json": list(ITEMS),
    }
    home = folder / "opendialkg"
    home.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (home / name).write_text(json.dumps(content))
    for split, found in ({name: LINES[name] for name in ("train", "valid")} | lines).items():
        texts = [each if isinstance(each, str) else json.dumps(each) for each in found]
        (home / f"{split}_data_processed.jsonl").write_text("\n".join(texts) + "\n")
    write_edges(folder)
    return folder


def _graph() -> dict[str, list[list[int]]]:
    graph: dict[str, list[list[int]]] = {}
    for head, relation, tail in TRIPLES:
        graph.setdefault(str(NODES[head]), []).append([_RELATIONS[relation], NODES[tail]])
    return graph


def write_edges(folder: Path) -> None:
    """Writes a small file of ConceptNet's edges."""
    (folder / "kg").mkdir(exist_ok=True)
    (folder / "kg" / "conceptnet_one_hop_edges.txt").write_text(EDGES)


def says(sender: str, text: str) -> dict[str, Any]:
    """A chat message of the official file."""
    return {"type": "chat", "sender": sender, "message": text}


def chooses(sender: str, *triples: tuple[str, str, str]) -> dict[str, Any]:
    """A choice of a path in the graph."""
    path = [0.5, [list(triple) for triple in triples], "as a sentence"]
    action = {"type": "action", "action_id": "kgwalk/choose_path", "sender": sender}
    return {**action, "metadata": {"path": path}}


CONVERSATION = [
    says("user", "Any film with Jane Doe?"),
    chooses("assistant", ("Jane Doe", "~starred_actors", "Alpha Rising (1990 Film)")),
    {"type": "action", "action_id": "meta_thread/send_meta_message", "sender": "user"},
    says("assistant", "She is in Alpha Rising, a movie."),
    says("user", "Thanks!"),
]


def write_official(folder: Path, *conversations: Any, triples: str | None = None) -> Path:
    """Writes the official files; the name of one film has a qualifier there.

    Args:
      folder: the folder above them.
      *conversations: the messages of each dialogue; text is written as it is.
      triples: the content of the file of triples, or that of `TRIPLES`.
    """
    home = folder / "opendialkg" / "data"
    home.mkdir(parents=True, exist_ok=True)
    with (home / "opendialkg.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["Messages", "User Rating", "Assistant Rating"])
        for one in conversations:
            writer.writerow([one if isinstance(one, str) else json.dumps(one), "null", "null"])
    qualified = [_qualified(name) for name in NAMES]
    (home / "opendialkg_entities.txt").write_text("\n".join(qualified) + "\n")
    rows = [f"{_qualified(h)}\t{r}\t{t}" for h, r, t in TRIPLES]
    rows += [f"{t}\t~{r}\t{_qualified(h)}" for h, r, t in TRIPLES]
    rows.append("John Roe\tPlace lived\tDrama")  # touches no item
    content = "\n".join(rows) + "\n" if triples is None else triples
    (home / "opendialkg_triples.txt").write_text(content)
    write_edges(folder)
    return folder


def _qualified(name: str) -> str:
    return "Alpha Rising (1990 Film)" if name == "Alpha Rising" else name
