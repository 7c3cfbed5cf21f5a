"""The command line that all programs share: options, `--help`, error messages and output.

A program defines its options on its own `FlagValues` and passes its `main` to `run`, which shows
`--help` and `--version`, reads the command line and turns a `UserError` into one `error: …` line
with exit code 2. Any other exception is a bug and keeps its traceback. This module does not depend
on any program.
"""

from __future__ import annotations

import difflib
import itertools
import os
import re
import shlex
import sys
import traceback
from collections.abc import Callable, Collection
from logging import LogRecord

import jax
import rich.console
import rich.table
from absl import flags, logging
from etils import epath

from conkd_jax.cli.ending import explained
from conkd_jax.cli.program_help import console_script, help_text, own_options
from conkd_jax.config.files import importable, names_like, resolved
from conkd_jax.config.help import ConfigField, config_fields
from conkd_jax.errors import UserError
from conkd_jax.eval.tables.fitting import in_blocks, needed_width
from conkd_jax.eval.tables.formats import table_for_terminal
from conkd_jax.eval.tables.table import ResultTable
from conkd_jax.io import terminal
from conkd_jax.runtime import cluster, parallel
from conkd_jax.versions import versions_in_words

EXAMPLE = "--config=configs/dialogpt_hard.py:demo"
HELP = ("-h", "-help", "--help", "-helpfull", "--helpfull")


class UsageError(UserError):
    """An option or argument that is unknown, missing or invalid."""


class OutputError(UserError):
    """Standard output that could not be written, on a full disk for example."""


def run(
    main: Callable[[list[str]], None],
    options: flags.FlagValues,
    *,
    positional: str = "",
    joins_processes: bool = False,
) -> None:
    """Runs a program on `sys.argv`.

    Args:
      main: takes the program's name and its positional arguments. The docstring of its module is
        the program's help.
      options: the program's own options.
      positional: the positional arguments as `--help` shows them, for example "RUN…"; if empty,
        positional arguments are refused.
      joins_processes: whether several processes can form one run (`CONKD_COORDINATOR`).
    """
    terminal.make_output_lenient()
    with explained():
        if any(argument in HELP for argument in sys.argv[1:]):
            show(help_text(main, options, positional))
            return
        if "--version" in sys.argv[1:]:
            show(versions_in_words())
            return
        logging.use_absl_handler()
        logging.set_verbosity(logging.WARNING)  # of the libraries; ours are printed
        logging.get_absl_logger().addFilter(_is_not_told_twice)
        if joins_processes:  # before a config file can use a device
            cluster.join()
        main(parse(sys.argv, options, takes_positional=bool(positional)))
        if (error := terminal.output_error()) is not None:
            raise OutputError(
                f"the output could not be printed to its end: {error}. Results that go into files "
                "are complete."
            )
        cluster.leave()


def _is_not_told_twice(record: LogRecord) -> bool:
    """Drops the errors that orbax's threads log; orbax raises them in the main thread as well."""
    return record.levelname != "ERROR" or "orbax" not in record.pathname


def this_command(*, without: Collection[str] = ()) -> str:
    """The command line of this process, as it can be typed again.

    Args:
      without: names of options to leave out.
    """
    program = re.sub(r"(/__main__)?\.py$", "", sys.argv[0])
    if script := console_script():
        program = script
    elif match := re.match(r".*\b(conkd_jax[./][\w./]*)$", program):
        program = f"python -m {match[1].replace('/', '.')}"
    else:
        program = shlex.quote(sys.argv[0])
    left, words = [], sys.argv[1:]
    while words:
        word = words.pop(0)
        if word.lstrip("-").partition("=")[0] not in without:
            left.append(word)
        elif "=" not in word and words and not words[0].startswith("-"):
            words.pop(0)  # its value
    return " ".join([program, *map(shlex.quote, left)])


def show(*things: str | ResultTable | rich.console.RenderableType) -> None:
    """Prints lines of text and tables; only the first process of a run prints.

    On a terminal, a table that is too wide goes on below. Over a pipe, no line is wrapped: a table
    is as wide as it needs to be.
    """
    # `is_first_process` initialises the accelerator; a single process needs no answer.
    is_quiet = jax.distributed.is_initialized() and not parallel.is_first_process()
    for thing in things:
        console = terminal.console(quiet=is_quiet)
        if isinstance(thing, str):
            console.print(thing, markup=False, highlight=False, soft_wrap=True)
            continue
        if isinstance(thing, ResultTable):
            thing = table_for_terminal(thing, is_plain=console.color_system is None)
        if not console.is_terminal:
            console.width = max(console.width, needed_width(thing, console))
        parts = in_blocks(thing, console) if isinstance(thing, rich.table.Table) else [thing]
        for part in parts:
            console.print(part)


