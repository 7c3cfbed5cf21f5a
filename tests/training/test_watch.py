import os
import signal
import threading

import numpy as np
import pytest

from conkd_jax.runtime import parallel
from conkd_jax.training import watch


class Unread:
    """A metric on the device that records when it is read."""

    def __init__(self, step, reads):
        self.step, self.reads = step, reads

    def addressable_data(self, index):
        self.reads.append(self.step)
        return np.asarray([float(self.step)])


def test_metrics_are_read_late_in_order_and_all():
    reads, lines, track = [], [], watch.Track()
    late = watch.LateMetrics("task", str, track, lambda *line: lines.append(line), parallel.to_host)
    one = parallel.replicate(np.float32(1), parallel.select_devices(1))
    for step in range(watch.METRICS_LATENESS + 3):
        late.add(step, {"loss": (Unread(step, reads), one), "grad_norm": (one, one)})
    assert reads == [0, 1, 2]
    late.drain()
    assert reads == list(range(watch.METRICS_LATENESS + 3))
    assert lines[1] == (2, 1.0, 0.0)
    assert track.window["loss"] == [sum(reads), len(reads)]


def test_track_divides_once():
    track = watch.Track()
    track.add({"loss": (1.0, 1.0), "gate": (3.0, 10.0), "never": (0.0, 0.0)})
    track.add({"loss": (2.0, 1.0), "gate": (1.0, 30.0), "never": (0.0, 0.0)})
    line = track.close_window(2, {"dev_nll": 4.0})
    assert line == {"step": 2, "loss": 1.5, "gate": 0.1, "dev_nll": 4.0}
    assert track.window == {} and track.history == [line]


@pytest.mark.parametrize(
    "mode, values, gains", [("max", [1, 1, 2], [1, 0, 1]), ("min", [0, -1], [1, 1])]
)
def test_gains_are_strict(mode, values, gains):
    track = watch.Track()
    got = [track.is_gain({"step": i + 1, "m": v}, ("m", mode)) for i, v in enumerate(values)]
    assert got == [bool(gain) for gain in gains]
    assert track.best_value == values[-1] and track.best_step == len(values)


def test_patience_counts_evaluations_without_gain():
    track = watch.Track()
    for step in range(1, 4):
        track.is_gain({"step": step, "m": 1.0}, ("m", "min"))
    assert track.num_without_gain == 2
    assert track.is_out_of(2) and not track.is_out_of(3) and not track.is_out_of(0)


def test_a_signal_that_comes_too_late_to_be_asked_for_is_raised_again():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            with watch.StopSignals():
                os.kill(os.getpid(), signal.SIGINT)
            raise AssertionError("forgotten")
    finally:
        signal.signal(signal.SIGINT, before)


def test_signals_are_left_alone_outside_the_main_thread():
    before, errors = signal.getsignal(signal.SIGTERM), []

    def enter():
        try:
            with watch.StopSignals() as stop:
                assert not stop.is_asked(1, print)
        except ValueError as error:  # what signal.signal raises there
            errors.append(error)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert not errors and signal.getsignal(signal.SIGTERM) is before
