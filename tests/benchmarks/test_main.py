"""All benchmarks, one after the other."""

import pytest

from benchmarks import __main__ as programs


@pytest.fixture
def ended(monkeypatch):
    """Exit statuses by program, in place of processes; and the commands that were started."""
    statuses, commands = {}, []

    class Ended:
        def __init__(self, command, cwd):
            commands.append(command[2:])
            self.returncode = statuses.get(command[2], 0)

    monkeypatch.setattr(programs.subprocess, "run", Ended)
    return statuses, commands


def test_every_program_writes_its_file(ended, tmp_path):
    assert programs.main([f"--folder={tmp_path}"]) == 0
    assert ended[1] == [
        [f"benchmarks.{name}", "--size=full", *rounds, f"--json={tmp_path}/{name}.json"]
        for name in programs.PROGRAMS
        for rounds in ([] if name == "scale" else ["--rounds=5"],)
    ]


def test_the_others_run_after_one_that_failed(ended, tmp_path, capsys):
    statuses, commands = ended
    statuses["benchmarks.decode"] = 1
    assert programs.main([f"--folder={tmp_path}", "--size=tiny"]) == 1
    assert len(commands) == len(programs.PROGRAMS)
    assert "failed or missed a target: decode\n" in capsys.readouterr().err


def test_every_program_can_be_imported_and_has_a_page():
    text = (programs.CHECKOUT / programs.page.PAGE).read_text(encoding="utf-8")
    for name in programs.PROGRAMS:
        module = __import__(f"benchmarks.{name}", fromlist=["main"])
        assert callable(module.main)
        assert f"<!-- {name} -->" in text
