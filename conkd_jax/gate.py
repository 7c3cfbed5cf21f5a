"""Asks whether the gate of a trained run is right, and shows it at work.

    python -m conkd_jax.gate --workdir=RUN
    python -m conkd_jax.gate --workdir=RUN --response=CONVERSATION_ID:TURN
    python -m conkd_jax.gate --workdir=RUN --history="Any thrillers?" --text="You could try @13."
    python -m conkd_jax.gate --workdir=RUN --example=titanic

Reads the finished evaluation of a split and trains, decodes and scores nothing again: λ by kind of
token, the hard gate as a detector of item steps over all thresholds, both beside the paper's §3.4.
`--response` draws λ along one gold response. `--text`, any number of times, draws it along whatever
the recommender might have said instead, in the place of `--response` or after `--history`; movies
are written @id. `--example=titanic` is the paper's Appendix C. docs/metrics.md tells what each
number means.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import rich.console
from absl import flags
from etils import epath

from conkd_jax import command_line, parallel, run_folder
from conkd_jax import config as conkd
from conkd_jax.artifacts.build import Stage
from conkd_jax.artifacts.manifest import whole_manifest
from conkd_jax.data.corpus import Corpus, ItemTable, Turn, responses
from conkd_jax.data.vocabulary import Vocabulary
from conkd_jax.eval import report
from conkd_jax.eval.gate.detector import detector_curve
from conkd_jax.eval.gate.figures import (
    draw_detector_curves,
    draw_gate_traces,
    draw_token_class_boxes,
)
from conkd_jax.eval.gate.report import detector_table, gate_document, token_class_table
from conkd_jax.eval.gate.token_classes import mass_by_class, token_classes
from conkd_jax.eval.gate.traces import GateTrace, trace_of_response
from conkd_jax.stages import evaluation, gate_traces, language_model, pipeline

FOLDER, DOCUMENT = "gate", "gate.json"
GREETING = "Hi! I am looking for a good movie to watch."


class Example(NamedTuple):
    """Continuations of one opening, "{}" standing for the movie."""

    movie: str
    opening: str
    continuations: tuple[str, ...]


EXAMPLES = {  # of the paper's Appendix C
    "titanic": Example(
        movie="Titanic (1997)",
        opening="If you like romance movies, I would recommend ",
        continuations=("{}", "you {}", "some romantic comedies"),
    )
}

_SPLIT = flags.DEFINE_enum(
    "split",
    "valid",
    ["dev", "valid", "test"],
    "Whose evaluation is read.",
    allow_override=True,  # conkd_jax.evaluate has a --split of its own; tests import both
)
_RESPONSE = flags.DEFINE_string(
    "response", "", "CONVERSATION_ID:TURN, a response of the split: draw λ along it."
)
_TEXT = flags.DEFINE_multi_string(
    "text", [], "Draw λ along this response, movies as @id; may be given several times."
)
_HISTORY = flags.DEFINE_string(
    "history", "", f"What the seeker said before --text or --example; by default {GREETING!r}"
)
_EXAMPLE = flags.DEFINE_enum("example", None, sorted(EXAMPLES), "Texts of the paper.")
flags.declare_key_flag("workdir")


def main(argv: list[str]) -> None:
    """Numbers and figures of the split always; traces where they are asked for."""
    if not command_line.WORKDIR.value:
        raise conkd.ConfigError(
            "--workdir is missing: expected the folder that conkd_jax.train left. For example "
            "--workdir=runs/dialogpt_hard-demo-seed0"
        )
    asks_texts = bool(_TEXT.value or _EXAMPLE.value)
    if _HISTORY.value and (_RESPONSE.value or not asks_texts):
        raise conkd.ConfigError(
            "--history is what --text or --example answers, where --response does not say it."
        )
    run = Run.open(command_line.WORKDIR.value, _SPLIT.value)
    response = run.find(_RESPONSE.value) if _RESPONSE.value else None
    texts = list(_TEXT.value)
    if _EXAMPLE.value:
        texts = [*example_texts(_EXAMPLE.value, run.corpus.items), *texts]
    traces = {}
    if response is not None:
        name = re.sub(r"[^\w-]+", "_", _RESPONSE.value)
        traces[f"response_{name}"] = [run.trace(response)]
    if texts:
        history = run.history(response, _HISTORY.value or GREETING)
        stem = f"example_{_EXAMPLE.value}" if _EXAMPLE.value else "texts"
        traces[stem] = run.reader().traces(history, texts)
    if parallel.is_first_process():
        write(run, traces)


# --- what is read ------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Run:
    """A trained run and its evaluation of one split.

    Attributes:
      folder: where what is found is written.
      config, name: of the run.
      split: that was scored.
      stages: of the config.
      corpus, vocabulary: that the evaluation read.
      tokens: λ, item mass and gold token of every step.
      eta: of the hard gate; None for a run without one.
    """

    folder: epath.Path
    config: Any
    name: str
    split: str
    stages: dict[str, Stage]
    corpus: Corpus
    vocabulary: Vocabulary
    tokens: dict[str, np.ndarray]
    eta: float | None

    @classmethod
    def open(cls, workdir: epath.PathLike, split: str) -> Run:
        """Opens what an evaluation left.

        Raises:
          ConfigError: the folder holds no run, or the split was not scored.
          ArtifactError: the student that was scored has been deleted.
        """
        workdir = epath.Path(workdir)
        config, name, own_split = run_folder.read_record(workdir)
        stages = dict(pipeline.build(config, split=split))
        scored, root = stages["evaluation"], config.artifacts_dir
        if not scored.is_whole(root):
            raise conkd.ConfigError(
                f"{workdir}: expected a finished evaluation of {split}, found none at "
                f"{scored.directory(root)}. Run `python -m conkd_jax.evaluate --workdir={workdir} "
                f"--split={split}` first."
            )
        corpus = scored.inputs.get("scored_corpus", scored.inputs["corpus"])
        with np.load(str(scored.directory(root) / evaluation.TOKENS)) as tokens:
            tokens = dict(tokens)
        return cls(
            folder=(workdir if split == own_split else workdir / split) / FOLDER,
            config=config,
            name=name,
            split=split,
            stages=stages,
            corpus=Corpus.open(corpus.directory(root)),
            vocabulary=Vocabulary.load(scored.inputs["vocabulary"].directory(root)),
            tokens=tokens,
            eta=_eta(stages["student"], root) if "student" in scored.inputs else None,
        )

    @property
    def has_student(self) -> bool:
        return self.config.system == "student"

    def keys(self) -> list[tuple[str, int]]:
        """(conversation_id, turn) of every response of the split, in order."""
        return [
            (dialogue.conversation_id, turn)
            for dialogue in self.corpus.dialogues(self.split)
            for turn in responses(dialogue)
        ]

    def find(self, asked: str) -> int:
        """The index of a response that is asked for as CONVERSATION_ID:TURN.

        Raises:
          ConfigError: the split has none of that name.
        """
        conversation, _, turn = asked.rpartition(":")
        keys = self.keys()
        if turn.isdecimal() and (conversation, int(turn)) in keys:
            return keys.index((conversation, int(turn)))
        turns = [str(turn) for other, turn in keys if other == conversation]
        hint = f"{conversation} has responses at turns {', '.join(turns)}"
        raise conkd.ConfigError(
            f"--response={asked}: expected CONVERSATION_ID:TURN of a response of {self.split}; "
            + (hint if turns else f"for example {keys[0][0]}:{keys[0][1]}")
        )

    def history(self, response: int | None, opening: str) -> Sequence[Turn]:
        """What was said before a response; for none, one turn of the seeker's."""
        if response is None:
            return [gate_traces.opening_turn(opening, self.corpus)]
        conversation, turn = self.keys()[response]
        dialogues = {one.conversation_id: one for one in self.corpus.dialogues(self.split)}
        return dialogues[conversation].turns[:turn]

    def trace(self, response: int) -> GateTrace:
        """λ along a gold response, and the student's own item mass."""
        conversation, turn = self.keys()[response]
        return trace_of_response(
            self.tokens,
            self.vocabulary,
            response,
            title=f"{conversation}, turn {turn}",
            student="student" if self.has_student else "",
        )

    def reader(self) -> gate_traces.Reader:
        """The run's models, to read a text.

        Raises:
          ArtifactError: one of them has been deleted.
        """

        def load(name: str) -> language_model.LanguageModel:
            stage, root = self.stages[name], self.config.artifacts_dir
            whole_manifest(stage, root)
            return language_model.load(self.config, stage.directory(root), self.vocabulary)

        has_tags = self.has_student and self.config.student.turn_tags
        return gate_traces.Reader(
            config=self.config,
            corpus=self.corpus,
            vocabulary=self.vocabulary,
            teacher=load("dialogue_teacher"),
            student=load("student") if self.has_student else None,
            form="student" if has_tags else "teacher",
        )


