"""The page of `conkd-serve`: one document with its style and its script inside, from any server.

The document is `page.html`, with `page.css` and the scripts inside it. Nothing of a run or of a
conversation is in it: the scripts ask the server that it came from, and put what they are told into
the document as text. The content security policy admits this style and this script, by hash, and
connections to that server alone.
"""

from __future__ import annotations

import base64
import functools
from importlib import resources

import jinja2

from conkd_jax.io.files import sha256

# One script in the document; a file may use what the files above it define.
SCRIPTS = (
    "elements.js",
    "server.js",
    "inside.js",
    "picker.js",
    "conversation.js",
    "transcript.js",
    "answering.js",
    "arena.js",
    "saving.js",
    "start.js",
)


@functools.cache
def document() -> str:
    """Returns the page."""
    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    template = environment.from_string(_part("page.html"))
    return template.render(style=_part("page.css"), script=_script())


@functools.cache
def policy() -> str:
    """Returns the content security policy, the header that the page must be sent with."""
    rules = {
        "default-src": "'none'",
        "style-src": _hash(_part("page.css")),
        "script-src": _hash(_script()),
        "connect-src": "'self'",
        "img-src": "'self' data:",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
        "require-trusted-types-for": "'script'",  # no string becomes HTML or code, by any way
        "trusted-types": "'none'",
    }
    return "; ".join(f"{name} {value}" for name, value in rules.items())


def _script() -> str:
    return "".join(_part(name) for name in SCRIPTS)


def _part(name: str) -> str:
    return resources.files("conkd_jax.serve.page").joinpath(name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    """Returns how a content security policy names an inline style or script."""
    digest = base64.b64encode(bytes.fromhex(sha256(text))).decode()
    return f"'sha256-{digest}'"
