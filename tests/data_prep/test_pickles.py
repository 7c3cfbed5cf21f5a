"""Pickles of plain data are read; anything else is refused before it runs."""

import os
import pickle
from collections import OrderedDict, defaultdict

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data_prep.pickles import UnsafePickleError, load_plain


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
