"""An annotator's sheet as one HTML page: opens from a disk, needs no network, saves the CSV file.

Every text of a dialogue is escaped, and the page forbids itself everything from outside: its
content security policy admits its own style and script, by hash, and nothing else. Answers stay in
the browser's storage until they are saved. Knows ids, texts and scales, and not whom an id hides.
"""

from __future__ import annotations

import base64
import hashlib
import html
from collections.abc import Sequence

from conkd_jax.eval.human.sheets import COLUMNS
from conkd_jax.eval.human.study import SCALES, Entry, Shown, Study

_INTRODUCTION = """\
Each conversation below is between somebody who looks for a movie (seeker) and somebody who \
recommends one (recommender). It stops where the recommender is to speak, and several responses \
follow. Judge every response on three scales, each from 0 to 2."""

_RULES = (
    "Read the whole conversation first, then judge each response by itself: several may be good, "
    "several may be bad, and two may be the same.",
    "Judge what is written. Whether you would like the movie yourself does not count.",
    "Where you are not sure, take the score that fits best. Leave none open.",
    "A movie that appears as @ and a number is one whose title is not known.",
    "Do not talk about your scores with other annotators before all of you are done.",
)

_FORM_RULES = (
    "Your answers stay in this browser as you go: you may close the page and come back. A private "
    "window forgets them.",
    "To go on in another browser, press “Save CSV” here and “Load CSV” there.",
    "With the keyboard: Tab goes from scale to scale; 0, 1 and 2 choose a score and go on.",
    "When all is judged, press “Save CSV” and send the file back.",
)

_STYLE = """
:root { color-scheme: light dark; --line: color-mix(in srgb, currentColor 25%, transparent); }
body { font: 1rem/1.5 system-ui, sans-serif; max-width: 50rem; margin: 0 auto; padding: 0 1rem; }
header { position: sticky; top: 0; display: flex; flex-wrap: wrap; gap: .5rem 1rem;
  align-items: center; padding: .5rem 0; background: Canvas; border-bottom: 1px solid var(--line);
  z-index: 1; }
progress { flex: 1 1 8rem; }
#news { flex-basis: 100%; margin: 0; }
#news:empty { display: none; }
details { overflow-x: auto; }
section { border-top: 3px double var(--line); margin-top: 2rem; content-visibility: auto;
  contain-intrinsic-size: auto 60rem; }
.turns { list-style: none; padding: 0; }
.turns li, blockquote { overflow-wrap: anywhere; }
article { border: 1px solid var(--line); border-radius: .5rem; padding: 0 1rem 1rem;
  margin: 1rem 0; }
blockquote { margin: .5rem 0; padding-inline-start: 1rem;
  border-inline-start: .25rem solid var(--line); }
fieldset { border: 0; padding: 0; margin: .5rem 0; display: flex; flex-wrap: wrap;
  gap: .25rem 1rem; }
section, article, fieldset { scroll-margin-top: 8rem; }
legend { font-weight: bold; }
legend::after { content: " · open"; font-weight: normal; opacity: .7; }
fieldset:has(:checked) legend::after { content: ""; }
button, input { font: inherit; accent-color: auto; }
th, td { text-align: left; vertical-align: top; padding: .25rem .75rem .25rem 0; }
:focus-visible { outline: 3px solid Highlight; outline-offset: 2px; }
"""

