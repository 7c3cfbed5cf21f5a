"""A human evaluation comes back: filled sheets and the key become scores."""

from __future__ import annotations

from collections.abc import Sequence

from etils import epath

from conkd_jax.eval.human.export import KEY
from conkd_jax.eval.human.scores import score_study, scores_markdown
from conkd_jax.eval.human.sheets import read_sheets
from conkd_jax.eval.human.study import Study, StudyError, study_from_document
from conkd_jax.io.files import parse_json, write_json, write_whole

SCORES, SCORES_MD = "scores.json", "scores.md"


def collect_scores(folder: epath.PathLike, sheets: Sequence[epath.PathLike]) -> dict:
    """Scores filled sheets, and writes scores.json and scores.md into the folder of the study.

    Args:
      folder: the folder that `export_study` wrote.
      sheets: filled sheets.

    Returns:
      The scores, as `score_study` returns them.

    Raises:
      StudyError: the folder has no key, or the sheets have problems; all of them are listed.
    """
    folder = epath.Path(folder)
    study = read_key(folder / KEY)
    document = score_study(study, read_sheets(study, sheets))
    write_json(folder / SCORES, document)
    write_whole(folder / SCORES_MD, scores_markdown(document))
    return document


def read_key(path: epath.PathLike) -> Study:
    """Reads the key of a study.

    Args:
      path: the key.json that export wrote.

    Raises:
      StudyError: it is missing, damaged or no key.
    """
    path = epath.Path(path)
    if not path.exists():
        raise StudyError(
            f"{path}: expected the key of a study, found none. The first argument of collect is "
            "the folder that export wrote."
        )
    try:
        document = parse_json(path.read_text())
    except ValueError as error:
        raise StudyError(f"{path}: expected the key of a study; it is not JSON: {error}") from error
    return study_from_document(document, where=str(path))
