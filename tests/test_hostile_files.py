"""Every reader of raw data and of results, on thousands of damaged files."""

import csv
import gzip
import io
import json
import pickle
import tempfile
import zipfile
from collections import defaultdict
from pathlib import Path

import msgspec
import pytest
from etils import epath

from conkd_jax.config import Config
from conkd_jax.data.movielens import read_movielens
from conkd_jax.data.tokenizers.bpe import load_bpe
from conkd_jax.eval.human.sheets import read_sheets
from conkd_jax.eval.predictions import read_predictions
from conkd_jax.eval.system_files import read_titles
from conkd_jax.eval.tables.documents import read_document
from conkd_jax.runs.finished import Run
from data_prep import graphs, questionnaires, raw_dialogues
from data_prep.archives import gzip_lines
from data_prep.custom.reader import read_own_data
from data_prep.custom.template import template_files
from data_prep.inspired import read_part
from data_prep.opendialkg.files import find_files
from data_prep.opendialkg.official import read_official
from data_prep.opendialkg.processed import read_processed
from data_prep.raw_dialogues import Problems
from data_prep.reviews import read_reviews
from data_prep.sources import RawFile, find_sources
from tests.data_prep.opendialkg import handmade
from tests.data_prep.raw_files import MOVIES, NODES, URIS, simple, write_raw
from tests.eval import judged
from tests.eval.predicted import prediction
from tests.fixtures.hostile import MUTATIONS, Reader, check

ROOT = Path(__file__).resolve().parents[1]
DIALOGUES = b"".join(json.dumps(simple(f"d{number}")).encode() + b"\n" for number in range(6))
FORMS = {"10": {"suggested": 1, "seen": 0, "liked": 2}}
DUMP = "".join(f"/a/[{n}]\t/r/IsA\t/c/en/cat/n\t/c/en/dog\t{{}}\n" for n in range(40))
MOVIE_LIST = "movieId,movieName,nbMentions\n" + "".join(
    f'{movie},"{title}",{movie}\n' for movie, title in MOVIES.items()
)
INSPIRED = b"".join(
    json.dumps(
        [
            {"text": f"Hi {n}", "role": "SEEKER", "movie": [], "movie_name": []},
            {"text": "A", "role": "RECOMMENDER", "movie": ["A (1990)"], "movie_name": ["A"]},
        ]
    ).encode()
    + b"\n"
    for n in range(3)
)
UTTERANCES = (
    b"dialog_id\tspeaker\ttext\tmovies\n"
    b"1.pkl\tSEEKER\tHi\t\n1.pkl\tRECOMMENDER\tA\tA (1990)\n2.pkl\tSEEKER\tHi\t\n"
)
TRIPLES = defaultdict(list, {0: [(68, 4), (86, 0)], 1: [(68, 4), (68, 5)]})
STUDY = judged.study()


def dialogues(path: Path):
    problems = raw_dialogues.Problems()
    with path.open("rb") as lines:
        found = list(raw_dialogues.read_jsonl(lines, path.name, problems))
    raw_dialogues.expect_usable(len(found), problems, path.name)
    return problems.as_json()


def archive() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as opened:
        opened.writestr("data/train_data.jsonl", DIALOGUES)
        opened.writestr("data/movies_with_mentions.csv", MOVIE_LIST)
    return file.getvalue()


def of_archive(path: Path):
    """The dialogues of an archive beside the graph's files, by their place in it."""
    folder = path.parent
    if not (folder / "kg").exists():
        write_raw(folder, [])
        (folder / "redial" / "train_data.jsonl").unlink()
    path.replace(folder / "redial_dataset.zip")
    return find_sources(folder).train.read_bytes()


def opendialkg(path: Path):
    """A file of OpenDialKG, which gives its name, beside the other files of its layout."""
    is_official = path.name.startswith("opendialkg")
    folder = path.parent / "raw" / "opendialkg"
    if not folder.exists():
        if is_official:
            handmade.write_official(path.parent / "raw", handmade.CONVERSATION)
        else:
            handmade.write_processed(path.parent / "raw")
    (folder / "data" / path.name if is_official else folder / path.name).write_bytes(
        path.read_bytes()
    )
    return (read_official if is_official else read_processed)(find_files(path.parent / "raw")[1])


def of_opendialkg(name: str) -> bytes:
    """The content of such a file."""
    with tempfile.TemporaryDirectory() as folder:
        handmade.write_official(Path(folder), handmade.CONVERSATION)
        handmade.write_processed(Path(folder))
        (found,) = Path(folder).rglob(name)
        return found.read_bytes()


MOVIELENS = {
    "ratings.csv": b"userId,movieId,rating,time\n1,1,4.0,9\n1,2,3.5,9\n2,1,5,9\n",
    "movies.csv": b"movieId,title,genres\n1,Alpha (1990),Drama\n2,B (1991),\n",
}


def movielens(path: Path):
    """A file of a MovieLens release, which gives its name, beside the other one."""
    folder = path.parent / "movielens"
    folder.mkdir(exist_ok=True)
    for name, content in MOVIELENS.items():
        (folder / name).write_bytes(content)
    path.replace(folder / path.name.removeprefix("movielens_"))
    return read_movielens(folder, ["Alpha (1990)", "B (1991)"])


def bpe(path: Path):
    (path.parent / "merges.txt").write_text("#version: 0.2\nt h\nth e\n")
    path.replace(path.parent / "vocab.json")
    return load_bpe(path.parent)


