"""What dev scores over epochs say: made series whose answer is known, and a real training."""

import json
import math
import shutil

import numpy as np
import pytest

from conkd_jax import tables, train
from conkd_jax.eval.learning import HIT, NLL, Learning
from conkd_jax.stages import pipeline
from tests.fixtures.disks import take_hashes
from tests.fixtures.programs import CONFIG
from tests.fixtures.small_world import SmallWorld

NUM_ITEMS = 997  # a prime: no count of hits can hide it


def history(nll, hits, *, num_items=NUM_ITEMS, steps_per_epoch=130) -> list[dict]:
    """Lines of a training: dev scores after every epoch, the training loss in between."""
    lines = []
    for epoch, (score, hit) in enumerate(zip(nll, hits, strict=True)):
        lines.append({"step": epoch * steps_per_epoch + 50, "loss": 5.0})
        share = round(hit * num_items) / num_items
        lines.append(
            {
                "step": (epoch + 1) * steps_per_epoch,
                "loss": 4.0,
                "dev_nll": score,
                "dev_nll_word": score - 0.3,
                "dev_nll_item": score + 4,
                "dev_tf_hit@10": round(hit * num_items / 2) / num_items,
                "dev_tf_hit@50": share,
            }
        )
    return lines


def learning(nll, hits, kept=None, **fields) -> Learning:
    lines = history(nll, hits, **fields)
    epochs = len(lines) // 2
    step = lines[-1]["step"] if kept is None else lines[2 * kept - 1]["step"]
    found = Learning.of(lines, epochs=epochs, kept_step=step)
    assert found is not None
    return found


FALLING = np.linspace(4.6, 4.0, 8)
FLAT = [0.2] * 8


def test_epochs_are_those_that_were_scored():
    found = learning(FALLING, FLAT, kept=6)
    assert found.at == tuple(range(1, 9)) and found.kept == 6
    assert found.scores[NLL] == tuple(FALLING)
    assert found.num_items == NUM_ITEMS
    p = round(0.2 * NUM_ITEMS) / NUM_ITEMS
    assert found.standard_error == pytest.approx(math.sqrt(p * (1 - p) / NUM_ITEMS))
    assert Learning.of([{"step": 50, "loss": 3.0}], epochs=1, kept_step=50) is None


def test_of_a_step_that_was_done_twice_the_last_line_counts():
    lines = [*history([9.0], [0.9]), *history([4.0, 3.0], [0.1, 0.2])]
    found = Learning.of(lines, epochs=2, kept_step=260)
    assert found is not None and found.scores[NLL] == (4.0, 3.0)


def test_a_training_that_ends_while_hits_rise_says_so():
    found = learning(FALLING, np.linspace(0.1, 0.3, 8))
    assert found.still_rises and found.best_hit_at == 8
    (note,) = found.notes()
    assert "hit@50 on dev still rises after 8 epochs: 0.300, at most 0.243" in note
    assert f"standard error {math.sqrt(0.21 / NUM_ITEMS):.3f}" in note


@pytest.mark.parametrize("above, expected", [(0.9, False), (1.2, True)])
def test_the_threshold_is_one_standard_error(above, expected):
    error = math.sqrt(0.2 * 0.8 / NUM_ITEMS)
    assert learning(FALLING, [*FLAT[:7], 0.2 + above * error]).still_rises is expected


def test_a_plateau_and_what_rose_only_in_the_last_quarter_s_company():
    risen = [0.1, 0.2, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3]
    assert learning(FALLING, risen).still_rises is False
    assert learning(FALLING, risen).notes() == []
    # The gain of the last quarter is compared with the quarters before, not with its own start.
    assert learning(FALLING, [*FLAT[:6], 0.3, 0.3]).still_rises is True


def test_noise_seldom_looks_like_a_rise():
    """Hits drawn at one constant rate: far fewer alarms than one standard error of two values."""
    rng = np.random.default_rng(0)
    alarms = [
        learning(FALLING, rng.binomial(948, 0.2, 8) / 948, num_items=948).still_rises
        for _ in range(500)
    ]
    assert np.mean(alarms) < 0.08


