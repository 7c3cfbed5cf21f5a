"""What it costs to list the files of an artifact, and to check them when it is opened.

    python -m benchmarks.integrity --json=docs/results/integrity.json

Parameters as large as GPT-2's are saved, listed, checked and loaded, each round in a new folder;
many small files are listed and checked. The files are in the system's cache, so what is measured
is hashing. docs/design/0012 has the table that is printed.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from conkd_jax.eval.tables.documents import portable_command, write_document
from conkd_jax.io import integrity
from conkd_jax.models.gpt2 import GPT2, GPT2Spec
from conkd_jax.runs.document import machine
from conkd_jax.training import checkpoint

SIZES = {  # the model, and its number of words
    "full": (GPT2Spec(num_layers=12, embed_dim=768, num_heads=12, num_positions=1024), 50_257),
    "tiny": (GPT2Spec(num_layers=1, embed_dim=16, num_heads=2, num_positions=16), 50),
}
SMALL_FILES, SMALL_BYTES = 80, 14_000  # as all artifacts of a small run together have


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns its exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", default="full", choices=SIZES)
    parser.add_argument("--rounds", type=int, default=5, help="how often everything is timed")
    parser.add_argument("--json", type=Path, help="a file for the numbers")
    options = parser.parse_args(argv)
    document = {
        "command": portable_command(f"python -m benchmarks.integrity {' '.join(sys.argv[1:])}"),
        "machine": machine(),
        **measure(*SIZES[options.size], options.rounds),
    }
    print(table(document))
    if options.json:
        write_document(options.json, document)
    return 0


def measure(spec: GPT2Spec, num_words: int, rounds: int) -> dict[str, Any]:
    """Times everything; of several rounds, the shortest time counts.

    Args:
      spec: the shape of the model.
      num_words: rows of its embedding.
      rounds: how often everything is timed.
    """
    params = jax.tree.map(np.asarray, GPT2(spec, num_words).init(jax.random.key(0)))
    weights, small = [], []
    with tempfile.TemporaryDirectory() as name:
        for number in range(rounds):
            folder = Path(name) / f"weights{number}"
            folder.mkdir()
            save = timed(lambda folder=folder: checkpoint.save(folder / "params", params))
            weights.append({"save": save, **of_folder(folder)})
            weights[-1]["load"] = timed(lambda folder=folder: checkpoint.load(folder / "params"))
            folder = Path(name) / f"small{number}"
            folder.mkdir()
            for file in range(SMALL_FILES):
                (folder / str(file)).write_bytes(np.random.default_rng(file).bytes(SMALL_BYTES))
            small.append(of_folder(folder))
    found = {"weights": shortest(weights), "small_files": shortest(small)}
    found["weights"]["bytes"] = sum(leaf.nbytes for leaf in jax.tree.leaves(params))
    return found


def of_folder(folder: Path) -> dict[str, float]:
    """Seconds to list a folder's files, to check them, and to check them once more; its bytes."""

    def check() -> None:
        for file, entry in entries.items():
            integrity.check(folder / file, entry, folder)

    found = {"list": timed(lambda: integrity.write_list(folder))}
    entries = integrity.read_list(folder) or {}
    found |= {"check": timed(check), "check_again": timed(check)}
    return {**found, "disk_bytes": sum(entry["bytes"] for entry in entries.values())}


def timed(work: Callable[[], object]) -> float:
    """Seconds that it takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def shortest(rounds: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The least of each number, with four digits; bytes are whole and the same in all rounds."""
    found = {key: min(each[key] for each in rounds) for key in rounds[0]}
    return {k: int(v) if "bytes" in k else float(f"{v:.4g}") for k, v in found.items()}


def table(document: Mapping[str, Any]) -> str:
    """What was measured, in Markdown."""
    weights, small = document["weights"], document["small_files"]
    megabytes, on_disk = (round(weights[key] / 1e6) for key in ("bytes", "disk_bytes"))
    rate = weights["disk_bytes"] / weights["check"] / 1e9
    rows = [
        ("what", "extra", "beside"),
        ("---", "---", "---"),
        (
            f"opening weights of {megabytes} MB ({on_disk} on the disk), once a process",
            f"{weights['check']:.2f} s ({rate:.1f} GB/s)",
            f"{weights['load']:.2f} s to load them",
        ),
        ("the same weights again in the process", f"{1e3 * weights['check_again']:.1g} ms", ""),
        (
            "listing and flushing them when they are saved",
            f"{weights['list']:.2f} s",
            f"{weights['save']:.1f} s to save them",
        ),
        (
            f"opening {SMALL_FILES} files of {SMALL_BYTES / 1e3:.0f} KB, as a small run has",
            f"{small['check']:.3f} s",
            "seconds a stage",
        ),
    ]
    return "\n".join(f"| {' | '.join(row)} |".replace("|  |", "| |") for row in rows)


if __name__ == "__main__":
    raise SystemExit(main())
