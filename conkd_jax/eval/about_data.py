"""What a corpus says about numbers that are measured on it: which mean nothing, and what to know.

A corpus' report may have `without_meaning`, reasons by metric, and `transfer`, what a transfer
split has in common with the items of a system. Both go into metrics.json and below tables.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from conkd_jax.eval.document import Document

WITHOUT_MEANING, TRANSFER = "without_meaning", "transfer"


def with_data(document: Document, report: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a document without the metrics that mean nothing, and with what the corpus says.

    Args:
      document: what `metrics_document` returned.
      report: the report of the corpus that was scored.

    >>> report = {"without_meaning": {"rec_ratio": "All responses recommend."}}
    >>> document = {"metrics": {"rec_ratio": 0.4, "f1@1": 0.1}, "intervals": {}}
    >>> with_data(document, report)["metrics"]
    {'f1@1': 0.1}
    """
    reasons = report.get(WITHOUT_MEANING, {})
    said = {name: report[name] for name in (WITHOUT_MEANING, TRANSFER) if name in report}
    kept = {
        part: {name: value for name, value in document[part].items() if name not in reasons}
        for part in ("metrics", "intervals")
    }
    return {**document, **kept, **said}


def data_notes(documents: Sequence[Document]) -> list[str]:
    """Returns what a reader of some documents must know about their data, each sentence once."""
    notes = [
        note
        for document in documents
        for note in (
            *document.get(WITHOUT_MEANING, {}).values(),
            *filter(None, [document.get(TRANSFER, {}).get("note")]),
        )
    ]
    return list(dict.fromkeys(notes))
