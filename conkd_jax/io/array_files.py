"""Nested dicts of arrays as one safetensors file, exact or compact.

A compact file rounds floating-point arrays: to 16 bits, or to 8 bits with one scale for each row.
Whatever the file holds, `load_arrays` returns float32 and integers. This module does not depend on
what the arrays mean.
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
}
SCALE = "#scale"  # ends the name of the scales of an array of 8 bits
_READ = {
    "F32": np.dtype(np.float32),
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(ml_dtypes.bfloat16),
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
    float32; arrays of fewer than two axes, such as biases, stay float32.

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
    if array.dtype != np.float32 or dtype == "float32" or (dtype == "int8" and array.ndim < 2):
        return {name: np.ascontiguousarray(array)}
    if dtype != "int8":
        return {name: np.ascontiguousarray(array.astype(DTYPES[dtype]))}
    scale = np.abs(array).max(axis=-1, keepdims=True) / 127
    scale = np.where(scale == 0, 1, scale).astype(np.float32)
    return {name: np.rint(array / scale).astype(np.int8), f"{name}{SCALE}": scale}


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
        if name.endswith(SCALE):
            continue
        if f"{name}{SCALE}" in flat:
            array = array.astype(np.float32) * flat[f"{name}{SCALE}"]
        elif array.dtype in (DTYPES["float16"], DTYPES["bfloat16"]):
            array = array.astype(np.float32)
        found[tuple(name.split("."))] = array
    return unflatten_dict(found)
