"""Measures how fast a run answers: the time to the first token, and tokens per second after it.

    python benchmarks/chat.py --workdir=RUN --out=result.json

The histories are spread over a split of the run's corpus. Every shape is compiled and every history
answered once before, untimed. The time to the first token covers all that a person waits for: rows,
turn classifier, prompt and choice. Tokens per second are those of the stream after the first token,
λ of the teacher, which is read when the text is complete, left out.
"""

import argparse
import os
import platform
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import jax

from conkd_jax.chat import Chat
from conkd_jax.data.corpus import responses
from conkd_jax.io.files import write_json
from conkd_jax.stages.systems.system import spread_evenly


def histories(chat, split, count):
    """Histories of a split before the recommender's turns."""
    dialogues = chat.system.corpus.dialogues(split)
    found = [dialogue.turns[:turn] for dialogue in dialogues for turn in responses(dialogue)]
    return [found[place] for place in spread_evenly(len(found), count)]


def answered(chat, history):
    """Seconds to the first token, and seconds and number of the tokens after it."""
    began = time.perf_counter()
    stream = chat.stream(history)
    times = []
    for _ in stream.pieces():
        times.append(time.perf_counter())
    stream.response()
    return times[0] - began, times[-1] - times[0], len(times) - 1, time.perf_counter() - began


def main():
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--workdir", required=True, help="a run")
    parser.add_argument("--split", default="valid")
    parser.add_argument("--histories", type=int, default=50)
    parser.add_argument("--out", type=Path, help="write the result to this file, as JSON")
    arguments = parser.parse_args()
    began = time.perf_counter()
    chat = Chat.open(arguments.workdir, warm=False)
    opened, warmed = time.perf_counter() - began, chat.warm_up()
    asked = histories(chat, arguments.split, arguments.histories)
    _ = [answered(chat, history) for history in asked]
    first, after, count, whole = np.array([answered(chat, history) for history in asked]).T
    long = count > 0
    speed = count[long] / after[long]
    result = {
        "command": f"python benchmarks/chat.py --workdir=RUN --histories={len(asked)}",
        "run": chat.run.run_name,
        "machine": f"{platform.machine()}, {len(os.sched_getaffinity(0))} of {os.cpu_count()} "
        f"cores, {jax.default_backend()}, load {os.getloadavg()[0]:.1f}",
        "histories": len(asked),
        "open_seconds": opened,
        "warm_up_seconds": warmed,
        "first_token_ms": {
            "median": 1e3 * float(np.median(first)),
            "p95": 1e3 * float(np.quantile(first, 0.95)),
        },
        "tokens_per_second": {
            "median": float(np.median(speed)),
            "p5": float(np.quantile(speed, 0.05)),
        },
        "response_ms": {"median": 1e3 * float(np.median(whole))},
    }
    for name, value in result.items():
        print(f"{name}: {value}")
    if arguments.out:
        write_json(arguments.out, result, indent=2)


if __name__ == "__main__":
    main()
