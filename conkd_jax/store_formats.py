"""Compares the formats of the teacher store: bytes, distance to the teacher, and students.

    python -m conkd_jax.store_formats --config=dialogpt_hard:demo --json=FILE
    python -m conkd_jax.store_formats RUN RUN RUN --json=FILE

With a config, the store of each of --formats is compared, and written first if it is missing. With
runs, folders written by conkd_jax.train that share a dialogue teacher, their stores are compared,
with F1@10 and perplexity of their students. The teacher runs again, unrounded, over the first rows
of the training split. Against it, per response token:

  bytes      what the store holds of a token; "on disk" is compressed, with
             user vectors and keys
  |Δλ|       of the stored item mass, which gates read; "rebuilt" is that of the
             stored distribution
  flips      tokens at which a hard gate selects the other teacher
  |ΔCE|      of the stored distribution's cross-entropy, with the unrounded
             teacher as the student
  lost mass  what the stored distribution lacks of 1
"""

from __future__ import annotations

import functools
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import rich.table
from absl import flags

from conkd_jax.artifacts.build import ensure
from conkd_jax.artifacts.manifest import whole_manifest
from conkd_jax.artifacts.stage import Stage
from conkd_jax.cli import command_line
from conkd_jax.cli.command_line import UsageError
from conkd_jax.config import Config
from conkd_jax.config.parts import TeacherOutputsConfig
from conkd_jax.config.rules import validate_config
from conkd_jax.data.corpus import Corpus
from conkd_jax.data.shards.layout import SUFFIX, shard_size
from conkd_jax.data.teacher_store.files import TeacherStore
from conkd_jax.data.teacher_store.schema import FORMATS
from conkd_jax.data.vocabulary import Vocabulary
from conkd_jax.distill.gates import item_mass
from conkd_jax.distill.teachers import take_rows
from conkd_jax.eval.scoring import TOKENS_AT_A_TIME, response_features, retrieved_ids
from conkd_jax.eval.tables.documents import portable_command, write_document
from conkd_jax.runs.finished import Run
from conkd_jax.stages import language_model, pipeline, student, teacher_outputs
from conkd_jax.stages.language_model_training import Distillation
from conkd_jax.train import define_config, read_config

STUDENT_METRICS = ("f1@10", "ppl")
COLUMNS = {
    "bytes": ("bytes_per_token", "{:,.0f}"),
    "on disk": ("bytes_per_token_on_disk", "{:,.0f}"),
    "max |Δλ|": ("max_item_mass_error", "{:.1e}"),
    "rebuilt": ("max_rebuilt_item_mass_error", "{:.1e}"),
    "flips": ("flips", "{:,}"),
    "mean |ΔCE|": ("mean_cross_entropy_error", "{:.1e}"),
    "max |ΔCE|": ("max_cross_entropy_error", "{:.1e}"),
    "lost mass": ("mean_lost_mass", "{:.1e}"),
    "F1@10": ("f1@10", "{:.4f}"),
    "ppl": ("ppl", "{:.2f}"),
}

OPTIONS = flags.FlagValues()
define_config(OPTIONS)
_FORMATS = flags.DEFINE_list(
    "formats", ",".join(FORMATS), "The formats to compare, with --config.", flag_values=OPTIONS
)
_ROWS = flags.DEFINE_integer(
    "rows", 256, "Rows of the training split to compare at; 0 for all.", 0, flag_values=OPTIONS
)
_JSON = flags.DEFINE_string(
    "json", "", "Also write the numbers into this file, to be committed.", flag_values=OPTIONS
)


def main(argv: list[str]) -> None:
    """Measures the stores, prints the table and writes the file that is asked for."""
    runs = [Run.open(folder) for folder in argv[1:]]
    if bool(runs) == (OPTIONS["config"].value is not None):
        raise UsageError("expected runs, folders written by conkd_jax.train, or --config alone.")
    if runs:
        found = [errors_of_store(run.config, _ROWS.value) | _metrics_of(run) for run in runs]
    else:
        found = [errors_of_store(config, _ROWS.value) for config in _configs(_FORMATS.value)]
    if len({each["dialogue_teacher"] for each in found}) > 1:
        raise UsageError("expected runs with one dialogue teacher, got runs of several.")
    if _JSON.value:
        command = portable_command(" ".join(sys.argv))
        write_document(_JSON.value, {"command": command, "stores": found})
    command_line.show(formats_table(found))


def _configs(formats: Sequence[str]) -> Iterator[Config]:
    """The config of the command line with each format, whose store is on the disk then."""
    config, default = read_config(OPTIONS)[0], TeacherOutputsConfig().top_k
    for format in formats:
        top_k = config.teacher_outputs.top_k if format == "topk" else default
        fields = {"teacher_outputs.format": format, "teacher_outputs.top_k": top_k}
        each = validate_config(config.replace(fields))
        pipeline.check_sources(each, pipeline.build(each))
        ensure(_stage(each), each.artifacts_dir)
        yield each


def _stage(config: Config) -> Stage:
    stages = pipeline.build(config)
    if "teacher_outputs" not in stages:
        raise UsageError("expected a student with γ above 0: other systems have no teacher store.")
    return stages["teacher_outputs"]


def _metrics_of(run: Run) -> dict[str, Any]:
    metrics = {name: run.metrics["metrics"].get(name) for name in STUDENT_METRICS}
    return {"run": run.label, "split": run.split, "seed": run.config.seed, **metrics}


