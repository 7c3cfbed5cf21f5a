"""From rows to batches: how much of them is padding, how long they take, and how they resume.

    python -m benchmarks.input_pipeline --json=docs/results/benchmarks/input_pipeline.json

**Padding.** Rows as long as ReDial's dialogues are padded to few static lengths, since every shape
is a compilation. The peers pad every batch to its longest row: batches in random order, and those
of transformers' `LengthGroupedSampler`, which sorts within groups of fifty batches. The share of
real tokens stands beside the number of shapes. More lengths mean less padding and more to compile.
After how many steps they have paid for that is computed from the times of a step and of its first
call, which compiles.

**Time.** What loading a batch with a teacher store takes, beside the train step that waits for it
and a PyTorch `DataLoader` for the same rows with the teacher's features in memory.

**Resuming.** A batch is a function of its step, so loading from step 1,000,000 on takes as long as
from step 10 on, one, two and four hosts put together the same global batch, and no shape is new
after the first epoch.
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
from collections.abc import Callable, Sequence

import numpy as np

from benchmarks import side_by_side
from benchmarks.random_gpt2 import SIZES, GPT2Size, make_model, write_checkpoint
from benchmarks.report import Bound, Case, Report, read_options
from benchmarks.side_by_side import Contender, Run, use_torch
from benchmarks.train_step import RESPONSE, USER_DIM, Ours, make_heads
from conkd_jax.data.batches.language_model import LanguageModelBatches
from conkd_jax.data.batches.loader import Batch, BatchLoader
from conkd_jax.data.batches.plan import BatchPlan, quantile_buckets
from conkd_jax.data.rows.dialogue import DialogueRows
from conkd_jax.data.teacher_store.files import TeacherStore, TeacherStoreWriter
from conkd_jax.data.teacher_store.schema import TeacherRecord, TeacherStoreSpec
from conkd_jax.stages.train_step_memory import vocabulary_of_size

LONGEST = 512
FAR = 1_000_003  # a step deep in a long training
LOADING, STEP = "conkd_jax, loading", "conkd_jax, ConKD train step"
TORCH_LOADING = "PyTorch DataLoader, loading"
NEAR_SEEK, FAR_SEEK = "first batch from step 10", f"first batch from step {FAR:,}"


@dataclasses.dataclass(frozen=True)
class Corpus:
    """What is loaded.

    Attributes:
      model: the size of the model that reads it.
      num_rows: dialogues.
      batch_size: rows of a global batch.
      num_buckets: with the target of the share of real tokens, or None.
      num_batches: loaded in one measurement.
      loading: the target of loading's time over the step's.
      seek: the target of resuming at a late step over resuming at an early one.
      longest: tokens of the longest row.
    """

    model: str
    num_rows: int
    batch_size: int
    num_buckets: dict[int, Bound | None]
    num_batches: int
    loading: Bound | None = None
    seek: Bound | None = None
    longest: int = LONGEST


REAL = Bound(0.90, is_least=True)
CASES = {
    "full": (Corpus("mini", 4_000, 16, {6: None, 12: REAL}, 8, Bound(0.5), Bound(2)),),
    "tiny": (Corpus("tiny", 40, 4, {2: None}, 2, longest=64),),
}
NONE = Bound(0)


def make_lengths(corpus: Corpus, seed: int = 0) -> np.ndarray:
    """Tokens in each row: log-normal with a median of 160, as ReDial's dialogues are."""
    rng = np.random.default_rng(seed)
    lengths = rng.lognormal(np.log(160), 0.45, corpus.num_rows) * corpus.longest / LONGEST
    return lengths.clip(RESPONSE + 8, corpus.longest).astype(np.int64)


