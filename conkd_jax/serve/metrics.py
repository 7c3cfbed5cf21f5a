"""What a server counts, in the text format of Prometheus.

Source: https://prometheus.io/docs/instrumenting/exposition_formats/ (text format 0.0.4).
"""

from __future__ import annotations

import collections
import threading
from collections.abc import Mapping

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
BOUNDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)  # seconds, of the histogram

_HELP = {
    "conkd_requests_total": "Requests by route and status.",
    "conkd_answers_total": "Answers by system.",
    "conkd_tokens_total": "Decoded tokens by system.",
    "conkd_batches_total": "Batches by system.",
    "conkd_batch_rows_total": "Rows of batches that were a request, by system.",
}
_SECONDS = "conkd_answer_seconds"


class Metrics:
    """Counters; safe to use from several threads."""

    def __init__(self):
        self._lock = threading.Lock()
        self._counts: collections.Counter[tuple[str, tuple[tuple[str, str], ...]]] = (
            collections.Counter()
        )
        self._seconds: dict[str, list[float]] = {}

    def requested(self, route: str, status: int) -> None:
        """Counts a request."""
        self._add("conkd_requests_total", 1, route=route, status=str(status))

    def answered(self, system: str, tokens: int, seconds: float) -> None:
        """Counts an answer."""
        self._add("conkd_answers_total", 1, system=system)
        self._add("conkd_tokens_total", tokens, system=system)
        with self._lock:
            *buckets, total, count = self._seconds.get(system, [0] * (len(BOUNDS) + 2))
            buckets = [n + (seconds <= bound) for n, bound in zip(buckets, BOUNDS, strict=True)]
            self._seconds[system] = [*buckets, total + seconds, count + 1]

    def decoded(self, system: str, rows: int) -> None:
        """Counts a batch."""
        self._add("conkd_batches_total", 1, system=system)
        self._add("conkd_batch_rows_total", rows, system=system)

    def _add(self, name: str, count: int, **labels: str) -> None:
        with self._lock:
            self._counts[name, tuple(labels.items())] += count

    def text(self, waiting: Mapping[str, int]) -> str:
        """All counters, and how many requests wait for each system."""
        with self._lock:
            counts, seconds = dict(self._counts), dict(self._seconds)
        lines = []
        for name, text in _HELP.items():
            lines += [f"# HELP {name} {text}", f"# TYPE {name} counter"]
            lines += [
                f"{name}{_labels(labels)} {count}"
                for (each, labels), count in sorted(counts.items())
                if each == name
            ]
        lines += [
            f"# HELP {_SECONDS} From a request to its answer.",
            f"# TYPE {_SECONDS} histogram",
        ]
        for system, (*buckets, total, count) in sorted(seconds.items()):
            for bound, number in zip([*BOUNDS, "+Inf"], [*buckets, count], strict=True):
                labels = _labels([("system", system), ("le", str(bound))])
                lines.append(f"{_SECONDS}_bucket{labels} {number}")
            labels = _labels([("system", system)])
            lines += [f"{_SECONDS}_sum{labels} {total}", f"{_SECONDS}_count{labels} {count}"]
        lines += ["# HELP conkd_waiting Requests that wait.", "# TYPE conkd_waiting gauge"]
        lines += [f"conkd_waiting{_labels([('system', name)])} {n}" for name, n in waiting.items()]
        return "\n".join(lines) + "\n"


def _labels(labels) -> str:
    r"""Labels as Prometheus reads them.

    >>> _labels([("system", 'a"b')])
    '{system="a\\"b"}'
    """
    escaped = [
        (key, value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n"))
        for key, value in labels
    ]
    return "{" + ",".join(f'{key}="{value}"' for key, value in escaped) + "}"
