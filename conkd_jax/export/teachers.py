"""The teacher store as Parquet files, for people who distil with other programs.

The folder `data` holds the files, teachers.json what they were made from. One row is one training
response, in the order of the store:

  conversation_id, turn    the key of the response in the corpus
  prompt_ids [L]           what a student reads before it, without picks; its opening token is last
  response_ids [T]         the targets, words and items; the end token is the last, if it fits
  item_mass [T]            λ of eq. 7: how much probability all items together have
  log_probs [T, K]         the K largest log-probabilities of the dialogue teacher, largest first
  ids [T, K]               their tokens
  rec_log_probs [M]        those of the recommendation teacher, over the items alone
  rec_ids [M]              their tokens, M = min(K, number of items)

A top-k is not renormalised: 1 - Σ exp(log_probs) is the mass of the other tokens. With all of them
(`top_k = 0`) there are no `ids` and `rec_ids`, and the columns are in the order of tokens and of
items. Values are float32, as the store's reader gives them: products of the stored features, which
are rounded to the type of the store, and the exact head. A store of format "topk" has no more
log-probabilities than its own K, rounded to its type.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow
import pyarrow.parquet
from etils import epath

from conkd_jax.artifacts.manifest import whole_manifest
from conkd_jax.data.teacher_store.files import TeacherStore
from conkd_jax.data.teacher_store.reader import TeacherStoreReader
from conkd_jax.distill.teachers import TeacherFeatures, TeacherTopK
from conkd_jax.errors import UserError
from conkd_jax.eval.metrics.ranking import best_indices
from conkd_jax.io.files import whole_path, write_json
from conkd_jax.runs.finished import Run
from conkd_jax.stages import student, teacher_outputs
from conkd_jax.stages.language_model_training import Distillation

RESPONSES_AT_A_TIME = 64  # in memory, with all their log-probabilities
ROWS_A_FILE = 4096
ABOUT, DATA = "teachers.json", "data"


class TeacherExportError(UserError):
    """A run without a teacher store, or with one that the export can't read."""


def write_teachers(run: Run, folder: epath.PathLike, top_k: int) -> int:
    """Writes the teacher store of a run; returns the number of responses.

    Args:
      run: a run of a student that was distilled.
      folder: where to write; it exists.
      top_k: K, the log-probabilities that are kept; 0 for all of them.

    Raises:
      TeacherExportError: the run has no teacher store, or one with fewer log-probabilities.
    """
    folder, stage = epath.Path(folder), run.stages.get("teacher_outputs")
    if stage is None:
        raise TeacherExportError(
            f"{run.home}: expected a run with a teacher store, found one that needs none (γ = 0, "
            "or the dialogue teacher alone). Give a run of a student with γ above 0."
        )
    root = run.config.artifacts_dir
    made_from = whole_manifest(stage, root)["inputs"]
    store = TeacherStore.open(
        stage.directory(root), expect=teacher_outputs.provenance(made_from, run.vocabulary)
    )
    if store.spec.format == "topk" and not 0 < top_k <= store.spec.width:
        raise TeacherExportError(
            f"--top_k: expected 1 to {store.spec.width}, as the teacher store of {run.home} has no "
            f"more log-probabilities of a token (config.teacher_outputs.format=topk), got {top_k}."
        )
    (folder / DATA).mkdir()
    count, tables = 0, _tables(run, store, top_k)
    for number in itertools.count():
        first = next(tables, None)
        if first is None:
            break
        with whole_path(folder / DATA / f"train-{number:05d}.parquet") as partial:
            count += _write_file(partial, first, tables)
    words = run.vocabulary
    write_json(
        folder / ABOUT,
        {
            "format": 1,
            "responses": count,
            "top_k": top_k or None,
            "store": {"format": store.spec.format, "dtype": store.spec.dtype},
            "num_words": words.num_words,
            "num_items": words.num_items,
            "movie_ids": words.item_ids.tolist(),
            "fitted_eta": store.stats["fitted_eta"],
            "made_from": dict(store.provenance),
            "columns": (__doc__ or "").partition(":\n\n")[2],
        },
    )
    return count


def _write_file(path: str, first: pyarrow.Table, others: Iterator[pyarrow.Table]) -> int:
    """Writes one file of about `ROWS_A_FILE` rows; returns their number."""
    count = len(first)
    with pyarrow.parquet.ParquetWriter(path, first.schema) as writer:
        writer.write_table(first)
        while count < ROWS_A_FILE and (table := next(others, None)) is not None:
            writer.write_table(table)
            count += len(table)
    return count


