"""A paired comparison of two runs as a JSON file, which can be committed beside their results.

It holds what `--compare` prints, unrounded, and everything that says of what: both systems with
their settings and hashes, the responses, the resampling, and the command and machine.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from etils import epath

from conkd_jax.eval.document import Document, DocumentError, document_label
from conkd_jax.eval.metrics.bootstrap import LEVEL
from conkd_jax.eval.tables.documents import portable_command, read_document
from conkd_jax.eval.tables.paired import PairedTest
from conkd_jax.eval.tables.sections import SECTIONS
from conkd_jax.io.files import sha256_of_file

UNTESTED = (  # not ratios over dialogues, or not in predictions: without interval and p
    *(f"tf_hit@{k}" for k in (1, 10, 50)),
    *(f"dist-{n}" for n in (1, 2, 3, 4)),
    "coverage",
    "gini",
)
_OF_SYSTEM = (
    "config",
    "preset",
    "backbone",
    "decoding",
    "overrides",
    "seed",
    "teacher_seed",
    "config_sha256",
    "settings_sha256",
    "git",
)


def comparison_document(
    test: PairedTest,
    files: Mapping[str, epath.Path],
    *,
    command: str,
    machine: Mapping[str, Any] | str,
) -> dict[str, Any]:
    """Returns the content of the file.

    A system whose metrics.json lies beside its predictions is described by it, and metrics that
    have no paired test are taken from there.

    Args:
      test: the comparison.
      files: the predictions of the two systems by name, as they were compared.
      command: the command that was run.
      machine: the machine that it ran on.
    """
    documents = {name: _document_beside(file) for name, file in files.items()}
    first, second = (documents[name] for name in test.names)
    named = [name for section in SECTIONS.values() for name in section]
    tested = {name: test.comparisons[name] for name in named if name in test.comparisons}
    splits = {document["split"] for document in documents.values() if document}
    return {
        "first": system_identity(test.names[0], files[test.names[0]], first),
        "second": system_identity(test.names[1], files[test.names[1]], second),
        "split": " and ".join(sorted(splits)),
        "n_dialogues": test.num_dialogues,
        "n_responses": test.num_responses,
        "num_resamples": test.num_resamples,
        "resampling_seed": test.seed,
        "interval_level": LEVEL / 100,
        "metrics": {name: found.to_dict() for name, found in tested.items()},
        "without_test": _untested(first, second),
        "command": portable_command(command),
        "machine": machine,
    }


def _document_beside(file: epath.Path) -> Document | None:
    """Returns the metrics.json beside predictions; None where there is none that can be read."""
    beside = file.parent / "metrics.json"
    try:
        return read_document(beside) if beside.exists() else None
    except DocumentError:
        return None


def system_identity(name: str, file: epath.Path, document: Document | None) -> dict[str, Any]:
    """Returns what says which system wrote predictions: settings, hashes, command.

    Args:
      name: of the system.
      file: its predictions.
      document: the metrics.json beside them, if there is one.
    """
    system: dict[str, Any] = {"name": name, "predictions_sha256": sha256_of_file(file)}
    if document is not None:
        system["label"] = document_label(document)
        system |= {field: document[field] for field in _OF_SYSTEM if field in document}
        system["command"] = portable_command(document["command"])
    return system


def _untested(first: Document | None, second: Document | None) -> dict[str, dict[str, float]]:
    """Returns both values of the metrics in `UNTESTED` that both documents have."""
    if first is None or second is None:
        return {}
    one, other = first["metrics"], second["metrics"]
    return {
        name: {"first": one[name], "second": other[name], "difference": other[name] - one[name]}
        for name in UNTESTED
        if name in one and name in other
    }
