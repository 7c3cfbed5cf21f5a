"""Reads a folder of your own data strictly: everything that can't be used is told, line by line.

The result has items by number: item n of `items.jsonl`, from 1, is mentioned as "@n" in every text
(`custom.dialogues`).
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Collection, Mapping

from etils import epath

from conkd_jax.io.files import parse_json
from data_prep.custom import schema
from data_prep.custom.dialogues import ItemMarks, read_splits
from data_prep.custom.lines import (
    Findings,
    OwnDataError,
    converted,
    lines_of,
    objects_of,
    unclean,
)
from data_prep.custom.schema import About, Item, Node, Shares
from data_prep.graphs import GraphError, read_concept_edges
from data_prep.raw_dialogues import RawDialogue
from data_prep.stop_words import ENGLISH

Triple = tuple[str, str, str]
_HEADER = ["head", "relation", "tail"]


@dataclasses.dataclass(frozen=True)
class OwnData:
    """A folder of your own data that has no errors.

    Attributes:
      items: the items, in file order.
      splits: the dialogues of each split, items as "@n".
      triples: those of the graph, and the attributes of items; nodes by id.
      nodes: the readable names of nodes, by id; not of items.
      attribute_nodes: the nodes that are values of attributes.
      word_pairs: the word graph; None without one.
      stop_words: words that are no concepts.
      warnings: what is probably not meant, a sentence each.
    """

    items: tuple[Item, ...]
    splits: Mapping[str, list[RawDialogue]]
    triples: tuple[Triple, ...]
    nodes: Mapping[str, Node]
    attribute_nodes: frozenset[str]
    word_pairs: list[tuple[str, str]] | None
    stop_words: frozenset[str]
    warnings: tuple[str, ...]


def files_of(directory: epath.PathLike, *, use_test: bool) -> list[epath.Path]:
    """The files of a folder that a corpus is built from, by name; those that are there.

    Raises:
      OwnDataError: there is no such folder, or none of its files.
    """
    folder = epath.Path(directory).expanduser()
    if not folder.is_dir():
        raise OwnDataError(
            f"{directory}: expected a folder with {schema.ITEMS} and dialogues, found none. "
            "`conkd-data new DIR` writes one to start from."
        )
    names = [schema.ABOUT, schema.ITEMS, schema.NODES, schema.GRAPH, schema.WORDS]
    names += [schema.STOP_WORDS, schema.DIALOGUES]
    names += [file for split, file in schema.SPLIT_FILES.items() if use_test or split != "test"]
    return [folder / name for name in sorted(names) if (folder / name).is_file()]


def has_word_graph(directory: epath.PathLike) -> bool:
    """Whether a folder has a word graph."""
    return (epath.Path(directory).expanduser() / schema.WORDS).is_file()


def has_test(directory: epath.PathLike) -> bool:
    """Whether a folder has dialogues for the split `test`."""
    folder = epath.Path(directory).expanduser()
    return (folder / schema.DIALOGUES).is_file() or (folder / schema.SPLIT_FILES["test"]).is_file()


def read_own_data(directory: epath.PathLike, *, use_test: bool = True) -> OwnData:
    """Reads a folder.

    Args:
      directory: the folder (`data_prep.custom.schema`).
      use_test: whether to read the dialogues of the split `test`.

    Raises:
      OwnDataError: lists what can't be used: file, line, what is wrong, how to mend it.
    """
    paths = {path.name: path for path in files_of(directory, use_test=use_test)}
    findings = Findings()
    others = _nearly_named(paths, directory)
    findings.warnings += [
        f"{other} is not read. Did you mean {name}?" for name, other in others.items()
    ]
    about = _about(paths, directory, findings)
    _expect_dialogues(paths, others, directory, findings)
    told = findings.num_errors
    items = _items(paths, findings)
    is_complete = schema.ITEMS in paths and findings.num_errors == told
    numbers = {item.id: number for number, item in enumerate(items, start=1)}
    marks = ItemMarks(numbers, findings, is_complete=is_complete)
    triples = _triples(paths, findings)
    attributes = [triple for item in items for triple in _attributes(item, findings)]
    in_graph = {node for head, _, tail in (*triples, *attributes) for node in (head, tail)}
    nodes = _nodes(paths, numbers, in_graph, findings)
    splits = read_splits(paths, about.shares or Shares(), marks, findings)
    marks.warn()
    data = OwnData(
        items=tuple(items),
        splits={name: of for name, of in splits.items() if use_test or name != "test"},
        triples=tuple(dict.fromkeys([*triples, *attributes])),
        nodes=nodes,
        attribute_nodes=frozenset(tail for _, _, tail in attributes),
        word_pairs=_word_pairs(paths, findings),
        stop_words=_stop_words(paths, findings),
        warnings=tuple(findings.warnings),
    )
    findings.expect_none(directory)
    return data


# --- the files, one by one -----------------------------------------------------------------------


def _about(paths: Mapping[str, epath.Path], directory: epath.PathLike, findings: Findings) -> About:
    where = schema.ABOUT
    mend = f'Write {{"version": {schema.VERSION}}}'
    mend_shares = f'{mend[:-1]}, "shares": {{"dev": 0.05, "valid": 0.1, "test": 0.1}}}}'
    if where not in paths:
        findings.error(where, f"expected this file in {directory}, found none", mend)
        return About(schema.VERSION)
    try:
        about = converted(parse_json(paths[where].read_bytes()), About)
    except ValueError as wrong:
        findings.error(where, str(wrong), mend_shares if "shares" in str(wrong) else mend)
        return About(schema.VERSION)
    if about.version != schema.VERSION:
        found = f"expected version {schema.VERSION}, got {about.version}"
        findings.error(where, found, "Use the version of conkd_jax that the folder was made for")
    if about.shares and schema.DIALOGUES not in paths:
        why = f"'shares' divide {schema.DIALOGUES}, which is not there"
        findings.error(where, why, "Leave them out where the splits are files")
    return about


def _nearly_named(paths: Mapping[str, epath.Path], directory: epath.PathLike) -> dict[str, str]:
    """The files that have nearly the name of one that is not there, by the name of that one."""
    found = {}
    for path in sorted(epath.Path(directory).expanduser().iterdir()):
        meant = difflib.get_close_matches(path.name.casefold(), schema.FILES, n=1, cutoff=0.75)
        if meant and meant[0] not in paths and path.name not in schema.FILES:
            found[meant[0]] = path.name
    return found


def _expect_dialogues(
    paths: Mapping[str, epath.Path],
    others: Mapping[str, str],
    directory: epath.PathLike,
    findings: Findings,
) -> None:
    def mend(file: str, what: str) -> str:
        return f"Rename {others[file]}" if file in others else f"Write {what} on each line"

    by_file = [name for name in schema.SPLIT_FILES.values() if name in paths]
    train = schema.SPLIT_FILES["train"]
    if schema.DIALOGUES in paths and by_file:
        what = f"expected either this file or splits by file, got {', '.join(by_file)} as well"
        findings.error(schema.DIALOGUES, what, "Keep one of the two")
    elif schema.DIALOGUES not in paths and train not in paths:
        what = f"expected this file or {train} in {directory}, found neither"
        findings.error(schema.DIALOGUES, what, mend(schema.DIALOGUES, "a dialogue"))
    if schema.ITEMS not in paths:
        what = f"expected this file in {directory}, found none"
        findings.error(schema.ITEMS, what, mend(schema.ITEMS, "an item"))


def _items(paths: Mapping[str, epath.Path], findings: Findings) -> list[Item]:
    if schema.ITEMS not in paths:
        return []
    items: dict[str, Item] = {}
    places: dict[str, str] = {}
    for where, item in objects_of(paths[schema.ITEMS], Item, findings):
        _check_names(where, item, findings)
        if set(item.id) & set("[]"):
            findings.error(where, f"the id {item.id!r} has a bracket", "Choose one without [ and ]")
        elif item.id in items:
            what = f"the id {item.id!r} is that of {places[item.id]} as well"
            findings.error(where, what, "Give every item an id of its own")
        else:
            items[item.id], places[item.id] = item, where
    if len(items) < 2 and not findings.num_errors:
        what = f"expected two items or more to choose from, got {len(items)}"
        findings.error(schema.ITEMS, what, "Write an item on each line")
    _check_rivals(items.values(), places, findings)
    return list(items.values())


def _check_rivals(items: Collection[Item], places: Mapping[str, str], findings: Findings) -> None:
    """Warns of names and aliases that two items have."""
    by_name: dict[str, str] = {}
    for item in items:
        other = by_name.setdefault(item.name.casefold(), item.id)
        if other != item.id:
            findings.warnings.append(
                f"{places[item.id]}: {item.name!r} is the name of {other!r} as well: nobody can "
                "tell the two apart. Add to the names what differs, such as a year."
            )
    for item in items:
        for alias in item.aliases:
            other = by_name.setdefault(alias.casefold(), item.id)
            if other != item.id:
                findings.warnings.append(
                    f"{places[item.id]}: the alias {alias!r} is a name of {other!r} as well, which "
                    "it will mean in most texts."
                )


def _check_names(where: str, entry: Item | Node, findings: Findings) -> None:
    for name in (entry.id, entry.name, *entry.aliases):
        if why := unclean(name):
            findings.error(where, f"{name!r} {why}", "Write it as it is to be read")


def _attributes(item: Item, findings: Findings) -> list[Triple]:
    triples = []
    for relation, values in item.attributes.items():
        for value in values if isinstance(values, tuple) else (values,):
            for name in (relation, str(value)):
                if why := unclean(name):
                    where = f"{schema.ITEMS}, item {item.id!r}"
                    findings.error(where, f"{name!r} {why}", "Write it as it is to be read")
            triples.append((item.id, relation, str(value)))
    return triples


def _triples(paths: Mapping[str, epath.Path], findings: Findings) -> list[Triple]:
    triples = []
    lines = lines_of(paths[schema.GRAPH], findings) if schema.GRAPH in paths else ()
    for where, line in lines:
        cells = line.rstrip("\r\n").split("\t")
        mend = "Write head, relation and tail, with one tab between them"
        if where.endswith("line 1") and [c.casefold() for c in cells] == _HEADER:
            findings.error(where, f"expected a triple, got a header: {line.strip()!r}", "Delete it")
        elif len(cells) != 3:
            findings.error(where, f"expected 3 cells, got {len(cells)}", mend)
        elif not all(cells):
            findings.error(where, "a cell is empty", mend)
        elif bad := next((cell for cell in cells if unclean(cell)), None):
            findings.error(where, f"{bad!r} {unclean(bad)}", mend)
        else:
            triples.append((cells[0], cells[1], cells[2]))
    return triples


def _nodes(
    paths: Mapping[str, epath.Path],
    items: Collection[str],
    in_graph: Collection[str],
    findings: Findings,
) -> dict[str, Node]:
    nodes: dict[str, Node] = {}
    if schema.NODES not in paths:
        return nodes
    for where, node in objects_of(paths[schema.NODES], Node, findings):
        _check_names(where, node, findings)
        if node.id in items:
            findings.error(where, f"{node.id!r} is an item", f"Name items in {schema.ITEMS}")
        elif node.id in nodes:
            findings.error(where, f"the id {node.id!r} is listed twice", "Keep one of the two")
        nodes[node.id] = node
    if unused := [node for node in nodes if node not in in_graph]:
        findings.warnings.append(
            f"{schema.NODES}: {len(unused):,} of {len(nodes):,} nodes are in no triple of "
            f"{schema.GRAPH} and no attribute, for example {unused[0]!r}."
        )
    return nodes


def _word_pairs(
    paths: Mapping[str, epath.Path], findings: Findings
) -> list[tuple[str, str]] | None:
    if schema.WORDS not in paths:
        return None
    try:
        return read_concept_edges(paths[schema.WORDS].read_bytes().splitlines(), schema.WORDS)
    except GraphError as wrong:
        where, _, what = str(wrong).rstrip(".").partition(": ")
        findings.error(where, what, "Write relation, word and word, with one tab between them")
        return []


def _stop_words(paths: Mapping[str, epath.Path], findings: Findings) -> frozenset[str]:
    if schema.STOP_WORDS not in paths:
        return ENGLISH
    lines = lines_of(paths[schema.STOP_WORDS], findings)
    return frozenset(word.casefold() for _, line in lines for word in line.split())