def _tables(run: Run, store: TeacherStore, top_k: int) -> Iterator[pyarrow.Table]:
    dialogues = run.corpus.dialogues("train")
    system, words = run.system, run.vocabulary
    rows = system.rows_of(dialogues)
    reader = TeacherStoreReader(store, rows.response_keys, rows.targets, rows.target_offsets)
    given = student.distillation(student.GateSettings(gamma=1.0, gate="soft"), store)
    constants = jax.tree.map(jnp.asarray, given.constants)
    opened = system.openings(rows.response_is_rec)
    limit = system.rows.longest_prompt(run.config.decode.max_tokens)
    for start in range(0, rows.num_responses, RESPONSES_AT_A_TIME):
        ids = np.arange(start, min(start + RESPONSES_AT_A_TIME, rows.num_responses))
        histories = rows.histories(limit - 1, system.form, ids.tolist())
        prompts = [np.append(h, first) for h, first in zip(histories, opened[ids], strict=True)]
        batch = reader.gather(ids)
        log_probs, rec_log_probs = _log_probs(given, batch, constants, words.num_targets)
        ends = np.cumsum(rows.response_length[ids])
        columns: dict[str, Any] = {
            "conversation_id": [rows.response_keys[i][0] for i in ids],
            "turn": np.array([rows.response_keys[i][1] for i in ids], np.int32),
            "prompt_ids": _lists(np.concatenate(prompts), np.cumsum([*map(len, prompts)])),
            "response_ids": _lists(np.concatenate([*map(rows.response_targets, ids)]), ends),
            "item_mass": _lists(batch["item_mass"], ends),
        }
        order, largest = _largest(log_probs, top_k)
        rec_order, rec_largest = _largest(rec_log_probs, top_k)
        columns |= {"log_probs": _lists(_fixed(largest), ends)}
        columns |= {"rec_log_probs": _fixed(rec_largest)}
        if order is not None and rec_order is not None:
            columns["ids"] = _lists(_fixed(order), ends)
            columns["rec_ids"] = _fixed(rec_order + words.num_words)
        yield pyarrow.table(columns)


def _log_probs(
    given: Distillation, batch: Mapping[str, np.ndarray], constants: Any, num_targets: int
) -> tuple[np.ndarray, np.ndarray]:
    """The logarithms of P_φ [n, Y] at every target and of P_ψ [G, I] at every response."""
    teacher = given.teacher(batch, constants)
    if isinstance(teacher, TeacherTopK):
        log_probs = np.full((len(teacher.token_ids), num_targets), -np.inf, np.float32)
        kept = np.asarray(teacher.log_probs, np.float32)
        np.put_along_axis(log_probs, np.asarray(teacher.token_ids), kept, axis=1)
    else:
        if isinstance(teacher, TeacherFeatures):
            logits = teacher.head.logits(jnp.asarray(teacher.features))
        else:
            logits = jnp.asarray(teacher.logits).astype(jnp.float32)
        log_probs = logits - jnp.asarray(batch["teacher_log_normalizer"])[:, None]
    rec = jax.nn.log_softmax(given.rec_logits(batch, constants), axis=-1)
    return np.asarray(log_probs), np.asarray(rec)


def _largest(values: np.ndarray, top_k: int) -> tuple[np.ndarray | None, np.ndarray]:
    """The places of the K largest values of every row, and these; None and all values for K = 0."""
    if not top_k:
        return None, values
    order = best_indices(values, top_k).astype(np.int32)
    return order, np.take_along_axis(values, order, axis=1)


def _fixed(values: np.ndarray) -> pyarrow.Array:
    """A column whose cells are the rows of a matrix."""
    return pyarrow.FixedSizeListArray.from_arrays(values.reshape(-1), values.shape[1])


def _lists(values: np.ndarray | pyarrow.Array, ends: np.ndarray) -> pyarrow.Array:
    """A column whose cells are consecutive pieces of an array, by where each of them ends."""
    offsets = pyarrow.array(np.concatenate([[0], ends]).astype(np.int32))
    inner = values if isinstance(values, pyarrow.Array) else pyarrow.array(values)
    return pyarrow.ListArray.from_arrays(offsets, inner)
