"""Stage `teacher_outputs`: stores both teachers' outputs for every training response.

Each host writes its own shards. The gate is not applied here, so students with any gate, η and γ
read the same store. η is fitted on the dev split, because the dialogue teacher was trained on the
training responses and is overconfident on them.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath

from conkd_jax.artifacts.fingerprint import outside_fingerprint
from conkd_jax.artifacts.stage import Context, Stage
from conkd_jax.config import Config
from conkd_jax.data.corpus import Corpus, responses
from conkd_jax.data.rows.contract import Rows
from conkd_jax.data.teacher_store.files import TeacherStore, TeacherStoreWriter
from conkd_jax.data.teacher_store.schema import TeacherHeads, TeacherRecord, TeacherStoreSpec
from conkd_jax.data.vocabulary import Vocabulary
from conkd_jax.distill.head import Head
from conkd_jax.eval.gate.detector import fit_eta
from conkd_jax.eval.gate.token_classes import gate_statistics
from conkd_jax.eval.scoring import (
    head_statistics,
    logit_statistics,
    response_features,
    retrieved_ids,
)
from conkd_jax.io import terminal
from conkd_jax.runtime import parallel
from conkd_jax.stages import backbones, language_model
from conkd_jax.stages import recommender as recommenders
from conkd_jax.stages.backbones import RowSettings
from conkd_jax.stages.language_model import LanguageModel
from conkd_jax.stages.rec_teacher import fold_of
from conkd_jax.stages.training import compute_setting
from conkd_jax.training.progress import Counting

VERSION = 1
READ_AT_ONCE = 512  # records
MEASURED_BATCHES = 4  # of each shard: the errors of rounding are measured on these
FOLD = "rec_teacher_"  # followed by a number: the name of an input of this stage


@dataclasses.dataclass(frozen=True)
class TeacherStoreSettings:
    """Settings of a teacher store.

    Attributes:
      format: "features", "dense" or "topk".
      dtype: the type of features, logits or log-probabilities.
      num_shards: number of shards, independent of the number of hosts.
      rows: the rows of the dialogue teacher.
      folds: number of recommenders that label the responses.
      compute_dtype: the type of the teacher's products (`compute_setting`); its head, which is
        stored, is float32.
      top_k: K, the targets of each token that are kept; None for a format other than topk.
      backbone: the backbone of the dialogue teacher.
      batch_rows: rows that are processed at once.
    """

    format: str
    dtype: str
    num_shards: int
    rows: RowSettings
    folds: int
    compute_dtype: str | None  # not "float32": an artifact of float32 has its old fingerprint
    top_k: int | None
    backbone: str = outside_fingerprint(because="rows and inputs already depend on it")
    batch_rows: int = outside_fingerprint(because="it changes speed and memory only")


def stage(config: Config, stages: Mapping[str, Stage]) -> Stage:
    """The teacher store of a config.

    Args:
      config: the whole config.
      stages: `corpus`, `vocabulary`, `dialogue_teacher` and `rec_teacher_0`, the recommender; with
        cross-fitting, `rec_teacher_k` for each fold k, trained on the other folds.
    """
    folds = [name for name in stages if name.startswith(FOLD)]
    part = config.teacher_outputs
    settings = TeacherStoreSettings(
        format=part.format,
        dtype=part.dtype,
        num_shards=part.num_shards,
        rows=backbones.named(config.backbone).row_settings(config),
        folds=len(folds),
        compute_dtype=compute_setting(config),
        top_k=part.top_k if part.format == "topk" else None,
        backbone=config.backbone,
        batch_rows=part.batch_rows,
    )
    wanted = ("corpus", "vocabulary", "dialogue_teacher", *folds)
    return Stage("teacher_outputs", VERSION, settings, {name: stages[name] for name in wanted}, run)


def run(settings: TeacherStoreSettings, directory: epath.Path, context: Context) -> dict[str, Any]:
    """Writes this host's missing shards; returns λ, the fitted η and the errors of rounding."""
    corpus = Corpus.open(context.inputs["corpus"])
    vocabulary = Vocabulary.load(context.inputs["vocabulary"])
    teacher = language_model.load(
        settings.backbone, context.inputs["dialogue_teacher"], vocabulary, settings.compute_dtype
    )
    train, dev = (
        settings.rows.rows_of(corpus, vocabulary, corpus.dialogues(split))
        for split in ("train", "dev")
    )
    folds = [context.inputs[f"{FOLD}{fold}"] for fold in range(settings.folds)]
    labels = _labels_of_recommenders(corpus, vocabulary, folds)
    writer = TeacherStoreWriter(
        directory,
        _spec(settings, teacher, labels),
        provenance(context.input_fingerprints, vocabulary),
        train.row_offsets,
        settings.num_shards,
    )
    shards = writer.missing_shards(jax.process_index(), jax.process_count())
    total = sum(len(writer.shard_responses(shard)) for shard in shards)
    display = Counting("teacher_outputs", "responses", total)
    with display if shards else contextlib.nullcontext():
        for shard in shards:
            part = writer.shard_rows(shard)
            batches = teacher.batches(train, "teacher", settings.batch_rows, part)
            outputs, rounding = _outputs(teacher, train, writer.spec, batches, display)
            records = _records(train, outputs, labels, writer, shard)
            writer.write_shard(shard, records, dataclasses.asdict(rounding))
    parallel.barrier("teacher outputs written")
    held_out = teacher.score(dev, "teacher", settings.batch_rows, "teacher_outputs, dev")
    mass, is_item = held_out.item_mass[dev.is_choice], held_out.is_item[dev.is_choice]
    stats = {
        "dev": gate_statistics(mass, is_item),
        "fitted_eta": fit_eta(mass, is_item) if is_item.any() else None,
        "rounding": _Rounding.of_all(writer.measured()).summary(),
    }
    if parallel.is_first_process():
        writer.finish(_heads(settings, teacher, labels), stats)
    parallel.barrier("teacher store finished")
    store = TeacherStore.open(directory)
    stats["train"] = _stored_gate_statistics(store, vocabulary.num_words, train.is_choice)
    if parallel.is_first_process():
        terminal.say(_summary_line(stats))
    return _metrics(stats)


