"""The caption below a table of runs: where our numbers come from and how to read the marks.

Everything it says of our rows is read from their documents.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from conkd_jax.eval.about_data import data_notes
from conkd_jax.eval.document import EXTERNAL, RATE_MATCHED, Document, document_label
from conkd_jax.eval.tables.reruns import Rerun

DECODINGS: Mapping[str, str] = {  # explains the parts of a label after its "+"
    "mass": "+mass: an item is generated wherever all items together have more than half of the "
    "probability; not the paper's rule.",
    "class": "+class: first words or items, whichever have more probability together, then the "
    "best of them, as RecInDial decodes.",
    "novel": "+novel: items that were mentioned earlier in the dialogue are excluded.",
    "once": "+once: an item appears at most once in a response.",
    "sample": "+sample: tokens are drawn at random, at the +temperature (1 if none is given) and "
    "among the most probable ones that together have +top_p (all if none is given); +draw: another "
    "seed.",
    "beam": "+beam: beam search of that width; the score is the log-probability over the length to "
    "the power of +length_penalty (1 if none is given).",
    "offset": "+offset: a constant is added to the logits of items.",
    RATE_MATCHED: f"+{RATE_MATCHED}: a constant is added to the logits of items, chosen on dev "
    "such that responses name as many items as the references.",
}


def runs_caption(
    runs: Mapping[str, Sequence[Document]],
    *,
    has_paper: bool,
    has_intervals: bool = False,
    reruns: Sequence[Rerun] = (),
) -> str:
    """Returns the caption of a table of runs.

    Args:
      runs: documents of each of our rows.
      has_paper: whether rows of the paper stand in the table.
      has_intervals: whether rows of a single run show their intervals.
      reruns: the re-runs that stand in the table.
    """
    documents = [document for of_label in runs.values() for document in of_label]
    trained = [document for document in documents if document["preset"] != EXTERNAL]
    first = documents[0]
    parts = []
    if trained:
        ours = {label: of for label, of in runs.items() if of[0]["preset"] != EXTERNAL}
        seeds = {label: _seeds(of_label) for label, of_label in ours.items()}
        which = "; ".join(f"{label}: {of_label}" for label, of_label in seeds.items())
        if len(set(seeds.values())) == 1:
            which = next(iter(seeds.values()))
        machines = " and ".join(dict.fromkeys(machine_text(d["machine"]) for d in trained))
        parts.append(
            f"Our rows: preset {trained[0]['preset']}, {first['split']} split, "
            f"{first['n_responses']:,} responses; {which}; made on {machines}."
        )
    if len(trained) < len(documents):
        others = ", ".join(dict.fromkeys(document_label(d) for d in documents if d not in trained))
        parts.append(
            f"Scored from predictions that this project did not make, on {first['split']}, "
            f"{first['n_responses']:,} responses: {others}."
        )
    parts += data_notes(documents)
    parts += [text for name, text in DECODINGS.items() if _is_decoded(documents, name)]
    if any(len(of_label) > 1 for of_label in runs.values()):
        parts.append(f"Mean ± standard deviation over {_what_seeds_change(runs)}.")
    if has_intervals:
        parts.append("Ranges: 95 % intervals over dialogues, of rows of one training.")
    if len(runs) > 1:
        parts.append("Bold: best of our rows.")
    if len(runs) > 2:
        parts.append("Underlined: second best of our rows.")
    if has_paper:
        parts.append("Rows of the paper: as printed there, on ReDial's test split.")
    if reruns:
        sources = "; ".join(f"{rerun.name.split(': ')[1]}: {rerun.source}" for rerun in reruns)
        parts.append(f"Rows of CRSLab: as its users reported them, on test. {sources}.")
    return " ".join(parts)


def _is_decoded(documents: Sequence[Document], name: str) -> bool:
    labels = {part for document in documents for part in document.get("decoding", "").split("+")}
    return name in {label.partition("=")[0] for label in labels}


def _what_seeds_change(runs: Mapping[str, Sequence[Document]]) -> str:
    """Returns in words whether the runs of a row share their teachers."""
    retrained = [
        label
        for label, of_label in runs.items()
        if len({document.get("teacher_seed", 0) for document in of_label}) > 1
    ]
    if not retrained:
        return "students; teachers are shared"
    if len(retrained) == sum(len(of_label) > 1 for of_label in runs.values()):
        return "whole trainings, recommender and teachers included"
    return f"students that share their teachers; of {', '.join(retrained)} over all trainings"


def _seeds(runs: Sequence[Document]) -> str:
    seeds = ", ".join(str(document["seed"]) for document in runs)
    return f"seed {seeds}" if len(runs) == 1 else f"seeds {seeds}"


def machine_text(machine: Mapping | str) -> str:
    """Returns a machine in words.

    >>> machine_text({"platform": "Linux", "cpus": 2, "devices": "1 x cpu", "jax": "0.10.2"})
    '1 x cpu, 2 CPU cores, jax 0.10.2'
    """
    if isinstance(machine, str):
        return machine
    known = (("devices", "{}"), ("cpus", "{} CPU cores"), ("jax", "jax {}"))
    parts = [form.format(machine[key]) for key, form in known if key in machine]
    return ", ".join(parts or (f"{key} {value}" for key, value in machine.items()))
