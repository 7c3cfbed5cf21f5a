"""The look of every figure: defaults of matplotlib, and how numbers and texts are written."""

from __future__ import annotations

import functools
import math
from typing import Any

from matplotlib.font_manager import FontProperties, findfont
from matplotlib.ft2font import FT2Font

from conkd_jax.eval.figures.palette import GREY, INK

STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.labelcolor": INK,
    "axes.edgecolor": GREY,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": "#E6E6E6",
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "text.parse_math": False,  # titles and tokens may hold "$"
    "figure.dpi": 130,
    "figure.constrained_layout.use": True,
}
MARGIN = 0.25  # around panels, in inches
FAMILY_TITLES = {"rer": "ReR@k", "prr": "PrR@k", "f1": "F1@k", "recall": "Recall@k (recommender)"}


def short_number(value: float) -> str:
    """The number with three digits, without a zero before the point.

    >>> short_number(0.0234), short_number(12.412), short_number(-0.5)
    ('.023', '12.41', '-.500')
    """
    if abs(value) >= 10:
        return f"{value:.2f}"
    return f"{value:.3f}".replace("0.", ".", 1) if abs(value) < 1 else f"{value:.3f}"


def eta_text(eta: float) -> str:
    """A threshold with three digits after the point, or three significant ones if it is tiny.

    >>> eta_text(0.6), eta_text(0.17849), eta_text(0.000412)
    ('.600', '.178', '.000412')
    """
    if 0 < eta < 0.01:
        digits = 2 - math.floor(math.log10(eta))
        return f"{eta:.{digits}f}".replace("0.", ".", 1)
    return short_number(eta)


def shortened(text: str, limit: int = 22) -> str:
    """The text, cut to a number of characters."""
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def drawable(text: str) -> str:
    """The text on one line, with "□" for characters that the font lacks (emoji, for example)."""
    glyphs = _glyphs()
    return "".join(c if ord(c) in glyphs else " " if c.isspace() else "□" for c in text)


@functools.cache
def _glyphs() -> frozenset[int]:
    family = STYLE["font.family"]
    fonts = (findfont(family), findfont(FontProperties(family=[family], weight="bold")))
    return frozenset.intersection(*(frozenset(FT2Font(font).get_charmap()) for font in fonts))
