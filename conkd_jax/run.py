"""The one door to a finished run: everything that `conkd_jax.train` left, opened on demand.

`Run.open(folder)` reads config.json; stages, corpus, vocabulary, models, predictions and metrics
are opened when they are asked for. Whatever is missing ends in a `RunError` that says which command
makes it. Nothing is trained or written here; `conkd_jax.run_folder` writes the folder.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from etils import epath

from conkd_jax.artifacts.manifest import is_whole, whole_manifest
from conkd_jax.artifacts.stage import Stage
from conkd_jax.config import Config, ConfigError
from conkd_jax.config.rules import validate_config
from conkd_jax.data.corpus import Corpus
from conkd_jax.data.vocabulary import Vocabulary
from conkd_jax.errors import UserError
from conkd_jax.eval.document import decoding_label, run_label, run_name
from conkd_jax.eval.predictions import Prediction, PredictionError, read_predictions
from conkd_jax.eval.run_predictions import corpus_titles, predictions_file, system_name
from conkd_jax.eval.tables.beside import configured_paper_row
from conkd_jax.eval.tables.paper import PaperRow, paper_row
from conkd_jax.stages import evaluation, pipeline
from conkd_jax.stages.system import System

CONFIG, METRICS, PREDICTIONS = "config.json", "metrics.json", evaluation.PREDICTIONS
SPLITS = ["dev", "valid", "test"]
EXAMPLE = "runs/dialogpt_hard-demo-seed0"


class RunError(UserError):
    """A folder that holds no run, or a run that lacks what is asked of it."""


@dataclasses.dataclass(frozen=True)
class Run:
    """A run that `conkd_jax.train` left, on one of its splits.

    Attributes:
      home: the folder that was opened.
      config: of the run, validated.
      name: of the config: its path under configs/, without ".py".
      split: the split that is looked at.
      own_split: the split whose scores `home` holds.
    """

    home: epath.Path
    config: Config
    name: str
    split: str
    own_split: str

    @classmethod
    def open(cls, folder: epath.PathLike, split: str | None = None) -> Run:
        """Opens a run's folder.

        Args:
          folder: what `conkd_jax.train` or `conkd_jax.evaluate` left.
          split: "dev", "valid" or "test"; None takes the one that the folder is of.

        Raises:
          RunError: the folder holds no run, or one of another version.
        """
        home = epath.Path(folder)
        path = home / CONFIG
        if not path.exists():
            raise RunError(
                f"{home}: expected a folder that conkd_jax.train left, with {CONFIG} in it; found "
                f"none. For example {EXAMPLE}"
            )
        try:
            record = json.loads(path.read_text())
            name, own_split = record["name"], record["split"]
            config = Config.from_dict(record["settings"])
            if "paper_row" not in record["settings"]:  # written by an earlier version
                row = configured_paper_row(name, config.preset, config.backbone)
                config = config.replace({"paper_row": row})
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise RunError(
                f"{path} is not the config of a run of this version: {error}. Train the run again, "
                "or use the version that trained it."
            ) from error
        try:
            validate_config(config)
        except ConfigError as error:
            raise RunError(f"{path}: {error}") from error
        return cls(home, config, name, split or own_split, own_split)

    # --- names ---------------------------------------------------------------------------------

    @property
    def folder(self) -> epath.Path:
        """Where the files of the split lie."""
        return self.home if self.split == self.own_split else self.home / self.split

    @property
    def run_name(self) -> str:
        """The name of the run's folder under runs/, seed included."""
        return run_name(self.name, self.config.to_dict())

    @property
    def label(self) -> str:
        """The run in a table: config, backbone and decoding, without preset and seed."""
        decoding = decoding_label(self.config.to_dict()["decode"])
        return run_label(self.name, self.config.backbone, decoding)

    @property
    def title(self) -> str:
        """The run and the split, for a title."""
        return f"{self.name} ({self.config.preset}) on {self.split}"

    @property
    def paper_row(self) -> PaperRow | None:
        """The paper's row to compare with; None for a synthetic corpus."""
        return paper_row_of(self.config)

    # --- artifacts -----------------------------------------------------------------------------

    @functools.cached_property
    def stages(self) -> Mapping[str, Stage]:
        """The stages of the config by name; `evaluation` is that of the split.

        Raises:
          data_prep.sources.MissingDataError: the raw files are not there.
        """
        return pipeline.build(self.config, split=self.split)

    @property
    def inputs(self) -> Mapping[str, Stage]:
        """The stages that the evaluation of the split reads, by name."""
        return self.stages["evaluation"].inputs

    def directory(self, name: str) -> epath.Path:
        """The folder of a finished artifact that the evaluation of the split reads.

        Args:
          name: of the input, for example "student".

        Raises:
          RunError: it is not finished, or gone; names everything that is.
        """
        root = self.config.artifacts_dir
        if not is_whole(self.inputs[name], root):
            gone = [key for key, stage in self.inputs.items() if not is_whole(stage, root)]
            raise _not_found(self.home, gone, root)
        return self.inputs[name].directory(root)

    def expect_trained(self) -> None:
        """Makes sure that nothing would have to be trained to score the split.

        Raises:
          RunError: something that was trained is not finished, or gone.
        """
        root = self.config.artifacts_dir
        if gone := pipeline.untrained(self.stages, root):
            raise _not_found(self.home, gone, root)

    @functools.cached_property
    def system(self) -> System:
        """The trained system; each of its models is loaded when it is first used."""
        return System.of_config(self.config, self.inputs.keys(), self.directory)

    @property
    def corpus(self) -> Corpus:
        """The corpus that holds the split."""
        return self.system.corpus

    @property
    def vocabulary(self) -> Vocabulary:
        """Words and items."""
        return self.system.vocabulary

    @property
    def eta(self) -> float | None:
        """The hard gate's threshold that the student was trained with; None for other gates."""
        if "student" not in self.inputs:
            return None
        student, root = self.inputs["student"], self.config.artifacts_dir
        return whole_manifest(student, root)["metrics"].get("eta")

    @functools.cached_property
    def tokens(self) -> dict[str, np.ndarray]:
        """What the evaluation kept of every gold token of the split: λ, item mass, NLL, target.

        Raises:
          RunError: the split was not scored.
        """
        stage, root = self.stages["evaluation"], self.config.artifacts_dir
        if not is_whole(stage, root):
            raise RunError(
                f"{self.home}: expected a finished evaluation of {self.split}, found none at "
                f"{stage.directory(root)}. Run {self._evaluate} first."
            )
        with np.load(str(stage.directory(root) / evaluation.TOKENS)) as tokens:
            return dict(tokens)

    # --- files of the folder -------------------------------------------------------------------

    @property
    def predictions_file(self) -> epath.Path:
        """The responses of the split.

        Raises:
          RunError: the split was not scored.
        """
        return self._file(PREDICTIONS)

    def predictions(self) -> list[Prediction]:
        """The responses of the split, read from the run's folder.

        Raises:
          RunError: the split was not scored.
          PredictionError: the file is damaged.
        """
        return list(read_predictions(self.predictions_file))

    @functools.cached_property
    def metrics(self) -> dict[str, Any]:
        """What metrics.json holds of the split: see `eval.document`.

        Raises:
          RunError: the split was not scored, or the file is damaged.
        """
        path = self._file(METRICS)
        try:
            return json.loads(path.read_text())
        except ValueError as error:
            raise RunError(
                f"{path}: expected JSON, {error}. Run {self._evaluate} again."
            ) from error

    def _file(self, name: str) -> epath.Path:
        path = self.folder / name
        if not path.exists():
            raise RunError(
                f"{path}: expected a file of this run, found none. Run {self._evaluate}."
            )
        return path

    @property
    def _evaluate(self) -> str:
        return f"`python -m conkd_jax.evaluate --workdir={self.home} --split={self.split}`"


