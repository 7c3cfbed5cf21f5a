"""The page of responses of several systems to the same contexts, and the paper's example contexts.

The paper shows three contexts of ReDial's test split. They are matched by what was said, without
case, marks and item names, since the paper prints titles where the data has ids.
"""

from __future__ import annotations

import dataclasses
import re
import textwrap
from collections.abc import Mapping, Sequence

from conkd_jax.data.mentions import MENTION
from conkd_jax.eval.predictions import Prediction
from conkd_jax.eval.tables.samples import (
    Sample,
    sample_of,
    samples_as_markdown,
    samples_side_by_side,
)

PAGE_WIDTH = 120  # of text in Markdown
LAST_TURNS = 4  # turns of a history that are shown
INTRODUCTION = (
    "{chosen} of {total:,} contexts of {split}, drawn with seed {seed} and not by hand, and the "
    "responses of {systems} systems. Of each context the last {turns} turns are shown; systems "
    "read more. *turn*: whether the reference recommends, or what a system's turn classifier "
    "predicted. *items*: for each item that a response names, the most probable items at that "
    "point; ✓: in the reference. *recommender alone*: the first system's."
)
LICENCE = (
    "Contexts and references are from [ReDial](https://redialdata.github.io/website/) (Li et al., "
    "2018), licensed under\n[CC BY 4.0](https://creativecommons.org/licenses/by/4.0/)."
)
PAPER_CONTEXTS: Mapping[str, tuple[str, ...]] = {  # "{}" is an item
    "Table 7, case 1": (
        "Hi!",
        "How are you?",
        "I like action movies. I like Bruce Willis. He is a great actor. Or Tom Cruise. I am doing "
        "well, thanks for asking.",
    ),
    "Table 9, case 2": (
        "Hey! What is a movie you love?",
        "Hello, I am looking for a old classic. What would you suggest?",
    ),
    "Table 9, case 3": (
        "Hello! Do you know of any family friendly movies?",
        "Good Morning have you seen {}?",
        "Yes, but it is too scary for my children. something like, {} we saw that and it was cute.",
        "A old classic will be {}.",
        "Oh yes, and {}.",
    ),
}


def sample_page(
    systems: Mapping[str, Sequence[Prediction]],
    titles: Mapping[int, str],
    *,
    number: int,
    seed: int,
    split: str,
    command: str,
) -> str:
    """Returns the page as Markdown.

    Args:
      systems: predictions of each system by its name, on one split.
      titles: title of each item.
      number: of contexts.
      seed: chooses the contexts.
      split: of the predictions.
      command: the command that was run.

    Raises:
      ValueError: there is no context that all systems answered.
    """
    chosen, total = samples_side_by_side(systems, num_samples=number, seed=seed)
    found = paper_samples(systems)
    missing = [name for name in PAPER_CONTEXTS if name not in {each.title for each in found}]
    facts = {"chosen": len(chosen), "total": total, "split": split, "seed": seed}
    facts |= {"systems": len(systems), "turns": LAST_TURNS}
    parts = [
        "# Samples",
        textwrap.fill(INTRODUCTION.format(**facts), PAGE_WIDTH),
        LICENCE,
        f"The page is written by\n\n    {command}",
        samples_as_markdown(chosen, titles, last_turns=LAST_TURNS).rstrip("\n"),
        "## The paper's examples",
    ]
    if missing:
        parts.append(
            textwrap.fill(
                f"Not among the contexts of {split}: {', '.join(missing)}. The paper takes its "
                "examples from ReDial's test split.",
                PAGE_WIDTH,
            )
        )
    if found:
        parts.append(samples_as_markdown(found, titles, level=3).rstrip("\n"))
    return "\n\n".join(parts) + "\n"


def paper_samples(systems: Mapping[str, Sequence[Prediction]]) -> list[Sample]:
    """Returns the answers to those of the paper's contexts that all systems have."""
    by_key = {name: {p.key: p for p in predictions} for name, predictions in systems.items()}
    wanted = {plain_context(turns): name for name, turns in PAPER_CONTEXTS.items()}
    found: dict[str, Sample] = {}
    for key, prediction in next(iter(by_key.values()), {}).items():
        name = wanted.get(plain_context([turn.text for turn in prediction.context]))
        if name and all(key in of for of in by_key.values()):
            answers = {system: of[key] for system, of in by_key.items()}
            found.setdefault(name, dataclasses.replace(sample_of(answers), title=name))
    return [found[name] for name in PAPER_CONTEXTS if name in found]


def plain_context(turns: Sequence[str]) -> tuple[str, ...]:
    """Returns turns as their words alone, without items.

    >>> plain_context(["Have you seen @12?", "Yes,  but {} is BETTER!"])
    ('have you seen', 'yes but is better')
    """
    texts = (MENTION.sub(" ", turn).replace("{}", " ") for turn in turns)
    return tuple(" ".join(re.findall(r"\w+", text.casefold())) for text in texts)
