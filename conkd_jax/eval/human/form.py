"""An annotator's sheet as one HTML page: opens from a disk, needs no network, saves the CSV file.

The page is `form.html`, with `form.css` and `form.js` inside it. The template escapes every text of
a dialogue, and the page's content security policy admits this style and this script, by hash, and
nothing else. Answers stay in the browser's storage until they are saved. The page has ids, texts
and scales; which system an id stands for is not in it.
"""

from __future__ import annotations

import base64
import functools
from collections.abc import Sequence
from importlib import resources
from typing import Any

import jinja2

from conkd_jax.eval.human.instructions import FORM_RULES, INTRODUCTION, RULES
from conkd_jax.eval.human.sheets import COLUMNS
from conkd_jax.eval.human.study import SCALES, Entry, Shown, Study
from conkd_jax.io.files import sha256


def form_page(study: Study, annotator: int, texts: Sequence[Shown], *, file: str) -> str:
    """Returns one annotator's form.

    Args:
      study: the key; only its ids get into the page.
      annotator: the number of the annotator, from 1.
      texts: what `shown_contexts` returned for the study.
      file: the name under which the browser saves the CSV file.
    """
    entries = study.sheets[annotator - 1]
    style, script = _part("form.css"), _part("form.js")
    return _template().render(
        style=style,
        script=script,
        style_hash=_policy_hash(style),
        script_hash=_policy_hash(script),
        study_id=study.id,
        annotator=annotator,
        columns=",".join(COLUMNS),
        file=file,
        introduction=INTRODUCTION,
        scales=SCALES,
        rules=(*RULES, *FORM_RULES),
        num_scores=len(entries) * len(SCALES),
        conversations=_conversations(entries, texts),
    )


def _conversations(entries: Sequence[Entry], texts: Sequence[Shown]) -> list[dict[str, Any]]:
    """Returns each context with its responses, both in the order of the sheet."""
    responses: dict[int, list[dict[str, str]]] = {}
    for entry in entries:
        text = texts[entry.context].responses[entry.system]
        responses.setdefault(entry.context, []).append({"id": entry.id, "text": text})
    return [
        {"turns": texts[context].turns, "responses": of_context}
        for context, of_context in responses.items()
    ]


@functools.cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.from_string(_part("form.html"))


@functools.cache
def _part(name: str) -> str:
    return resources.files("conkd_jax.eval.human").joinpath(name).read_text(encoding="utf-8")


def _policy_hash(text: str) -> str:
    """Returns how a content security policy names an inline style or script."""
    digest = base64.b64encode(bytes.fromhex(sha256(text))).decode()
    return f"sha256-{digest}"