def make_rows(corpus: Corpus, size: GPT2Size, seed: int = 0) -> DialogueRows:
    """Random rows with a response at the end of every 64 tokens, or one in a shorter row."""
    rng = np.random.default_rng(seed)
    lengths = make_lengths(corpus)
    tokens = [rng.integers(1, size.num_words, n).astype(np.int32) for n in lengths]
    starts = [np.arange(64, n, 64) - RESPONSE if n > 64 else [n - RESPONSE - 1] for n in lengths]
    counts = np.array([len(each) for each in starts])
    row = np.repeat(np.arange(len(lengths)), counts)
    start = np.concatenate(starts).astype(np.int32)
    targets = [tokens[r][s + 1 : s + 1 + RESPONSE] for r, s in zip(row, start, strict=True)]
    forms = dict.fromkeys(("teacher", "student"), tokens)
    return DialogueRows(
        response_keys=[(str(r), int(s)) for r, s in zip(row, start, strict=True)],
        response_length=np.full(len(row), RESPONSE, np.int32),
        response_is_rec=np.zeros(len(row), bool),
        row_offsets=np.concatenate([[0], np.cumsum(counts)]),
        targets=np.concatenate(targets),
        target_offsets=np.arange(len(row) + 1, dtype=np.int64) * RESPONSE,
        tokens=forms,
        response_row=row.astype(np.int32),
        response_start=start,
        dialogue_tokens=forms,
        response_dialogue=row.astype(np.int32),
        response_position=start,
    )


def write_store(folder: str, rows: DialogueRows, size: GPT2Size, seed: int = 0) -> TeacherStore:
    """A teacher store of random outputs for these rows."""
    rng = np.random.default_rng(seed)
    spec = TeacherStoreSpec("features", "bfloat16", size.width, USER_DIM)
    writer = TeacherStoreWriter(folder, spec, {"teacher": "random"}, rows.row_offsets, 1)

    def record(response: int) -> TeacherRecord:
        conversation, turn = rows.response_keys[response]
        return TeacherRecord(
            conversation_id=conversation,
            turn=turn,
            targets=rows.response_targets(response),
            outputs=spec.round(rng.standard_normal((RESPONSE, size.width), dtype=np.float32)),
            item_mass=rng.random(RESPONSE, dtype=np.float32),
            log_normalizer=np.full(RESPONSE, np.log(size.num_targets), np.float32),
            user_vector=rng.standard_normal(USER_DIM, dtype=np.float32),
        )

    writer.write_shard(0, map(record, range(rows.num_responses)))
    writer.finish(make_heads(size))
    return TeacherStore.open(folder)


# --- padding ---------------------------------------------------------------------------------


def add_padding(case: Case, corpus: Corpus) -> dict[int, float]:
    """Adds the share of real tokens, and how many shapes it takes; returns it for our numbers."""
    lengths, shares = make_lengths(corpus), {}
    for number, bound in corpus.num_buckets.items():
        plan = BatchPlan(lengths, corpus.batch_size, quantile_buckets(lengths, number), seed=0)
        steps = [plan.step(step) for step in range(plan.steps_per_epoch)]
        padded = sum(corpus.batch_size * step.bucket_length for step in steps)
        name = f"real / padded tokens, conkd_jax with {number} lengths"
        shares[number] = float(lengths.sum() / padded)
        case.number(name, shares[number], bound)
    torch = use_torch()
    from transformers.trainer_pt_utils import LengthGroupedSampler

    generator = torch.Generator().manual_seed(0)
    grouped = LengthGroupedSampler(corpus.batch_size, lengths=lengths.tolist(), generator=generator)
    orders = {
        "in random order": np.random.default_rng(0).permutation(len(lengths)),
        "of LengthGroupedSampler": np.array(list(grouped)),
    }
    for name, order in orders.items():
        batches = [
            lengths[order[begin : begin + corpus.batch_size]]
            for begin in range(0, len(order), corpus.batch_size)
        ]
        longest = [int(batch.max()) for batch in batches]
        padded = sum(len(batch) * most for batch, most in zip(batches, longest, strict=True))
        case.number(f"real / padded tokens, batches {name}", lengths.sum() / padded)
        case.number(f"shapes, batches {name}", len(set(longest)))
    return shares


