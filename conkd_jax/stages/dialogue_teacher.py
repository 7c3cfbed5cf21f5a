"""Stage `dialogue_teacher`: a language model fine-tuned by NLL on recommender turns (eq. 5).

Items are tokens of its vocabulary. It is a row of the results table in its own right, and the P_φ
of every ConKD row.
"""

from __future__ import annotations

from collections.abc import Mapping

import jax
from etils import epath

from conkd_jax.artifacts.build import Context, Stage
from conkd_jax.data.corpus import Corpus
from conkd_jax.data.vocabulary import Vocabulary
from conkd_jax.stages import backbones, language_model

VERSION = 1
TRAINING_FIELDS = ("epochs", "batch_rows", "num_buckets", "weighting", "optimizer")


def stage(config, inputs: Mapping[str, Stage]) -> Stage:
    """The dialogue teacher of a config; its checkpoint of lowest dev NLL is kept.

    Args:
      inputs: what an untrained model is made from (`pipeline.model_sources`).
    """
    part, backbone = config.dialogue_teacher, backbones.of(config)
    training = {key: part.to_dict()[key] for key in TRAINING_FIELDS}
    identity = {
        "model": training | backbone.initial_identity(config),
        "rows": backbone.row_identity(config),
        "seed": config.teacher_seed,
        "rng_impl": config.rng_impl,
    }

    def run(directory: epath.Path, context: Context) -> dict:
        opened = Corpus.open(context.inputs["corpus"])
        words = Vocabulary.load(context.inputs["vocabulary"])
        splits = opened.dialogues("train"), opened.dialogues("dev")
        train, dev = (backbone.rows_of(config, opened, words, said) for said in splits)
        if config.system == "student":  # told now, and not when both teachers are trained
            language_model.check_schedule(config, "student", train)
        start = language_model.initial(config, context.inputs, words, config.teacher_seed)
        batches = language_model.loader(
            config, part, train, words, "teacher", seed=config.teacher_seed
        )
        trained, result = language_model.train(
            "dialogue_teacher",
            start,
            batches,
            part,
            config=config,
            seed=config.teacher_seed,
            directory=directory,
            dev=dev,
            form="teacher",
            keep="best",
        )
        language_model.save(trained, directory)
        num_parameters = sum(leaf.size for leaf in jax.tree.leaves(trained.params))
        return {**result.metrics, "num_parameters": int(num_parameters)}

    return Stage("dialogue_teacher", VERSION, identity, inputs, run)
