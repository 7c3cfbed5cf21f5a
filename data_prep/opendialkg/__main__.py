"""The program that builds OpenDialKG's corpus: `python -m data_prep.opendialkg --help`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from data_prep.command_line import CorpusParser, run_builder
from data_prep.opendialkg.build import DEFAULT_GRAPH_RULE, build_opendialkg


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line and returns the exit code."""
    parser = CorpusParser(
        "data_prep.opendialkg",
        description="Builds the corpus of OpenDialKG, or reports on the raw files.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=(
            "examples:\n"
            "  python -m data_prep.opendialkg --raw_dir=DIR --report\n"
            "  python -m data_prep.opendialkg --raw_dir=DIR --out_dir=corpus/opendialkg\n\n"
            "DIR, or DIR/opendialkg, holds iEvaLM-CRS's files (train_data_processed.jsonl, …) or\n"
            "the official ones (opendialkg.csv, …); ConceptNet's edges are beside them or in kg/."
        ),
    )
    parser.add_raw_files(
        DEFAULT_GRAPH_RULE, "; the rules other than all are made for ReDial's graph"
    )
    return run_builder(
        parser,
        lambda options: build_opendialkg(
            options.raw_dir, options.out_dir, graph_rule=options.graph_rule
        ),
        argv,
    )


if __name__ == "__main__":
    sys.exit(main())
