"""A run that is killed at hundreds of random moments ends as one that is left alone, bit for bit.

    CONKD_SOAK_JSON=docs/results/kills.json python -m pytest -m soak -s tests/test_kills.py

Every stage is killed, and killed again where it was resumed, by SIGKILL at a moment that is drawn
from the time that the stage takes; whatever is finished is compared and then made again, until
every stage has had its share. The writing of the run's folder counts as a stage.
"""

import collections
import hashlib
import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conkd_jax.artifacts.manifest import is_whole
from conkd_jax.stages import pipeline
from conkd_jax.training.checkpoint import CHECKPOINTS
from tests.fixtures.contents import contents
from tests.fixtures.forked import TrainingProcess, folder_of_run
from tests.fixtures.small_world import STAGES, SmallWorld
from tests.fixtures.soak_record import command, record

TEST, NUM_KILLS = "tests/test_kills.py", 200  # over all stages
KILLS = int(os.environ.get("CONKD_KILLS") or NUM_KILLS)
SEED = int(os.environ.get("CONKD_KILLS_SEED") or 0)
FOLDER = "run folder"
PLACES = (*STAGES, FOLDER)
# Parameters are compared as arrays. A process that is killed right after the manifest leaves notes
# and checkpoints, which the next one removes.


def train_to_the_end(world: SmallWorld) -> dict[str, float]:
    """Trains what is missing; returns the seconds that each stage took."""
    process, began = TrainingProcess(world), {}
    while not process.is_over:
        stage = process.stage
        if stage not in began and process.wait_for(stage):
            began[stage] = time.monotonic()
        time.sleep(0.005)
    ended, output = time.monotonic(), process.output
    assert process.end() == 0, output
    ends = [*list(began.values())[1:], ended]
    return {name: end - begin for (name, begin), end in zip(began.items(), ends, strict=True)}


def results(folder: Path) -> dict[str, Any]:
    """What a run's folder says, without times and paths."""
    document = json.loads((folder / "metrics.json").read_text())
    kept = ("metrics", "intervals", "counts", "learning", "config_sha256", "n_responses")
    predictions = hashlib.sha256((folder / "predictions.jsonl").read_bytes()).hexdigest()
    return {"predictions": predictions, **{key: document[key] for key in kept}}


class KilledWorld:
    """A world whose processes are killed, and what an undisturbed one has made of the same config.

    Attributes:
      kills: number of kills by the stage that was hit.
      num_compared: number of artifacts and run folders that were compared.
    """

    def __init__(self, world: SmallWorld, straight: SmallWorld, seconds: dict[str, float]):
        self._world, self._straight, self._seconds = world, straight, seconds
        self._stages = pipeline.build(world.config())
        self._random = np.random.default_rng(SEED)
        self._wanted = {name: self._of(straight, name) for name in PLACES}
        self.kills: collections.Counter[str] = collections.Counter()
        self.num_compared = 0

    def _of(self, world: SmallWorld, place: str) -> dict[str, Any]:
        if place == FOLDER:
            return results(folder_of_run(world))
        return contents(Path(self._stages[place].directory(world.artifacts_dir)))

    def _is_whole(self, place: str) -> bool:
        return place != FOLDER and is_whole(self._stages[place], self._world.artifacts_dir)

    def compare(self, place: str) -> None:
        assert self._of(self._world, place) == self._wanted[place], place
        self.num_compared += 1

    def kill_at(self, place: str, times: int) -> None:
        """Kills processes in a stage until it was hit this often."""
        marker = place
        if place == FOLDER:
            marker = ""
            train_to_the_end(self._world)  # all that is left to do is the folder
        while self.kills[place] < times:
            if self._is_whole(place):
                self._compare_and_remove(place)
            process = TrainingProcess(self._world)
            if not process.wait_for(marker):
                output = process.output
                raise AssertionError(f"exit code {process.end()} before {place}: {output}")
            time.sleep(self._random.random() * self._seconds[marker])
            stage = process.stage
            if process.kill():
                is_done = stage == STAGES[-1] and self._is_whole(stage)
                self.kills[FOLDER if is_done else stage or FOLDER] += 1
            elif place == FOLDER:  # it was too late: the folder is complete
                self.compare(FOLDER)

    def _compare_and_remove(self, place: str) -> None:
        """Compares an artifact, and those after it; then they are to be made again."""
        for name in STAGES[STAGES.index(place) :]:
            if self._is_whole(name):
                self.compare(name)
            directory = Path(self._stages[name].directory(self._world.artifacts_dir))
            shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    """A compilation cache that no other process reads, for a killed one can damage it."""
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))


@pytest.mark.soak
@pytest.mark.timeout(4 * 3600)
def test_a_run_killed_at_random_moments_ends_as_one_left_alone(tmp_path, own_cache, capsys):
    began = time.monotonic()
    first, straight, world = (SmallWorld(tmp_path / name) for name in ("first", "straight", "w"))
    for each in (first, straight, world):
        each.root.mkdir()
    train_to_the_end(first)  # compiles everything
    seconds = train_to_the_end(straight)
    seconds |= train_to_the_end(straight)  # {"": …}, of which all is left to do is the folder
    killed = KilledWorld(world, straight, seconds)
    for place in PLACES:
        killed.kill_at(place, -(-KILLS // len(PLACES)))
    train_to_the_end(world)
    for place in PLACES:
        killed.compare(place)
    assert not list(world.artifacts_dir.glob(f"*/*/{CHECKPOINTS}")), "left by a killed process"
    report = {
        "kills": killed.kills.total(),
        "by_stage": {place: killed.kills[place] for place in PLACES},
        "compared": killed.num_compared,
        "seed": SEED,
        "seconds_of_stages": {name or FOLDER: round(s, 2) for name, s in seconds.items()},
        "minutes": round((time.monotonic() - began) / 60, 1),
    }
    with capsys.disabled():
        print(f"\n{record(TEST, report, settings_of(KILLS, SEED))}")
    assert killed.kills.total() >= KILLS


def settings_of(kills: int, seed: int) -> dict[str, int]:
    """The environment variables of a number of kills and a seed."""
    return {"CONKD_KILLS": kills} | ({"CONKD_KILLS_SEED": seed} if seed else {})


def test_the_committed_counts_are_those_of_the_test():
    counts = json.loads((Path(__file__).parents[1] / "docs/results/kills.json").read_text())
    assert counts["command"] == command(TEST, settings_of(NUM_KILLS, counts["seed"]))
    assert set(counts["by_stage"]) == set(PLACES)
    assert sum(counts["by_stage"].values()) == counts["kills"] >= NUM_KILLS
