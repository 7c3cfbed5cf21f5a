"""What `--help` of a program shows: usage, docstring, its options and those of the config."""

from __future__ import annotations

import os
import re
import sys
import textwrap
from collections.abc import Callable

from absl import flags, logging

from conkd_jax.config.help import config_help_text

HELP_WIDTH = 80


def console_script() -> str:
    """The name of the installed command that this process runs; "" for `python -m`."""
    name = os.path.basename(sys.argv[0])
    return name if re.fullmatch(r"conkd(-[a-z-]+)?", name) else ""


def help_text(main: Callable, options: flags.FlagValues, positional: str = "") -> str:
    """The text of `--help`: usage, the program's docstring, its options, and config fields."""
    module = sys.modules[main.__module__]
    spec = module.__spec__  # has the real name even if the module runs as __main__
    name = spec.name if spec else module.__name__
    module_name = name.removesuffix(".__main__").removesuffix(".program")
    own = own_options(options)
    words = [
        f"usage: {console_script() or f'python -m {module_name}'}",
        positional,
        "[OPTIONS]" if own else "",
    ]
    lines = [" ".join(filter(None, words)), "", _wrapped_docstring(module.__doc__ or "")]
    if own:
        lines += ["", "Options:", *map(_option_help, own)]
    if "config" in options:
        lines += ["", config_help_text(HELP_WIDTH)]
    return "\n".join(lines)


def own_options(options: flags.FlagValues) -> list[flags.Flag]:
    """The options that the program itself defines."""
    foreign = {"flagfile", "undefok"} | {
        flag.name for flag in flags.FLAGS.flags_by_module_dict().get(logging.__name__, [])
    }
    return [
        flag
        for name, flag in options._flags().items()
        if name == flag.name and name not in foreign and not name.startswith("config.")
    ]


def _wrapped_docstring(text: str) -> str:
    """Wraps a docstring to the width of the help, except for indented paragraphs."""
    paragraphs = [
        part if part.startswith(" ") else textwrap.fill(part, HELP_WIDTH, break_on_hyphens=False)
        for part in text.strip().split("\n\n")
    ]
    return "\n\n".join(paragraphs)


def _option_help(flag: flags.Flag) -> str:
    text = str(flag.help)
    if isinstance(flag.parser, flags.EnumParser):
        value = "=" + "|".join(flag.parser.enum_values)
        text = text.partition(">: ")[2] or text  # absl puts the values before the text
    else:
        value = "" if flag.boolean else f"={flag.name.upper()}"
    text = re.sub(r"[;.]*\s*repeat this option to specify a list of values$", ".", text.strip())
    if flag.default or type(flag.default) is int:  # 0 is a default; False and "" are not shown
        text += f" Default: {flag.default}."
    indent = " " * 6
    return f"  --{flag.name}{value}\n" + textwrap.fill(
        text,
        HELP_WIDTH,
        initial_indent=indent,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