_SCRIPT = """
"use strict";
const form = document.getElementById("judgements");
const picker = document.getElementById("file");
const inputs = [...form.querySelectorAll("input")];
const groups = [...form.querySelectorAll("fieldset")];
const store = `human evaluation ${form.dataset.study} ${form.dataset.annotator}`;
let isKept = true;  // whether every answer is in the browser's storage or in a saved file

const chosen = (group) => group.querySelector("input:checked");
const openGroups = () => groups.filter((group) => !chosen(group));
const say = (text) => { document.getElementById("news").textContent = text; };

function restore() {
  try {
    const answers = JSON.parse(localStorage.getItem(store)) ?? {};
    for (const input of inputs) input.checked = answers[input.name] === input.value;
  } catch (error) {
    say(`Answers kept earlier can't be read (${error.name}).`);
  }
}

function keep() {
  const answers = inputs.filter((input) => input.checked).map((input) => [input.name, input.value]);
  try {
    localStorage.setItem(store, JSON.stringify(Object.fromEntries(answers)));
    isKept = true;
  } catch (error) {
    isKept = false;
    say(`This browser can't keep answers (${error.name}): save the CSV before you close the page.`);
  }
}

function showProgress() {
  const done = groups.length - openGroups().length;
  document.getElementById("progress").value = done;
  document.getElementById("count").textContent = `${done} of ${groups.length} judged`;
}

function changed() {
  say("");
  keep();
  showProgress();
}

// What has to be read before a group is judged: a response, and before the first its conversation.
function unread(group) {
  const response = group.closest("article");
  if (group !== response.querySelector("fieldset")) return group;
  return response.matches("article + article") ? response : response.closest("section");
}

function goTo(group) {
  (chosen(group) ?? group.querySelector("input")).focus({ preventScroll: true });
  group.scrollIntoView({ block: "center" });
  const head = document.querySelector("header").getBoundingClientRect().bottom;
  if (unread(group).getBoundingClientRect().top < head) unread(group).scrollIntoView();
}

function goToOpen() {
  const open = openGroups();
  if (open.length) goTo(open[0]);
  else say("Everything is judged: save the CSV and send it back.");
}

function byKey(event) {
  const group = event.target.closest("fieldset");
  if (!group || event.ctrlKey || event.metaKey || event.altKey) return;
  if (!["0", "1", "2"].includes(event.key)) return;
  event.preventDefault();
  group.querySelector(`input[value="${event.key}"]`).checked = true;
  changed();
  const next = groups[groups.indexOf(group) + 1];
  if (next) goTo(next);
}

function save() {
  const rows = [...form.querySelectorAll("article")].map((article) => [
    form.dataset.study,
    article.id,
    ...[...article.querySelectorAll("fieldset")].map((group) => chosen(group)?.value ?? ""),
  ]);
  const lines = [form.dataset.columns, ...rows.map((row) => row.join(","))];
  const file = new Blob([lines.join("\\r\\n") + "\\r\\n"], { type: "text/csv" });
  const link = document.createElement("a");
  link.href = URL.createObjectURL(file);
  link.download = form.dataset.file;
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  isKept = true;
  const open = openGroups().length;
  say(`Saved as ${link.download}` + (open ? `, with ${open} scores still open.` : ", complete."));
}

// Puts a saved file's scores into the form; what the file leaves open stays as it is.
function load(text) {
  const [columns, ...rows] = text.split(/\\r?\\n/).map((line) => line.split(","));
  const loaded = new Set();
  for (const [study, id, ...scores] of rows) {
    if (study !== form.dataset.study) continue;
    scores.forEach((score, place) => loaded.add(`${id} ${columns[place + 2]} ${score}`));
  }
  const found = inputs.filter((input) => loaded.has(`${input.name} ${input.value}`));
  for (const input of found) input.checked = true;
  changed();
  if (found.length) say(`${found.length} scores loaded.`);
  else say("No scores loaded: expected a CSV file that this form saved.");
}

form.addEventListener("change", changed);
form.addEventListener("keydown", byKey);
form.addEventListener("submit", (event) => event.preventDefault());
document.getElementById("next").addEventListener("click", goToOpen);
document.getElementById("save").addEventListener("click", save);
document.getElementById("load").addEventListener("click", () => picker.click());
picker.addEventListener("change", async () => {
  if (picker.files.length) load(await picker.files[0].text());
  picker.value = "";  // the same file may be chosen again
});
window.addEventListener("storage", (event) => {  // the form is open in a second tab
  if (event.key !== store || !event.newValue) return;
  restore();
  showProgress();
});
window.addEventListener("beforeunload", (event) => { if (!isKept) event.preventDefault(); });
restore();
showProgress();
"""


