"""A whole pipeline small enough for tests: MovieWorld, one layer, seconds a stage.

Also a config file: `python -m conkd_jax.train --config=tests/small_world.py`.
"""

import dataclasses
from pathlib import Path

from configs import dialogpt_hard
from conkd_jax.config import frozen

NAME = "small_world"


def get_config(argument: str = "demo"):
    """The hard-gate row on 40 movies and 60 dialogues."""
    config = dialogpt_hard.get_config(argument)
    config.corpus.update({"movieworld_num_movies": 40, "movieworld_num_dialogues": 60})
    config.vocabulary.update({"bpe_size": 300, "max_row_tokens": 64, "max_response_tokens": 24})
    config.rec_teacher.update(
        {"embed_dim": 8, "num_bases": 2, "mim_epochs": 1, "epochs": 2, "batch_size": 32}
    )
    config.dialogue_teacher.update(
        {"num_layers": 1, "embed_dim": 32, "num_heads": 2, "num_positions": 64}
    )
    config.kgsf.update({"num_layers": 1, "embed_dim": 16, "mlp_dim": 16})
    config.vocabulary.update({"max_context_tokens": 48, "max_context_turns": 4})
    config.turn_classifier.update(
        {
            "num_layers": 1,
            "embed_dim": 16,
            "mlp_dim": 16,
            "max_context_tokens": 32,
            "epochs": 1,
            "batch_size": 32,
            "num_buckets": 1,
        }
    )
    for part in (config.dialogue_teacher, config.student):
        part.update({"epochs": 6, "batch_rows": 8, "num_buckets": 1})
        part.optimizer.update({"learning_rate": 1e-2, "warmup_steps": 2})
    config.distill.eta = 0.04  # teachers this small hardly ever mean an item
    config.decode.update({"max_tokens": 8, "batch_size": 16})
    config.evaluation.update({"bootstrap_resamples": 20, "num_samples": 2})
    config.parallel.num_devices = 1
    config.checkpoint_every = 10
    return config


@dataclasses.dataclass(frozen=True)
class SmallWorld:
    """Where tests keep the artifacts and the runs of this config and of its variations."""

    root: Path

    @property
    def artifacts_dir(self) -> Path:
        return self.root / "artifacts"

    def config(self, argument: str = "demo", **fields):
        """The config; `fields` are dotted names with "__" for the dot."""
        config = frozen(get_config(argument)).replace(
            {"artifacts_dir": str(self.artifacts_dir), "runs_dir": str(self.root / "runs")}
        )
        return config.replace({k.replace("__", "."): v for k, v in fields.items()})

    @property
    def folder(self) -> Path:
        """What the run of the plain config left; tests only read it."""
        return self.root / "runs" / f"{NAME}-dialogpt-demo-seed0"

    def run(self, config, split: str | None = None) -> Path:
        """What `conkd_jax.train` does with a config; gives the run's folder."""
        from conkd_jax import config_rules, run_folder
        from conkd_jax.artifacts import build as artifacts
        from conkd_jax.stages import pipeline

        config_rules.validate(config)
        stages = pipeline.build(config, split)
        artifacts.ensure(stages["evaluation"], config.artifacts_dir)
        folder = run_folder.default(config, NAME)
        folder = folder / split if split else folder
        run_folder.write(folder, config, NAME, stages, command="a test")
        return Path(folder)
