"""Which row of the paper stands beside a metrics.json.

A run writes the `paper_row` of its config into its document. Documents of older versions lack that
field: for them the config file of the same name is read. A system that this
project did not train has the row that --paper_row named when it was scored.
"""

from __future__ import annotations

import functools
import re

from conkd_jax.config import load_config_file
from conkd_jax.config.files import HOME
from conkd_jax.eval.document import EXTERNAL, SYNTHETIC, Document
from conkd_jax.eval.tables.paper import PaperRow, paper_row


def paper_row_beside(document: Document) -> PaperRow | None:
    """Returns the paper's row to stand beside a document, or None.

    None stands beside a synthetic corpus, whatever the config says.
    """
    if document["preset"] == SYNTHETIC:
        return None
    return paper_row(paper_row_name(document), document["backbone"])


def paper_row_name(document: Document) -> str:
    """Returns the name of the paper's row that a document is about; "" where the paper has none."""
    if "paper_row" in document:
        return document["paper_row"]
    if document["preset"] == EXTERNAL:  # the name of a file is not the system's
        return ""
    return configured_paper_row(document["config"], document["preset"], document["backbone"])


@functools.cache
def configured_paper_row(name: str, preset: str, backbone: str) -> str:
    """Returns the `paper_row` of a config file of this package.

    Args:
      name: path of the config under configs/, without ".py".
      preset: the preset of the run.
      backbone: the backbone of the run.

    Returns:
      "" where there is no such file, or it can't be read with this preset and backbone: a missing
      row is no reason to refuse a table.
    """
    path = HOME / "configs" / f"{name}.py"
    is_plain = all(re.fullmatch(r"\w+", part) for part in name.split("/"))  # never "..", never "/"
    if not is_plain or not path.is_file():
        return ""
    try:
        return load_config_file(f"{path}:{preset},backbone={backbone}").paper_row
    except (ImportError, SyntaxError, AttributeError, KeyError, TypeError, ValueError):
        return ""
