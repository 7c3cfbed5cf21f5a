"""Lists the programs of the package.

python -m conkd_jax
"""

from __future__ import annotations

import ast
from pathlib import Path

from absl import flags

import conkd_jax
from conkd_jax.cli import command_line
from conkd_jax.versions import PACKAGE

OPTIONS = flags.FlagValues()  # none
PROGRAMS = (
    "demo",
    "own_data",
    "train",
    "rows",
    "evaluate",
    "chat",
    "serve",
    "export",
    "gate",
    "cold_items",
    "samples",
    "tradeoff",
    "latency",
    "memory",
    "idea",
    "costs",
    "store_formats",
    "verify",
    "tables",
    "human",
)


def main(argv: list[str]) -> None:
    """Prints every program with the first line of its docstring."""
    command_line.show(f"{conkd_jax.__doc__}\n\n{PACKAGE} {conkd_jax.__version__}. Programs:\n")
    for name in PROGRAMS:
        command_line.show(f"  python -m conkd_jax.{name}\n      {first_line(name)}")
    command_line.show(
        "\n`python -m conkd_jax.NAME --help` describes a program, and --version the versions",
        "of all packages. Installed, each is also a command: conkd-train, conkd-cold-items.",
        "A first run, without any data:\n",
        "  python -m conkd_jax.demo",
    )


def first_line(name: str) -> str:
    """The first line of a program's docstring, read without importing the program."""
    path = Path(__file__).with_name(f"{name}.py")
    path = path if path.exists() else Path(__file__).parent / name / "program.py"
    source = path.read_text(encoding="utf-8")
    return (ast.get_docstring(ast.parse(source)) or "").partition("\n")[0]


def run() -> None:
    """Runs the command line."""
    command_line.run(main, OPTIONS)


if __name__ == "__main__":
    run()
