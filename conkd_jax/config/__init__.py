"""The options of the program, their presets, and the rules that they have to meet.

`options` and `parts` define every field with its default and its meaning, `presets` the settings
that a config file starts from, and `rules` the checks that run before anything compiles. What is
set and checked for one backbone alone is in its module in `backbones`. `help` formats the fields
for `--help`.
"""

from conkd_jax.config.backbones import BACKBONES
from conkd_jax.config.options import (
    ARGUMENT_FIELDS,
    PRESETS,
    SYSTEMS,
    Config,
    ConfigError,
    base,
    field_names,
    frozen,
)
from conkd_jax.config.parts import (
    DecodeConfig,
    DecodingRules,
    DistillConfig,
    ItemInitConfig,
    KBRDConfig,
    KGSFConfig,
    LanguageModelTraining,
    LlamaConfig,
    LoRAConfig,
    OptimizerConfig,
    RecommenderConfig,
    RevCoreConfig,
    StudentConfig,
    StudentTraining,
    TurnClassifierConfig,
)
from conkd_jax.config.presets import from_argument, load_config_file

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
    "ItemInitConfig",
    "KBRDConfig",
    "KGSFConfig",
    "LanguageModelTraining",
    "LlamaConfig",
    "LoRAConfig",
    "OptimizerConfig",
    "RecommenderConfig",
    "RevCoreConfig",
    "StudentConfig",
    "StudentTraining",
    "TurnClassifierConfig",
    "base",
    "field_names",
    "from_argument",
    "frozen",
    "load_config_file",
]
