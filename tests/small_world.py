"""A whole pipeline small enough for tests: MovieWorld, one layer, seconds a stage.

Also a config file: `python -m conkd_jax.train --config=tests/small_world.py`.
"""

from configs import dialogpt_hard


def get_config(argument: str = "demo"):
    """The hard-gate row on 40 movies and 60 dialogues."""
    config = dialogpt_hard.get_config(argument or "demo")
    config.corpus.update({"movieworld_num_movies": 40, "movieworld_num_dialogues": 60})
    config.vocabulary.update({"bpe_size": 300, "max_row_tokens": 128, "max_response_tokens": 24})
    config.rec_teacher.update(
        {"embed_dim": 8, "num_bases": 2, "mim_epochs": 1, "epochs": 2, "batch_size": 32}
    )
    config.dialogue_teacher.update(
        {"num_layers": 1, "embed_dim": 16, "num_heads": 2, "num_positions": 128, "dropout": 0.1}
    )
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
        part.update({"epochs": 2, "batch_rows": 8, "num_buckets": 1})
        part.optimizer.update({"learning_rate": 1e-2, "warmup_steps": 2})
    config.decode.update({"max_tokens": 8, "batch_size": 16})
    config.evaluation.update({"bootstrap_resamples": 20, "num_samples": 2})
    config.parallel.num_devices = 1
    config.checkpoint_every = 3
    return config
