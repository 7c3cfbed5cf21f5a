"""Prints constraints.txt: the exact versions in this environment of everything that the tests use.

Called by `make constraints`, in the environment of `make test`.
"""

from __future__ import annotations

import importlib.metadata
import platform
import re
import sys

from packaging.requirements import Requirement

PROJECT, EXTRAS = "conkd_jax", ("test",)
HEADER = """\
# The set of packages that the tests were run with, on Python {python} ({system}).
# Made by `make constraints`. To install exactly these:
#
#     pip install -c constraints.txt conkd_jax
#
# pyproject.toml has the ranges that are meant to work.
"""


def normalised(name: str) -> str:
    """The name of a package as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def closure(name: str, extras: tuple[str, ...]) -> dict[str, str]:
    """The installed versions of what a package with some extras needs, directly or not."""
    found: dict[str, str] = {}
    seen: set[tuple[str, str]] = set()
    waiting = [(name, extra) for extra in ("", *extras)]
    while waiting:
        package, extra = waiting.pop()
        if (normalised(package), extra) in seen:
            continue
        seen.add((normalised(package), extra))
        try:
            distribution = importlib.metadata.distribution(package)
        except importlib.metadata.PackageNotFoundError:
            continue  # of another platform or Python
        found[normalised(package)] = distribution.version.partition("+")[0]  # "+cpu" is one index's
        for text in distribution.requires or ():
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
                waiting += [(requirement.name, each) for each in ("", *requirement.extras)]
    del found[normalised(name)]
    return found


def main() -> None:
    """Prints the file."""
    system = f"{platform.system()}, {platform.machine()}"
    print(HEADER.format(python=platform.python_version(), system=system), end="")
    for name, version in sorted(closure(PROJECT, EXTRAS).items()):
        print(f"{name}=={version}")


if __name__ == "__main__":
    sys.exit(main())
