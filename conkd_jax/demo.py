"""A first look: trains both systems on a synthetic corpus, then shows what each of them says.

    python -m conkd_jax.demo

Builds MovieWorld, a corpus with a knowledge graph of its own, and trains a fine-tuned language
model and ConKD on it, with the same network, data, epochs and batches. Then it prints one screen: a
conversation that neither model has seen, with both answers, and how well each names the right
movies, with p values. ConKD's student starts from the recommender's item vectors here; a third
model with the same start and no teachers shows what the start alone is worth. --seeds=0,1,2 repeats
all trainings, and --json=FILE writes the measurements.
"""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import rich.table
from absl import flags
from etils import epath
from rich.box import SIMPLE_HEAD

from conkd_jax.artifacts.manifest import git_hash
from conkd_jax.artifacts.rebuild import mended_by, remove
from conkd_jax.cli import command_line
from conkd_jax.cli.command_line import UsageError
from conkd_jax.config.files import HOME
from conkd_jax.data.mentions import replace_mentions
from conkd_jax.eval.predictions import Prediction
from conkd_jax.eval.tables.documents import portable_command
from conkd_jax.eval.tables.paired import PairedTest, paired_test
from conkd_jax.io import terminal
from conkd_jax.io.files import write_json
from conkd_jax.runs.document import machine
from conkd_jax.runs.finished import METRICS, Run
from conkd_jax.runs.planned import PlannedRun

FINE_TUNED, START, CONKD = "fine-tuned", "start alone", "ConKD"
CONFIGS = {
    FINE_TUNED: "configs/dialogpt.py:demo",
    START: "configs/ablations/vanilla_special_tokens.py:demo,backbone=dialogpt",
    CONKD: "configs/dialogpt_hard.py:demo",
}
METRIC = "f1@10"
MEASURED = (
    METRIC,
    f"{METRIC}_chance",
    f"{METRIC}_popularity",
    "tf_hit@10",
    "recall@10",
    "rec_ratio",
    "ppl",
    "distinct_items",
)
TURNS_SHOWN = 4
WIDTH = 80

OPTIONS = flags.FlagValues()
_SEEDS = flags.DEFINE_list(
    "seeds", "0", "The seeds to train with; each also makes a world.", flag_values=OPTIONS
)
_JSON = flags.DEFINE_string("json", "", "A file for the numbers of all seeds.", flag_values=OPTIONS)
_REBUILD = flags.DEFINE_list(
    "rebuild", "", "Make these artifacts anew, as conkd_jax.train does.", flag_values=OPTIONS
)


def main(argv: list[str]) -> None:
    """Trains the systems for every seed, writes the numbers of all, and shows the first seed."""
    if not all(seed.isdecimal() for seed in _SEEDS.value) or not _SEEDS.value:
        raise UsageError(f"--seeds: expected numbers such as 0,1,2; got {','.join(_SEEDS.value)}")
    shown: list[Any] = []
    measured = []
    for seed in map(int, _SEEDS.value):
        runs = trained_runs(seed, _REBUILD.value, command_line.this_command(without=("rebuild",)))
        tests = {name: tested(runs[name], runs[CONKD]) for name in (FINE_TUNED, START)}
        measured.append(numbers(seed, runs, tests))
        shown = shown or [*screen(runs, tests)]
    if _JSON.value:
        goal = epath.Path(_JSON.value)
        goal.parent.mkdir(parents=True, exist_ok=True)
        document = {
            "command": portable_command(" ".join(sys.argv)),
            "machine": machine(),
            "git": git_hash(),
            "configs": CONFIGS,
            "trainings": measured,
        }
        write_json(goal, document)
    command_line.show(*shown)


# --- runs ----------------------------------------------------------------------------------------


def planned_run(filename: str, seed: int) -> PlannedRun:
    """The run of a system for a seed, which also draws another world and other teachers."""
    seeds = dict.fromkeys(("seed", "teacher_seed", "corpus.movieworld_seed"), seed)
    changes = {**seeds, "parallel.num_devices": 1}  # batches of four dialogues are too few for many
    return PlannedRun.of_file(f"{HOME}/{filename}", changes)


def trained_runs(
    seed: int, rebuild: Sequence[str] = (), command: str = "python -m conkd_jax.demo"
) -> dict[str, Run]:
    """Trains and scores the systems for a seed, or finds them trained.

    Args:
      seed: of the world, the teachers and the students.
      rebuild: artifacts to make anew, as --rebuild names them.
      command: the command line that does the same, which the runs record.

    Returns:
      The runs, by the names of `CONFIGS`.
    """
    planned = {name: planned_run(file, seed) for name, file in CONFIGS.items()}
    lasts = [run.stages["evaluation"] for run in planned.values()]
    with mended_by(command, lasts):
        for wanted in rebuild:
            remove(lasts, planned[CONKD].config.artifacts_dir, wanted)
        for run in planned.values():
            run.check_sources()
        for run in planned.values():
            run.check_data()
        for name, run in planned.items():
            terminal.say(f"\n{name}: {CONFIGS[name]}, seed {seed}\n")
            run.build()
            run.write(command)
    return {name: Run.open(run.folder) for name, run in planned.items()}


