"""Stage `corpus`: builds dialogues and graphs from raw files or a seed, with `data_prep`.

What differs between the sources of a corpus is in `stages.corpora`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from etils import epath

from conkd_jax.artifacts.stage import Context, Stage
from conkd_jax.config import Config
from conkd_jax.data.corpus import Corpus, CorpusError
from conkd_jax.runtime import parallel
from conkd_jax.stages.corpora import CORPORA, CorpusSettings
from data_prep.reviews import coverage

VERSION = 2


def stage(
    config: Config,
    stages: Mapping[str, Stage],
    *,
    use_inferred_order: bool = False,
    use_test: bool = False,
) -> Stage:
    """The corpus of a config.

    Training uses a corpus without the test split, so adding the official test file later changes no
    trained model. Only an evaluation on the test split reads a corpus that includes it.

    Args:
      config: the whole config.
      stages: not used.
      use_inferred_order: include the split `inferred` (ReDial only).
      use_test: include the split `test` (ReDial; MovieWorld always has one).

    Raises:
      data_prep.sources.MissingDataError: the raw files, or the reviews, are missing.
    """
    settings = CORPORA[config.corpus.name].of(
        config, use_inferred_order=use_inferred_order, use_test=use_test
    )
    return Stage("corpus", VERSION, settings, {}, run)


def run(settings: CorpusSettings, directory: epath.Path, context: Context) -> dict[str, Any]:
    """Builds the corpus on the first process; returns the sizes of its splits and graph.

    Raises:
      CorpusError: the raw files can't be read, or the recommender could learn nothing.
    """
    try:
        report = settings.build(directory) if parallel.is_first_process() else {}
    except ValueError as error:  # from the readers of raw files, with file and line
        raise CorpusError(f"The corpus can't be built: {error}") from error
    parallel.barrier("corpus written")
    report = report or Corpus.open(directory).report
    if parallel.is_first_process():
        for warning in report["warnings"]:
            print(f"corpus: warning: {warning}", flush=True)
        if "reviews" in report:
            print(f"corpus: {coverage(report['reviews'])}", flush=True)
    expect_trainable(report)
    if getattr(settings, "use_inferred_order", False) and "inferred" not in report["splits"]:
        raise CorpusError(
            "use_inferred_order: expected dialogues in train_inferred_order.jsonl that are neither "
            "in the training file nor held out, found none"
        )
    return {"splits": report["splits"], "graph": report["graph"]}


def expect_trainable(report: Mapping[str, Any]) -> None:
    """Refuses a corpus from which the recommender would have nothing to learn.

    Args:
      report: the corpus' data report, whose warnings say why something is missing.

    Raises:
      CorpusError: no response mentions an item, the knowledge graph has no relation, or no concept
        is mentioned in training although there is a word graph.
    """
    mentions_concepts = report["linking"]["train"]["concept_mentions"] > 0
    if not report["splits"]["train"]["item_mentions"]:
        lacks = "no training response mentions an item of the list"
    elif not report["graph"]["relations"]:
        lacks = "the knowledge graph has no relation"
    elif report.get("has_word_graph", True) and not mentions_concepts:
        lacks = "no training dialogue mentions a concept of the concept graph"
    else:
        return
    raise CorpusError(
        f"The recommender can't be trained: {lacks}. {' '.join(report['warnings'])}".rstrip()
    )
