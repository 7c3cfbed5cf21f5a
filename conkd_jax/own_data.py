r"""Checks, starts and links your own data: dialogues about any kind of item.

    conkd-data new games
    conkd-data check games
    conkd-data link games --out=games_linked
    python -m conkd_jax.train --config=dialogpt_hard:mini \
        --config.corpus.name=custom --config.corpus.raw_dir=games_linked

`new` writes a small folder to start from, about board games. `check` reads every line of a folder,
says what is wrong, where and how to mend it, and counts what there is. `link` writes a copy in
which the items that texts name are marked, and lists names that may be everyday words.
docs/howto/own_data.md describes the files.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any

import rich.table
import rich.text
from absl import flags

from conkd_jax.cli import command_line
from conkd_jax.cli.command_line import UsageError
from conkd_jax.stages import own_data
from conkd_jax.stages.own_data import Checked, LinkReport

WIDTH = 80  # of printed sentences
LISTED = 15  # names in a table of `link`

OPTIONS = flags.FlagValues()
_OUT = flags.DEFINE_string(
    "out",
    "",
    "link: the new folder for the copy with marks; without it nothing is written.",
    flag_values=OPTIONS,
)
_ACCEPT = flags.DEFINE_list(
    "accept",
    [],
    "link: names that always mean the item, separated by commas.",
    flag_values=OPTIONS,
)
_SKIP = flags.DEFINE_list(
    "skip", [], "link: names that are not looked for, separated by commas.", flag_values=OPTIONS
)
_MISSPELLED = flags.DEFINE_bool(
    "misspelled", False, "link: mark misspelled names as well.", flag_values=OPTIONS
)


def main(argv: list[str]) -> None:
    """Runs the command: new, check or link."""
    command, folders = argv[1] if len(argv) > 1 else "", argv[2:]
    if command not in ("new", "check", "link"):
        raise UsageError(f"expected new, check or link as the first argument, got {command!r}.")
    if len(folders) != 1:
        raise UsageError(f"expected one folder: {command} DIR; got {len(folders)}")
    (folder,) = folders
    if command == "new":
        names = own_data.write_template(folder)
        command_line.show(f"Wrote {', '.join(names)} to {folder}. Next: conkd-data check {folder}")
    elif command == "check":
        show_checked(folder, own_data.check(folder))
    else:
        report = own_data.link_folder(
            folder,
            _OUT.value or None,
            accept=_ACCEPT.value,
            skip=_SKIP.value,
            misspelled=_MISSPELLED.value,
        )
        show_links(folder, report)


def show_checked(folder: str, checked: Checked) -> None:
    """Prints what a folder holds, what is probably not meant, and how to train on it."""
    report, graph = checked.report, checked.report["graph"]
    command_line.show(split_table(report))
    words = f"{graph['concepts']:,} words" if report["has_word_graph"] else "no word graph"
    covered = f"{graph['items_linked']:,} of {graph['items']:,} items"
    command_line.show(
        f"Graph: {graph['entities']:,} nodes, {graph['triples']:,} triples of "
        f"{graph['relations'] - 1:,} relations; it joins {covered} with something. {words}.",
    )
    for warning in report["warnings"]:
        command_line.show(textwrap.fill(f"warning: {warning}", WIDTH, break_on_hyphens=False))
    options = " \\\n    ".join(checked.options)
    command_line.show(
        f"\n{folder} has no errors. To train on it:\n\n"
        f"python -m conkd_jax.train --config=dialogpt_hard:{checked.preset} \\\n    {options}"
    )


def split_table(report: Mapping[str, Any]) -> rich.table.Table:
    """The counts of the splits; "train" without what is held out as "dev"."""
    table = rich.table.Table(title="Dialogues")
    columns = {
        "dialogues": "dialogues",
        "responses": "response_samples",
        "with an item": "responses_with_item",
        "items named": "item_mentions",
    }
    table.add_column("split")
    for column in (*columns, "nodes in texts", "words in texts"):
        table.add_column(column, justify="right")
    splits = {"train": {}, "dev": report["dev"], **report["splits"]}
    for name, counts in splits.items():
        dev = report["dev"] if name == "train" else dict.fromkeys(columns.values(), 0)
        numbers = [counts[key] - dev[key] for key in columns.values()]
        linked = report["linking"][name]
        numbers += [linked["entity_mentions"], linked["concept_mentions"]]
        table.add_row(name, *(f"{number:,}" for number in numbers))
    return table


def show_links(folder: str, report: LinkReport) -> None:
    """Prints what was marked, what is doubtful, and what to do next."""
    total = sum(report.marked.values())
    command_line.show(
        f"{report.num_messages:,} messages with {report.marked_before:,} marks; {total:,} new "
        f"marks of {len(report.marked):,} items; names of {len(report.nodes):,} graph nodes occur "
        f"{sum(report.nodes.values()):,} times and need no marks."
    )
    rows = [
        (item, count, report.examples[item]) for item, count in report.marked.most_common(LISTED)
    ]
    if rows:
        command_line.show(_table("Marked most often", ("item", "times", "for example"), rows))
    if report.doubtful:
        names = report.doubtful.most_common(LISTED)
        command_line.show(_table("Doubtful, not marked", ("name", "times"), names))
        accepted = names[0][0]
        command_line.show(
            textwrap.fill(
                "These names may be everyday words, as texts write them in lower case. To mark "
                f'one nevertheless: --accept="{accepted}"',
                WIDTH,
                break_on_hyphens=False,
            )
        )
    if _OUT.value:
        command_line.show(f"Next: conkd-data check {_OUT.value}")
    else:
        command_line.show(f"Nothing was written: conkd-data link {folder} --out=DIR does so.")


def _table(title: str, columns: tuple[str, ...], rows: list[tuple[Any, ...]]) -> rich.table.Table:
    table = rich.table.Table(title=title, min_width=len(title))  # or the title is broken into lines
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(rich.text.Text(str(cell)) for cell in row))
    return table


def run() -> None:
    """Runs the command line."""
    command_line.run(main, OPTIONS, positional="new|check|link DIR")


if __name__ == "__main__":
    run()
