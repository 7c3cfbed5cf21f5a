"""Every program is entered the same way, and a user's mistake ends in one line and exit code 2."""

import importlib
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
import rich.console
from absl import flags

from conkd_jax import __main__ as programs
from conkd_jax.cli import command_line, program_help
from conkd_jax.config.help import config_fields
from conkd_jax.errors import UserError
from conkd_jax.eval.tables.build import build_table
from tests.eval.scored import document
from tests.fixtures.programs import CONFIG, refused

ROOT = Path(__file__).resolve().parents[2]
NAMES = programs.PROGRAMS
WITHOUT_ARGUMENTS = ("train", "evaluate", "gate")


def module(name: str):
    is_package = (ROOT / "conkd_jax" / name).is_dir()
    return importlib.import_module(f"conkd_jax.{name}{'.program' if is_package else ''}")


def own_options(name: str) -> list[str]:
    return [flag.name for flag in command_line.own_options(module(name).OPTIONS)]


# --- one way to fail ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in NAMES if own_options(name)])
def test_an_unknown_option_names_one_that_is_alike(call, name):
    option = own_options(name)[0]
    message = refused(call(module(name), f"--{option}s=1"), f"there is no option --{option}s")
    assert f"did you mean --{option}=1?" in message


def options_with_values(name: str) -> list[str]:
    return [o for o in own_options(name) if not module(name).OPTIONS[o].boolean]


@pytest.mark.parametrize("name", [name for name in NAMES if options_with_values(name)])
def test_an_option_without_a_value(call, name):
    option = options_with_values(name)[0]
    for arguments in ([f"--{option}"], [f"--{option}", f"--{option}=1"]):
        refused(call(module(name), *arguments), f"--{option}: expected a value, got none")


def test_a_path_may_begin_with_the_home_folder(monkeypatch):
    monkeypatch.setenv("HOME", "/users/me")
    options = flags.FlagValues()
    for name in ("out", "text"):
        flags.DEFINE_string(name, "", "", flag_values=options)
    argv = ["program", "--out=~/scores=1", "--text=~ a ~/b", "~/run", "a~/b"]
    rest = command_line.parse(argv, options, takes_positional=True)
    assert rest == ["program", "/users/me/run", "a~/b"]
    assert (options["out"].value, options["text"].value) == ("/users/me/scores=1", "~ a ~/b")


@pytest.mark.parametrize("name", WITHOUT_ARGUMENTS)
def test_an_argument_where_none_is_expected(call, name):
    refused(call(module(name), "demo"), "unknown argument 'demo'")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", UserError.__subclasses__())
def test_a_user_s_error_is_one_line(call, monkeypatch, name, kind):
    def fails(argv):
        raise kind.__new__(kind, "what to do")  # some take more than a message

    fails.__module__ = f"conkd_jax.{name}"
    monkeypatch.setattr(module(name), "main", fails)
    code, output, errors = call(module(name))
    assert (code, output, errors) == (2, "", "error: what to do\n")


@pytest.mark.parametrize("name", NAMES)
def test_an_interrupt_ends_with_130(call, monkeypatch, name):
    def interrupted(argv):
        raise KeyboardInterrupt

    monkeypatch.setattr(module(name), "main", interrupted)
    code, _, errors = call(module(name))
    assert code == 130 and errors.startswith("stopped") and errors.count("\n") == 1


@pytest.mark.parametrize("kind", [ValueError, KeyError, FileNotFoundError, AssertionError])
def test_a_defect_keeps_its_traceback(kind):
    with pytest.raises(kind), command_line.explained():
        raise kind("a defect")


@pytest.mark.parametrize("name", ["train", "evaluate", "gate"])
def test_processes_that_can_t_be_joined(call, monkeypatch, name):
    monkeypatch.setenv("CONKD_COORDINATOR", "localhost:1")
    monkeypatch.setenv("CONKD_NUM_PROCESSES", "two")
    monkeypatch.delenv("CONKD_PROCESS_ID", raising=False)
    words = ["CONKD_NUM_PROCESSES=two", "CONKD_PROCESS_ID=(not set)", "launch/local_processes.sh"]
    refused(call(module(name)), *words)


