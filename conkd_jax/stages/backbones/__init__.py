"""The stages' view of a backbone: its words, its rows and its untrained model.

A backbone is a module of this folder with the functions of `BackboneStages`. They turn a config
into three small settings objects, for the words (`WordSettings`), the rows (`RowSettings`) and the
untrained model (`ModelSettings`). Each object holds the fields that enter fingerprints and the
methods that use them, so the stages don't depend on the backbone. Training, distillation, the
teacher store, decoding and scoring are the same for all backbones; they rely only on the contract
of `conkd_jax.models.backbone`.

What a backbone sets in each preset, and its rules, are in the module of the same name in
`conkd_jax/config/backbones/`, which imports no model. A backbone of the user's own
("package.module:name") is an object, or a module, that has the functions of both.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any, Protocol, cast, runtime_checkable

from etils import epath
from tokenizers import Tokenizer

from conkd_jax import own_code
from conkd_jax.config import BACKBONES, Config, ConfigError
from conkd_jax.config.backbones import BackboneOptions, expect, find_own, options_of
from conkd_jax.data.corpus import Corpus, Dialogue
from conkd_jax.data.rows.contract import Rows
from conkd_jax.data.vocabulary import Vocabulary
from conkd_jax.models.backbone import Backbone
from conkd_jax.typing import Params


@runtime_checkable
class WordSettings(Protocol):
    """Settings for the words of a vocabulary; a frozen dataclass."""

    def tokenizer(self, texts: Sequence[str]) -> Tokenizer:
        """Returns the tokenizer, trained on texts or published."""
        ...

    def write_word_vectors(
        self, texts: Sequence[str], vocabulary: Vocabulary, directory: epath.Path
    ) -> None:
        """Trains and writes initial word vectors, if any; called by one process."""
        ...


@runtime_checkable
class RowSettings(Protocol):
    """Settings for the rows of a language model; a frozen dataclass."""

    max_response_tokens: int
    max_picks: int | None  # the most items that precede a text (`rows.picks`); None for no picks

    def rows_of(
        self, corpus: Corpus, vocabulary: Vocabulary, dialogues: Sequence[Dialogue]
    ) -> Rows:
        """Computes the rows of dialogues, of a split or written by hand; takes seconds."""
        ...

    def longest_prompt(self, max_tokens: int) -> int:
        """The length of the longest prompt before picks and a text of `max_tokens` tokens."""
        ...


@runtime_checkable
class ModelSettings(Protocol):
    """Settings for a model before any training on dialogues; a frozen dataclass."""

    def initial(
        self, inputs: Mapping[str, epath.Path], vocabulary: Vocabulary, seed: int, rng_impl: str
    ) -> tuple[Backbone, Params, Params]:
        """Builds the untrained model: (model, parameters, frozen arrays).

        Args:
          inputs: artifact folders by stage name: corpus, vocabulary and, if the backbone reads it,
            rec_teacher.
          vocabulary: the content of the vocabulary's artifact.
          seed: the seed of random parameters.
          rng_impl: the random number generator.

        Raises:
          ConfigError: the pretrained weights can't be read.
        """
        ...


@runtime_checkable
class BackboneStages(Protocol):
    """The functions of a module of this folder."""

    READS_RECOMMENDER: bool  # whether the model uses a trained recommender's node vectors

    def word_settings(self, config: Config) -> WordSettings:
        """The settings of a config's words."""
        ...

    def row_settings(self, config: Config) -> RowSettings:
        """The settings of a config's rows."""
        ...

    def model_settings(self, config: Config) -> ModelSettings:
        """The settings of a config's untrained model."""
        ...

    def model_of(self, spec: Mapping[str, Any], vocabulary: Vocabulary) -> Backbone:
        """Rebuilds a model from its saved `spec`."""
        ...

    def check_sources(self, config: Config, *, makes_words: bool, makes_model: bool) -> None:
        """Checks the files that a config names, before the first stage runs.

        Args:
          config: the whole config.
          makes_words: whether the stage `vocabulary` will run.
          makes_model: whether an untrained model will be built.

        Raises:
          ConfigError: files are missing or unusable; names the field.
        """
        ...


SETTINGS: Mapping[str, type] = {  # the functions that make settings
    "word_settings": WordSettings,
    "row_settings": RowSettings,
    "model_settings": ModelSettings,
}


def named(backbone: str) -> BackboneStages:
    """Returns the backbone with a name, which may be the user's own, "package.module:name".

    Raises:
      ConfigError: there is none, or it lacks a function.
    """
    if backbone in BACKBONES:
        return cast(BackboneStages, importlib.import_module(f"{__name__}.{backbone}"))
    found = find_own(backbone)
    expect(found, BackboneStages, backbone)
    members = {name: getattr(found, name) for name in own_code.members_of(BackboneStages)}
    for name, kind in SETTINGS.items():
        members[name] = functools.partial(_settings, members[name], kind, backbone)
    return cast(BackboneStages, SimpleNamespace(**members))


def variant_of(backbone: str, **own: Any) -> BackboneStages:
    """A backbone that differs from another one in a few functions only.

    Args:
      backbone: the name of the other backbone.
      **own: functions of `BackboneStages` or `BackboneOptions` to use instead of the other's.

    Returns:
      All functions of both, which is what a config may name as "package.module:name".

    Raises:
      ConfigError: there is no such backbone.
      TypeError: a backbone has no such function.

    Example::

        stages = variant_of("dialogpt", model_settings=model_settings)
    """
    members: dict[str, Any] = {}
    for part, protocol in (
        (named(backbone), BackboneStages),
        (options_of(backbone), BackboneOptions),
    ):
        members |= {name: getattr(part, name) for name in own_code.members_of(protocol)}
    if unknown := own.keys() - members.keys():
        raise TypeError(f"expected some of {', '.join(members)}; got {', '.join(sorted(unknown))}")
    return cast(BackboneStages, SimpleNamespace(**(members | own)))


def source_hashes(backbone: str) -> dict[str, str] | None:
    """The hashes of the source files of a user's own backbone; None for one of this package.

    Raises:
      ConfigError: there is no such backbone, or it has no source file.
    """
    if backbone in BACKBONES:
        return None
    find_own(backbone)
    try:
        return own_code.source_hashes(backbone)
    except LookupError as error:
        raise ConfigError(f"config.backbone: {backbone!r}: {error}") from error


def _settings(make: Callable, kind: type, backbone: str, config: Config) -> Any:
    """The settings that a function of a user's own backbone makes, checked.

    Raises:
      ConfigError: they are no frozen dataclass, or lack a method.
    """
    settings = make(config)
    of = f"what {make.__name__} returns in "
    dataclass_params = getattr(settings, "__dataclass_params__", None)
    if isinstance(settings, type) or dataclass_params is None or not dataclass_params.frozen:
        raise ConfigError(
            f"config.backbone: {of}{backbone!r} enters fingerprints, so it must be an instance of "
            f"a frozen dataclass; got {settings!r}"
        )
    expect(settings, kind, backbone, of)
    return settings
