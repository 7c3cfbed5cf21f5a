"""Tables of words and items that stay divided among the devices of a mesh, for the loss of a step.

With `parallel.kind=mesh` the devices join most parameters for a micro-batch. The tables that have a
row or column for every target are the exception: the embedding with the output layer, and the heads
of both teachers. A device keeps its rows, looks them up for the tokens of all devices, and computes
its columns of the logits for all of them (`distill.columns`). So no device ever holds a whole table
or its gradient, and the size of a catalogue is limited by all devices together.

This is done for the decoder-only models that are trained as a whole. In other models the output
layer is made of several arrays, and their tables are joined like any other parameter.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax.numpy as jnp

from conkd_jax.distill.columns import ALL, NOTHING, AllColumns, DividedColumns, Part
from conkd_jax.distill.head import Head
from conkd_jax.models.gpt2 import GPT2
from conkd_jax.models.llama import Llama
from conkd_jax.models.lora import EMBEDDING, FullTraining
from conkd_jax.typing import Params

# Models that read embedding rows by `input_ids` alone, and whose head is a table's first rows. Not
# subclasses of them: a user's own may have another head.
MODELS = (GPT2, Llama)
DIALOGUE_HEAD = "dialogue_head"
REC_KERNELS, REC_BIASES = "rec_kernels", "rec_biases"


def divided_arrays(model: Any, tuning: FullTraining, constants: dict) -> frozenset[str]:
    """The arrays that stay divided on a mesh, by their paths (`Layout.train_step`); maybe none.

    Args:
      model: the language model.
      tuning: what of it is trained.
      constants: what the loss reads besides parameters.
    """
    if type(model) not in MODELS or type(tuning) is not FullTraining:
        return frozenset()
    head = constants.get(DIALOGUE_HEAD)
    if head is not None and head.switch is not None:
        return frozenset()
    tables = {f"params/{layer}/{EMBEDDING}" for layer in model.ROW_LAYERS}
    of_dialogue = {f"constants/{DIALOGUE_HEAD}/{name}" for name in ("kernel", "bias")}
    return frozenset(tables | of_dialogue | {f"constants/{REC_KERNELS}", f"constants/{REC_BIASES}"})


class Tables(NamedTuple):
    """What a loss reads in place of model, parameters, batch and constants.

    Attributes:
      columns: which targets are here.
      model: with as many embedding rows as the micro-batch has tokens, if targets are divided.
      variables: parameters with these rows as the embedding.
      batch: with the places of these rows as `input_ids`.
      head: the student's, onto the targets here.
      rec_batch: the batch with the responses of all devices, for the recommender's logits.
      constants: with the teachers' heads onto the targets here.
    """

    columns: AllColumns
    model: Any
    variables: Params
    batch: dict[str, Any]
    head: Head
    rec_batch: dict[str, Any]
    constants: dict[str, Any]


def tables_of(
    model: Any, variables: Params, batch: dict, constants: dict, num_words: int, num_targets: int
) -> Tables:
    """Returns the inputs of a loss, whether the tables are divided (`Part`) or whole.

    Args:
      model: the language model.
      variables: its parameters.
      batch: one device's micro-batch.
      constants: both teachers' heads, if there are teachers.
      num_words: |V|.
      num_targets: |Y|.
    """
    table = variables[model.EMBEDDING][EMBEDDING] if model.EMBEDDING in variables else None
    if not isinstance(table, Part):
        head = model.head(variables, num_targets)
        return Tables(ALL, model, variables, batch, head, batch, constants)
    columns = table.columns()
    blocks = {
        layer: {EMBEDDING: variables[layer][EMBEDDING].block(columns, 0)}
        for layer in model.ROW_LAYERS
        if layer in variables
    }
    head = model.head(blocks, columns.width)
    ids = columns.ids((1, columns.width), jnp.int32)[0]
    bias = jnp.where(ids < num_targets, head.bias, jnp.asarray(NOTHING, head.bias.dtype))
    input_ids = jnp.asarray(batch["input_ids"])
    rows = columns.look_up(blocks[model.EMBEDDING][EMBEDDING], input_ids.reshape(-1))
    others = {name: part for name, part in variables.items() if name not in blocks}
    places = jnp.arange(input_ids.size, dtype=input_ids.dtype).reshape(input_ids.shape)
    of_responses = ("user_vectors", "rec_head_index")
    gathered = columns.gathered({name: batch[name] for name in of_responses if name in batch})
    return Tables(
        columns,
        dataclasses.replace(model, num_rows=input_ids.size),
        {**others, model.EMBEDDING: {EMBEDDING: rows}},
        {**batch, "input_ids": places},
        head._replace(bias=bias),
        {**batch, **gathered},
        _blocks(constants, columns, num_words),
    )


def _blocks(constants: dict, columns: DividedColumns, num_words: int) -> dict[str, Any]:
    """The constants with the columns of the teachers' heads that are here."""
    found = dict(constants)
    head: Any = constants.get(DIALOGUE_HEAD)  # its arrays are parts
    if head is not None:
        kernel, bias = head.kernel.block(columns, 1), head.bias.block(columns, 0, fill=NOTHING)
        found[DIALOGUE_HEAD] = Head(kernel, bias)
    if REC_KERNELS in constants:
        found[REC_KERNELS] = constants[REC_KERNELS].block(columns, 2, before=num_words)
        found[REC_BIASES] = constants[REC_BIASES].block(columns, 1, before=num_words, fill=NOTHING)
    return found
