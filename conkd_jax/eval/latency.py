"""How long an answer takes: the turn classifier, reading the history, writing each token.

Every system writes a fixed number of tokens by the loop that scoring uses (`decoding`), and no
token ends a response, so that a time doesn't depend on what is said. Systems take turns, answer by
answer, A B B A A B …, so that neither a busy machine nor who comes first favours one: compare what
one call gave, never two.

It knows models and arrays; it knows no run, no file and no text.
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
from conkd_jax.eval.decoding import choose_token, decode_steps
from conkd_jax.models.backbone import Backbone
from conkd_jax.typing import Params

NO_TOKEN = -1  # stands for the end token: no choice is ever it


@dataclasses.dataclass(frozen=True, eq=False)
class Decoder:
    """Greedy decoding in its two parts, both compiled.

    Attributes:
      head: onto Y = V ∪ I.
      num_words: |V|, where the items begin.
      num_tokens: that every response has, two or more.
      item_rule: as in `decoding.greedy_decode`.
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
                f"num_tokens is {self.num_tokens}: the first token of a response belongs to the "
                "prefill, so a response of two or more is needed to time a token"
            )

    @property
    def num_steps(self) -> int:
        """Tokens that `write` adds: each is one reading of the token before it and one choice."""
        return self.num_tokens - 1

    def read(self, inputs: Mapping[str, Any]) -> tuple[Any, Any]:
        """Prefill: the first token [B] and the cache, from what `Prompts.inputs` gives."""
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
    logits = head.logits(features)
    return choose_token(logits, num_words=num_words, item_rule=item_rule), cache


@functools.partial(jax.jit, static_argnums=(4, 5, 6, 7))
def _write(params, head, token, cache, num_tokens, model, num_words, item_rule):
    def choose(features, memory):
        logits = head.logits(features)
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


# --- what is asked ---------------------------------------------------------------------------


class Question(NamedTuple):
    """What is answered at once: one response, or a batch of them.

    Attributes:
      inputs: of `Decoder.read`.
      context: arguments of the turn classifier; None where the system has none.
    """

    inputs: Mapping[str, Any]
    context: tuple | None


@dataclasses.dataclass(frozen=True, eq=False)
class System:
    """What is timed.

    Attributes:
      decoder: its language model.
      classify: its turn classifier, compiled, on a question's context; None where it has none.
      singles: P questions of one response each.
      batches: L full batches, one for each length that prompts are padded to.
      shares: [L] the share of the prompts that have each length; they sum to 1.
      batch_size: responses in each of the batches.
    """

    decoder: Decoder
    classify: Callable[..., Any] | None
    singles: Sequence[Question]
    batches: Sequence[Question]
    shares: np.ndarray
    batch_size: int


def questions(
    prompts: Prompts,
    buckets: Sequence[int],
    batch_size: int,
    context: Callable[[list[int]], tuple] | None,
) -> tuple[list[Question], list[Question], np.ndarray]:
    """Every prompt alone, and a full batch for each bucket that some prompt needs.

    Args:
      prompts: one or more.
      buckets: lengths to pad to, rising; a longer prompt keeps its tail.
      batch_size: of the batches; a bucket's prompts are repeated until one is full.
      context: what the classifier reads for some of the prompts; None: there is no classifier.

    Returns:
      `singles`, `batches` and `shares` of a `System`.
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
    """Seconds of one system.

    Attributes:
      singles: [repeats, P, 3] of each question of one response: classifier, prefill, decoding.
      batches: [repeats, L] of each batch as a whole.
    """

    singles: np.ndarray
    batches: np.ndarray


def interleaved(systems: Sequence[System], repeats: int) -> list[Timings]:
    """Times systems in turns, over the questions of one response and then over the batches.

    Everything is answered once before, unmeasured, which compiles every shape and warms the device.

    Returns:
      for each system its timings.
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


def _rounds(systems: Sequence[System]) -> Iterator[tuple[int, bool, tuple[float, float, float]]]:
    """Every question once, systems in turns, every other turn backwards.

    Yields:
      the system's number, whether the question is a batch, and what `answer` gives.
    """
    asked = {False: [s.singles for s in systems], True: [s.batches for s in systems]}
    for is_batch, of_systems in asked.items():
        for place, turn in enumerate(itertools.zip_longest(*of_systems)):
            for number, question in list(enumerate(turn))[:: -1 if place % 2 else 1]:
                if question is not None:
                    yield number, is_batch, answer(systems[number], question)


def answer(system: System, question: Question) -> tuple[float, float, float]:
    """Seconds of the classifier, the prefill and the decoding; each is waited for."""
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


# --- what it comes to ------------------------------------------------------------------------


class Spread(NamedTuple):
    """A number over repeats: the median, the smallest and the largest."""

    median: float
    low: float
    high: float


def spread(values: np.ndarray) -> Spread:
    """The median over answers, and how it spreads over repeats.

    Args:
      values: [repeats, answers].

    >>> spread(np.array([[3.0, 9.0, 1.0], [1.0, 2.0, 8.0], [4.0, 4.0, 4.0]]))
    Spread(median=3.0, low=2.0, high=4.0)
    """
    of_repeats = np.median(values, axis=1)
    return Spread(float(np.median(of_repeats)), float(of_repeats.min()), float(of_repeats.max()))


def measures(system: System, timings: Timings) -> dict[str, np.ndarray]:
    """What is told of a system, by its name in `metrics.json`, each [repeats, answers].

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


def ratios(
    values: Mapping[str, np.ndarray], first: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Ratios of what two systems both have, answer by answer, of the same responses.

    Each pair was measured within one turn, so that what slows the machine for longer cancels.
    """
    return {name: value / first[name] for name, value in values.items() if name in first}