# --- parsing -----------------------------------------------------------------------------------


def parse(
    argv: list[str], options: flags.FlagValues, *, takes_positional: bool = False
) -> list[str]:
    """Parses a command line.

    Args:
      argv: the program's name, options and arguments.
      options: the options, which get the values in `argv`.
      takes_positional: whether positional arguments are allowed.

    Returns:
      The program's name and the positional arguments.

    Raises:
      UserError: an unknown option or argument, a missing value, or one of the wrong type.
    """
    for flag in flags.FLAGS.flags_by_module_dict().get(logging.__name__, []):
        if flag.name not in options:  # --verbosity and the like
            options[flag.name] = flag
    _check_options(argv[1:], options)
    argv = [argv[0], *map(_with_home, argv[1:])]
    file = ""
    if "config" in options:
        argv, file = _with_config_path(argv)
    try:
        with importable(file):
            rest = options(argv)
    except (flags.Error, OSError, KeyError, AttributeError, TypeError, ValueError) as error:
        raise _readable(error, options) from error
    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()  # otherwise absl.logging warns
    if len(rest) > 1 and not takes_positional:
        raise UsageError(f"unknown argument {rest[1]!r}; options begin with --")
    return rest


def expect_config_file(filename: str) -> None:
    """Checks that there is a config file.

    Args:
      filename: the value of --config: a path or a name.

    Raises:
      UsageError: there is no such file.
    """
    filename = os.path.expanduser(filename)
    if not epath.Path(resolved(filename).split(":")[0]).is_file():
        raise UsageError(
            f"--config={filename}: expected a config file, by path or by name, and, after a colon, "
            f"a preset; found no such file. For example {EXAMPLE}. {names_like(filename)}"
        )


def _with_config_path(argv: list[str]) -> tuple[list[str], str]:
    """Replaces the name of a config file by its path; returns that path as well, "" for none."""
    argv, path = list(argv), ""
    for place, argument in enumerate(argv):
        match = re.fullmatch(r"(--?config)(=.*)?", argument, re.S)
        if argument == "--":
            break
        if match and match[2]:
            path = resolved(match[2][1:])
            argv[place] = f"{match[1]}={path}"
        elif match and place + 1 < len(argv):
            argv[place + 1] = path = resolved(argv[place + 1])
    return argv, path.partition(":")[0]


def _with_home(argument: str) -> str:
    """Replaces a "~" that begins an argument or the value of an option by the home folder.

    Shells do so at the start of an argument only, not in `--out=~/scores`.
    """
    option, equals, value = argument.partition("=")
    if argument.startswith("-") and equals:
        return f"{option}={os.path.expanduser(value)}"
    return os.path.expanduser(argument)


def _check_options(arguments: list[str], options: flags.FlagValues) -> None:
    """Refuses unknown options, and options without a value, with clearer messages than absl's.

    Those name neither the part of the config nor what to do.
    """
    has_config_file = False
    for argument, following in itertools.zip_longest(arguments, arguments[1:]):
        match = re.fullmatch(r"--?([a-zA-Z][\w.-]*)(=.*)?", argument, re.S)
        if argument == "--":
            return
        if match is None:
            continue
        name, value = match.groups()
        if name in ("flagfile", "undefok"):  # absl's own, defined on every FlagValues
            continue
        field = re.fullmatch(r"(?:no)?config\.(.*)", name)
        if field and "config" in options:
            is_switch = isinstance(_field(field[1]).default, bool)
            if not has_config_file:
                raise UsageError(
                    f"--{name}: expected the config file before its fields. For example {EXAMPLE} "
                    f"{argument}"
                )
        else:
            flag = options[name] if name in options else _switched_off(name, options)
            if flag is None:
                raise UsageError(_no_such_option(name, value, options))
            is_switch = flag.boolean
        has_config_file |= name == "config"
        if not value and not is_switch and (following is None or following.startswith("--")):
            raise UsageError(f"--{name}: expected a value, got none. Write --{name}=VALUE")
        if name == "config":  # its fields, given after it, would fail with other words
            expect_config_file(value[1:] if value else following or "")