def page(study: Study, annotator: int, texts: Sequence[Shown], *, file: str) -> str:
    """One annotator's form.

    Args:
      study: the key; only its ids get into the page.
      annotator: from 1.
      texts: `human_study.shown` of the study.
      file: the name under which the browser saves the CSV file.
    """
    entries = study.sheets[annotator - 1]
    num_scores = len(entries) * len(SCALES)
    policy = (
        f"default-src 'none'; style-src '{_hash(_STYLE)}'; script-src '{_hash(_SCRIPT)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    title = f"Human evaluation, annotator {annotator}"
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_escaped(policy)}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{_STYLE}</style>
</head>
<body>
<header>
<label for="progress" id="count">0 of {num_scores} judged</label>
<progress id="progress" max="{num_scores}" value="0"></progress>
<button type="button" id="next">Next open</button>
<button type="button" id="save">Save CSV</button>
<button type="button" id="load">Load CSV</button>
<input type="file" id="file" accept=".csv" hidden>
<p id="news" role="status"></p>
</header>
<main>
<h1>{title}</h1>
{_instructions()}
<noscript><p>This page needs JavaScript. Fill the CSV sheet instead.</p></noscript>
<form id="judgements" autocomplete="off" data-study="{_escaped(study.id)}"
 data-annotator="{annotator}" data-columns="{",".join(COLUMNS)}" data-file="{_escaped(file)}">
{_conversations(entries, texts)}
</form>
</main>
<script>{_SCRIPT}</script>
</body>
</html>
"""


def instructions_md() -> str:
    """The instructions as Markdown, for who fills the CSV sheet and for a paper's appendix."""
    lines = ["# How to judge the responses", "", _INTRODUCTION, ""]
    lines += ["| scale | what it asks | 0 | 1 | 2 |", "|---|---|---|---|---|"]
    for scale in SCALES:
        lines.append("| " + " | ".join((f"**{scale.title}**", scale.asks, *scale.meanings)) + " |")
    lines += ["", *(f"* {rule}" for rule in _RULES), ""]
    lines += ["**With the form** (the HTML file; open it in a browser, no network is needed)", ""]
    lines += [*(f"* {rule}" for rule in _FORM_RULES), ""]
    lines += ["**With a spreadsheet** (the CSV file)", ""]
    lines += [
        "* Fill the last three columns with 0, 1 or 2. Change nothing in the first two.",
        "* Save as CSV (UTF-8) and send the file back. Sorted rows and semicolons do no harm.",
    ]
    return "\n".join(lines) + "\n"


def _instructions() -> str:
    head = "".join(f'<th scope="col">{text}</th>' for text in ("scale", "what it asks", *"012"))
    rows = "\n".join(
        f'<tr><th scope="row">{_escaped(scale.title)}</th>'
        + "".join(f"<td>{_escaped(text)}</td>" for text in (scale.asks, *scale.meanings))
        + "</tr>"
        for scale in SCALES
    )
    rules = "\n".join(f"<li>{_escaped(rule)}</li>" for rule in (*_RULES, *_FORM_RULES))
    return f"""<details open>
<summary>Instructions</summary>
<p>{_escaped(_INTRODUCTION)}</p>
<table>
<thead><tr>{head}</tr></thead>
<tbody>
{rows}
</tbody>
</table>
<ul>
{rules}
</ul>
</details>"""


def _conversations(entries: Sequence[Entry], texts: Sequence[Shown]) -> str:
    """A section for each context, with the responses to it in the sheet's order."""
    responses: dict[int, list[Entry]] = {}
    for entry in entries:
        responses.setdefault(entry.context, []).append(entry)
    sections = []
    for place, (context, of_context) in enumerate(responses.items(), start=1):
        turns = "\n".join(
            f'<li><b>{_escaped(role.capitalize())}:</b> <span dir="auto">{_escaped(said)}</span>'
            for role, said in texts[context].turns
        )
        articles = "\n".join(
            _response(entry.id, number, texts[context].responses[entry.system])
            for number, entry in enumerate(of_context, start=1)
        )
        sections.append(f"""<section aria-labelledby="conversation-{place}">
<h2 id="conversation-{place}">Conversation {place} of {len(responses)}</h2>
<ol class="turns">
{turns}
</ol>
{articles}
</section>""")
    return "\n".join(sections)


def _response(name: str, number: int, text: str) -> str:
    name = _escaped(name)
    groups = []
    for scale in SCALES:
        choices = "\n".join(
            f'<label><input type="radio" name="{name} {scale.name}" value="{value}"> '
            f"{value} {_escaped(meaning)}</label>"
            for value, meaning in enumerate(scale.meanings)
        )
        groups.append(f"<fieldset>\n<legend>{scale.title}</legend>\n{choices}\n</fieldset>")
    return "\n".join(
        (
            f'<article id="{name}" aria-labelledby="{name}-title">',
            f'<h3 id="{name}-title">Response {number}</h3>',
            f'<blockquote dir="auto">{_escaped(text)}</blockquote>',
            *groups,
            "</article>",
        )
    )


def _escaped(text: str) -> str:
    return html.escape(text, quote=True)


def _hash(text: str) -> str:
    """How a content security policy names an inline style or script."""
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return f"sha256-{digest}"
