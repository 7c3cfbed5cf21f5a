"""Stage `corpus`: raw files, or a seed, to dialogues and graphs. The only door to `data_prep`."""

from __future__ import annotations

from etils import epath

from conkd_jax import parallel
from conkd_jax.artifacts.build import Context, Stage
from conkd_jax.data.corpus import Corpus, CorpusError
from data_prep import movieworld, redial, sources

VERSION = 1


def stage(config, *, use_inferred_order: bool = False, use_test: bool = False) -> Stage:
    """The corpus of a config.

    Training reads a corpus without the test split, so that the official test file may be put beside
    the others at any time: only an evaluation on it reads a corpus with it.

    Args:
      config: a whole config.
      use_inferred_order: with the split `inferred` (ReDial only).
      use_test: with the split `test`.

    Raises:
      data_prep.sources.MissingDataError: the raw files are not there.
    """
    part = config.corpus
    if part.name == "movieworld":
        identity = {
            "name": part.name,
            "seed": part.movieworld_seed,
            "num_movies": part.movieworld_num_movies,
            "num_dialogues": part.movieworld_num_dialogues,
        }

        def build(directory: epath.Path) -> dict:
            return movieworld.build(
                directory,
                seed=part.movieworld_seed,
                num_movies=part.movieworld_num_movies,
                num_dialogues=part.movieworld_num_dialogues,
            )
    else:
        raw_dir = part.raw_dir or None
        wanted = {"use_inferred_order": use_inferred_order, "use_test": use_test}
        if use_test and sources.find(raw_dir).test is None:
            raise sources.MissingDataError(
                f"The test split is asked for, but there is no test_data.jsonl in "
                f"{raw_dir or 'CONKD_RAW_DIR'}. Put the official file beside the training file, or "
                "score another split: --config.evaluation.split=valid (--split=valid when scoring "
                "a run)."
            )
        raw = redial.raw_fingerprint(raw_dir, **wanted)
        options = {"graph_rule": part.graph_rule, **wanted}
        identity = {"name": part.name, "raw_files": raw, **options}

        def build(directory: epath.Path) -> dict:
            return redial.build(raw_dir, directory, **options)

    def run(directory: epath.Path, context: Context) -> dict:
        try:
            report = build(directory) if parallel.is_first_process() else {}
        except ValueError as error:  # what the readers of raw files raise, with file and line
            raise CorpusError(f"The corpus can't be built: {error}") from error
        parallel.barrier("corpus written")
        report = report or Corpus.open(directory).report
        return {"splits": report["splits"], "graph": report["graph"]}

    return Stage("corpus", VERSION, identity, {}, run)