def tested(first: Run, second: Run) -> PairedTest:
    """The paired test of two runs."""
    return paired_test({"first": first.predictions_file, "second": second.predictions_file})


# --- the screen ----------------------------------------------------------------------------------


def screen(runs: Mapping[str, Run], tests: Mapping[str, PairedTest]) -> Iterator[Any]:
    """The renderables of the screen: a conversation, a table and a sentence."""
    yield from conversation(runs)
    yield score_table(runs)
    yield verdict(runs, tests)


def conversation(runs: Mapping[str, Run]) -> Iterator[str]:
    """A conversation of the scored split: the first in which both systems and the human recommend.

    The rule looks at *whether* movies are named and not at which.
    """
    answers = {
        name: {one.key: one for one in runs[name].predictions()} for name in (FINE_TUNED, CONKD)
    }
    first = answers[CONKD]
    key = next(
        (
            key
            for key, one in first.items()
            if one.reference_items and all(each[key].generated_items for each in answers.values())
        ),
        next(iter(first)),
    )
    titles = dict(
        zip(
            runs[CONKD].corpus.items.item_ids.tolist(),
            runs[CONKD].corpus.items.titles,
            strict=True,
        )
    )

    def line(speaker: str, text: str) -> str:
        said = textwrap.wrap(replace_mentions(text, titles.get), WIDTH - 15) or [""]
        return f"  {speaker:>11}  " + f"\n{'':15}".join(said)

    yield "\nA conversation that no system was trained on:\n"
    for turn in first[key].context[-TURNS_SHOWN:]:
        yield line(turn.role, turn.text)
    for name, each in answers.items():
        yield line(name, each[key].generated) + found_mark(each[key])
    yield line("human", first[key].reference) + "\n"


def found_mark(answer: Prediction) -> str:
    """A mark after an answer that names a movie of the reference; otherwise empty."""
    return "  (as the human did)" if {*answer.generated_items} & {*answer.reference_items} else ""


def score_table(runs: Mapping[str, Run]) -> rich.table.Table:
    """F1@10 of both systems beside trivial ones, and the recommender's recall."""
    fine_tuned, start, conkd = (runs[name].metrics["metrics"] for name in CONFIGS)
    table = rich.table.Table(title="Are the movies right?", title_justify="left", box=SIMPLE_HEAD)
    table.add_column("system")
    table.add_column("F1@10", justify="right")
    table.add_column("hit@10", justify="right")
    rows = (
        ("chance", conkd[f"{METRIC}_chance"], conkd["recall@10_chance"]),
        ("popularity", conkd[f"{METRIC}_popularity"], conkd["recall@10_popularity"]),
        ("fine-tuned language model", fine_tuned[METRIC], fine_tuned["tf_hit@10"]),
        ("the recommender's item vectors as a start", start[METRIC], start["tf_hit@10"]),
        ("ConKD: that start, and both teachers", conkd[METRIC], conkd["tf_hit@10"]),
        ("recommender alone, can't talk", None, conkd["recall@10"]),
    )
    for label, *values in rows:
        table.add_row(label, *("–" if value is None else f"{value:.2f}" for value in values))
    return table


def verdict(runs: Mapping[str, Run], tests: Mapping[str, PairedTest]) -> str:
    """One sentence: the ratio to the fine-tuned model, what the start is worth, and p values."""
    fine_tuned, start, conkd = (runs[name].metrics["metrics"][METRIC] for name in CONFIGS)
    relation = f"{conkd / fine_tuned:.1f} times" if fine_tuned else "above"
    p_fine_tuned, p_start = (
        f"p = {tests[name].comparisons[METRIC].p_value:.3f}" for name in (FINE_TUNED, START)
    )
    return textwrap.fill(
        f"ConKD's F1@10 is {relation} that of the fine-tuned model of the same size and training "
        f"({p_fine_tuned} over {tests[START].num_dialogues} conversations); its start alone "
        f"reaches {start:.2f} ({p_start}).",
        WIDTH,
    )


def numbers(seed: int, runs: Mapping[str, Run], tests: Mapping[str, PairedTest]) -> dict[str, Any]:
    """What was measured with a seed, as plain JSON."""
    return {
        "seed": seed,
        "p_values_of_conkd": {
            name: test.comparisons[METRIC].p_value for name, test in tests.items()
        },
        "num_dialogues": tests[START].num_dialogues,
        "metrics": {
            name: {metric: run.metrics["metrics"][metric] for metric in MEASURED}
            for name, run in runs.items()
        },
        "config_sha256": {name: run.metrics["config_sha256"] for name, run in runs.items()},
        "results": {name: str(run.folder / METRICS) for name, run in runs.items()},
    }


def run() -> None:
    """Runs the command line."""
    command_line.run(main, OPTIONS)


if __name__ == "__main__":
    run()