@pytest.mark.parametrize(("name", "option"), [("train", "--config"), ("evaluate", "--predictions")])
def test_a_tilde_is_the_home_folder(call, monkeypatch, name, option):
    """Shells replace it at the start of an argument only."""
    monkeypatch.setenv("HOME", "/people/ada")
    refused(call(module(name), f"{option}=~/own.py"), "/people/ada/own.py")


# --- fields of the config ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "argument, message",
    [
        ("--config.distill.gama=.2", 'config.distill has no field "gama"; did you mean "gamma"?'),
        ("--config.distil.gamma=.2", 'config has no field "distil"; did you mean "distill"?'),
        ("--config.gamma=.2", 'config has no field "gamma"; did you mean --config.distill.gamma?'),
        ("--config.seed.x=1", 'config.seed has no field "x"; it is a field, not a part'),
        ("--config.decode.nothing=1", 'config.decode has no field "nothing"; it has item_rule, '),
        ("--config.distill=3", "config.distill is a part of the config: set its fields one by one"),
        ("--config.distill.gamma=abc", "config.distill.gamma: expected a number, got 'abc'"),
        ("--config.student.epochs=1.5", "config.student.epochs: expected an integer, got '1.5'"),
        (
            "--config.student.turn_tags=maybe",
            "config.student.turn_tags: expected true or false, got 'maybe'",
        ),
        ("--config.distill.gamma", "--config.distill.gamma: expected a value, got none"),
        (
            "--gamma=.2",
            "there is no option --gamma; fields of the config are set as "
            "--config.PART.FIELD=VALUE: did you mean --config.distill.gamma=.2?",
        ),
        (
            "--distill.gamma=.2",
            "there is no option --distill.gamma; fields of the config are set as "
            "--config.PART.FIELD=VALUE: did you mean --config.distill.gamma=.2?",
        ),
        ("--plan=maybe", "--plan: expected true or false, got 'maybe'"),
        ("--noplann", "there is no option --noplann"),
    ],
)
def test_a_field_that_can_t_be_set_so(call, argument, message):
    errors = refused(call(module("train"), CONFIG, argument, "--plan"), message)
    assert errors.startswith(f"error: {message}") and errors.count("\n") == 1


def test_a_field_before_its_config(call):
    arguments = ["--config.distill.gamma=.2", CONFIG]
    refused(call(module("train"), *arguments), "expected the config file before its fields")


@pytest.mark.parametrize("config", [["--config=no_such.py:demo"], ["--config", "configs"]])
def test_a_field_of_a_config_file_that_is_not_there(call, config):
    errors = refused(call(module("train"), *config, "--config.seed=1"), "found no such file")
    assert errors.count("\n") == 1


def test_a_field_of_a_program_without_a_config(call):
    refused(call(module("gate"), "--config.distill.gamma=.2"), "no option --config.distill.gamma")


