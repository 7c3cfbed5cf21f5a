"""One run's metrics beside the paper's row, for a terminal: what `conkd_jax.train` prints."""

from __future__ import annotations

from rich import box
from rich.table import Table

from conkd_jax.eval.about_data import data_notes
from conkd_jax.eval.document import Document, document_label
from conkd_jax.eval.learning import LEARNING
from conkd_jax.eval.tables.paper import PaperRow
from conkd_jax.eval.tables.sections import SECTIONS, printed_number
from conkd_jax.eval.tables.table import ABSENT


def summary_table(document: Document, paper: PaperRow | None = None) -> Table:
    """Returns the metrics of a run with 95 % intervals, beside the paper's row.

    The caption also says what the dev scores of its trainings tell: that one ended too soon.

    Args:
      document: what `metrics_document` returned; metrics that it lacks are not shown.
      paper: the row to stand beside, or None.
    """
    metrics, intervals = document["metrics"], document["intervals"]
    table = Table(
        title=f"{document_label(document)} ({document['preset']}) on {document['split']}: "
        f"{document['n_responses']:,} responses, seed {document['seed']}",
        caption=_caption(document, paper),
        caption_justify="left",
        box=box.SIMPLE_HEAD,
    )
    table.add_column("metric")
    table.add_column("this run", justify="right")
    table.add_column("95 % interval", justify="right")
    if paper is not None:
        table.add_column(paper.name, justify="right")
    for section, names in SECTIONS.items():
        shown = [name for name in names if name in metrics]
        if not shown:
            continue
        table.add_row(f"[bold]{section}[/bold]")
        for name in shown:
            ends = (printed_number(name, end) for end in intervals.get(name, ()))
            row = [f"  {name}", printed_number(name, metrics[name]), " to ".join(ends) or ABSENT]
            if paper is not None:
                theirs = paper.metrics.get(name)
                row.append(ABSENT if theirs is None else printed_number(name, theirs))
            table.add_row(*row)
        table.add_section()
    return table


def _caption(document: Document, paper: PaperRow | None) -> str:
    text = "Intervals: bootstrap over dialogues."
    if paper is not None:
        text += (
            f" {paper.name}: the paper's {paper.table}, ReDial's test split. Which form of "
            "perplexity the paper prints is not known."
        )
    for note in data_notes([document]):
        text += f"\n{note}"
    for stage, learning in document.get(LEARNING, {}).items():
        for note in learning["notes"]:
            text += f"\n{stage}: {note}"
    return text
