"""What the program `own_data` does with a folder: checks it, writes one, marks its items.

Checking builds the corpus in memory, exactly as the stage `corpus` will, so a folder that passes is
a folder that trains.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from etils import epath

from conkd_jax.stages.corpus import expect_trainable
from data_prep.custom.build import build_custom
from data_prep.custom.link import LinkReport, link_folder
from data_prep.custom.template import write_template

__all__ = ["Checked", "LinkReport", "check", "link_folder", "write_template"]

WITHOUT_CONCEPTS = (
    "--config.rec_teacher.use_concepts=False",
    "--config.rec_teacher.mim_epochs=0",
    "--config.rec_teacher.mim_weight=0",
)
DIALOGUES_OF_MINI = 3000  # of training, from which on the models of the preset mini are learned


@dataclasses.dataclass(frozen=True)
class Checked:
    """A folder of one's own data that can be trained on.

    Attributes:
      report: the data report of its corpus.
      preset: "demo" or "mini", the one whose models are of the size for so many dialogues.
      options: the options that train on it.
    """

    report: dict[str, Any]
    preset: str
    options: tuple[str, ...]


def check(directory: epath.PathLike) -> Checked:
    """Reads a folder and builds its corpus, without writing anything.

    Raises:
      UserError: something can't be used; lists file, line, what is wrong and how to mend it.
    """
    report = build_custom(directory, None)
    expect_trainable(report)
    options = ["--config.corpus.name=custom", f"--config.corpus.raw_dir={directory}"]
    if not report["has_word_graph"]:
        options += WITHOUT_CONCEPTS
    if "valid" not in report["splits"]:
        options.append("--config.evaluation.split=dev")
    is_small = report["splits"]["train"]["dialogues"] < DIALOGUES_OF_MINI
    return Checked(report, "demo" if is_small else "mini", tuple(options))