def test_a_config_file_with_a_misspelt_field(call, tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(
        "from conkd_jax.config import from_argument\n\n\n"
        "def get_config(argument=None):\n"
        "    config = from_argument(argument)\n"
        "    config.distill.gama = 0.2\n"
        "    return config\n"
    )
    refused(call(module("train"), f"--config={path}:demo", "--plan"), f"{path}, line 6", '"gamma"')


def test_a_value_that_is_not_one_of_the_choices(call):
    outcome = call(module("evaluate"), "--split=train")
    refused(
        outcome, "--split: expected one of dev|valid|test|inspired_dev|inspired_test, got 'train'"
    )


# --- help --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_help_shows_the_docstring_and_the_program_s_own_options(call, name):
    code, output, errors = call(module(name), "--help")
    assert code == 0 and not errors
    assert output.startswith(f"usage: python -m conkd_jax.{name}")
    assert module(name).__doc__.partition("\n")[0].split()[0] in output
    shown = [line.split("=")[0].strip() for line in output.splitlines() if line.startswith("  --")]
    assert shown == [f"--{option}" for option in own_options(name)]
    assert "verbosity" not in output and "flagfile" not in output
    for line in output.splitlines():
        assert len(line) <= program_help.HELP_WIDTH or line.startswith("    "), line


def test_help_shows_a_default_of_zero_and_none_of_a_switch(call):
    _, human, _ = call(module("human"), "--help")
    assert "the seed of contexts and orders. Default: 0." in human
    _, train, _ = call(module("train"), "--help")
    assert "and stop. Default" not in train


def test_help_of_training_lists_every_field_with_comment_and_default(call):
    _, output, _ = call(module("train"), "--help")
    part, told = "", {}
    for line in output[output.index("\nconfig\n") :].splitlines():
        if line.startswith("config"):
            part = line.removeprefix("config").lstrip(".")
        elif line.startswith("  ") and not line.startswith("    "):
            name, _, rest = line.strip().partition("=")
            told[f"{part}.{name}".lstrip(".")] = rest
    fields = config_fields()
    assert list(told) == list(fields)
    for name, field in fields.items():
        assert told[name].startswith(repr(field.default)), name
    assert "hard gate" in fields["distill.eta"].comment
    assert " ".join(fields["distill.eta"].comment.split()[:3]) in output


def test_most_fields_have_a_comment():
    fields = config_fields().values()
    assert sum(bool(field.comment) for field in fields) > 0.6 * len(fields)


def test_the_package_lists_its_programs():
    files = {path.stem for path in (ROOT / "conkd_jax").glob("*.py")}
    entered = {
        name
        for name in files - {"__main__", "command_line"}
        if "command_line.run(" in (ROOT / "conkd_jax" / f"{name}.py").read_text(encoding="utf-8")
    }
    entered |= {path.parent.name for path in (ROOT / "conkd_jax").glob("*/program.py")}
    assert entered == set(programs.PROGRAMS)


# --- as a process ------------------------------------------------------------------------------


def started(*arguments: str) -> tuple[int, str, str]:
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONIOENCODING": "ascii"}
    environment.pop("COLUMNS", None)
    done = subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stdout, done.stderr


def test_the_package_as_a_process():
    code, output, errors = started("conkd_jax")
    assert code == 0 and not errors
    for name in programs.PROGRAMS:
        assert f"python -m conkd_jax.{name}\n      {programs.first_line(name)[:20]}" in output


def test_a_mistake_in_a_process_whose_output_can_t_be_encoded():
    arguments = ["--config=configs/dialogpt_hard.py:demo", "--config.distill.gama=λ"]
    outcome = started("conkd_jax.train", *arguments)
    refused(outcome, 'config.distill has no field "gama"; did you mean "gamma"?')


# --- what is shown -----------------------------------------------------------------------------


def marked_table():
    runs = {"dialogpt": 0.3, "dialogpt_hard": 0.2, "dialogpt_soft": 0.1}
    return build_table("2", [document(name, metrics={"f1@50": v}) for name, v in runs.items()])


@pytest.mark.parametrize("colors", [None, "standard"])
def test_a_terminal_shows_a_wide_table_in_parts(monkeypatch, colors):
    console = rich.console.Console(
        file=io.StringIO(), force_terminal=True, width=80, color_system=colors
    )
    monkeypatch.setattr(command_line.terminal, "console", lambda quiet: console)
    command_line.show(marked_table())
    text = console.file.getvalue()
    assert ("\x1b[1m" in text) == (colors is not None)
    assert ("*0.300" in text) == (colors is None)  # a terminal without styles, TERM=dumb
    assert text.count("dialogpt_soft") > 1


def test_a_pipe_gets_a_wide_table_with_plain_marks(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    command_line.show(marked_table())
    text = capsys.readouterr().out
    assert text.count("dialogpt_soft") == 1 and "*0.300" in text and "_0.200" in text
