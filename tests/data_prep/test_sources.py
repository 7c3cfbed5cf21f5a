"""Raw files are found in every published layout; what is missing is said in one message."""

import shutil
import zipfile

import pytest

from data_prep import download, redial, sources
from data_prep.archives import ArchiveError
from tests.data_prep.raw_files import simple, write_raw

FILES = {
    "train_data.jsonl", "valid_data.jsonl", "movies_with_mentions.csv", "subkg.pkl",
    "entity2entityId.pkl", "id2entity.pkl", "conceptnet_one_hop_edges.txt", "stopwords.txt",
}  # fmt: skip


@pytest.fixture(autouse=True)
def no_cache(tmp_path, monkeypatch):
    monkeypatch.setenv(download.CACHE_VARIABLE, str(tmp_path / "cache"))


@pytest.fixture
def raw(tmp_path):
    return write_raw(tmp_path / "raw", [simple("1")], valid=[simple("2")])


def flatten(raw, folder):
    folder.mkdir(parents=True)
    for path in raw.rglob("*"):
        if path.is_file():
            shutil.copy(path, folder / path.name)
    return folder


def archive(raw, path, names=("train_data.jsonl", "movies_with_mentions.csv")):
    with zipfile.ZipFile(path, "w") as opened:
        for name in names:
            opened.write(raw / "redial" / name, f"redial_dataset/{name}")
            (raw / "redial" / name).unlink()
    return path


def test_every_layout_has_the_same_fingerprint(raw, tmp_path):
    want = redial.redial_fingerprint(raw)
    assert set(want) == FILES
    assert all(len(value) == 64 for value in want.values())
    assert redial.redial_fingerprint(flatten(raw, tmp_path / "flat")) == want
    flatten(raw, tmp_path / "kgsf" / "data")
    assert redial.redial_fingerprint(tmp_path / "kgsf") == want
    packed = archive(raw, raw / "redial_dataset.zip")
    assert redial.redial_fingerprint(raw) == want
    moved = packed.rename(raw / "anything.zip")
    assert redial.redial_fingerprint(moved)["train_data.jsonl"] == want["train_data.jsonl"]


def test_a_changed_file_changes_the_fingerprint(raw):
    before = redial.redial_fingerprint(raw)
    path = raw / "redial" / "train_data.jsonl"
    path.write_bytes(path.read_bytes() + b"\n")
    after = redial.redial_fingerprint(raw)
    assert {name for name in before if before[name] != after[name]} == {"train_data.jsonl"}


def test_the_environment_names_the_folder(raw, monkeypatch):
    monkeypatch.setenv(sources.RAW_DIR_VARIABLE, str(raw))
    assert str(sources.find_sources().train) == str(raw / "redial" / "train_data.jsonl")
    with pytest.raises(sources.MissingDataError):
        sources.find_sources(raw / "elsewhere")


def test_downloads_are_found_without_being_named(raw, tmp_path):
    flatten(raw, tmp_path / "cache")
    assert sources.find_sources().train.path.parent.name == "cache"


def test_one_message_names_every_way_out(tmp_path):
    with pytest.raises(sources.MissingDataError) as caught:
        sources.find_sources(tmp_path)
    message = str(caught.value)
    for word in (
        str(tmp_path), "raw_dir", "CONKD_RAW_DIR", "--download", download.REDIAL.url, ":demo",
        "train_data.jsonl", "subkg.pkl", "conceptnet_one_hop_edges.txt",
    ):  # fmt: skip
        assert word in message, word


@pytest.mark.parametrize("name", ["redial/train_data.jsonl", "kg/id2entity.pkl"])
def test_one_missing_file_is_named_alone(raw, name):
    (raw / name).unlink()
    with pytest.raises(sources.MissingDataError) as caught:
        sources.find_sources(raw)
    assert f": no {name.split('/')[1]}.\n" in str(caught.value)


def test_the_inferred_file_is_read_only_when_asked_for(raw):
    with pytest.raises(sources.MissingDataError, match="train_inferred_order"):
        sources.find_sources(raw, use_inferred_order=True)
    (raw / "redial" / "train_inferred_order.jsonl").write_text("{}\n")
    assert sources.find_sources(raw).inferred is None
    assert sources.find_sources(raw, use_inferred_order=True).inferred is not None


def test_the_dump_stands_in_for_the_concept_edges(raw):
    (raw / "kg" / "conceptnet-assertions-5.7.0.csv.gz").write_bytes(b"")
    assert sources.find_sources(raw).concept_dump is None
    (raw / "kg" / "conceptnet_one_hop_edges.txt").unlink()
    assert sources.find_sources(raw).concept_dump is not None


def test_kgsf_s_own_name_of_the_concept_edges_is_known(raw):
    (raw / "kg" / "conceptnet_one_hop_edges.txt").rename(raw / "kg" / "conceptnet_edges2nd.txt")
    assert sources.find_sources(raw).concept_edges.name == "conceptnet_edges2nd.txt"


def test_a_tilde_is_the_home_folder(raw, monkeypatch):
    monkeypatch.setenv("HOME", str(raw.parent))
    monkeypatch.setenv(sources.RAW_DIR_VARIABLE, f"~/{raw.name}")
    for folder in (f"~/{raw.name}", None):
        assert str(sources.find_sources(folder).train.path).startswith(str(raw))


def test_a_damaged_archive_is_named(raw):
    packed = archive(raw, raw / "redial_dataset.zip")
    packed.write_bytes(packed.read_bytes()[:200])
    with pytest.raises(ArchiveError, match="redial_dataset.zip: expected a zip archive"):
        sources.find_sources(raw)


def test_a_damaged_member_is_named(raw):
    packed = archive(raw, raw / "redial_dataset.zip")
    content = bytearray(packed.read_bytes())
    place = content.index(b"conversationId")
    content[place : place + 4] = b"CONV"  # the checksum of the archive no longer holds
    packed.write_bytes(content)
    with pytest.raises(ArchiveError, match="BadZipFile: Bad CRC-32 .*train_data.jsonl.* again"):
        sources.find_sources(raw).train.read_bytes()
