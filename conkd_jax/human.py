"""Lets people judge what systems wrote: sheets go out blind, scores come back.

    python -m conkd_jax.human export runs/dialogpt-mini-seed0 runs/dialogpt_hard-mini-seed0 \\
        --out=DIR
    python -m conkd_jax.human collect DIR annotator_1.csv annotator_2.csv annotator_3.csv

A run is the folder that conkd_jax.train or conkd_jax.evaluate left, or a predictions.jsonl.
`export` leaves a folder to send to each annotator, and key.json, which says who is behind the ids
and is sent to nobody. docs/human_evaluation.md tells the rest.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import sys
from collections.abc import Iterable, Sequence

from absl import app, flags, logging
from etils import epath

from conkd_jax.data.corpus import Corpus, CorpusError
from conkd_jax.eval import report
from conkd_jax.eval.human import form as human_form
from conkd_jax.eval.human import scores as human_scores
from conkd_jax.eval.human import sheets as human_sheets
from conkd_jax.eval.human import study as human_study
from conkd_jax.eval.human.study import Study, StudyError, System
from conkd_jax.eval.predictions import PredictionError, read_predictions

KEY, SCORES, SCORES_MD = "key.json", "scores.json", "scores.md"

_OUT = flags.DEFINE_string("out", "", "export: the folder for the sheets and the key.")
_NUM_CONTEXTS = flags.DEFINE_integer(
    "num_contexts", 100, "export: how many contexts are judged.", lower_bound=1
)
_ANNOTATORS = flags.DEFINE_integer("annotators", 3, "export: how many sheets.", lower_bound=1)
_SEED = flags.DEFINE_integer("seed", 0, "export: of contexts and orders.", lower_bound=0)
_TITLES = flags.DEFINE_string(
    "titles",
    "",
    "export: where item titles come from when the runs don't know: a CSV file of movie ids and "
    "titles (ReDial's movies_with_mentions.csv) or the folder of a corpus.",
)


def main(argv: list[str]) -> None:
    """One of two things: sheets out, scores in."""
    command, arguments = argv[1] if len(argv) > 1 else "", argv[2:]
    if command not in ("export", "collect"):
        raise app.UsageError(f"expected export or collect as the first word, got {command!r}.")
    if command == "export" and not (arguments and _OUT.value):
        raise app.UsageError("expected runs and a folder: export RUN… --out=DIR")
    if command == "collect" and len(arguments) < 2:
        raise app.UsageError("expected the folder of an export and sheets: collect DIR SHEET…")
    try:
        if command == "export":
            for line in export(
                arguments,
                _OUT.value,
                num_contexts=_NUM_CONTEXTS.value,
                num_annotators=_ANNOTATORS.value,
                seed=_SEED.value,
                titles=_TITLES.value,
            ):
                print(line)
        else:
            print(collect(arguments[0], arguments[1:]), end="")
    except (StudyError, PredictionError, CorpusError) as error:
        sys.exit(f"conkd_jax.human: {error}")


# --- export ----------------------------------------------------------------------------------


def export(
    runs: Sequence[epath.PathLike],
    out: epath.PathLike,
    *,
    num_contexts: int = 100,
    num_annotators: int = 3,
    seed: int = 0,
    titles: epath.PathLike = "",
) -> list[str]:
    """Draws a study over runs and writes its folder; the key comes last and makes it whole.

    Returns:
      What was written, in words.

    Raises:
      StudyError: a run can't be found, runs have no contexts in common, `titles` can't be read, or
        the folder holds a study already.
      PredictionError: a file is no predictions.jsonl.
      CorpusError: a corpus is damaged.
    """
    out = epath.Path(out)
    if (out / KEY).exists():
        raise StudyError(
            f"{out}: expected a folder without a study, found {KEY}: without it the sheets that "
            "were sent out can't be scored. Name another folder."
        )
    files = [_predictions_file(run) for run in runs]
    systems = [_system(file) for file in files]
    answers = [{p.key: p for p in read_predictions(file)} for file in files]
    study = human_study.draw(
        systems, answers, num_contexts=num_contexts, num_annotators=num_annotators, seed=seed
    )
    texts = human_study.shown(study, answers, _titles(files, titles))
    for annotator in range(1, num_annotators + 1):
        name = f"annotator_{annotator}"
        folder = out / name
        folder.mkdir(parents=True, exist_ok=True)
        page = human_form.page(study, annotator, texts, file=f"{name}_judged.csv")
        (folder / f"{name}.html").write_bytes(page.encode())
        (folder / f"{name}.csv").write_bytes(human_sheets.sheet(study, annotator, texts))
        (folder / "instructions.md").write_bytes(human_form.instructions_md().encode())
    report.write_json(out / KEY, human_study.to_document(study))
    return _told(study, out, human_study.untitled(texts))


def _told(study: Study, out: epath.Path, untitled: set[str]) -> list[str]:
    lines = [
        f"{len(study.contexts)} contexts, {len(study.systems)} systems, {len(study.sheets)} "
        f"annotators: {len(study.sheets[0]):,} responses each.",
        f"Send each annotator a folder: {out}/annotator_1" + ("…" if study.sheets[1:] else ""),
        f"Keep to yourself: {out}/{KEY}",
    ]
    if untitled:
        lines.append(
            f"Note: {len(untitled):,} items have no title and stand as {min(untitled)}; "
            "--titles=FILE names them."
        )
    return lines


def _predictions_file(run: epath.PathLike) -> epath.Path:
    path = epath.Path(run)
    file = path / "predictions.jsonl" if path.is_dir() else path
    if not file.exists():
        raise StudyError(
            f"{run}: expected a predictions.jsonl, or the folder that conkd_jax.train or "
            "conkd_jax.evaluate left with one in it; found none."
        )
    return file


def _system(file: epath.Path) -> System:
    """Who wrote the predictions, by the config beside them; else by the name of file or folder."""
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    if file.name != "predictions.jsonl":
        return System(file.stem, "", "", "", sha256)
    path = file.parent / "config.json"
    if not path.exists():
        return System(file.parent.name, "", "", "", sha256)
    try:
        record = json.loads(path.read_text())
        config, settings = record["name"], record["settings"]
        backbone, corpus = settings["backbone"], settings["corpus"]["name"]
        run = report.run_name(config, settings)
        return System(run, config, backbone, corpus, sha256)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StudyError(
            f"{path} is not the config of a run ({error!r}): expected one that conkd_jax.train "
            "left. Restore it, or give the predictions.jsonl from a folder without it."
        ) from error


def _titles(files: Iterable[epath.Path], given: epath.PathLike) -> dict[int, str]:
    """Item titles of the corpora that the runs link to; `given` takes precedence."""
    titles: dict[int, str] = {}
    for file in files:
        corpus = file.parent / "artifacts" / "corpus"
        if corpus.exists():
            titles |= _corpus_titles(corpus)
    if not given:
        return titles
    path = epath.Path(given)
    return titles | (_corpus_titles(path) if path.is_dir() else read_titles(path))


def _corpus_titles(corpus: epath.Path) -> dict[int, str]:
    items = Corpus.open(corpus).items
    return dict(zip(items.movie_ids.tolist(), items.titles, strict=True))


def read_titles(path: epath.PathLike) -> dict[int, str]:
    """Titles from a CSV file whose first two columns are movie id and title; a head may come first.

    Raises:
      StudyError: there is no such file, or a row is no id and title.
    """
    path = epath.Path(path)
    if not path.exists():
        raise StudyError(
            f"--titles={path}: expected a CSV file of movie ids and titles, or the folder of a "
            "corpus; found neither."
        )
    text = path.read_bytes().decode("utf-8-sig", errors="replace")
    titles: dict[int, str] = {}
    for number, row in enumerate(csv.reader(io.StringIO(text, newline="")), start=1):
        is_movie = len(row) > 1 and row[0].strip().isdecimal()
        if not row or (number == 1 and not is_movie):
            continue
        if not is_movie:
            raise StudyError(
                f"{path}, row {number}: expected movie id and title, got {row[:2]}. ReDial's "
                "movies_with_mentions.csv is such a file."
            )
        titles[int(row[0])] = row[1].strip()
    return titles


# --- collect ---------------------------------------------------------------------------------


def collect(folder: epath.PathLike, sheets: Sequence[epath.PathLike]) -> str:
    """Scores filled sheets, and writes scores.json and scores.md into the folder of the study.

    Returns:
      The scores as Markdown.

    Raises:
      StudyError: the folder has no key, or the sheets have problems: all of them, by file and line.
    """
    folder = epath.Path(folder)
    study = _study(folder / KEY)
    document = human_scores.score(study, human_sheets.read(study, sheets))
    text = human_scores.markdown(document)
    report.write_json(folder / SCORES, document)
    (folder / SCORES_MD).write_bytes(text.encode())
    return text


def _study(path: epath.Path) -> Study:
    if not path.exists():
        raise StudyError(
            f"{path}: expected the key of a study, found none. The first argument of collect is "
            "the folder that export wrote."
        )
    try:
        document = json.loads(path.read_text())
    except ValueError as error:
        raise StudyError(f"{path}: expected the key of a study; it is no JSON: {error}") from error
    return human_study.from_document(document, where=str(path))


def run() -> None:
    """The command line; a user's mistake ends in one message, not in a traceback."""
    logging.set_verbosity(logging.WARNING)  # libraries' own news; ours is printed
    app.run(main)


if __name__ == "__main__":
    run()