def add_break_even(
    case: Case, shares: dict[int, float], step_seconds: float, compile_seconds: float
) -> None:
    """Adds after how many steps the most lengths have saved what they cost to compile."""
    few, many = min(shares), max(shares)
    case.number("seconds to compile the train step for one length", compile_seconds)
    if shares[many] > shares[few]:
        saved = step_seconds * (1 - shares[few] / shares[many])
        steps = (many - few) * compile_seconds / saved
        case.number(f"steps until {many} lengths instead of {few} have paid for compiling", steps)


# --- time ------------------------------------------------------------------------------------


class Pipeline:
    """The loader of a corpus and what it is made of."""

    def __init__(self, corpus: Corpus, size: GPT2Size, store: TeacherStore, rows: DialogueRows):
        self._corpus, self._size, self._rows = corpus, size, rows
        self._store = store
        buckets = quantile_buckets(rows.lengths, max(corpus.num_buckets))
        plan = self._plan = BatchPlan(rows.lengths, corpus.batch_size, buckets, seed=0)
        vocabulary = vocabulary_of_size(size.num_words, size.num_items)
        self._assemble = LanguageModelBatches(
            rows, vocabulary, plan, "student", store=store, cache_in_memory=1 << 30
        )

    def loader(self, process_index: int = 0, process_count: int = 1) -> BatchLoader:
        """A loader, with a new plan, of one of some hosts that have four devices together."""
        used = self._plan
        plan = BatchPlan(used.lengths, used.batch_size, used.bucket_lengths, used.seed)
        return BatchLoader(plan, self._assemble, 4, 1, process_index, process_count)

    def whole_batch(self, loader: BatchLoader, step: int) -> Batch:
        """The arrays of a step for one device."""
        rows, length = loader.plan.step(step)
        return loader.assemble(rows, length, rows)

    def equal_steps(self, loader: BatchLoader) -> list[int]:
        """Steps whose batches have one shape, which a train step is compiled for."""
        steps = range(loader.plan.steps_per_epoch)
        lengths = [loader.plan.step(step).bucket_length for step in steps]
        chosen = sorted(lengths)[len(lengths) // 2]
        return [step for step in steps if lengths[step] == chosen][: self._corpus.num_batches]

    def loading(self) -> Run:
        """Loads some batches, without threads that work ahead."""
        loader = self.loader()
        steps = self.equal_steps(loader)
        return lambda: [self.whole_batch(loader, step)["num_tokens"] for step in steps]

    def train_step(self, folder: str) -> Run:
        """The train step of one of these batches."""
        loader = self.loader()
        batch = self.whole_batch(loader, self.equal_steps(loader)[0])
        ids = batch["input_ids"]  # this model has no row for the padding token
        batch["input_ids"] = np.where(ids < self._size.num_targets, ids, 0)
        return Ours.of(self._size, folder, batch, make_heads(self._size)).step()

    def first_batch(self, step: int) -> Run:
        """Makes a plan and loads one batch, as a training that resumes does."""
        return lambda: next(self.loader().iterate(step, 1))["num_tokens"]

    def torch_loading(self) -> Run:
        """The same number of batches by a DataLoader: features in memory, padded when collated."""
        torch = use_torch()
        from transformers.trainer_pt_utils import LengthGroupedSampler

        rows, corpus = self._rows, self._corpus
        records = self._store.read(range(len(self._store)))
        outputs = [torch.from_numpy(record.outputs.astype(np.float32)) for record in records]
        examples = [
            {
                "input_ids": torch.from_numpy(rows.tokens["student"][row]),
                "labels": torch.from_numpy(
                    np.concatenate([rows.response_targets(r) for r in range(*span)])
                ),
                "teacher_features": torch.cat(outputs[slice(*span)]).bfloat16(),
            }
            for row, span in enumerate(
                zip(rows.row_offsets[:-1], rows.row_offsets[1:], strict=True)
            )
        ]

        def collate(chosen):
            pad = torch.nn.utils.rnn.pad_sequence
            return {name: pad([each[name] for each in chosen], True) for name in chosen[0]}

        sampler = LengthGroupedSampler(corpus.batch_size, lengths=rows.lengths.tolist())
        loader = torch.utils.data.DataLoader(
            examples, corpus.batch_size, sampler=sampler, collate_fn=collate
        )

        def run():
            for _, _ in zip(range(corpus.num_batches), loader, strict=False):
                pass

        return run


# --- resuming --------------------------------------------------------------------------------


def differing_arrays(pipeline: Pipeline, steps: Sequence[int]) -> int:
    """Arrays of global batches in which two or four hosts differ from one."""
    count = 0
    for step in steps:
        whole = pipeline.loader().batch(step)
        for hosts in (2, 4):
            parts = [pipeline.loader(host, hosts).batch(step) for host in range(hosts)]
            joined = {name: np.concatenate([part[name] for part in parts]) for name in whole}
            count += sum(not np.array_equal(whole[name], joined[name]) for name in whole)
    return count


def new_shapes(pipeline: Pipeline) -> int:
    """Shapes of batches in the second epoch that the first one does not have."""
    loader = pipeline.loader()
    epoch = loader.plan.steps_per_epoch

    def shapes(steps: range) -> set[tuple]:
        batches = (pipeline.whole_batch(loader, step) for step in steps)
        return {tuple((k, v.shape) for k, v in batch.items()) for batch in batches}

    return len(shapes(range(epoch, 2 * epoch)) - shapes(range(epoch)))


def add_case(report: Report, options: argparse.Namespace, corpus: Corpus) -> None:
    """Adds all of one corpus."""
    size = SIZES[corpus.model]
    rows = make_rows(corpus, size)
    with tempfile.TemporaryDirectory() as folder:
        pipeline = Pipeline(corpus, size, write_store(f"{folder}/store", rows, size), rows)
        write_checkpoint(make_model(size), f"{folder}/model", size)

        def contender(name: str, prepare: Callable[[], Run], package: str = "") -> Contender:
            return Contender(name, prepare, package, work=name)

        contenders = [
            contender(LOADING, pipeline.loading),
            contender(STEP, lambda: pipeline.train_step(f"{folder}/model")),
            contender(TORCH_LOADING, pipeline.torch_loading, "torch"),
            contender(NEAR_SEEK, lambda: pipeline.first_batch(10)),
            contender(FAR_SEEK, lambda: pipeline.first_batch(FAR)),
        ]
        found = side_by_side.measure_time(contenders, options.rounds, options.pause)
        differing, unseen = differing_arrays(pipeline, (0, 7, FAR)), new_shapes(pipeline)
    facts = {
        "rows": corpus.num_rows,
        "tokens": int(rows.lengths.sum()),
        "batch": corpus.batch_size,
        "batches loaded": corpus.num_batches,
    }
    case = report.case(f"{corpus.model}, {corpus.num_rows:,} dialogues", facts, found)
    loading = found[LOADING]["seconds"]["min"] / corpus.num_batches
    share = loading / found[STEP]["seconds"]["min"]
    case.number("loading a batch / the train step on it", share, corpus.loading)
    case.ratio("seconds", LOADING, TORCH_LOADING)
    case.ratio("seconds", FAR_SEEK, NEAR_SEEK, corpus.seek)
    case.number("arrays that differ between one, two and four hosts", differing, NONE)
    case.number("shapes that are new after the first epoch", unseen, NONE)
    shares, step = add_padding(case, corpus), found[STEP]
    compiling = step["first_seconds"] - step["seconds"]["median"]
    add_break_even(case, shares, step["seconds"]["min"], compiling)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns its exit status."""
    options = read_options(__doc__, CASES, argv)
    report = Report("input_pipeline", options)
    for corpus in CASES[options.size]:
        add_case(report, options, corpus)
    return report.finish()


if __name__ == "__main__":
    raise SystemExit(main())