def _eta(student: Stage, root: epath.PathLike) -> float | None:
    """The threshold that a student was distilled with; None for a gate without one."""
    return whole_manifest(student, root)["metrics"].get("eta")


def example_texts(name: str, items: ItemTable) -> list[str]:
    """The texts of an example, its movie by the corpus' own id.

    Raises:
      ConfigError: the corpus has no movie of that title.
    """
    example = EXAMPLES[name]
    titles = [" ".join(title.split()).casefold() for title in items.titles]
    if example.movie.casefold() not in titles:
        raise conkd.ConfigError(
            f"--example={name}: expected a corpus that has {example.movie!r}, as ReDial has; found "
            f"{len(items):,} others. Name a movie of this corpus instead: "
            f'--text="{example.opening}@{items.movie_ids[0]}" says {items.titles[0]}.'
        )
    movie = f"@{items.movie_ids[titles.index(example.movie.casefold())]}"
    return [example.opening + text.format(movie) for text in example.continuations]


# --- what is written ---------------------------------------------------------------------------


def write(run: Run, traces: dict[str, list[GateTrace]]) -> None:
    """Prints the tables and fills the folder: numbers, figures, and the traces by file name."""
    mass, tokens = run.tokens["teacher_item_mass"], run.tokens
    texts = [run.vocabulary.render([word]) for word in range(run.vocabulary.num_words)]
    classes = token_classes(
        tokens["targets"], tokens["response_index"], texts, end_id=run.vocabulary.end_id
    )
    by_class = mass_by_class(mass, classes)
    student = mass_by_class(tokens["item_mass"], classes) if run.has_student else {}
    try:
        curve = detector_curve(mass, tokens["is_item"])
    except ValueError as error:
        raise conkd.ConfigError(f"{run.split} of {run.name}: {error}") from error
    run.folder.mkdir(parents=True, exist_ok=True)
    identity = {
        "config": run.name,
        "preset": run.config.preset,
        "backbone": run.config.backbone,
        "split": run.split,
        "seed": run.config.seed,
    }
    found = gate_document(by_class, student, curve, run.eta)
    report.write_json(run.folder / DOCUMENT, {**identity, **found})
    title = f"{run.name} ({run.config.preset}) on {run.split}"
    draw_detector_curves(
        curve, run.folder / "gate_validity.png", eta=run.eta, title=f"λ finds items: {title}"
    )
    draw_token_class_boxes(
        by_class, run.folder / "gate_by_class.png", eta=run.eta, title=f"λ by token: {title}"
    )
    for stem, panels in traces.items():
        draw_gate_traces(panels, run.folder / f"{stem}.png", eta=run.eta, title=title)
        report.write_json(
            run.folder / f"{stem}.json", {"traces": [dataclasses.asdict(one) for one in panels]}
        )
    console = rich.console.Console()
    console.print(token_class_table(by_class, student, title))
    console.print(detector_table(curve, run.eta))
    console.print(f"Everything of this analysis: {run.folder}", soft_wrap=True)


def run() -> None:
    """The command line."""
    command_line.run(main)


if __name__ == "__main__":
    run()
