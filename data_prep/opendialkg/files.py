"""Finds the files of OpenDialKG, in the layout of iEvaLM-CRS or in the official one.

This module handles file names only; other modules read the files.
"""

from __future__ import annotations

from collections.abc import Mapping

from etils import epath

from data_prep.sources import RAW_DIR_VARIABLE, MissingDataError, RawFile, asked_for, raw_root

PROCESSED, OFFICIAL = "processed", "official"
# The files of each layout by role; the first one decides which layout it is.
_LAYOUTS: Mapping[str, Mapping[str, str]] = {
    PROCESSED: {
        "train": "train_data_processed.jsonl",
        "valid": "valid_data_processed.jsonl",
        "test": "test_data_processed.jsonl",
        "graph": "kg.json",
        "entities": "entity2id.json",
        "items": "item_ids.json",
    },
    OFFICIAL: {
        "dialogues": "opendialkg.csv",
        "entities": "opendialkg_entities.txt",
        "triples": "opendialkg_triples.txt",
    },
}
_WORD_GRAPH: Mapping[str, tuple[str, ...]] = {
    "concept_edges": ("conceptnet_one_hop_edges.txt", "conceptnet_edges2nd.txt"),
    "concept_dump": ("conceptnet-assertions-5.7.0.csv.gz", "conceptnet-assertions.csv.gz"),
    "stop_words": ("stopwords.txt",),
}
_FOLDERS = ("opendialkg", "opendialkg/data", "data", ".")
_WORD_FOLDERS = (".", "kg", "data", "opendialkg", "../kg")


def find_files(
    raw_dir: epath.PathLike | None = None, *, use_test: bool = True
) -> tuple[str, dict[str, RawFile]]:
    """Finds the raw files.

    Args:
      raw_dir: the folder that holds them, or that has them in `opendialkg/`, and ConceptNet's edges
        beside them or in `kg/`; None uses `CONKD_RAW_DIR`, then the download cache.
      use_test: whether to read the test file, if it is there (processed layout only).

    Returns:
      The layout, "processed" or "official", and its files by role; "test", "concept_dump" and
      "stop_words" are optional.

    Raises:
      MissingDataError: the folder or a required file is missing.
    """
    root = raw_root(raw_dir)
    if not root.is_dir():
        raise _missing(raw_dir, root, "the folder does not exist")
    for layout, names in _LAYOUTS.items():
        first = next(iter(names.values()))
        folder = next((root / f for f in _FOLDERS if (root / f / first).is_file()), None)
        if folder is None:
            continue
        found = {
            role: RawFile(folder / name)
            for role, name in names.items()
            if (use_test or role != "test") and (folder / name).is_file()
        }
        lacking = [name for role, name in names.items() if role not in found and role != "test"]
        found |= _word_graph(root)
        if "concept_edges" not in found and "concept_dump" not in found:
            lacking.append(" or ".join(_WORD_GRAPH[role][0] for role in list(_WORD_GRAPH)[:2]))
        if lacking:
            raise _missing(raw_dir, root, f"no {', no '.join(lacking)}")
        return layout, found
    firsts = [next(iter(names.values())) for names in _LAYOUTS.values()]
    raise _missing(raw_dir, root, f"neither {' nor '.join(firsts)}")


def expect_test(raw_dir: epath.PathLike | None) -> None:
    """Checks that there is a test split.

    Raises:
      MissingDataError: there is none.
    """
    layout, found = find_files(raw_dir)
    if layout == PROCESSED and "test" not in found:
        raise MissingDataError(
            f"expected the test split of OpenDialKG, but there is no {_LAYOUTS[PROCESSED]['test']} "
            f"beside {found['train']}. Put iEvaLM-CRS's file there, or score another split: "
            "--config.evaluation.split=valid (--split=valid when scoring a run)."
        )


def _word_graph(root: epath.Path) -> dict[str, RawFile]:
    found: dict[str, RawFile] = {}
    for role, names in _WORD_GRAPH.items():
        paths = (root / folder / name for name in names for folder in _WORD_FOLDERS)
        path = next((path for path in paths if path.is_file()), None)
        if path is not None and not (role == "concept_dump" and "concept_edges" in found):
            found[role] = RawFile(path)
    return found


def _missing(raw_dir: epath.PathLike | None, root: epath.Path, why: str) -> MissingDataError:
    return MissingDataError(
        f"OpenDialKG's raw files were not found in {root} ({asked_for(raw_dir)}): {why}.\n"
        "Point to a folder that has them, itself or in opendialkg/: --config.corpus.raw_dir=DIR,\n"
        f"--raw_dir=DIR or export {RAW_DIR_VARIABLE}=DIR. It holds one of\n"
        f"  * iEvaLM-CRS's files: {', '.join(_LAYOUTS[PROCESSED].values())}\n"
        "    (github.com/RUCAIBox/iEvaLM-CRS, data/opendialkg; the test file is optional);\n"
        f"  * the official files: {', '.join(_LAYOUTS[OFFICIAL].values())}\n"
        "    (github.com/facebookresearch/opendialkg, data/);\n"
        f"and {_WORD_GRAPH['concept_edges'][0]} or ConceptNet's own dump, beside them or in kg/."
    )