def provenance(input_fingerprints: Mapping[str, str], vocabulary: Vocabulary) -> dict[str, str]:
    """The fingerprints of a store's inputs, which its reader checks."""
    return {**input_fingerprints, "vocabulary_sha256": vocabulary.fingerprint}


@dataclasses.dataclass(frozen=True)
class _RecommenderLabels:
    """The outputs of the recommenders for the N training responses.

    Attributes:
      user_vectors: [N, d] p_u of eq. 3, from the recommender that labels the response.
      head_index: [N] index of that recommender: 0, or the response's fold.
      kernels: [K, d, I] kernels of the recommenders' heads, for the items in the vocabulary.
      biases: [K, I] biases of the same heads.
    """

    user_vectors: np.ndarray
    head_index: np.ndarray
    kernels: np.ndarray
    biases: np.ndarray


def _labels_of_recommenders(
    corpus: Corpus, vocabulary: Vocabulary, directories: Sequence[epath.Path]
) -> _RecommenderLabels:
    dialogues = corpus.dialogues("train")
    folds = len(directories)
    conversations = [d.conversation_id for d in dialogues for _ in responses(d)]
    head_index = np.array([fold_of(c, folds) for c in conversations], np.int32)
    vectors, kernels, biases = [], [], []
    for directory in directories:
        recommender = recommenders.load(directory, corpus)
        vectors.append(recommender.user_vectors(recommender.spec.contexts(dialogues, corpus)))
        kernels.append(np.asarray(recommender.head.kernel)[:, vocabulary.item_candidates])
        biases.append(np.asarray(recommender.head.bias)[vocabulary.item_candidates])
    chosen = np.stack(vectors)[head_index, np.arange(len(head_index))]  # [N, d]
    return _RecommenderLabels(chosen, head_index, np.stack(kernels), np.stack(biases))


def _spec(
    part: TeacherStoreSettings, teacher: LanguageModel, labels: _RecommenderLabels
) -> TeacherStoreSpec:
    num_targets, user_dim = teacher.num_targets, labels.user_vectors.shape[1]
    if part.top_k is not None:
        width = min(part.top_k, num_targets)
        return TeacherStoreSpec(part.format, part.dtype, width, user_dim, num_targets)
    width = num_targets if part.format == "dense" else teacher.exact_head().num_features
    return TeacherStoreSpec(part.format, part.dtype, width, user_dim)


