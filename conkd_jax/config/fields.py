"""What all checks of a config are made of: fields by their names, and what was expected of them."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from conkd_jax.config.options import Config, field_names

Choices = Mapping[str, tuple[str, ...]]
Ranges = Mapping[str, tuple[int | float, int | float | None]]  # lowest, highest (None: no limit)
LARGEST = 2**31 - 1  # of the integers that index arrays
Broken = Iterator[tuple[str, str]]  # a field, and what was expected


def choices(config: Config, allowed: Choices) -> Broken:
    """The fields whose value is not among the allowed texts."""
    for field, texts in allowed.items():
        if value_of(config, field) not in texts:
            yield field, "one of " + ", ".join(texts)


def ranges(config: Config, limits: Ranges) -> Broken:
    """The fields that are outside their limits."""
    for field, (low, high) in limits.items():
        got = value_of(config, field)
        if high is None and not low <= got < math.inf:  # `not` also refuses nan
            yield field, f"{low} or more"
        elif high is not None and not low <= got <= high:
            yield field, f"a number from {low} to {high}"


def sizes(config: Config, seeds: Collection[str]) -> Broken:
    """The integers that no array index can hold, apart from seeds, which have ranges of their own.

    A few billion of anything is a slip of the keyboard, and would be found out of memory or time.
    """
    for field in sorted(field_names(config)):
        value = value_of(config, field)
        is_integer = isinstance(value, int) and not isinstance(value, bool)
        if is_integer and abs(value) > LARGEST and field not in seeds:
            yield field, f"a number of at most {LARGEST:,}"


def transformer_shape(config: Config, part: str) -> Broken:
    """What is wrong with the layers, heads and width of a part."""
    shape = getattr(config, part)
    embed_dim, num_heads = shape.embed_dim, shape.num_heads
    yield from ranges(config, {f"{part}.num_layers": (1, None), f"{part}.num_heads": (1, None)})
    if embed_dim < 1 or embed_dim % max(num_heads, 1):
        yield f"{part}.embed_dim", f"a multiple of {part}.num_heads ({num_heads})"


def of_part(config: Config, part: str, of_each: Mapping[str, Any]) -> dict[str, Any]:
    """The entries of a table for the fields that a part has, by their full dotted names."""
    has = field_names(getattr(config, part))
    return {f"{part}.{field}": entry for field, entry in of_each.items() if field in has}


def value_of(config: Any, field: str) -> Any:
    """The value of a field, by its dotted name."""
    for key in field.split("."):
        config = getattr(config, key)
    return config
