"""Archives are read whole or refused in one way, and never unpack to more than they should."""

import gzip
import random
import zipfile

import pytest

from data_prep import archives
from data_prep.archives import ArchiveError

TEXT = b"".join(b"%d\tone line of a file\n" % number for number in range(400))


@pytest.fixture
def packed(tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("folder/a.txt", TEXT)
        archive.writestr("__MACOSX/._a.txt", "")
    return path


def test_what_was_packed_comes_back(packed, tmp_path):
    assert archives.members(packed) == ["folder/a.txt"]
    assert archives.read_member(packed, "folder/a.txt") == TEXT
    (tmp_path / "a.gz").write_bytes(gzip.compress(TEXT))
    assert b"".join(archives.gzip_lines(tmp_path / "a.gz")) == TEXT


@pytest.mark.parametrize("kind", ["zip", "gz"])
def test_a_flipped_bit_changes_nothing_or_is_refused(packed, tmp_path, kind: str):
    if kind == "gz":
        packed.write_bytes(gzip.compress(TEXT, mtime=0))
    whole, refused = packed.read_bytes(), 0
    rng = random.Random(0)
    for _ in range(1000):
        content = bytearray(whole)
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        packed.write_bytes(content)
        try:
            if kind == "gz":
                found = b"".join(archives.gzip_lines(packed))
            else:
                names = archives.members(packed)
                found = archives.read_member(packed, names[0])
            assert found == TEXT
        except ArchiveError as error:
            assert str(packed) in str(error)
            refused += 1
    assert refused > 500


def test_a_bomb_is_not_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "MAX_UNPACKED", 1 << 22)
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a", bytes(1 << 24))
    with pytest.raises(ArchiveError, match="bomb.zip!a: .* unpack to more than 4,194,304"):
        archives.read_member(path, "a")
    (tmp_path / "bomb.gz").write_bytes(gzip.compress(bytes(1 << 24)))
    with pytest.raises(ArchiveError, match="line 1: expected a line of at most"):
        list(archives.gzip_lines(tmp_path / "bomb.gz"))


def test_too_many_members_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "MAX_MEMBERS", 3)
    path = tmp_path / "many.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(4):
            archive.writestr(str(number), "")
    with pytest.raises(ArchiveError, match="at most 3 files, got 4"):
        archives.members(path)


def test_an_encrypted_or_missing_member_is_refused(packed):
    content = bytearray(packed.read_bytes())
    content[6] |= 1  # the flag of an encrypted member, in its own header
    content[content.index(b"PK\x01\x02") + 8] |= 1  # and in the directory
    packed.write_bytes(content)
    with pytest.raises(ArchiveError, match="encrypted"):
        archives.read_member(packed, "folder/a.txt")
    with pytest.raises(ArchiveError, match="KeyError"):
        archives.read_member(packed, "b.txt")
