"""Arrays survive a file, exactly or rounded as documented."""

from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conkd_jax.io import array_files
from conkd_jax.io.array_files import ArrayFileError, load_arrays, save_arrays

TREE = {
    "a": {"kernel": np.linspace(-3, 3, 24, dtype=np.float32).reshape(4, 6), "bias": np.ones(3)},
    "rows": np.array([-1, 4, 2], np.int32),
    "empty": np.zeros((0, 4), np.float32),
}
TREE["a"]["bias"] = np.array([0.1, 0.2, 0.3], np.float32)


@pytest.mark.parametrize(
    ("dtype", "error"),
    [("float32", 0), ("float16", 2e-3), ("bfloat16", 0.02), ("int8", 0.013), ("int4", 0.013)],
)
def test_arrays_come_back(tmp_path, dtype, error):
    save_arrays(tmp_path / "x.safetensors", TREE, dtype)
    found = load_arrays(tmp_path / "x.safetensors")
    assert found["a"]["kernel"].dtype == np.float32
    assert np.abs(found["a"]["kernel"] - TREE["a"]["kernel"]).max() <= error
    np.testing.assert_array_equal(found["rows"], TREE["rows"])
    assert found["rows"].dtype == np.int32 and found["empty"].shape == (0, 4)
    if dtype in ("float32", "int8", "int4"):
        np.testing.assert_array_equal(found["a"]["bias"], TREE["a"]["bias"])


@given(
    st.lists(st.floats(-(2**40), 2**40, width=32, allow_subnormal=False), min_size=1, max_size=8)
)
def test_a_rounded_row_is_off_by_half_a_step(tmp_path_factory, row):
    path = tmp_path_factory.mktemp("rounded") / "x.safetensors"
    values = np.array([row, [0.0] * len(row)], np.float32)
    save_arrays(path, {"x": values}, "int8")
    step = np.abs(values).max(axis=1, keepdims=True) / 127
    assert (np.abs(load_arrays(path)["x"] - values) <= 0.5001 * step + 1e-30).all()


@given(
    st.lists(st.floats(-(2**40), 2**40, width=32, allow_subnormal=False), min_size=1, max_size=80),
    st.integers(1, 3),
)
def test_numbers_of_4_bits_are_the_best_of_a_few_scales(tmp_path_factory, row, num_rows):
    """No group is further off than with its largest number as -8, the scale without a search."""
    path = tmp_path_factory.mktemp("rounded") / "x.safetensors"
    values = np.array([row] * num_rows, np.float32)
    with mock.patch.object(array_files, "SMALL", 0):
        save_arrays(path, {"x": values}, "int4")
    found = load_arrays(path)["x"]
    assert found.shape == values.shape
    for start in range(0, values.size, 32):
        group, got = (each.ravel()[start : start + 32] for each in (values, found))
        largest = group[np.abs(group).argmax()]
        step = np.abs(largest) / 8
        is_opposite = (np.sign(group) != np.sign(largest)) & (np.abs(group) > 7 * step)
        # The scale has 8 bits, so that the largest number is off by a 256th of itself.
        bound = np.where(is_opposite, 1, 0.5) * step + np.abs(group) / 128
        error = np.linalg.norm((got - group).astype(np.float64))
        assert error <= np.linalg.norm(bound.astype(np.float64)) + 1e-30


def test_numbers_of_4_bits_take_a_seventh(tmp_path):
    """4.5 bits a number instead of 32, and a ninth of the numbers' deviation as error."""
    values = np.random.default_rng(0).normal(size=(1024, 128)).astype(np.float32)
    sizes = {}
    for dtype in ("float32", "int4"):
        save_arrays(path := tmp_path / dtype, {"x": values}, dtype)
        sizes[dtype] = path.stat().st_size
    assert sizes["int4"] < sizes["float32"] / 7
    error = load_arrays(tmp_path / "int4")["x"] - values
    assert np.sqrt(np.mean(error**2)) < 0.09


def test_small_arrays_keep_8_bits(tmp_path):
    values = {"x": np.random.default_rng(0).normal(size=(64, 128)).astype(np.float32)}
    for dtype in ("int4", "int8"):
        save_arrays(tmp_path / dtype, values, dtype)
    assert (tmp_path / "int4").read_bytes() == (tmp_path / "int8").read_bytes()


def test_what_is_no_file_of_arrays(tmp_path):
    path = tmp_path / "x.safetensors"
    with pytest.raises(ArrayFileError, match="can't be read"):
        load_arrays(path)
    path.write_bytes(b"\x08\0\0\0\0\0\0\0{}      ")
    assert load_arrays(path) == {}
    path.write_bytes(b"nonsense" * 9)
    with pytest.raises(ArrayFileError, match="export it again"):
        load_arrays(path)
    with pytest.raises(ValueError, match="without dots"):
        save_arrays(path, {"a.b": np.zeros(2)})
