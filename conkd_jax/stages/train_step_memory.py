"""How much memory and work a student's train step takes, from the shapes of its arrays alone.

The step that is compiled is the one that a training runs (`Layout.train_step` over `make_loss`,
with both teachers), at the largest batch that the config allows. No parameter, batch
or teacher exists: the compiler gets types and shapes. Data and vocabulary enter by their sizes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from tokenizers import Tokenizer, models

from conkd_jax.config import Config, ConfigError
from conkd_jax.data.batches.plan import BUCKET_MULTIPLE
from conkd_jax.data.teacher_store.schema import TeacherHeads, TeacherStoreSpec
from conkd_jax.data.tokenizers.bpe import END_TOKEN
from conkd_jax.data.vocabulary import Vocabulary
from conkd_jax.models.compute import Compute
from conkd_jax.models.lora import FullTraining
from conkd_jax.runtime import parallel
from conkd_jax.stages import backbones
from conkd_jax.stages.language_model import LanguageModel
from conkd_jax.stages.language_model_training import Distillation, divided_of, make_loss
from conkd_jax.stages.lora import LoRASettings, training_of
from conkd_jax.stages.student import GateSettings, distillation_from
from conkd_jax.stages.train_step_work import StepWork, masked_attention_flops, product_flops
from conkd_jax.training import layouts, optimizers
from conkd_jax.typing import PyTree

TARGETS_PER_RESPONSE = 8  # fewer than any corpus has on average, so there are responses enough
ROWS_OF_DIALOGUES = ("dialogpt", "llama")  # backbones whose batch is `input_ids` alone


@dataclasses.dataclass(frozen=True)
class StepMemory:
    """The memory of one device during a train step, in bytes, as the compiler planned it.

    Attributes:
      arguments: parameters, optimizer state, the batch, the teachers' heads and the key.
      outputs: the next state and the metrics.
      donated: the part of the outputs that takes over the memory of arguments: the state, which is
        what a device holds of trained parameters and optimizer state.
      temporaries: activations, gradients, logits of a chunk, copies of weights in bfloat16.
      program: the compiled code.
      traffic: what the program reads and writes, as the compiler estimates it: an array that stays
        on the chip between two operations counts as if it did not, and the body of a loop once.
    """

    arguments: int
    outputs: int
    donated: int
    temporaries: int
    program: int
    traffic: int

    @property
    def total(self) -> int:
        """What the step needs at once."""
        return self.arguments + self.outputs - self.donated + self.temporaries + self.program


@dataclasses.dataclass(frozen=True)
class PlannedStep:
    """A train step that can be compiled for shapes.

    Attributes:
      start: the model, with shapes for parameters.
      state: shapes of the whole training state.
      batch: shapes of one micro-batch.
      constants: shapes of what every step reads.
      taught: gate and teachers; None for the NLL.
      tuning: what of the model is trained.
    """

    start: LanguageModel
    state: parallel.TrainState
    batch: dict[str, jax.ShapeDtypeStruct]
    constants: dict[str, Any]
    taught: Distillation | None
    tuning: FullTraining

    @property
    def num_parameters(self) -> int:
        """Number of parameters of the model."""
        return num_elements(self.start.params)

    @property
    def num_trained(self) -> int:
        """Number of parameters that are trained."""
        return num_elements(self.state.params)


def planned_step(config: Config, num_words: int, num_items: int, num_devices: int) -> PlannedStep:
    """The train step of a config's student.

    DialoGPT's published weights are taken to have the shape that the config's fields give.

    Args:
      config: the whole config.
      num_words: |V|.
      num_items: |I|.
      num_devices: devices that a batch is split over.

    Raises:
      ConfigError: the backbone's rows are not whole dialogues, or the shape is that of published
        weights, which are not read.
    """
    if config.backbone not in ROWS_OF_DIALOGUES:
        raise ConfigError(
            f"config.backbone: expected one of {', '.join(ROWS_OF_DIALOGUES)}, got "
            f"{config.backbone!r}. The memory of the others depends on the corpus and its graphs"
        )
    if config.backbone == "llama" and config.dialogue_teacher.weights != "random":
        raise ConfigError(
            "config.dialogue_teacher.weights: expected random, got "
            f"{config.dialogue_teacher.weights!r}, whose shape is in a file that is not read here. "
            "Give the shape itself: --config.dialogue_teacher.weights=random "
            "--config.vocabulary.tokenizer=train, then num_layers, embed_dim and num_heads of "
            "dialogue_teacher, the fields of config.llama, and --words"
        )
    config = config.replace({"dialogue_teacher.weights": "random"})
    vocabulary = vocabulary_of_size(num_words, num_items)
    made = {}

    def initial() -> PyTree:
        settings = backbones.named(config.backbone).model_settings(config)
        made["model"], params, _ = settings.initial({}, vocabulary, 0, config.rng_impl)
        return params

    params = jax.eval_shape(initial)
    start = LanguageModel(made["model"], params, vocabulary)
    optimizer = optimizers.make_optimizer(config.student.optimizer, 1 << 20)
    tuning = training_of(start, LoRASettings.of(config.student))
    trained, fixed = jax.eval_shape(tuning.divided, params, jax.random.key(0))
    state = parallel.TrainState(
        trained, jax.eval_shape(optimizer.init, trained), jax.ShapeDtypeStruct((), np.int32)
    )
    width = made["model"].spec.embed_dim
    taught = None
    if config.distill.gamma > 0:
        taught = _taught(config, width, vocabulary)
    constants = {"frozen": fixed} | ({} if taught is None else taught.constants)
    rows = config.student.batch_rows // (num_devices * config.student.optimizer.accumulate_steps)
    return PlannedStep(
        start,
        state,
        batch_shapes(config, rows, vocabulary, width if taught else None),
        jax.tree.map(_shape_of, constants),
        taught,
        tuning,
    )


def step_memory(
    config: Config, planned: PlannedStep, compute: Compute, devices: Sequence[Any]
) -> StepMemory:
    """The memory of the step on some devices; arguments as in `compiled_step`."""
    program = compiled_step(config, planned, compute, devices)
    analysis: Any = program.memory_analysis()
    costs: Any = program.cost_analysis()
    return StepMemory(
        arguments=analysis.argument_size_in_bytes,
        outputs=analysis.output_size_in_bytes,
        donated=analysis.alias_size_in_bytes,
        temporaries=analysis.temp_size_in_bytes,
        program=analysis.generated_code_size_in_bytes,
        traffic=int(costs["bytes accessed"]),
    )


def compiled_step(
    config: Config, planned: PlannedStep, compute: Compute, devices: Sequence[Any]
) -> jax.stages.Compiled:
    """Compiles the step for some devices; no array is made, and nothing runs.

    Args:
      config: the config of the step.
      planned: the step.
      compute: the type of its products, and whether layers are computed again.
      devices: real devices, or those of a topology that is described but not present.
    """
    update, shapes = step_of(config, planned, compute, devices)
    return update.lower(*shapes).compile()


def step_work(
    config: Config, planned: PlannedStep, compute: Compute, devices: Sequence[Any]
) -> StepWork:
    """Counts the floating-point operations of the step in its trace; nothing is compiled.

    Every token of the batch is a target, so the fused head visits all of its chunks.

    Args:
      config: the config of the step.
      planned: the step.
      compute: the type of its products, and whether layers are computed again.
      devices: as for `step_memory`.
    """
    plain = dataclasses.replace(planned, taught=None)
    num_targets = planned.batch["labels"].shape[0]
    chunks = -(-num_targets // min(config.distill.chunk_size, num_targets))
    products, asked = (
        product_flops(jax.make_jaxpr(update)(*shapes), rounds=chunks)
        for update, shapes in (
            step_of(config, planned, compute, devices),
            step_of(config, plain, Compute(), devices),
        )
    )
    rows, length = planned.batch["input_ids"].shape
    spec = planned.start.model.spec
    in_vain = masked_attention_flops(
        rows * config.student.optimizer.accumulate_steps, length, spec.embed_dim, spec.num_layers
    )
    return StepWork(products, asked - in_vain)


def step_of(
    config: Config, planned: PlannedStep, compute: Compute, devices: Sequence[Any]
) -> tuple[Any, tuple]:
    """The function of a train step on some devices, and the shapes of its arguments."""
    training = config.student.optimizer
    start = dataclasses.replace(planned.start, model=planned.start.model.computing(compute))
    layout = layouts.layout_of(config.parallel.kind, devices)
    update = layout.train_step(
        make_loss(start, config.distill.chunk_size, planned.taught, planned.tuning),
        optimizers.make_optimizer(training, 1 << 20),
        rng_impl=config.rng_impl,
        divided=divided_of(start, planned.taught, planned.tuning),
    )
    key = jax.random.key_data(jax.random.key(0, impl=config.rng_impl))
    return update, (
        layout.shapes(planned.state),
        layout.batch_shapes(planned.batch, training.accumulate_steps),
        layout.shapes({"key": _shape_of(key), "constants": planned.constants}),
    )


def batch_shapes(
    config: Config, num_rows: int, vocabulary: Vocabulary, teacher_width: int | None
) -> dict[str, jax.ShapeDtypeStruct]:
    """The largest micro-batch of a config: full rows in which every token is a target.

    The names and types are those of `LanguageModelBatches`.

    Args:
      config: the whole config.
      num_rows: rows of a micro-batch.
      vocabulary: its sizes.
      teacher_width: width of the stored features; None without a teacher store.
    """
    length = config.vocabulary.max_row_tokens
    length += -length % BUCKET_MULTIPLE
    num_targets = num_rows * length  # N
    num_responses = -(-num_targets // TARGETS_PER_RESPONSE)  # G
    integers, floats = np.dtype(np.int32), np.dtype(np.float32)
    shapes: dict[str, tuple[tuple[int, ...], np.dtype]] = {
        "input_ids": ((num_rows, length), integers),
        **dict.fromkeys(("feature_index", "labels", "response_index"), ((num_targets,), integers)),
        **dict.fromkeys(("weights", "loss_mask"), ((num_targets,), floats)),
        "num_tokens": ((), integers),
        "response_id": ((num_responses,), integers),
    }
    if teacher_width is not None:
        part, user_dim = config.teacher_outputs, config.rec_teacher.embed_dim
        size = vocabulary.num_targets
        widths = {"features": teacher_width, "dense": size, "topk": min(part.top_k, size)}
        store = TeacherStoreSpec(
            part.format,
            part.dtype,
            widths[part.format],
            user_dim,
            num_targets=size if part.format == "topk" else None,
        )
        shapes |= {
            **{
                name: ((num_targets, *shape), dtype)
                for name, (_, shape, dtype) in store.token_arrays.items()
            },
            "user_vectors": ((num_responses, user_dim), floats),
            "rec_head_index": ((num_responses,), integers),
        }
    return {name: jax.ShapeDtypeStruct(*each) for name, each in shapes.items()}


def vocabulary_of_size(num_words: int, num_items: int) -> Vocabulary:
    """A vocabulary of placeholders."""
    words = {END_TOKEN: 0, **{f"word {n}": n for n in range(1, num_words)}}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token=END_TOKEN))
    return Vocabulary(tokenizer, range(num_items), [""] * num_items)


def _taught(config: Config, width: int, vocabulary: Vocabulary) -> Distillation:
    """Gate and teachers, with heads of zeros that take no memory."""
    folds, targets = max(config.rec_teacher.cross_fit_folds, 1), vocabulary.num_targets
    format = config.teacher_outputs.format

    def zeros(*shape: int) -> np.ndarray:
        return np.broadcast_to(np.float32(0), shape)

    heads = TeacherHeads(
        zeros(folds, config.rec_teacher.embed_dim, vocabulary.num_items),
        zeros(folds, vocabulary.num_items),
        *((zeros(width, targets), zeros(targets)) if format == "features" else ()),
    )
    settings = GateSettings.of(config.distill)
    settings = dataclasses.replace(settings, mask_mentioned=None)  # of no size
    return distillation_from(settings, heads, format=format, fitted_eta=0.5)


def num_elements(tree: PyTree) -> int:
    """Number of numbers in all arrays of a tree."""
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def _shape_of(leaf: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(np.shape(leaf), leaf.dtype)
