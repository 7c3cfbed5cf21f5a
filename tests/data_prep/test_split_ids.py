"""The splits never move."""

import pytest

from conkd_jax.io.files import sha256
from data_prep import split_ids


def test_the_committed_list_is_the_published_one():
    ids = split_ids.valid_ids()
    assert len(ids) == len(set(ids)) == 901
    assert ids[:3] == ("6712", "19261", "16611")


def test_an_altered_list_is_refused_with_both_hashes(tmp_path):
    path = tmp_path / "ids.txt"
    path.write_text("1\n2\n")
    found = sha256(b"1\n2\n")
    with pytest.raises(split_ids.SplitError) as caught:
        split_ids.valid_ids(path)
    assert found in str(caught.value) and split_ids.VALID_IDS_SHA256 in str(caught.value)
    assert split_ids.valid_ids(path, found) == ("1", "2")


def test_dev_is_a_fixed_twentieth():
    assert [i for i in range(200) if split_ids.is_dev(str(i))] == DEV_BELOW_200
    share = sum(split_ids.is_dev(f"x{i}") for i in range(20_000)) / 20_000
    assert 0.045 < share < 0.055


DEV_BELOW_200 = [14, 20, 47, 70, 81, 84, 88, 92, 99, 118, 133, 140, 170]


def test_held_out_ids_leave_train_and_dev():
    ids = [str(i) for i in range(100)]
    train, dev, taken = split_ids.split_train(ids, {"3", "7", "absent"})
    assert taken == ["3", "7"]
    assert sorted(train + dev + taken, key=int) == ids
    assert dev == [i for i in ids if split_ids.is_dev(i) and i not in taken]
