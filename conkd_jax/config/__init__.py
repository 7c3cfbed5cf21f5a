"""The options of the program: what they are, their presets, and which values work together.

`options` defines every field with its default and its meaning, `presets` the sizes that a config
file starts from, `rules` what is refused before anything compiles, and `help` lists the fields for
`--help`.
"""

from conkd_jax.config.options import (
    ARGUMENT_FIELDS,
    BACKBONES,
    PRESETS,
    SYSTEMS,
    Config,
    ConfigError,
    DecodeConfig,
    DecodingRules,
    DistillConfig,
    KGSFConfig,
    LanguageModelTraining,
    OptimizerConfig,
    RecommenderConfig,
    StudentConfig,
    TurnClassifierConfig,
    base,
    field_names,
    frozen,
)
from conkd_jax.config.presets import from_argument

__all__ = [
    "ARGUMENT_FIELDS",
    "BACKBONES",
    "PRESETS",
    "SYSTEMS",
    "Config",
    "ConfigError",
    "DecodeConfig",
    "DecodingRules",
    "DistillConfig",
    "KGSFConfig",
    "LanguageModelTraining",
    "OptimizerConfig",
    "RecommenderConfig",
    "StudentConfig",
    "TurnClassifierConfig",
    "base",
    "field_names",
    "from_argument",
    "frozen",
]