@dataclasses.dataclass(frozen=True)
class Answers:
    """One system's responses to the contexts of a split: those of a run, or of anybody's file.

    Attributes:
      file: a predictions.jsonl.
      run: the run that it belongs to; None for a file without a config beside it.
    """

    file: epath.Path
    run: Run | None

    @classmethod
    def open(cls, path: epath.PathLike) -> Answers:
        """Opens a run's folder, or a file like predictions.jsonl.

        Raises:
          PredictionError: there is no such file.
          RunError: the config beside it is not the config of a run.
        """
        file = predictions_file(path)
        is_of_run = file.name == PREDICTIONS and (file.parent / CONFIG).exists()
        return cls(file, Run.open(file.parent) if is_of_run else None)

    @property
    def name(self) -> str:
        """The name of the file, or of its folder where the file has the usual name."""
        return system_name(self.file)

    @functools.cached_property
    def titles(self) -> dict[int, str]:
        """Titles of items by movie id, where the folder links to its corpus."""
        corpus = self.file.parent / "artifacts" / "corpus"
        return corpus_titles(corpus) if corpus.exists() else {}


def open_answers(paths: Iterable[epath.PathLike]) -> dict[str, Answers]:
    """Opens the responses of several systems, by the names of the systems.

    Raises:
      PredictionError: one of them is missing, or two have the same name.
      RunError: as `Answers.open`.
    """
    found: dict[str, Answers] = {}
    for answers in map(Answers.open, paths):
        if answers.name in found:
            raise PredictionError(
                f"{found[answers.name].file} and {answers.file}: expected runs with different "
                f"names, got {answers.name} twice. A copy of the file under another name counts as "
                "a system of that name."
            )
        found[answers.name] = answers
    return found


def _not_found(home: epath.Path, stages: Sequence[str], root: str) -> RunError:
    return RunError(
        f"{home} is of a run whose {', '.join(stages)} can't be found in {root}: expected finished "
        "artifacts. Run conkd_jax.train with its config first, from the same folder."
    )


def paper_row_of(config: Config) -> PaperRow | None:
    """The paper's row to compare with; None for a synthetic corpus, which is in no paper."""
    return paper_row(config.paper_row, config.backbone) if config.corpus.name == "redial" else None
