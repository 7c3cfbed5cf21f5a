"""How long an answer takes: the turn classifier, reading the history, writing each token.

Every system writes a fixed number of tokens, greedily, with the loop that evaluation uses
(`decode_loop`), and no token ends a response, so times do not depend on what is said. Systems
alternate, answer by answer, A B B A A B …, so that neither a busy machine nor the order favours
one. Only times from the same call are comparable.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from conkd_jax.data.rows.contract import Prompts
from conkd_jax.distill.head import Head
from conkd_jax.eval.decode_loop import choose_token, decode_steps
from conkd_jax.models.backbone import Backbone
from conkd_jax.typing import Params

NO_TOKEN = -1  # in place of the end token: it is never chosen


@dataclasses.dataclass(frozen=True, eq=False)
class TimedDecoder:
    """Greedy decoding in its two parts, both compiled.

    Attributes:
      model: the language model.
      params: its parameters.
      head: onto Y = V ∪ I.
      num_words: |V|, the id of the first item token.
      num_tokens: length of every response, two or more.
      item_rule: as in `decoding.Decoding`.
    """

    model: Backbone
    params: Params
    head: Head
    num_words: int
    num_tokens: int
    item_rule: str = "argmax"

    def __post_init__(self):
        if self.num_tokens < 2:
            raise ValueError(
                f"num_tokens: expected 2 or more, got {self.num_tokens}. The first token of a "
                "response belongs to the prefill, so a token can be timed from the second one on"
            )

    @property
    def num_steps(self) -> int:
        """Tokens that `write` adds: each takes one step of the model and one choice."""
        return self.num_tokens - 1

    def read(self, inputs: Mapping[str, Any]) -> tuple[Any, Any]:
        """Prefill: the first token [B] and the cache, from the result of `Prompts.inputs`."""
        return _read(self.params, self.head, inputs, self.num_tokens, *self._how)

    def write(self, token: Any, cache: Any) -> tuple[Any, Any]:
        """The tokens [B, num_steps] that follow, and the features that chose them."""
        return _write(self.params, self.head, token, cache, self.num_tokens, *self._how)

    @property
    def _how(self) -> tuple:
        return self.model, self.num_words, self.item_rule


@functools.partial(jax.jit, static_argnums=(3, 4, 5, 6))
def _read(params, head, inputs, num_tokens, model, num_words, item_rule):
    features, cache = model.open_cache(params, inputs, num_tokens)
    retrieved = inputs.get("retrieved_ids")
    logits = head.logits(features, retrieved)
    return choose_token(logits, num_words=num_words, item_rule=item_rule), (cache, retrieved)


@functools.partial(jax.jit, static_argnums=(4, 5, 6, 7))
def _write(params, head, token, cache, num_tokens, model, num_words, item_rule):
    cache, retrieved = cache

    def choose(features, memory):
        logits = head.logits(features, retrieved)
        return choose_token(logits, num_words=num_words, item_rule=item_rule), memory

    step = functools.partial(model.step, params)
    features, cache = step(token, cache)
    return decode_steps(
        features,
        cache,
        step,
        choose,
        end_id=NO_TOKEN,
        max_tokens=num_tokens - 1,
        has_ended=jnp.zeros(token.shape, bool),
    )


# --- questions -------------------------------------------------------------------------------


class Question(NamedTuple):
    """The input of one measurement: one prompt, or a batch of them.

    Attributes:
      inputs: of `TimedDecoder.read`.
      context: arguments of the turn classifier; None where the system has none.
    """

    inputs: Mapping[str, Any]
    context: tuple | None


@dataclasses.dataclass(frozen=True, eq=False)
class TimedSystem:
    """A system and the questions it is timed on.

    Attributes:
      decoder: its language model.
      classify: its turn classifier, compiled, on a question's context; None where it has none.
      singles: P questions of one response each.
      batches: L full batches, one for each length that prompts are padded to.
      shares: [L] share of the prompts with each length; they sum to 1.
      batch_size: responses in each of the batches.
    """

    decoder: TimedDecoder
    classify: Callable[..., Any] | None
    singles: Sequence[Question]
    batches: Sequence[Question]
    shares: np.ndarray
    batch_size: int


def build_questions(
    prompts: Prompts,
    buckets: Sequence[int],
    batch_size: int,
    context: Callable[[list[int]], tuple] | None,
) -> tuple[list[Question], list[Question], np.ndarray]:
    """Every prompt alone, and a full batch for each bucket that some prompt needs.

    Args:
      prompts: one or more.
      buckets: lengths to pad to, ascending; a longer prompt keeps its tail.
      batch_size: of the batches; the prompts of a bucket are repeated until a batch is full.
      context: from some indices of prompts to the classifier's input; None without a classifier.

    Returns:
      `singles`, `batches` and `shares` of a `TimedSystem`.
    """

    def question(members: list[int], length: int) -> Question:
        inputs = prompts.inputs(members, length, len(members))
        return Question(inputs, None if context is None else context(members))

    places = np.searchsorted(buckets, prompts.lengths).clip(max=len(buckets) - 1)
    singles = [question([prompt], buckets[place]) for prompt, place in enumerate(places.tolist())]
    used, counts = np.unique(places, return_counts=True)
    batches = [
        question(np.resize(np.flatnonzero(places == place), batch_size).tolist(), buckets[place])
        for place in used.tolist()
    ]
    return singles, batches, counts / counts.sum()


# --- the clock -------------------------------------------------------------------------------


class Timings(NamedTuple):
    """Seconds that one system took.

    Attributes:
      singles: [repeats, P, 3] for each single response: classifier, prefill, decoding.
      batches: [repeats, L] for each batch as a whole.
    """

    singles: np.ndarray
    batches: np.ndarray


def time_interleaved(systems: Sequence[TimedSystem], repeats: int) -> list[Timings]:
    """Times systems alternately, first on single responses and then on batches.

    Everything is answered once before, untimed, which compiles every shape and warms up the device.

    Args:
      systems: one or more; where one has fewer questions, the others go on without it.
      repeats: how often each question is timed.

    Returns:
      The timings of each system.
    """
    for _ in _rounds(systems):
        pass
    singles = [[[] for _ in range(repeats)] for _ in systems]
    batches = [[[] for _ in range(repeats)] for _ in systems]
    for repeat in range(repeats):
        for system, is_batch, seconds in _rounds(systems):
            if is_batch:
                batches[system][repeat].append(sum(seconds))
            else:
                singles[system][repeat].append(seconds)
    return [Timings(np.array(s), np.array(b)) for s, b in zip(singles, batches, strict=True)]


def _rounds(
    systems: Sequence[TimedSystem],
) -> Iterator[tuple[int, bool, tuple[float, float, float]]]:
    """Answers every question once, systems alternating, in reverse order every other time.

    Yields:
      The index of the system, whether the question is a batch, and the result of `time_answer`.
    """
    asked = {False: [s.singles for s in systems], True: [s.batches for s in systems]}
    for is_batch, of_systems in asked.items():
        for place, turn in enumerate(itertools.zip_longest(*of_systems)):
            for number, question in list(enumerate(turn))[:: -1 if place % 2 else 1]:
                if question is not None:
                    yield number, is_batch, time_answer(systems[number], question)


def time_answer(system: TimedSystem, question: Question) -> tuple[float, float, float]:
    """Seconds of the classifier, the prefill and the decoding, each until its result is ready."""
    classifying = 0.0
    if system.classify is not None and question.context is not None:
        classifying, _ = _timed(system.classify, *question.context)
    reading, first = _timed(system.decoder.read, question.inputs)
    writing, _ = _timed(system.decoder.write, *first)
    return classifying, reading, writing


def _timed(run: Callable[..., Any], *arguments: Any) -> tuple[float, Any]:
    began = time.perf_counter()
    result = jax.block_until_ready(run(*arguments))
    return time.perf_counter() - began, result


# --- measures --------------------------------------------------------------------------------


class Spread(NamedTuple):
    """A number over repeats: the median, the smallest and the largest."""

    median: float
    low: float
    high: float


def spread(values: np.ndarray) -> Spread:
    """The median over answers, and its spread over repeats.

    Args:
      values: [repeats, answers].

    >>> spread(np.array([[3.0, 9.0, 1.0], [1.0, 2.0, 8.0], [4.0, 4.0, 4.0]]))
    Spread(median=3.0, low=2.0, high=4.0)
    """
    of_repeats = np.median(values, axis=1)
    return Spread(float(np.median(of_repeats)), float(of_repeats.min()), float(of_repeats.max()))


def latency_measures(system: TimedSystem, timings: Timings) -> dict[str, np.ndarray]:
    """The measures of a system by their names in `metrics.json`, each [repeats, answers].

    Args:
      system: as it was timed.
      timings: what `time_interleaved` measured.

    Returns:
      "ms_per_token", decoding / num_steps; "prefill_ms", the first token included; "classifier_ms",
      where there is one; "responses_per_second", 1 / whole answer, one at a time;
      "batched_responses_per_second" [repeats, 1], batch_size / Σ share · batch.
    """
    classifying, reading, writing = np.moveaxis(timings.singles, 2, 0)
    found = {
        "ms_per_token": 1e3 * writing / system.decoder.num_steps,
        "prefill_ms": 1e3 * reading,
        "responses_per_second": 1 / (classifying + reading + writing),
        "batched_responses_per_second": system.batch_size
        / (timings.batches @ system.shares)[:, None],
    }
    if system.classify is not None:
        found["classifier_ms"] = 1e3 * classifying
    return found


def answer_ratios(
    values: Mapping[str, np.ndarray], first: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Ratios of the measures that two systems share, answer by answer.

    Both sides of a ratio were measured within one round of all systems, so whatever slows the
    machine for longer than that cancels out.
    """
    return {name: value / first[name] for name, value in values.items() if name in first}