def test_too_few_evaluations_tell_nothing():
    assert learning([4.0], [0.9]).still_rises is None
    assert learning([4.0], [0.9]).notes() == []


def test_an_nll_falls_until_its_last_value_is_not_the_lowest():
    assert learning(FALLING, FLAT).nll_still_falls is True
    assert learning([*FALLING[:7], FALLING[6]], FLAT).nll_still_falls is False
    assert learning([4.0], [0.2]).nll_still_falls is None


def test_an_nll_that_turns_before_the_hits_is_told_with_what_was_kept():
    nll = [4.6, 4.3, 4.1, 4.2, 4.3, 4.4, 4.5, 4.6]
    hits = [0.1, 0.12, 0.14, 0.2, 0.25, 0.3, 0.3, 0.3]
    best, last = learning(nll, hits, kept=3), learning(nll, hits)
    for found, is_kept in ((best, True), (last, False)):
        (note,) = found.notes()
        assert "lowest after 3 epochs of 8, with hit@50 0.140" in note
        assert "to 0.300 after 6 epochs" in note
        assert ("This step was kept" in note) is is_kept


def test_an_nll_that_turns_with_the_hits_is_not_worth_a_word():
    nll = [4.6, 4.3, 4.1, 4.2, 4.3, 4.4, 4.5, 4.6]
    assert learning(nll, [0.1, 0.2, 0.3, 0.3, 0.3, 0.305, 0.3, 0.3]).notes() == []
    # The hits were better before: nothing is lost by stopping there.
    assert learning(nll, [0.1, 0.4, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3]).notes() == []


def test_it_is_plain_json_and_comes_back():
    found = learning(FALLING, np.linspace(0.1, 0.3, 8), kept=6)
    value = json.loads(json.dumps(found.to_dict()))
    assert Learning.from_dict(value) == found
    assert value["still_rises"] is True and value["notes"] == found.notes()


def test_without_any_hit_nothing_is_divided_by_zero():
    found = learning(FALLING, [0.0] * 8)
    assert found.still_rises is False and found.standard_error == 0.0


# --- real trainings ------------------------------------------------------------------------------


def test_a_run_s_folder_has_the_scores_of_every_epoch(small_world):
    document = json.loads((small_world.folder / "metrics.json").read_text())
    assert document["learning"].keys() == {"dialogue_teacher", "student"}
    found = Learning.from_dict(document["learning"]["student"])
    assert found.at == tuple(range(1, 7)) and found.kept == 6
    file = small_world.folder / "artifacts" / "student" / "history.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    last = lines[-1]
    assert found.scores[HIT][-1] == last["dev_tf_hit@50"]
    teacher = Learning.from_dict(document["learning"]["dialogue_teacher"])
    assert teacher.kept == teacher.best_nll_at  # the step with the lowest NLL is kept


def test_what_dev_said_is_in_the_summary_and_in_the_curves(call, small_world, tmp_path):
    """The finished student, with hits in its history that rise to the end."""
    world = SmallWorld(tmp_path / "copy")
    shutil.copytree(small_world.artifacts_dir, world.artifacts_dir)
    student = pipeline.build(small_world.config())["student"]  # other tests may have trained others
    file = student.directory(world.artifacts_dir) / "history.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    for line in lines:
        if "dev_nll" in line:
            line["dev_tf_hit@50"] = round(90 * line["step"] / lines[-1]["step"]) / 100
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    take_hashes(file.parent)
    folders = [f"--config.artifacts_dir={world.artifacts_dir}", f"--workdir={tmp_path / 'run'}"]
    code, output, errors = call(train, CONFIG + ":demo", *folders)
    assert code == 0, errors
    document = json.loads((tmp_path / "run" / "metrics.json").read_text())
    (note,) = document["learning"]["student"]["notes"]
    assert "still rises after 6 epochs: 0.900, at most 0.600" in note
    summary = " ".join(output.split("Intervals: bootstrap")[1].split())
    assert f"student: {note}" in summary
    code, output, errors = call(tables, "--curves", tmp_path / "run")
    assert code == 0, errors
    assert "rises\n" in output.split("hit@50  end")[1]