def _switched_off(name: str, options: flags.FlagValues) -> flags.Flag | None:
    """The boolean option that `--noNAME` switches off, if any."""
    name = name.removeprefix("no")
    return options[name] if name in options and options[name].boolean else None


def _field(name: str) -> ConfigField:
    """The config field of a dotted name.

    Raises:
      UsageError: there is none; the message suggests similar fields.
    """
    fields = config_fields()
    if name in fields:
        return fields[name]
    part, keys = "", name.split(".")
    for key in keys:
        inside = _keys_of(part)
        if key not in inside:
            where = ".".join(filter(None, ("config", part)))
            alike = difflib.get_close_matches(key, inside, n=1)
            elsewhere = _fields_named(key)
            if elsewhere:
                hint = f"did you mean {' or '.join(f'--config.{each}' for each in elsewhere)}?"
            elif alike:
                hint = f'did you mean "{alike[0]}"?'
            else:
                hint = f"it has {', '.join(inside)}" if inside else "it is a field, not a part"
            raise UsageError(f'{where} has no field "{key}"; {hint}')
        part = f"{part}.{key}".lstrip(".")
    raise UsageError(
        f"config.{name} is a part of the config: set its fields one by one, for example "
        f"--config.{name}.{_keys_of(name)[0]}=VALUE"
    )


def _keys_of(part: str) -> list[str]:
    """The names of the fields and parts directly in a part of the config."""
    start = f"{part}." if part else ""
    names = [name for name in config_fields() if name.startswith(start)]
    return list(dict.fromkeys(name.removeprefix(start).split(".")[0] for name in names))


def _fields_named(key: str) -> list[str]:
    return [name for name in config_fields() if name.rpartition(".")[2] == key]


def _no_such_option(name: str, value: str | None, options: flags.FlagValues) -> str:
    text = f"there is no option --{name}"
    own = [flag.name for flag in own_options(options)]
    if alike := difflib.get_close_matches(name, own, n=1):
        return f"{text}; did you mean --{alike[0]}{value or ''}?"
    if "config" not in options:
        return f"{text}; --help lists the options"
    text += "; fields of the config are set as --config.PART.FIELD=VALUE"
    names = config_fields()
    found = [name] if name in names else _fields_named(name.rpartition(".")[2])
    if found:
        meant = " or ".join(f"--config.{each}{value or ''}" for each in found)
        return f"{text}: did you mean {meant}?"
    return f"{text}, and --help lists them"


# --- errors of the libraries -------------------------------------------------------------------


def _readable(error: BaseException, options: flags.FlagValues) -> BaseException:
    """Turns an error of absl or ml_collections into a `UserError`, unless it is a bug."""
    chain: list[BaseException] = [error]
    while (cause := chain[-1].__cause__ or chain[-1].__context__) is not None:
        chain.append(cause)
    for each in reversed(chain):
        if isinstance(each, UserError):  # of the config file, wrapped by absl and ml_collections
            return each
    match = re.match(r"flag --([\w.-]+)=(.*)", str(error), re.S)
    if isinstance(error, flags.IllegalFlagValueError) and match:
        name, got = match.groups()
        if error.__context__ is not None:
            got = got.removesuffix(f": {error.__context__}")
        label = name if name.startswith("config.") else f"--{name}"
        return UsageError(f"{label}: expected {_expected(name, options)}, got {got!r}")
    if isinstance(error, flags.Error):
        return UsageError(str(error))
    for each in reversed(chain):
        for frame in reversed(traceback.extract_tb(each.__traceback__)):
            if "config" in options and frame.name == "get_config":
                message = " ".join(str(each.args[0] if each.args else each).split())
                return UsageError(f"{frame.filename}, line {frame.lineno}: {message}")
    return error


def _expected(name: str, options: flags.FlagValues) -> str:
    """The kind of value that an option or a config field expects, in words."""
    if name.startswith("config."):
        default = config_fields()[name.removeprefix("config.")].default
        kinds = {bool: "true or false", int: "an integer", float: "a number", tuple: "a tuple"}
        return kinds.get(type(default), "text")
    flag = options[name]
    if isinstance(flag.parser, flags.EnumParser):
        return f"one of {'|'.join(flag.parser.enum_values)}"
    return "true or false" if flag.boolean else flag.parser.syntactic_help or "another value"
