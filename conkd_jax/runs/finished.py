"""Opens a finished run: config, stages, models, predictions and metrics.

`Run.open(folder)` reads config.json; everything else is opened on first use. If something is
missing, the `RunError` says which command creates it. Nothing is trained or written here;
`conkd_jax.runs.folder` writes the folder.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from etils import epath

from conkd_jax.artifacts.manifest import check_files, is_whole, read_manifest, whole_manifest
from conkd_jax.artifacts.rebuild import option
from conkd_jax.artifacts.stage import Stage
from conkd_jax.config import Config, ConfigError
from conkd_jax.config.rules import validate_config
from conkd_jax.data.corpus import TRANSFER_SPLITS, Corpus
from conkd_jax.data.vocabulary import Vocabulary
from conkd_jax.errors import UserError
from conkd_jax.eval.document import RATE_MATCHED, decoding_label, run_label, run_name
from conkd_jax.eval.origin import foreign, origin_of
from conkd_jax.eval.predictions import Prediction, PredictionError, read_predictions
from conkd_jax.eval.system_files import corpus_titles, predictions_file, system_name
from conkd_jax.eval.tables.beside import configured_paper_row
from conkd_jax.eval.tables.paper import PaperRow, paper_row
from conkd_jax.io.files import absolute, parse_json
from conkd_jax.io.integrity import DamagedError
from conkd_jax.stages import evaluation, pipeline
from conkd_jax.stages.systems.system import System

CONFIG, METRICS, PREDICTIONS = "config.json", "metrics.json", evaluation.PREDICTIONS
RATE_MATCHED_FOLDER = "rate_matched"  # of a run: its responses with an offset chosen on dev
SPLITS = ["dev", "valid", "test", *TRANSFER_SPLITS]
EXAMPLE = "runs/dialogpt_hard-demo-seed0"


class RunError(UserError):
    """A folder that holds no run, or a run that lacks a file or an artifact."""


@dataclasses.dataclass(frozen=True)
class Run:
    """A run of `conkd_jax.train`, viewed on one split.

    Attributes:
      home: the folder that was opened.
      config: the config of the run, validated.
      name: the name of the config: its path under configs/, without ".py".
      overrides: the fields in which the run differs from that file, by dotted name.
      split: the split that the properties below refer to.
      own_split: the split that was scored into `home` itself.
    """

    home: epath.Path
    config: Config
    name: str
    overrides: Mapping[str, Any]
    split: str
    own_split: str

    @classmethod
    def open(cls, folder: epath.PathLike, split: str | None = None) -> Run:
        """Opens a run's folder.

        Args:
          folder: a folder written by `conkd_jax.train` or `conkd_jax.evaluate`.
          split: one of `SPLITS`; None means the folder's own split.

        Raises:
          RunError: the folder holds no run, or one of an incompatible version.
        """
        home = epath.Path(folder)
        path = home / CONFIG
        if not path.exists():
            raise RunError(
                f"{home}: expected a folder written by conkd_jax.train, with {CONFIG} in it; found "
                f"none. For example {EXAMPLE}"
            )
        try:
            record = parse_json(path.read_text())
            name, own_split = record["name"], record["split"]
            overrides = dict(record.get("overrides", {}))  # earlier versions had none
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
        return cls(home, config, name, overrides, split or own_split, own_split)

    # --- names ---------------------------------------------------------------------------------

    @property
    def folder(self) -> epath.Path:
        """The folder with the files of the split."""
        return self.home if self.split == self.own_split else self.home / self.split

    @property
    def run_name(self) -> str:
        """The default name of the run's folder under runs/, including the seed."""
        return run_name(self.name, self.config.to_dict(), self.overrides)

    @property
    def label(self) -> str:
        """The run's label in tables: config, backbone and decoding, without preset and seed."""
        decoding = decoding_label(self.config.to_dict()["decode"])
        return run_label(self.name, self.config.backbone, decoding, self.overrides)

    @property
    def title(self) -> str:
        """Label, preset and split, for titles."""
        return f"{self.label} ({self.config.preset}) on {self.split}"

    @property
    def paper_row(self) -> PaperRow | None:
        """The paper's row to compare with; None for data that is not in the paper."""
        return paper_row_of(self.config, self.split)

    # --- artifacts -----------------------------------------------------------------------------

    @functools.cached_property
    def stages(self) -> Mapping[str, Stage]:
        """The stages of the config by name; `evaluation` scores the split.

        Raises:
          data_prep.sources.MissingDataError: the raw files are missing.
        """
        return pipeline.build(self.config, split=self.split)

    @property
    def fingerprint(self) -> str:
        """What tells the run, scored on the split, from every other one."""
        return self.stages["evaluation"].fingerprint

    @property
    def inputs(self) -> Mapping[str, Stage]:
        """The stages that the evaluation of the split reads, by name."""
        return self.stages["evaluation"].inputs

    def directory(self, name: str) -> epath.Path:
        """The folder of a finished artifact that the evaluation of the split reads.

        Args:
          name: the name of the input, for example "student".

        Raises:
          RunError: it is missing or unfinished; lists all inputs that are.
          DamagedError: one of its files is not what was written.
        """
        root = self.config.artifacts_dir
        with self.explaining_damage():
            if not is_whole(self.inputs[name], root):
                missing = [key for key, stage in self.inputs.items() if not is_whole(stage, root)]
                raise self._without(missing)
            check_files(self.inputs[name].directory(root), with_shards=True)
        return self.inputs[name].directory(root)

    def mending_command(self, folders: Iterable[epath.Path]) -> str:
        """The command that made the run, with the option that makes some artifacts anew.

        Args:
          folders: artifacts of the run.

        Returns:
          The command; "" if the run has no record of it.
        """
        try:
            command = parse_json((self.home / METRICS).read_text())["command"]
        except (OSError, ValueError, KeyError, TypeError):
            return ""
        program = re.sub(r"^\S*\bconkd_jax/(\w+)\.py\b", r"python -m conkd_jax.\1", command)
        return f"{program} {option([], folders)}"

    @contextlib.contextmanager
    def explaining_damage(self) -> Iterator[None]:
        """Adds the command that mends it to the error of a damaged artifact."""
        try:
            yield
        except DamagedError as error:
            if error.folder is None or error.mend:
                raise
            mend = self.mending_command([error.folder])
            raise DamagedError(error.what, error.folder, mend) from error

    def expect_trained(self) -> None:
        """Checks that the split can be scored without any training.

        Raises:
          RunError: a trained artifact is missing or unfinished.
        """
        root = self.config.artifacts_dir
        if missing := pipeline.untrained(self.stages, root):
            raise self._without(missing)

    def _without(self, missing: Sequence[str]) -> RunError:
        """The error of a run that lacks artifacts, which may be those of another version."""
        made_from, wanted = origin_of(self.home), self.stages
        changed = [
            f"{name} {made_from[name]} instead of {wanted[name].fingerprint}"
            for name in missing
            if name in wanted and made_from.get(name, "") not in ("", wanted[name].fingerprint)
        ]
        if changed:
            return RunError(
                f"{self.home}: the run was made by another version, or from other raw files, so "
                f"that its artifacts can't be used: {', '.join(changed)}. Train it again, with the "
                f"command in {self.home / METRICS}, or use the version that trained it. Its "
                "results can still be read by conkd_jax.tables and conkd_jax.evaluate "
                "--predictions."
            )
        return RunError(
            f"{self.home}: artifacts of the run are missing or unfinished: {', '.join(missing)} "
            f"can't be found in {self.config.artifacts_dir}. Run conkd_jax.train with its config "
            "first, from the same folder."
        )

    @functools.cached_property
    def system(self) -> System:
        """The trained system; its models are loaded on first use."""
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
        """The threshold η that the student was trained with; None for a gate without one."""
        if "student" not in self.inputs:
            return None
        student, root = self.inputs["student"], self.config.artifacts_dir
        return whole_manifest(student, root)["metrics"].get("eta")

    @property
    def fitted_eta(self) -> float | None:
        """The η that the teacher store fitted to dev; None without a store or items in dev."""
        store = self.stages.get("teacher_outputs")
        manifest = None if store is None else read_manifest(store, self.config.artifacts_dir)
        return None if manifest is None else manifest["metrics"].get("fitted_eta")

    @functools.cached_property
    def tokens(self) -> dict[str, np.ndarray]:
        """The evaluation's arrays over the gold tokens of the split: λ, item mass, NLL, target.

        Raises:
          RunError: the split was not scored, or a trained artifact is missing.
        """
        stage, root = self.stages["evaluation"], self.config.artifacts_dir
        with self.explaining_damage():
            is_scored = is_whole(stage, root)
            check_files(stage.directory(root))
        if not is_scored:
            self.expect_trained()
            raise RunError(
                f"{self.home}: expected a finished evaluation of {self.split}, found none at "
                f"{stage.directory(root)}. Run {self._evaluate} first."
            )
        content = (stage.directory(root) / evaluation.TOKENS).read_bytes()
        with np.load(io.BytesIO(content)) as tokens:
            return dict(tokens)

    # --- files of the folder -------------------------------------------------------------------

    @property
    def predictions_file(self) -> epath.Path:
        """The file with the responses of the split.

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
        """The content of the split's metrics.json (see `eval.document`).

        Raises:
          RunError: the split was not scored, or the file is damaged.
        """
        path = self._file(METRICS)
        try:
            return parse_json(path.read_text())
        except ValueError as error:
            raise RunError(
                f"{path}: expected JSON, {error}. Run {self._evaluate} again."
            ) from error

    def _file(self, name: str) -> epath.Path:
        path = self.folder / name
        if not path.exists():
            raise RunError(
                f"{path}: expected a file of this run, found none. Run {self._evaluate} first."
            )
        if self.folder != self.home and (why := foreign(self.folder, self.home)):
            raise RunError(
                f"{path}: expected a file of this run, but {why}. Run {self._evaluate} again."
            )
        return path

    @property
    def _evaluate(self) -> str:
        return f"`python -m conkd_jax.evaluate --workdir={self.home} --split={self.split}`"


@dataclasses.dataclass(frozen=True)
class Answers:
    """One system's responses to the contexts of a split, from a run or from any file.

    Attributes:
      file: a file like predictions.jsonl.
      run: the run that it belongs to; None for a file that is not in a run's folder.
    """

    file: epath.Path
    run: Run | None

    @classmethod
    def open(cls, path: epath.PathLike) -> Answers:
        """Opens a run's folder, or a file like predictions.jsonl.

        Raises:
          PredictionError: there is no such file.
          RunError: the config in the same folder is not that of a run.
        """
        file = predictions_file(path)
        is_of_run = file.name == PREDICTIONS and (file.parent / CONFIG).exists()
        return cls(file, Run.open(file.parent) if is_of_run else None)

    @property
    def name(self) -> str:
        """The name of the run's folder, or of a file that belongs to no run."""
        folder, ending = self.file.parent, ""
        if self.run is not None and absolute(folder).name == RATE_MATCHED_FOLDER:
            folder, ending = absolute(folder).parent, f"+{RATE_MATCHED}"
        if self.run is not None and folder.name == self.run.split:
            folder = absolute(folder).parent  # RUN/test holds another split of RUN
        return system_name(folder / self.file.name) + ending

    @functools.cached_property
    def titles(self) -> dict[int, str]:
        """Titles by item id; empty if the folder has no link to a corpus."""
        corpus = self.file.parent / "artifacts" / "corpus"
        return corpus_titles(corpus) if corpus.exists() else {}


def open_answers(paths: Iterable[epath.PathLike]) -> dict[str, Answers]:
    """Opens the responses of several systems; returns them by name.

    Raises:
      PredictionError: a file is missing, or two systems have the same name.
      RunError: the config beside a file is not that of a run.
    """
    found: dict[str, Answers] = {}
    for answers in map(Answers.open, paths):
        if answers.name in found:
            raise PredictionError(
                f"{found[answers.name].file} and {answers.file}: expected runs with different "
                f"names, got {answers.name} twice. A file is named after itself, so a copy under "
                "another name has that name."
            )
        found[answers.name] = answers
    return found


def paper_row_of(config: Config, split: str) -> PaperRow | None:
    """The paper's row to compare with; None for data other than ReDial's, which the paper is on."""
    if config.corpus.name != "redial" or split in TRANSFER_SPLITS:
        return None
    return paper_row(config.paper_row, config.backbone)
