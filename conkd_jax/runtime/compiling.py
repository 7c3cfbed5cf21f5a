"""How long this process has compiled: the time that looks like hanging, counted apart.

JAX compiles a function when it is first called with arguments of new shapes. The seconds include
tracing, lowering, XLA and reading the compilation cache. Nothing here changes what is computed.
"""

from __future__ import annotations

import threading
import time
from typing import Any

from jax import monitoring

_PREFIX = "/jax/core/compile/"


class _Clock:
    """Sums the time spent in spans; of nested spans, each second counts once."""

    def __init__(self):
        self._lock = threading.Lock()
        self._spans: list[tuple[float, float]] = []  # disjoint, in order
        self.seconds = 0.0

    def add(self, event: str, duration_secs: float, **kwargs: Any) -> None:
        """Adds a span that ends now, if it is one of compiling."""
        del kwargs
        if not event.startswith(_PREFIX):
            return
        end = time.monotonic()
        start = end - duration_secs
        with self._lock:
            while self._spans and self._spans[-1][0] >= start:  # inside of the new one
                inner_start, inner_end = self._spans.pop()
                self.seconds -= inner_end - inner_start
            if self._spans:  # another thread's span may overlap
                start = min(max(start, self._spans[-1][1]), end)
            self._spans.append((start, end))
            self.seconds += end - start


_CLOCK = _Clock()
monitoring.register_event_duration_secs_listener(_CLOCK.add)


def seconds() -> float:
    """The seconds that this process has spent on compiling so far."""
    return _CLOCK.seconds