def entities(path: Path):
    other = path.with_name("id2entity.pkl")
    other.write_bytes(pickle.dumps(URIS))
    return graphs.read_entities(path, other, list(MOVIES))


def opened_run(path: Path):
    path.replace(path.parent / "config.json")
    return Run.open(path.parent)


def text_of(rows: list[dict[str, str]]) -> bytes:
    file = io.StringIO(newline="")
    writer = csv.DictWriter(file, rows[0].keys())
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue().encode()


def predictions() -> bytes:
    made = [
        prediction(turn, gold=(1,), tops=[(1, 2)], token_nll=(0.5,), token_is_item=(True,))
        for turn in (1, 3, 5)
    ]
    fields = [msgspec.to_builtins(each) for each in made]
    given = [{name: value for name, value in each.items() if value is not None} for each in fields]
    return b"".join(json.dumps(each).encode() + b"\n" for each in given)


def kept_metrics() -> bytes:
    return (ROOT / "docs" / "results" / "mini" / "dialogpt" / "seed0.json").read_bytes()


def words_of_bpe() -> bytes:
    letters = "abcdefghijklmnopqrstuvwxyz"
    names = ["<|endoftext|>", *letters, "th", "the"]
    return json.dumps({name: number for number, name in enumerate(names)}).encode()


def own_config() -> bytes:
    record = {"name": "kgsf", "split": "valid", "overrides": {}, "settings": Config().to_dict()}
    return json.dumps(record).encode()


OWN_DATA = template_files("games")
OWN_DATA["dialogues.jsonl"] = "".join(OWN_DATA["dialogues.jsonl"].splitlines(keepends=True)[:12])


def own_data(path: Path):
    """A folder of own data, one file of which is damaged."""
    folder = path.parent / "games"
    folder.mkdir(exist_ok=True)
    for name, text in OWN_DATA.items():
        (folder / name).write_text(text, encoding="utf-8")
    path.replace(folder / path.name)
    return read_own_data(folder)


READERS = [
    Reader("dialogues.jsonl", DIALOGUES, dialogues),
    Reader("redial.zip", archive(), of_archive, has_checksum=True),
    Reader(
        "movies.csv", MOVIE_LIST.encode(), lambda path: graphs.read_movies(path.read_bytes(), "x")
    ),
    Reader("titles.csv", MOVIE_LIST.encode(), read_titles),
    Reader("subkg.pkl", pickle.dumps(TRIPLES), graphs.read_triples),
    Reader("subkg_of_python_2.pkl", pickle.dumps(TRIPLES, 0), graphs.read_triples),
    Reader("entity2entityId.pkl", pickle.dumps(NODES), entities),
    Reader("id2entity.pkl", pickle.dumps(URIS), graphs.read_movie_ids),
    Reader("reviews.pkl", pickle.dumps({10: ["a", "quiet", "film"], 11: ["``"]}), read_reviews),
    Reader("reviews.jsonl", b'{"movie_id": 10, "text": "Fine.", "rating": 8}\n' * 2, read_reviews),
    Reader(
        "edges.txt",
        b"RelatedTo\tcat\tdog\nIsA\tcat/n\tpet\n" * 3,
        lambda path: graphs.read_concept_edges(io.BytesIO(path.read_bytes()), "x"),
    ),
    Reader(
        "dump.csv.gz",
        gzip.compress(DUMP.encode(), mtime=0),
        lambda path: graphs.read_concept_dump(path, ["cat", "dog"]),
        has_checksum=True,
    ),
    Reader(
        "lines.gz",
        gzip.compress(DUMP.encode(), mtime=0),
        lambda path: list(gzip_lines(path)),
        has_checksum=True,
    ),
    Reader(
        "forms.jsonl",
        json.dumps({**simple("d"), "initiatorQuestions": FORMS}).encode() + b"\n",
        lambda path: questionnaires.read_forms(io.BytesIO(path.read_bytes())),
        skips=True,
    ),
    *(
        Reader(name, of_opendialkg(name), opendialkg)
        for name in (
            *("train_data_processed.jsonl", "kg.json", "entity2id.json", "item_ids.json"),
            *("opendialkg.csv", "opendialkg_triples.txt"),
        )
    ),
    Reader(
        "inspired.jsonl", INSPIRED, lambda path: read_part(RawFile(epath.Path(path)), Problems())
    ),
    Reader(
        "inspired.tsv", UTTERANCES, lambda path: read_part(RawFile(epath.Path(path)), Problems())
    ),
    *(Reader(f"movielens_{name}", content, movielens) for name, content in MOVIELENS.items()),
    *(
        Reader(name, OWN_DATA[name].encode(), own_data)
        for name in ("data.json", "items.jsonl", "dialogues.jsonl", "nodes.jsonl", "graph.tsv")
    ),
    Reader("words.tsv", OWN_DATA["words.tsv"].encode(), own_data),
    Reader("vocabulary", words_of_bpe(), bpe),
    Reader("predictions.jsonl", predictions(), lambda path: list(read_predictions(path))),
    Reader("metrics.json", kept_metrics(), lambda path: read_document(epath.Path(path))),
    Reader("config", own_config(), opened_run),
    Reader(
        "annotator_1.csv",
        text_of(judged.rows(STUDY, 1)),
        lambda path: read_sheets(STUDY, [path]),
    ),
]


@pytest.mark.slow
@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.name)
def test_a_damaged_file_is_read_or_refused(reader: Reader, tmp_path: Path):
    check(reader, tmp_path)


def test_there_are_enough_mutations():
    assert MUTATIONS * len(READERS) >= 5_000
