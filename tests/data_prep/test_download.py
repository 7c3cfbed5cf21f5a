"""What is downloaded is checked before it is used. "Official" servers are local files here."""

import dataclasses

import pytest

from conkd_jax.io.files import sha256
from data_prep import download, redial
from tests.data_prep.raw_files import simple, write_raw


@pytest.fixture
def official(tmp_path):
    (tmp_path / "official.zip").write_bytes(b"content")
    url = (tmp_path / "official.zip").as_uri()
    return download.Download("file.zip", url, sha256(b"content"))


def test_a_file_is_fetched_once(official, tmp_path):
    path = download.fetch_file(official, tmp_path / "cache")
    assert path.read_bytes() == b"content"
    (tmp_path / "official.zip").unlink()
    assert download.fetch_file(official, tmp_path / "cache") == path
    assert [p.name for p in (tmp_path / "cache").iterdir()] == ["file.zip"]


def test_a_mismatch_shows_both_hashes_and_how_to_proceed(official, tmp_path):
    (tmp_path / "official.zip").write_bytes(b"other")
    found = sha256(b"other")
    with pytest.raises(download.DownloadError) as caught:
        download.fetch_file(official, tmp_path / "cache")
    message = str(caught.value)
    assert official.sha256 in message and f"--accept_sha256={found}" in message
    assert official.url in message
    assert [p.name for p in (tmp_path / "cache").iterdir()] == ["file.zip.unverified"]
    assert (
        download.fetch_file(official, tmp_path / "cache", accept_sha256=found).read_bytes()
        == b"other"
    )


def test_a_cached_file_that_changed_is_refused(official, tmp_path):
    download.fetch_file(official, tmp_path / "cache").write_bytes(b"changed")
    with pytest.raises(download.DownloadError, match="not the expected file"):
        download.fetch_file(official, tmp_path / "cache")


def test_without_a_published_checksum_the_first_download_counts(official, tmp_path):
    unpublished = dataclasses.replace(official, sha256=None)
    path = download.fetch_file(unpublished, tmp_path / "cache")
    assert download.fetch_file(unpublished, tmp_path / "cache") == path
    path.write_bytes(b"changed")
    with pytest.raises(download.DownloadError, match="not the expected file"):
        download.fetch_file(unpublished, tmp_path / "cache")


def test_no_connection_is_explained(tmp_path):
    missing = download.Download("file.zip", (tmp_path / "none").as_uri(), None)
    with pytest.raises(download.DownloadError, match=r"Could not download file:.*CONKD_RAW_DIR"):
        download.fetch_file(missing, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_corpus_is_built_from_downloads(tmp_path, monkeypatch, capsys):
    raw = write_raw(tmp_path / "raw", [simple(str(i)) for i in range(9)])
    files = []
    for path in sorted(raw.rglob("*")):
        if path.is_file():
            content = path.read_bytes()
            files.append(download.Download(path.name, path.as_uri(), sha256(content)))
    monkeypatch.setattr(download, "EVERYTHING", tuple(files))
    cache = tmp_path / "cache"
    assert redial.main(["--download", f"--cache_dir={cache}", f"--out_dir={tmp_path / 'c'}"]) == 0
    assert (tmp_path / "c" / "corpus.json").exists()

    # A publisher replaces a file: refused, then accepted by its hash.
    (cache / "train_data.jsonl").unlink()
    path = raw / "redial" / "train_data.jsonl"
    path.write_bytes(path.read_bytes() + b"\n")
    assert redial.main(["--download", f"--cache_dir={cache}", "--report"]) == 2
    found = sha256(path.read_bytes())
    assert found in capsys.readouterr().err
    accepted = ["--download", f"--cache_dir={cache}", "--report", f"--accept_sha256={found}"]
    assert redial.main(accepted) == 0
