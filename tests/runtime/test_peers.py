"""What a process says of the others, by the clock and with real processes that are killed."""

import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from conkd_jax.runtime import peers
from conkd_jax.runtime.coordinator_link import CoordinatorLink
from conkd_jax.runtime.peers import PeerWatch
from tests.fixtures.processes import WAITS_FOR_OTHERS, free_port


class Store:
    """The key-value store of the coordination service, in this process."""

    def __init__(self):
        self.values: dict[str, str] = {}

    def key_value_set(self, key, value, allow_overwrite):
        assert allow_overwrite
        self.values[key] = value

    def key_value_dir_get(self, prefix):
        return [(key, value) for key, value in self.values.items() if key.startswith(prefix)]


def watch(process_id: int = 0, count: int = 3, seconds: float = 60.0) -> PeerWatch:
    return PeerWatch(Store(), process_id, count, seconds)


def test_silence_counts_from_the_last_sign_of_life():
    mine = watch()
    start = mine._reached
    mine._reached = start + 100
    mine._changed |= {1: start + 45, 2: start + 30}
    assert "process 2 of 3, has given no sign of life for 60 seconds" in mine.verdict(start + 100)
    mine._changed[2] = start + 41
    assert mine.verdict(start + 100) == ""


def test_while_the_store_is_silent_its_owner_is_to_blame():
    mine = watch(process_id=2)
    start = mine._reached
    assert mine.verdict(start + 59) == ""
    assert mine.verdict(start + 61).startswith("process 0 of 3, whose key-value store")
    assert watch(process_id=0).verdict(start + 61) == ""  # its own store is never out of reach


def test_an_error_of_another_process_is_told():
    mine, other = watch(process_id=0), watch(process_id=1)
    other._client = mine._client
    other.fail("config.seed: expected …")
    mine._failures = {1: mine._client.values["conkd/failed/1"]}
    assert mine.verdict(0.0) == "process 1 of 3 ended with an error: config.seed: expected …"


@pytest.mark.parametrize("seconds", ["0", "nan", "inf", "-3", "soon"])
def test_a_limit_without_sense_is_refused(seconds: str):
    with pytest.raises(ValueError, match=f"CONKD_LOST_AFTER: expected .* got {seconds}$"):
        peers.lost_after({peers.LOST_AFTER: seconds})
    with pytest.raises(ValueError, match=f"CONKD_MEET_WITHIN: expected .* got {seconds}$"):
        peers.meet_within({peers.MEET_WITHIN: seconds})
    assert (peers.lost_after({}), peers.meet_within({})) == (60, 300)


# --- the connection to process 0 ---------------------------------------------------------------


@pytest.fixture
def environment(monkeypatch):
    """The variable that a link sets is not left to other tests."""
    monkeypatch.setenv("no_grpc_proxy", "")


@pytest.fixture
def connected(environment):
    """A link, its own end of a connection, the coordinator's end, and what the link reports."""
    lost = queue.Queue()
    with socket.create_server(("127.0.0.1", 0)) as server:
        link = CoordinatorLink(f"localhost:{server.getsockname()[1]}")
        link.on_loss = lambda: lost.put("lost")
        host, port = link.address.split(":")
        with socket.create_connection((host, int(port)), 30) as near, server.accept()[0] as far:
            far.settimeout(30)
            yield link, near, far, lost


def test_a_link_relays_both_ways(connected):
    _, near, far, lost = connected
    sent = bytes(range(256)) * 4000
    for source, target in ((near, far), (far, near)):
        threading.Thread(target=source.sendall, args=(sent,)).start()
        received = b""
        while len(received) < len(sent):
            received += target.recv(1 << 20)
        assert received == sent
    assert lost.empty()


def test_a_link_hides_that_the_coordinator_is_gone_and_reports_it(connected):
    _, near, far, lost = connected
    far.close()
    assert lost.get(timeout=30) == "lost"
    near.settimeout(0.5)
    with pytest.raises(TimeoutError):
        near.recv(1)  # the end of a connection would be b""
    near.sendall(b"a heartbeat")


def test_a_connection_that_this_process_ends_is_not_lost(connected):
    _, near, far, lost = connected
    near.shutdown(socket.SHUT_RDWR)
    assert far.recv(1) == b""
    far.close()
    with pytest.raises(queue.Empty):
        lost.get(timeout=0.5)


def test_a_coordinator_that_is_not_there_yet_refuses(environment):
    link = CoordinatorLink(f"localhost:{free_port()}")
    host, port = link.address.split(":")
    with socket.create_connection((host, int(port)), 30) as near:
        assert near.recv(1) == b""


# --- real processes ----------------------------------------------------------------------------


