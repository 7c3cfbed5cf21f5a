"""The versions of this package and of the packages that it runs on.

They are recorded in the manifest of every artifact, and `--version` of every program prints them.
They are part of no fingerprint: an artifact that another version has made is still the artifact.
"""

from __future__ import annotations

import importlib.metadata
import platform
import re

import conkd_jax

PACKAGE = "conkd_jax"
# Not named by the package itself: plugins of jax, and what only some inputs need.
ALSO = ("libtpu", "jax-cuda12-plugin", "jax-cuda13-plugin", "torch")
_NOT_USED_BY_RUNS = ("test", "lint", "browser", "peers")  # extras


def package_versions() -> dict[str, str]:
    """The versions of Python, this package and its installed dependencies, by package."""
    found = {"python": platform.python_version(), PACKAGE: conkd_jax.__version__}
    for name in sorted({*_dependencies(), *ALSO}, key=str.lower):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # an extra that is not installed
    return found


def versions_in_words() -> str:
    """What `--version` prints: this package, then the packages that it runs on.

    >>> versions_in_words().partition(",")[0] == f"conkd_jax {conkd_jax.__version__}"
    True
    """
    versions = package_versions()
    others = [f"{name} {version}" for name, version in versions.items() if name != PACKAGE]
    return ", ".join([f"{PACKAGE} {conkd_jax.__version__}", *others])


def _dependencies() -> list[str]:
    """The packages that the installed package names; none where it was never installed."""
    try:
        requirements = importlib.metadata.requires(PACKAGE) or []
    except importlib.metadata.PackageNotFoundError:
        return []
    names = []
    for requirement in requirements:
        extra = re.search(r"extra *== *['\"]([\w-]+)", requirement)
        name = re.match(r"[\w.-]+", requirement)
        if name and name[0] != PACKAGE and not (extra and extra[1] in _NOT_USED_BY_RUNS):
            names.append(name[0])
    return names