def _heads(
    part: TeacherStoreSettings, teacher: LanguageModel, labels: _RecommenderLabels
) -> TeacherHeads:
    if part.format != "features":
        return TeacherHeads(labels.kernels, labels.biases)
    head = teacher.exact_head()
    switch = head.switch
    return TeacherHeads(
        labels.kernels,
        labels.biases,
        np.asarray(head.kernel),
        np.asarray(head.bias),
        None if switch is None else np.asarray(switch.kernel),
        None if switch is None else np.asarray(switch.bias),
    )


def _stored_gate_statistics(store: TeacherStore, num_words: int, is_choice: np.ndarray) -> dict:
    """Statistics of λ over the choices in the whole store, with the shards of other hosts."""
    masses, targets = [], []
    for start in range(0, len(store), READ_AT_ONCE):
        for record in store.read(range(start, min(start + READ_AT_ONCE, len(store)))):
            masses.append(record.item_mass)
            targets.append(record.targets)
    mass, is_item = np.concatenate(masses), np.concatenate(targets) >= num_words
    return gate_statistics(mass[is_choice], is_item[is_choice])


def _summary_line(stats: dict) -> str:
    train, dev, eta = stats["train"], stats["dev"], stats["fitted_eta"]
    fitted = "no item steps to fit η to" if eta is None else f"fitted η {eta:.3f}"
    return (
        f"teacher_outputs: λ_r {train['lambda_r']:.3f}, λ_v {train['lambda_v']:.3f} on train; "
        f"{dev['lambda_r']:.3f}, {dev['lambda_v']:.3f} on dev; {fitted}"
    )


def _metrics(stats: dict) -> dict:
    return {
        "lambda_r": stats["dev"]["lambda_r"],
        "lambda_v": stats["dev"]["lambda_v"],
        "train_lambda_r": stats["train"]["lambda_r"],
        "train_lambda_v": stats["train"]["lambda_v"],
        "fitted_eta": stats["fitted_eta"],
        **{f"rounding_{name}": value for name, value in stats["rounding"].items()},
    }


@functools.partial(
    jax.jit,
    static_argnames=("model", "num_words", "num_targets", "spec", "measures_rounding"),
)
def outputs_of_batch(
    params, batch, *, model, num_words, num_targets, spec: TeacherStoreSpec, measures_rounding
):
    """Rounded outputs of a batch, and their statistics after and before rounding.

    The statistics before rounding are None unless they are asked for: they need a second softmax
    over all of Y, which takes as long as the first. (Those of topk need none.)
    """
    exact = None
    features = response_features(model, params, batch)  # [N, F]
    head: Head = model.head(params, num_targets)
    dtype = jnp.dtype(spec.dtype)
    if spec.format == "topk":
        arguments = head, batch["labels"], num_words, batch["num_tokens"], retrieved_ids(batch)
        found = head_statistics(features, *arguments, top_k=spec.width)
        outputs = found.pop("log_probs").astype(dtype)
        rounded = _kept(outputs, found, batch["labels"], spec)
        exact = found if measures_rounding else None
    elif spec.format == "dense":
        logits = head.logits(features, retrieved_ids(batch))
        outputs = logits.astype(dtype)
        rounded = logit_statistics(outputs.astype(jnp.float32), batch["labels"], num_words)
        if measures_rounding:
            exact = logit_statistics(logits, batch["labels"], num_words)
    else:
        outputs = features.astype(dtype)
        arguments = head, batch["labels"], num_words, batch["num_tokens"]
        rounded = head_statistics(outputs.astype(jnp.float32), *arguments)
        if measures_rounding:
            exact = head_statistics(features, *arguments)
    return outputs, rounded, exact


