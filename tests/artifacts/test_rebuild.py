"""What --rebuild removes, in which order, and what it leaves."""

import pytest

from conkd_jax.artifacts.build import ensure, explain
from conkd_jax.artifacts.fingerprint import ArtifactError
from conkd_jax.artifacts.rebuild import mended_by, option, remove
from conkd_jax.artifacts.stage import Stage
from conkd_jax.io.integrity import DamagedError


def write(settings, directory, context) -> dict:
    (directory / "out.txt").write_text("written")
    return {}


def stage(name: str, seed: int = 0, **inputs: Stage) -> Stage:
    return Stage(name, 1, {"seed": seed}, inputs, write)


def pipeline(seed: int = 0) -> Stage:
    """corpus -> teacher -> student (of a seed) -> evaluation, and a vocabulary."""
    corpus = stage("corpus")
    words, teacher = stage("vocabulary", corpus=corpus), stage("teacher", corpus=corpus)
    student = stage("student", seed, teacher=teacher, vocabulary=words)
    return stage("evaluation", corpus=corpus, student=student)


def states(last: Stage, root) -> dict[str, str]:
    return {row.name: row.state for row in explain(last, root)}


def test_a_stage_and_what_was_made_from_it_are_made_anew(tmp_path, capsys):
    last, other = pipeline(), pipeline(seed=1)
    for each in (last, other):
        ensure(each, tmp_path)
    remove([last], tmp_path, "teacher")
    there = {name for name, state in states(last, tmp_path).items() if state == "whole"}
    assert there == {"corpus", "vocabulary"}
    said = capsys.readouterr().out
    order = [line.split()[0] for line in said.splitlines() if ": removing " in line]
    assert order == ["evaluation", "student", "teacher"]  # the damaged one last
    student = other.inputs["student"]
    assert f"student {student.fingerprint} was made from it as well, by another run" in said
    assert (student.directory(tmp_path) / "manifest.json").exists()
    ensure(last, tmp_path)
    assert set(states(last, tmp_path).values()) == {"whole"}


def test_one_of_several_stages_of_a_name_can_be_chosen(tmp_path):
    first, second = stage("teacher", 1), stage("teacher", 2)
    last = stage("student", a=first, b=second)
    ensure(last, tmp_path)
    remove([last], tmp_path, f"teacher/{second.fingerprint}")
    there = [(first.directory(tmp_path)).exists(), (second.directory(tmp_path)).exists()]
    assert there == [True, False]
    assert option([last], [first.directory(tmp_path)]) == f"--rebuild=teacher/{first.fingerprint}"
    folders = [last.directory(tmp_path), second.directory(tmp_path)]
    assert option([last], folders) == f"--rebuild=student,teacher/{second.fingerprint}"


def test_a_stage_that_the_run_lacks_is_refused(tmp_path):
    with pytest.raises(ArtifactError, match="--rebuild=studnet: expected a stage of this run: cor"):
        remove([pipeline()], tmp_path, "studnet")


def test_an_artifact_that_lacks_a_file_is_made_anew(tmp_path, capsys):
    last = pipeline()
    ensure(last, tmp_path)
    folder = last.inputs["student"].directory(tmp_path)
    (folder / "out.txt").unlink()
    (folder / "left.txt").write_text("of the incomplete artifact")
    row = next(row for row in explain(last, tmp_path) if row.name == "student")
    assert (row.state, row.why) == ("partial", "out.txt is missing: it will be made anew")
    ensure(last, tmp_path)
    assert f"building {folder}" in capsys.readouterr().out
    assert sorted(path.name for path in folder.iterdir()) == ["manifest.json", "out.txt"]


@pytest.mark.parametrize("name", ["corpus", "teacher", "vocabulary"])
def test_what_a_stage_reads_is_checked_before_it_runs(tmp_path, name):
    last = pipeline()
    ensure(last, tmp_path)
    damaged = {each.name: each for each in (last.inputs["corpus"],)}
    damaged |= {each.name: each for each in last.inputs["student"].inputs.values()}
    path = damaged[name].directory(tmp_path) / "out.txt"
    path.write_text("Written")
    for each in (last, last.inputs["student"]):
        each.directory(tmp_path).rmtree()
    with pytest.raises(DamagedError) as caught, mended_by("make", [last]):
        ensure(last, tmp_path)
    assert str(caught.value).startswith(f"{path} is damaged: expected content with SHA-256 ")
    assert str(caught.value).endswith(f" To mend it: make --rebuild={name}")
    remove([last], tmp_path, name)
    ensure(last, tmp_path)
    assert path.read_text() == "written"
