"""Imports libraries without torch, which some of them import wherever it is installed.

Nothing here computes with torch, whose import takes seconds and hundreds of megabytes; only weights
in PyTorch's own format are read with it (`models.gpt2_weights`).
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def without_torch() -> Iterator[None]:
    """Surrounds the import of a library that has to take torch for missing.

    It does nothing if torch was imported before, or if the variable USE_TORCH is "1", as
    transformers reads it. A program that also uses PyTorch models of transformers does either of
    the two: transformers looks for torch once, when it is imported.
    """
    if "torch" in sys.modules or os.environ.get("USE_TORCH") == "1":
        yield
        return
    sys.modules["torch"] = None  # type: ignore[assignment]  # it "can't be imported"
    try:
        yield
    finally:
        del sys.modules["torch"]