def _kept(outputs, exact: dict, labels, spec: TeacherStoreSpec) -> dict:
    """The statistics of K rounded log-probabilities: λ is exact, and the mass of others is lost.

    The NLL of a gold token that is not among the K stays exact: it would be infinite.
    """
    log_probs = outputs.astype(jnp.float32)
    is_gold = exact["token_ids"] == labels[:, None]
    of_gold = -jnp.sum(jnp.where(is_gold, log_probs, 0), axis=1)
    return {
        **exact,
        "nll": jnp.where(is_gold.any(axis=1), of_gold, exact["nll"]),
        "lost_mass": 1 - jnp.sum(jnp.exp(log_probs), axis=1),
        "token_ids": exact["token_ids"].astype(spec.id_dtype),
    }


@dataclasses.dataclass
class _Rounding:
    """The errors of rounding stored outputs, compared with the exact teacher.

    The mass that is lost is what topk leaves out; other formats lose none.
    """

    max_mass_error: float = 0.0
    flips: int = 0
    nll_error: float = 0.0
    tokens: int = 0
    lost_mass: float = 0.0

    @classmethod
    def of_all(cls, parts: Sequence[Mapping[str, Any]]) -> _Rounding:
        """Adds up the measurements of all shards."""
        return cls(
            max_mass_error=max(part["max_mass_error"] for part in parts),
            flips=sum(part["flips"] for part in parts),
            nll_error=sum(part["nll_error"] for part in parts),
            tokens=sum(part["tokens"] for part in parts),
            # Shards of earlier versions do not have it.
            lost_mass=sum(part.get("lost_mass", 0.0) for part in parts),
        )

    def add(self, rounded: dict, exact: dict, eta: float = 0.6) -> None:
        mass, exact_mass = rounded["item_mass"], exact["item_mass"]
        if mass.size:
            self.max_mass_error = max(self.max_mass_error, float(np.abs(mass - exact_mass).max()))
        self.flips += int(((mass >= eta) != (exact_mass >= eta)).sum())
        self.nll_error += float((rounded["nll"] - exact["nll"]).sum(dtype=np.float64))
        self.tokens += mass.size
        if "lost_mass" in rounded:
            self.lost_mass += float(rounded["lost_mass"].sum(dtype=np.float64))

    def summary(self) -> dict[str, float]:
        return {
            "max_item_mass_error": self.max_mass_error,
            "flips_at_0.6": self.flips,
            "mean_nll_error": self.nll_error / max(self.tokens, 1),
            "tokens": self.tokens,
            "mean_lost_mass": self.lost_mass / max(self.tokens, 1),
        }


def _outputs(
    teacher: LanguageModel, rows: Rows, spec: TeacherStoreSpec, batches: Iterable, display: Counting
) -> tuple[dict[int, dict[str, np.ndarray]], _Rounding]:
    """{response id: the fields of its record that the dialogue teacher makes} of a shard."""
    found, rounding = {}, _Rounding()
    for number, (response_ids, batch) in enumerate(batches):
        outputs, rounded, exact = jax.device_get(
            outputs_of_batch(
                teacher.variables,
                batch,
                model=teacher.model,
                num_words=teacher.vocabulary.num_words,
                num_targets=teacher.num_targets,
                spec=spec,
                measures_rounding=number < MEASURED_BATCHES,
            )
        )
        count = int(batch["num_tokens"])
        if exact is not None:
            rounding.add(
                {name: value[:count] for name, value in rounded.items()},
                {name: value[:count] for name, value in exact.items()},
            )
        every = {"outputs": outputs, **rounded}
        fields = {field: every[field] for field, _, _ in spec.token_arrays.values()}
        ends = np.cumsum(rows.response_length[response_ids])
        for response, end in zip(response_ids.tolist(), ends.tolist(), strict=True):
            span = slice(end - int(rows.response_length[response]), end)
            found[response] = {field: values[span] for field, values in fields.items()}
        display.add(len(response_ids))
    return found, rounding


def _records(
    rows: Rows, outputs: dict, labels: _RecommenderLabels, writer: TeacherStoreWriter, shard: int
) -> Iterator[TeacherRecord]:
    """The records of a shard, in the order of its responses."""
    for response in writer.shard_responses(shard):
        conversation, turn = rows.response_keys[response]
        yield TeacherRecord(
            conversation_id=conversation,
            turn=turn,
            targets=rows.response_targets(response),
            **outputs[response],
            user_vector=labels.user_vectors[response],
            rec_head_index=int(labels.head_index[response]),
        )
