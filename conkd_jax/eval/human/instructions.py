"""What annotators are told: in the form, as a page, and for a paper's appendix."""

from __future__ import annotations

from conkd_jax.eval.human.study import SCALES

INTRODUCTION = """\
Each conversation below is between a person who is looking for something (the seeker) and a person \
who recommends items (the recommender). It stops where it is the recommender's turn, and several \
responses follow. Judge every response on three scales, each from 0 to 2."""

RULES = (
    "Read the whole conversation first, then judge each response by itself: several may be good, "
    "several may be bad, and two may be the same.",
    "Judge what is written. Whether you would like the item yourself does not count.",
    "If you are not sure, choose the score that fits best. Do not leave any score blank.",
    "An item shown as @ and a number is one without a known title.",
    "Do not discuss your scores with other annotators before all of you have finished.",
)

FORM_RULES = (
    "Your answers are kept in this browser as you go: you may close the page and come back. Do "
    "not use a private window, which would lose them.",
    "To continue in another browser, press “Save CSV” here and “Load CSV” there.",
    "With the keyboard: Tab moves from scale to scale; 0, 1 and 2 choose a score and move on.",
    "When everything is scored, press “Save CSV” and send the file back.",
)

SPREADSHEET_RULES = (
    "Fill in 0, 1 or 2 in the last three columns. Do not change the first two.",
    "Save as CSV (UTF-8) and send the file back. Sorted rows and semicolons are fine.",
)


def instructions_md() -> str:
    """Returns the instructions as Markdown."""
    lines = ["# How to judge the responses", "", INTRODUCTION, ""]
    lines += ["| scale | what is judged | 0 | 1 | 2 |", "|---|---|---|---|---|"]
    for scale in SCALES:
        lines.append("| " + " | ".join((f"**{scale.title}**", scale.asks, *scale.meanings)) + " |")
    lines += ["", *(f"* {rule}" for rule in RULES), ""]
    lines += ["**With the form** (the HTML file; open it in a browser, no network is needed)", ""]
    lines += [*(f"* {rule}" for rule in FORM_RULES), ""]
    lines += ["**With a spreadsheet** (the CSV file)", ""]
    lines += [f"* {rule}" for rule in SPREADSHEET_RULES]
    return "\n".join(lines) + "\n"