def errors_of_store(config: Config, num_rows: int) -> dict[str, Any]:
    """Bytes of a config's teacher store, and its errors against the unrounded teacher.

    Args:
      config: a config of a student, whose store is finished.
      num_rows: rows of the training split to compare at; 0 for all.
    """
    stage, root = _stage(config), config.artifacts_dir
    inputs = {name: each.directory(root) for name, each in stage.inputs.items()}
    corpus, vocabulary = Corpus.open(inputs["corpus"]), Vocabulary.load(inputs["vocabulary"])
    made_from, settings = whole_manifest(stage, root)["inputs"], stage.settings
    expected = teacher_outputs.provenance(made_from, vocabulary)
    store = TeacherStore.open(stage.directory(root), expect=expected)
    teacher = language_model.load(
        config.backbone, inputs["dialogue_teacher"], vocabulary, settings.compute_dtype
    )
    gate = student.GateSettings.of(config.distill)
    taught, eta = student.distillation(gate, store), gate.eta_used(store.stats["fitted_eta"])
    constants = jax.tree.map(jnp.asarray, taught.constants)
    rows = settings.rows.rows_of(corpus, vocabulary, corpus.dialogues("train"))
    chosen = range(min(num_rows or rows.num_rows, rows.num_rows))
    of_batch = jax.jit(functools.partial(_errors_of_batch, teacher.model, vocabulary, taught))
    parts = []
    for _, batch in teacher.batches(rows, "teacher", settings.batch_rows, chosen, store):
        errors = of_batch(teacher.variables, batch, constants)
        parts.append({k: np.asarray(v)[: int(batch["num_tokens"])] for k, v in errors.items()})
    arrays = store.spec.token_arrays.values()
    shards = [path for path in store.directory.iterdir() if SUFFIX in path.name]
    return {
        "corpus": config.corpus.name,
        "preset": config.preset,
        "backbone": config.backbone,
        "dialogue_teacher": made_from["dialogue_teacher"],
        **store.spec.entries(),
        "num_targets": teacher.num_targets,
        "bytes_per_token": sum(math.prod(shape) * of.itemsize for _, shape, of in arrays),
        "bytes_per_token_on_disk": sum(shard_size(path) for path in shards) / len(rows.targets),
        "bytes_per_token_of_bfloat16_logits": 2 * teacher.num_targets,
        "eta": eta,
        **_summary({name: np.concatenate([p[name] for p in parts]) for name in parts[0]}, eta),
    }


def _summary(errors: Mapping[str, np.ndarray], eta: float | None) -> dict[str, Any]:
    """The largest and mean errors over tokens; `flips` is None for a gate without a threshold."""
    exact, stored = errors["exact_mass"], errors["stored_mass"]
    cross_entropy = np.abs(errors["cross_entropy"].astype(np.float64))
    return {
        "tokens": len(exact),
        "max_item_mass_error": float(np.abs(stored - exact).max()),
        "max_rebuilt_item_mass_error": float(np.abs(errors["rebuilt_mass"] - exact).max()),
        "flips": None if eta is None else int(((stored >= eta) != (exact >= eta)).sum()),
        "mean_cross_entropy_error": float(cross_entropy.mean()),
        "max_cross_entropy_error": float(cross_entropy.max()),
        "mean_lost_mass": float(errors["lost_mass"].mean(dtype=np.float64)),
    }


def _errors_of_batch(model, words: Vocabulary, taught: Distillation, params, batch, constants):
    """Item masses and errors [N] of the stored teacher at the tokens of a batch."""
    num_words, num_targets = words.num_words, words.num_targets
    read = response_features(model, params, batch), retrieved_ids(batch)
    head, stored = model.head(params, num_targets), taught.teacher(batch, constants)
    capacity = read[0].shape[0]
    size = math.gcd(capacity, TOKENS_AT_A_TIME)

    def chunk(start):
        logits = head.logits(*jax.tree.map(lambda of: take_rows(of, start, size), read))
        log_probs = jax.nn.log_softmax(logits, axis=-1)
        probs, mass = stored.chunk(start, size).probs(num_targets)
        difference = probs - jnp.exp(log_probs)
        # Where nothing differs nothing is added, also if the teacher excludes a target by -inf.
        terms = jnp.where(difference == 0, 0, difference * log_probs)
        return {
            "exact_mass": item_mass(logits, num_words),
            "rebuilt_mass": jnp.sum(probs[:, num_words:], axis=1),
            "cross_entropy": -jnp.sum(terms, axis=1),
            "lost_mass": jnp.broadcast_to(1 - jnp.asarray(mass, probs.dtype), (size,)),
        }

    starts = jnp.arange(0, capacity, size, dtype=jnp.int32)
    errors = {name: of.reshape(-1) for name, of in jax.lax.map(chunk, starts).items()}
    return {**errors, "stored_mass": batch["item_mass"]}


def formats_table(stores: Sequence[Mapping[str, Any]]) -> rich.table.Table:
    """The table that the program prints."""
    first = stores[0]
    logits = first["bytes_per_token_of_bfloat16_logits"]
    table = rich.table.Table(
        title=f"{first['corpus']}, {first['backbone']}:{first['preset']}, {first['tokens']:,} "
        f"tokens; {first['num_targets']:,} logits in bfloat16 are {logits:,} bytes a token"
    )
    table.add_column("store")
    shown = {k: v for k, v in COLUMNS.items() if any(v[0] in each for each in stores)}
    for name in shown:
        table.add_column(name, justify="right")
    for each in stores:
        kept = f" {each['width']}" if each["format"] == "topk" else ""
        values = [(each.get(key), written) for key, written in shown.values()]
        table.add_row(
            f"{each['format']}{kept}, {each['dtype']}",
            *("-" if value is None else written.format(value) for value, written in values),
        )
    return table


def run() -> None:
    """Runs the command line."""
    command_line.run(main, OPTIONS, positional="RUN…")


if __name__ == "__main__":
    run()
