"""Nested dicts of arrays as one safetensors file, exact or compact.

A compact file rounds floating-point arrays: to 16 bits, to 8 bits with one scale for each row, or
to 4 bits with one scale for every 32 numbers. Whatever the file holds, `load_arrays` returns
float32 and integers. This module does not depend on what the arrays mean.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import ml_dtypes
import numpy as np
import safetensors
import safetensors.numpy
from etils import epath
from flax.traverse_util import flatten_dict, unflatten_dict

from conkd_jax.errors import UserError
from conkd_jax.io.files import write_whole

DTYPES = {
    "float32": np.dtype(np.float32),
    "float16": np.dtype(np.float16),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
    "int8": np.dtype(np.int8),
    "int4": np.dtype(ml_dtypes.int4),
}
SCALED = ("int8", "int4")  # which have scales
GROUP = 32  # numbers of 4 bits that share a scale
SHRINKING = np.linspace(0.7, 1, 7, dtype=np.float32)  # of that scale, against a single large number
SMALL = 100_000  # numbers of an array that is not worth 4 bits
SCALE = "#scale"  # ends the name of the scales of an array
SHAPE = "#shape"  # ends the name of the shape of an array of 4 bits, whose bytes hold two numbers
_READ = {
    "F32": np.dtype(np.float32),
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "U8": np.dtype(np.uint8),
    "I8": np.dtype(np.int8),
    "I32": np.dtype(np.int32),
    "I64": np.dtype(np.int64),
    "BOOL": np.dtype(np.bool_),
}
Arrays = Mapping[str, Any]  # nested dicts of arrays


class ArrayFileError(UserError, ValueError):
    """A file of arrays that can't be read."""


def save_arrays(path: epath.PathLike, arrays: Arrays, dtype: str = "float32") -> None:
    """Writes nested dicts of arrays, completely or not at all.

    With "int8", row r of an array is stored as q_r = round(x_r / s_r) with s_r = max |x_r| / 127 as
    float32. With "int4", every 32 numbers x in a row of memory are stored as q = round(x / s), from
    -8 to 7, with s = -f · m / 8 as bfloat16: m is the x of the largest absolute value, and f the
    one of `SHRINKING` with the least squared error. Arrays of fewer than `SMALL` numbers have 8
    bits then, as they take few bytes. Arrays of fewer than two axes, such as biases, stay float32
    with both.

    Args:
      path: the file; its folder exists.
      arrays: the arrays; names have no dots.
      dtype: what floating-point arrays are rounded to, one of `DTYPES`. Integers are never rounded.
    """
    flat: dict[str, np.ndarray] = {}
    for names, leaf in flatten_dict(dict(arrays)).items():
        if any("." in name for name in names):
            raise ValueError(f"expected names without dots, got {names}")
        flat |= _stored(".".join(names), np.asarray(leaf), dtype)
    write_whole(path, safetensors.numpy.save(flat, metadata={"format": "pt"}))


def _stored(name: str, array: np.ndarray, dtype: str) -> dict[str, np.ndarray]:
    if array.dtype != np.float32 or dtype == "float32" or (dtype in SCALED and array.ndim < 2):
        return {name: np.ascontiguousarray(array)}
    if dtype not in SCALED:
        return {name: np.ascontiguousarray(array.astype(DTYPES[dtype]))}
    if dtype == "int4" and array.size >= SMALL:
        packed, scale = _packed(array)
        shape = np.asarray(array.shape, np.int32)
        return {name: packed, f"{name}{SCALE}": scale, f"{name}{SHAPE}": shape}
    scale = np.abs(array).max(axis=-1, keepdims=True) / 127
    scale = np.where(scale == 0, 1, scale).astype(np.float32)
    return {name: np.rint(array / scale).astype(np.int8), f"{name}{SCALE}": scale}


def _packed(array: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of 4 bits, two in a byte, and the scale of each group."""
    groups = np.pad(array.ravel(), (0, -array.size % GROUP)).reshape(-1, GROUP)
    largest = np.take_along_axis(groups, np.abs(groups).argmax(axis=1)[:, None], axis=1)
    scales = [(-factor * largest / 8).astype(ml_dtypes.bfloat16) for factor in SHRINKING]
    errors = [
        np.square(groups - (_quotients(groups, scale) - 8) * scale.astype(np.float32)).sum(axis=1)
        for scale in scales
    ]
    best = np.argmin(errors, axis=0)
    scale = np.stack(scales)[best, np.arange(len(groups))]
    numbers = _quotients(groups, scale).astype(np.uint8)
    return (numbers[:, ::2] | numbers[:, 1::2] << 4).ravel(), scale


def _quotients(groups: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """The numbers of each group at a scale, plus 8: from 0 to 15."""
    divisor = scale.astype(np.float32)
    return np.clip(np.rint(groups / np.where(divisor == 0, 1, divisor)), -8, 7) + 8


def _unpacked(packed: np.ndarray, scale: np.ndarray, shape: np.ndarray) -> np.ndarray:
    """What `_packed` packed, as float32."""
    numbers = np.stack([packed & 15, packed >> 4], axis=-1).reshape(-1, GROUP).astype(np.float32)
    values = (numbers - 8) * scale.astype(np.float32)
    return values.ravel()[: np.prod(shape)].reshape(shape)


def load_arrays(path: epath.PathLike) -> dict[str, Any]:
    """Reads what `save_arrays` wrote: nested dicts of float32 and integer arrays.

    Raises:
      ArrayFileError: the file is missing or damaged.
    """
    path = epath.Path(path)
    try:
        views = safetensors.deserialize(path.read_bytes())
        flat = {
            name: np.frombuffer(view["data"], _READ[view["dtype"]]).reshape(view["shape"])
            for name, view in views
        }
    except (OSError, KeyError, ValueError, TypeError, safetensors.SafetensorError) as error:
        raise ArrayFileError(
            f"{path} can't be read as a file of arrays ({type(error).__name__}: {error}). Fetch or "
            "export it again"
        ) from error
    found = {}
    for name, array in flat.items():
        if name.endswith((SCALE, SHAPE)):
            continue
        if f"{name}{SHAPE}" in flat:
            array = _unpacked(array, flat[f"{name}{SCALE}"], flat[f"{name}{SHAPE}"])
        elif f"{name}{SCALE}" in flat:
            array = array.astype(np.float32) * flat[f"{name}{SCALE}"]
        elif array.dtype in (DTYPES["float16"], DTYPES["bfloat16"]):
            array = array.astype(np.float32)
        found[tuple(name.split("."))] = array
    return unflatten_dict(found)
