"""Jobs: how many at a time, in which order, on which cores; failures; and that all of them end."""

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from conkd_jax.runtime.jobs import MEMORY_FRACTION, Job, Outcome, core_shares, environment, run_jobs


def job(tmp_path: Path, name: str, program: str) -> Job:
    return Job(name, (sys.executable, "-c", textwrap.dedent(program)), tmp_path / f"{name}.log")


def is_alive(pid: int) -> bool:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, 0)
        return True
    return False


def waited_for(path: Path) -> str:
    """The content of a file that another process writes."""
    for _ in range(300):
        if path.exists() and path.read_text().endswith("\n"):
            return path.read_text()
        time.sleep(0.1)
    raise AssertionError(f"{path} was never written")


def test_one_at_a_time_runs_in_order(tmp_path):
    book = tmp_path / "book"
    jobs = [
        job(tmp_path, name, f"open({str(book)!r}, 'a').write('{name}')") for name in ("c", "a", "b")
    ]
    outcomes = list(run_jobs(jobs))
    assert [outcome.job.name for outcome in outcomes] == ["c", "a", "b"]
    assert book.read_text() == "cab"


def test_two_run_at_once_and_never_three(tmp_path):
    """Each of the first two ends only when it has seen the other."""
    folder = tmp_path / "now"
    folder.mkdir()
    meets = f"""
        import os, pathlib, time
        folder = pathlib.Path({str(folder)!r})
        mine = folder / str(os.getpid())
        mine.touch()
        most, began = 0, time.monotonic()
        while time.monotonic() - began < 1.5 or (most < 2 and time.monotonic() - began < 20):
            most = max(most, len(list(folder.iterdir())))
            time.sleep(.02)
        mine.unlink()
        print(most)
    """
    outcomes = list(run_jobs([job(tmp_path, str(i), meets) for i in range(4)], at_once=2))
    assert [outcome.exit_code for outcome in outcomes] == [0] * 4
    assert {outcome.last_line for outcome in outcomes} == {"2"}


def test_a_failure_leaves_its_last_line_and_stops_no_other(tmp_path):
    failing = job(tmp_path, "fails", "import sys; print('first'); sys.exit('no such movie')")
    killed = job(tmp_path, "killed", "import os; os.kill(os.getpid(), 9)")
    fine = job(tmp_path, "fine", "print('done')")
    found = {outcome.job.name: outcome for outcome in run_jobs([failing, killed, fine])}
    assert {name: each.exit_code for name, each in found.items()} == {
        "fails": 1,
        "killed": -9,
        "fine": 0,
    }
    assert found["fails"].last_line == "no such movie"
    assert found["fine"].last_line == "done"


def test_a_log_keeps_earlier_tries(tmp_path):
    for word in ("one", "two"):
        list(run_jobs([job(tmp_path, "it", f"print('{word}')")]))
    lines = (tmp_path / "it.log").read_text().splitlines()
    assert [line for line in lines if line in ("one", "two")] == ["one", "two"]
    assert sum(line.startswith("$ ") for line in lines) == 2


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system binds no cores")
def test_processes_have_cores_of_their_own(tmp_path):
    before = os.sched_getaffinity(0)
    says = "import os; print(sorted(os.sched_getaffinity(0)))"
    outcomes = list(run_jobs([job(tmp_path, str(i), says) for i in range(2)], at_once=2))
    assert os.sched_getaffinity(0) == before
    shares = core_shares(2)
    assert not shares[0] & shares[1] and shares[0] | shares[1] <= before
    found = sorted(outcome.last_line for outcome in outcomes)
    assert found == sorted(str(sorted(share or before)) for share in shares)
    assert core_shares(len(before) + 1) == [set()] * (len(before) + 1)


def test_a_gpu_is_shared(monkeypatch):
    monkeypatch.delenv(MEMORY_FRACTION, raising=False)
    assert MEMORY_FRACTION not in environment(1)
    assert environment(3)[MEMORY_FRACTION] == "0.250"
    monkeypatch.setenv(MEMORY_FRACTION, ".9")
    assert environment(1)[MEMORY_FRACTION] == ".9"
    assert environment(2)[MEMORY_FRACTION] == "0.450"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_running_jobs_and_starts_no_other(tmp_path, number):
    """The jobs save something when they are asked to stop, as a training does."""
    saves = """
        import os, pathlib, signal, sys, time
        def save(*_):
            time.sleep(.5)
            pathlib.Path({path!r} + ".saved").touch()
            sys.exit(143)
        signal.signal(signal.SIGTERM, save)
        pathlib.Path({path!r}).write_text(f"{{os.getpid()}}\\n")
        time.sleep(600)
    """
    names = [str(tmp_path / f"job{place}") for place in range(3)]
    jobs = [job(tmp_path, Path(name).name, saves.format(path=name)) for name in names]
    main = f"""
        import signal
        from pathlib import Path
        from conkd_jax.runtime.jobs import Job, run_jobs
        signal.signal(signal.SIGINT, signal.default_int_handler)  # shells ignore it in background
        jobs = [Job(n, c, Path(p)) for n, c, p in {[(j.name, j.command, str(j.log)) for j in jobs]}]
        for outcome in run_jobs(jobs, at_once=2):
            print(outcome)
    """
    with subprocess.Popen([sys.executable, "-c", textwrap.dedent(main)], text=True) as parent:
        running = [int(waited_for(Path(name))) for name in names[:2]]
        parent.send_signal(number)
        try:
            parent.wait(timeout=60)
        finally:
            parent.kill()  # or the end of the block would wait for it
    assert parent.returncode != 0
    assert not any(is_alive(pid) for pid in running)
    assert [Path(f"{name}.saved").exists() for name in names] == [True, True, False]


def test_who_stops_listening_stops_the_jobs(tmp_path):
    sleeper = job(
        tmp_path, "sleeper", "import os, time; print(os.getpid(), flush=True); time.sleep(600)"
    )
    outcomes = run_jobs([job(tmp_path, "quick", ""), sleeper], at_once=2)
    assert next(outcomes).job.name == "quick"
    for _ in range(100):
        lines = sleeper.log.read_text().split()
        if lines[-1].isdigit():
            break
        time.sleep(0.1)
    outcomes.close()
    assert not is_alive(int(lines[-1]))


def test_jobs_run_outside_the_main_thread(tmp_path):
    """There no signal can be handled, which must not matter."""
    found = []
    thread = threading.Thread(target=lambda: found.extend(run_jobs([job(tmp_path, "a", "")])))
    thread.start()
    thread.join(timeout=60)
    assert [outcome.exit_code for outcome in found] == [0]


def test_a_message_of_several_lines_is_known_by_its_first(tmp_path):
    log = tmp_path / "a.log"
    job = Job("a", ["x"], log)
    log.write_text("$ x\nerror: an earlier one\n$ x\nstep 1\nerror: no data\n  * get some\n")
    assert Outcome(job, 2, 1.0).last_line == "error: no data"
    log.write_text("$ x\nerror: an earlier one\n$ x\nstep 1\nKilled\n")
    assert Outcome(job, -9, 1.0).last_line == "Killed"
