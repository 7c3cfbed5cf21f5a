"""LoRA as an option of dialogue teacher and student: what of a model is trained.

The arithmetic is in `models.lora`; this module says which models it is for and what a fingerprint
contains. What a stage saves is merged: ordinary parameters, which teacher outputs, students,
evaluation and chat read without knowing how they were trained. Checkpoints of the training hold the
trained part and its optimizer state alone. The fixed part is a function of the settings, like any
start, and is built again when a training is resumed.
"""

from __future__ import annotations

import dataclasses

from conkd_jax.config import ConfigError, LoRAConfig
from conkd_jax.models.decoder_only import DecoderOnly
from conkd_jax.models.lora import FullTraining, LoRA
from conkd_jax.stages.language_model import LanguageModel


@dataclasses.dataclass(frozen=True)
class LoRASettings:
    """Settings of a training of low-rank changes; there are none for full training."""

    lora_rank: int
    lora_alpha: float

    @classmethod
    def of(cls, config_part: LoRAConfig) -> LoRASettings | None:
        """The settings of a config; None if all parameters are trained."""
        if config_part.lora_rank == 0:
            return None
        return cls(config_part.lora_rank, config_part.lora_alpha)


def training_of(start: LanguageModel, settings: LoRASettings | None) -> FullTraining:
    """What of a model is trained: everything, or low-rank changes and the new rows.

    Args:
      start: the model before the first step.
      settings: those of LoRA; None for everything.

    Raises:
      ConfigError: the model is no decoder-only one.
    """
    if settings is None:
        return FullTraining()
    if not isinstance(start.model, DecoderOnly):
        raise ConfigError(
            "lora_rank: expected 0, as LoRA is for models that are a "
            f"{DecoderOnly.__module__}.DecoderOnly; got {settings.lora_rank} with a "
            f"{type(start.model).__name__}"
        )
    return LoRA.of(
        start.model,
        start.vocabulary.num_words,
        rank=settings.lora_rank,
        alpha=settings.lora_alpha,
    )
