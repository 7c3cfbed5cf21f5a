"""Pickles of plain data are read; anything else is refused before it runs."""

import os
import pickle
import tracemalloc
from collections import OrderedDict, defaultdict

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data_prep.pickles import MAX_BYTES, UnsafePickleError, load_plain


class Runs:
    """Unpickling this would leave a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (str(self.path),))


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_data_comes_back(tmp_path, protocol):
    value = defaultdict(list, {1: [(2, 3)], "a": [None, 1.5, {4, 5}, frozenset((6,)), True]})
    (tmp_path / "x.pkl").write_bytes(pickle.dumps(value, protocol))
    loaded = load_plain(tmp_path / "x.pkl")
    assert loaded == value and loaded.default_factory is list


def test_code_is_not_run(tmp_path):
    made = tmp_path / "made"
    (tmp_path / "x.pkl").write_bytes(pickle.dumps({"a": Runs(made)}))
    with pytest.raises(UnsafePickleError, match=r"x\.pkl.*posix\.mkdir.*No code of it was run"):
        load_plain(tmp_path / "x.pkl")
    assert not made.exists()


@pytest.mark.parametrize("value", [OrderedDict(a=1), len, b"", Runs])
def test_other_objects_are_refused(tmp_path, value):
    protocol = 2 if value == b"" else 4  # protocol 2 writes bytes through _codecs.encode
    (tmp_path / "x.pkl").write_bytes(pickle.dumps(value, protocol))
    with pytest.raises(UnsafePickleError, match="; found "):
        load_plain(tmp_path / "x.pkl")


def test_a_truncated_pickle_is_named(tmp_path):
    content = pickle.dumps({i: [i] for i in range(100)})
    for keep in (0, 1, 10, len(content) - 1):
        (tmp_path / "x.pkl").write_bytes(content[:keep])
        with pytest.raises(UnsafePickleError, match="x.pkl is truncated or not a pickle"):
            load_plain(tmp_path / "x.pkl")


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.binary(max_size=60))
def test_any_bytes_give_data_or_one_error(tmp_path, content):
    (tmp_path / "x.pkl").write_bytes(content)
    try:
        load_plain(tmp_path / "x.pkl")
    except UnsafePickleError:
        pass


# --- what a few bytes can ask for -----------------------------------------------------------------


def refused(tmp_path, content: bytes, match: str) -> None:
    (tmp_path / "x.pkl").write_bytes(content)
    tracemalloc.start()
    try:
        with pytest.raises(UnsafePickleError, match=match):
            load_plain(tmp_path / "x.pkl")
        assert tracemalloc.get_traced_memory()[1] < 1 << 28
    finally:
        tracemalloc.stop()


def test_an_index_of_the_memo_costs_no_memory(tmp_path):
    # pickle.loads makes room for all indices below this one: two gigabytes.
    (tmp_path / "x.pkl").write_bytes(b"\x80\x02K\x01r\xff\xff\xff\x0f.")
    assert load_plain(tmp_path / "x.pkl") == 1


def test_a_file_is_bounded(tmp_path):
    with (tmp_path / "x.pkl").open("wb") as file:
        file.truncate(MAX_BYTES + 1)  # of which nothing is on the disk
    with pytest.raises(UnsafePickleError, match="expected at most 1,073,741,824 bytes, got 1,073"):
        load_plain(tmp_path / "x.pkl")


def test_depth_is_bounded(tmp_path):
    # A hundred thousand tuples, one inside the other, overflow the stack of C when they are hashed.
    refused(tmp_path, b"\x80\x02)" + b"\x85" * 100_000 + b".", "nested more than 100 levels")
    refused(tmp_path, b"\x80\x02}(" + b")" + b"\x85" * 100_000 + b"K\x01u.", "nested more than")


def doubled(times: int) -> bytes:
    """((x, x), (x, x)) and so on: a few bytes each time, twice as many values."""
    steps = b"".join(b"q%ch%c\x86" % (index, index) for index in range(times))
    return b"\x80\x02K\x01" + steps


def test_shared_values_count_each_time(tmp_path):
    (tmp_path / "x.pkl").write_bytes(doubled(4) + b".")
    assert load_plain(tmp_path / "x.pkl") == ((((1, 1),) * 2,) * 2,) * 2
    refused(tmp_path, doubled(60) + b".", "more than 20,000,000 values")


def test_keys_that_take_forever_to_hash_are_refused(tmp_path):
    key = doubled(20)  # a million values: hashed for each of a hundred entries
    entries = b"".join(b"h\x13h\x13\x86K%cs" % number for number in range(100))
    refused(tmp_path, b"\x80\x02}" + key[2:] + b"0" + entries + b".", "keys of more than")


def test_a_value_can_not_contain_itself(tmp_path):
    own: list = []
    own.append(own)
    refused(tmp_path, pickle.dumps(own), "changed after it was stored")


@pytest.mark.parametrize("number", [2**63, -(2**63) - 1, 10**4000])
def test_numbers_have_64_bits(tmp_path, number: int):
    refused(tmp_path, pickle.dumps({number: 1}), "more than 64 bits")
    (tmp_path / "x.pkl").write_bytes(pickle.dumps([2**63 - 1, -(2**63)]))
    assert load_plain(tmp_path / "x.pkl") == [2**63 - 1, -(2**63)]


@pytest.mark.parametrize(
    "content",
    [
        b"cbuiltins\nint\n(I1\ntR.",  # int(1): no container
        b"cbuiltins\nlist\n(V" + b"a" * 100 + b"\ntR.",  # list("aaa…"): more values than bytes
        b"ccollections\ndefaultdict\n(cbuiltins\nint\n(tRtR.",  # defaultdict(0)
        b"cbuiltins\ntuple\n(]I1\natRI2\na.",  # appends to a tuple
        b"]2a.",  # DUP
    ],
)
def test_other_programs_are_refused(tmp_path, content: bytes):
    refused(tmp_path, content, r"x\.pkl")
