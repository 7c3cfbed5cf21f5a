"""The options of the backbones: what each sets in every preset, and the rules it must meet.

A module of this folder is a backbone and has the functions of `BackboneOptions`. Its name is that
of the module in `conkd_jax/stages/backbones/` with the words, rows and model, which are not
imported here: options are read in programs that need no model, for `--help` for example.

A backbone can also be the user's own, named as "package.module:name". That is one object with the
functions of `stages.backbones.BackboneStages` and, optionally, those of `BackboneOptions`.
"""

from __future__ import annotations

import importlib
import pkgutil
from types import SimpleNamespace
from typing import Any, Protocol, cast, runtime_checkable

from ml_collections import ConfigDict

from conkd_jax import own_code
from conkd_jax.config.fields import Broken
from conkd_jax.config.options import Config, ConfigError

BACKBONES = tuple(sorted(module.name for module in pkgutil.iter_modules(__path__)))
KNOWN = f"{', '.join(BACKBONES)}, or package.module:name"


@runtime_checkable
class BackboneOptions(Protocol):
    """The functions of a module of this folder."""

    def presets(self, config: ConfigDict) -> None:
        """Sets the backbone's options in a config that already has those of `config.preset`."""
        ...

    def check(self, config: Config) -> Broken:
        """Yields the fields that break the backbone's rules, each with what was expected."""
        ...


def is_backbone(name: str) -> bool:
    """Whether a text can be the name of a backbone; one of the user's own need not exist."""
    return name in BACKBONES or ":" in name


def options_of(backbone: str) -> BackboneOptions:
    """The options of a backbone.

    Raises:
      ConfigError: there is no such backbone, or its functions can't be called.
    """
    if backbone in BACKBONES:
        return cast(BackboneOptions, importlib.import_module(f"{__name__}.{backbone}"))
    found = find_own(backbone)
    options = SimpleNamespace(
        presets=getattr(found, "presets", _sets_nothing), check=getattr(found, "check", _no_rules)
    )
    expect(options, BackboneOptions, backbone)
    return cast(BackboneOptions, options)


def find_own(backbone: str) -> Any:
    """The object that the name of a user's own backbone stands for.

    Raises:
      ConfigError: there is none.
    """
    if ":" not in backbone:
        raise ConfigError(f"config.backbone: expected {KNOWN}; got {backbone!r}")
    try:
        return own_code.find(backbone)
    except LookupError as error:
        module = backbone.partition(":")[0]
        raise ConfigError(
            f"config.backbone: no backbone was found at {backbone!r}: {error}. Expected {KNOWN}. "
            f"The folder that {module.partition('.')[0]} is in must be on Python's path: "
            "PYTHONPATH=FOLDER"
        ) from error


def expect(value: object, protocol: type, backbone: str, of: str = "") -> None:
    """Checks a part of a user's own backbone.

    Args:
      value: the part.
      protocol: what it has to fulfil.
      backbone: the name of the backbone.
      of: how the error names the part.

    Raises:
      ConfigError: lists what is missing or doesn't fit.
    """
    if problems := [*own_code.shortcomings(value, protocol)]:
        raise ConfigError(
            f"config.backbone: {of}{backbone!r} does not fit {protocol.__module__}."
            f"{protocol.__name__}: {'; '.join(problems)}"
        )


def _sets_nothing(config: ConfigDict) -> None:
    """The presets of a backbone without any."""


def _no_rules(config: Config) -> Broken:
    """The rules of a backbone without any."""
    return iter(())