def process(
    index: int, coordinator: str, program: str, variables: dict[str, str]
) -> subprocess.Popen[str]:
    """A real process of a run of two."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("CONKD_")}
    place = {
        "CONKD_COORDINATOR": coordinator,
        "CONKD_NUM_PROCESSES": "2",
        "CONKD_PROCESS_ID": str(index),
        "CONKD_LOST_AFTER": "8",
        "JAX_PLATFORMS": "cpu",
        "JAX_NUM_CPU_DEVICES": "1",
    }
    return subprocess.Popen(
        [sys.executable, "-c", program],
        env=inherited | place | variables,
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def processes(
    for_ever: bool, raises: int | None = None, **variables: str
) -> list[subprocess.Popen[str]]:
    """Two real processes of one run; `raises` is the index of one that ends with an error."""
    coordinator = f"localhost:{free_port()}"
    program = WAITS_FOR_OTHERS % {"for_ever": for_ever, "raises": raises}
    return [process(index, coordinator, program, variables) for index in range(2)]


def end(running: list[subprocess.Popen[str]]) -> None:
    for each in running:
        each.kill()  # a stopped one, too
        each.communicate()


def expect_one_line(errors: str, *words: str) -> None:
    """That a process has ended with one line with these words, and with nothing of C++."""
    told = [line for line in errors.splitlines() if line.startswith("error: ")]
    assert len(told) == 1 and all(word in told[0] for word in words), errors
    assert errors.splitlines()[-1] == told[0]
    assert "Check failure" not in errors and "Traceback" not in errors


NEVER_MET = "did not meet at localhost:{port} within {seconds} seconds (CONKD_MEET_WITHIN)"


@pytest.mark.parametrize("index", [0, 1])
def test_a_process_that_meets_no_other_ends_with_one_line(index: int):
    port = free_port()
    program = WAITS_FOR_OTHERS % {"for_ever": True, "raises": None}
    alone = process(index, f"localhost:{port}", program, {"CONKD_MEET_WITHIN": "3"})
    try:
        _, errors = alone.communicate(timeout=300)
    finally:
        end([alone])
    assert alone.returncode == peers.EXIT_CODE, errors
    why = ("process 0 has waited there", "process 1 could not connect to process 0")[index]
    expect_one_line(errors, "the 2 processes", NEVER_MET.format(port=port, seconds=3), why)


@pytest.mark.slow
def test_two_processes_that_miss_a_third_end_with_one_line():
    running = processes(for_ever=True, CONKD_NUM_PROCESSES="3", CONKD_MEET_WITHIN="30")
    try:
        for each in running:
            _, errors = each.communicate(timeout=300)
            assert each.returncode == peers.EXIT_CODE, errors
            expect_one_line(errors, "the 3 processes", "others did not come")
    finally:
        end(running)


def test_two_processes_that_are_done_part_in_peace():
    # A proxy that isn't there, for all hosts but the coordinator's.
    running = processes(for_ever=False, http_proxy="http://localhost:9", no_proxy="localhost")
    try:
        for each in running:
            output, errors = each.communicate(timeout=300)
            assert each.returncode == 0, errors
            assert "done" in output and "error" not in errors
    finally:
        end(running)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "stopped"])
@pytest.mark.parametrize("lost", [0, 1])
def test_the_other_process_ends_with_one_line(lost: int, number: signal.Signals):
    running = processes(for_ever=True)
    try:
        for each in running:
            assert each.stdout is not None and each.stdout.readline() == "begun\n"
        time.sleep(3)  # several collectives, and signs of life
        running[lost].send_signal(number)
        survivor, began = running[1 - lost], time.monotonic()
        _, errors = survivor.communicate(timeout=300)
        assert time.monotonic() - began < 120
        assert survivor.returncode == peers.EXIT_CODE, errors
        expect_one_line(errors, f"process {lost} of 2")
    finally:
        end(running)


class Cable:
    """A relay to a port of this machine that can be cut: it then carries nothing, and stays open.

    Attributes:
      address: "host:port" of the relay.
    """

    def __init__(self, port: int):
        self._port, self._is_cut = port, threading.Event()
        self._server = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._server.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        self._is_cut.set()

    def _accept(self) -> None:
        while True:
            near, _ = self._server.accept()
            try:
                far = socket.create_connection(("localhost", self._port))
            except OSError:  # process 0 does not listen yet
                near.close()
                continue
            for ends in ((near, far), (far, near)):
                threading.Thread(target=self._carry, args=ends, daemon=True).start()

    def _carry(self, source: socket.socket, target: socket.socket) -> None:
        while block := source.recv(1 << 16):
            if self._is_cut.is_set():
                threading.Event().wait()  # for ever: neither end is closed
            target.sendall(block)
        target.shutdown(socket.SHUT_RDWR)


@pytest.mark.slow
def test_both_ends_of_a_dead_link_end_with_one_line():
    port = free_port()
    cable = Cable(port)
    program = WAITS_FOR_OTHERS % {"for_ever": True, "raises": None}
    addresses = (f"localhost:{port}", cable.address)
    running = [process(index, addresses[index], program, {}) for index in range(2)]
    try:
        for each in running:
            assert each.stdout is not None and each.stdout.readline() == "begun\n"
        time.sleep(3)
        cable.cut()
        began = time.monotonic()
        for index, each in enumerate(running):
            _, errors = each.communicate(timeout=300)
            assert time.monotonic() - began < 120
            assert each.returncode == peers.EXIT_CODE, errors
            expect_one_line(errors, f"process {1 - index} of 2", "can't be reached")
    finally:
        end(running)


@pytest.mark.slow
@pytest.mark.parametrize("raises", [0, 1])
def test_an_error_of_one_process_ends_the_other(raises: int):
    running = processes(for_ever=True, raises=raises)
    try:
        codes = []
        for each in running:
            _, errors = each.communicate(timeout=300)
            codes.append(each.returncode)
            assert "the disk is full" in errors and "Traceback" not in errors
        assert codes[raises] == 2 and codes[1 - raises] == peers.EXIT_CODE
    finally:
        end(running)
