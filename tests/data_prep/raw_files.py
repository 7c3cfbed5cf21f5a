"""A small ReDial, written by hand: what the readers' tests read.

Six movies (ids 10-15; 14 has no URI, 15 is in no dictionary), two people, a genre, and dialogues
that tests add to.
"""

import json
import pickle
from collections import defaultdict
from pathlib import Path
from typing import Any

RESOURCE = "<http://dbpedia.org/resource/{}>"
MOVIES = {
    10: "Alpha  (1990)",
    11: "Beta, the Return (1991)",
    12: "Gamma (1992)",
    13: "It (2017)",
    14: "Delta (1993)",
    15: "Epsilon (1994)",
}
URIS = {
    10: RESOURCE.format("Alpha_(film)"),
    11: RESOURCE.format("Beta,_the_Return"),
    12: RESOURCE.format("Gamma_(1992_film)"),
    13: RESOURCE.format("It_(2017_film)"),
}
NODES = {
    URIS[10]: 0,
    URIS[11]: 1,
    URIS[12]: 2,
    URIS[13]: 3,
    RESOURCE.format("Jane_Doe_(actress)"): 4,
    RESOURCE.format("Jos%C3%A9_Roe"): 5,
    RESOURCE.format("Jos%C3%A9_Roe_Band"): 6,
    RESOURCE.format("War_(band)"): 7,
    RESOURCE.format("Get_Ready_(New_Order_album)"): 8,
    RESOURCE.format("Alpha_(film)__1"): 9,
    14: 10,
}


def dialogue(
    conversation_id: Any, *messages: tuple[int, str], seeker: int = 0, recommender: int = 1
) -> dict[str, Any]:
    """A dialogue in the official schema; a message is (worker, text)."""
    return {
        "conversationId": conversation_id,
        "initiatorWorkerId": seeker,
        "respondentWorkerId": recommender,
        "movieMentions": {},
        "initiatorQuestions": {},
        "respondentQuestions": {},
        "messages": [
            {"timeOffset": i, "text": text, "senderWorkerId": worker, "messageId": i}
            for i, (worker, text) in enumerate(messages)
        ],
    }


def simple(conversation_id: Any) -> dict[str, Any]:
    return dialogue(conversation_id, (0, "I like @10"), (1, "Try @11 with Jane Doe"), (0, "ok"))


def write_jsonl(path: Path, dialogues: list[Any]) -> None:
    """Writes dialogues; bytes go into the file as they are."""
    lines = [d if isinstance(d, bytes) else json.dumps(d).encode() for d in dialogues]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"\n".join(lines) + b"\n")


def write_graphs(folder: Path) -> None:
    """Writes KGSF's pickles and the ConceptNet edges."""
    folder.mkdir(parents=True, exist_ok=True)
    triples: dict[int, list[tuple[int, int]]] = defaultdict(list)
    triples[0] += [(68, 4), (86, 0)]
    triples[1] += [(68, 4), (68, 5)]
    for name, value in (
        ("subkg.pkl", triples),
        ("entity2entityId.pkl", NODES),
        ("id2entity.pkl", {10: URIS[10], 11: URIS[11], 12: URIS[12], 13: URIS[13], 14: None}),
    ):
        (folder / name).write_bytes(pickle.dumps(value))
    edges = ["RelatedTo\tcat\tdog", "RelatedTo\tdog\tcat", "IsA\tthe\tdog", "IsA\tMouse\tanimal"]
    (folder / "conceptnet_one_hop_edges.txt").write_text("\n".join(edges) + "\n")
    (folder / "stopwords.txt").write_text("the\ni\nlike\nwith\nit\n")


def write_movies(path: Path) -> None:
    rows = [f'{i},"{title}",1' for i, title in MOVIES.items()]
    path.write_text("\n".join(["movieId,movieName,nbMentions", *rows]) + "\n")


def write_raw(folder: Path, train: list[Any], **files: list[Any]) -> Path:
    """Writes a raw folder in the redial/ + kg/ layout; `files` are further splits."""
    write_jsonl(folder / "redial" / "train_data.jsonl", train)
    for name, dialogues in files.items():
        write_jsonl(folder / "redial" / f"{name}_data.jsonl", dialogues)
    write_movies(folder / "redial" / "movies_with_mentions.csv")
    write_graphs(folder / "kg")
    return folder
