"""A user's mistake is one line and exit code 2; a defect keeps its traceback."""

import pytest

from conkd_jax.errors import UserError
from data_prep.command_line import CorpusParser, run_builder


def parser() -> CorpusParser:
    made = CorpusParser("data_prep.example", description="An example.")
    made.add_argument("--seed", type=int, default=0)
    return made


def build_by(error: Exception | None = None):
    def build(options):
        if error is not None:
            raise error
        return {"seed": options.seed, "name": "é"}

    return build


def test_the_report_goes_to_the_output_and_news_to_the_error_stream(tmp_path, capsys):
    assert run_builder(parser(), build_by(), ["--report", "--seed=3"]) == 0
    captured = capsys.readouterr()
    assert captured.out == '{\n  "seed": 3,\n  "name": "é"\n}\n' and captured.err == ""
    assert run_builder(parser(), build_by(), [f"--out_dir={tmp_path}"]) == 0
    captured = capsys.readouterr()
    assert captured.out == "" and f"Wrote the corpus to {tmp_path}" in captured.err


@pytest.mark.parametrize(
    ("argv", "error", "message"),
    [
        (["--report"], UserError("no such file"), "no such file"),
        (["--report"], OSError(28, "No space left"), "[Errno 28] No space left"),
        ([], None, "expected --out_dir"),
        (["--report", "--seed=x"], None, "argument --seed: invalid int value: 'x'"),
        (["--report", "--sead=1"], None, "unrecognized arguments: --sead=1"),
    ],
)
def test_a_mistake_is_one_line(argv, error, message, capsys):
    assert run_builder(parser(), build_by(error), argv) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"error: {message}") and captured.err.count("\n") == 1


def test_a_tilde_is_the_home_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    found = []
    assert run_builder(parser(), lambda o: found.append(o.out_dir) or {}, ["--out_dir=~/c"]) == 0
    assert found == [str(tmp_path / "c")]


def test_warnings_and_what_came_out_are_told(tmp_path, capsys):
    splits = {"train": {"dialogues": 1200, "response_samples": 3400}}
    report = {"warnings": ["some lines were left out."], "splits": splits}
    assert run_builder(parser(), lambda options: report, [f"--out_dir={tmp_path}"]) == 0
    errors = capsys.readouterr().err.splitlines()
    assert errors[0] == "warning: some lines were left out."
    assert errors[-1] == "train 1,200 dialogues with 3,400 responses"


def test_a_defect_keeps_its_traceback():
    with pytest.raises(ValueError, match="a defect"):
        run_builder(parser(), build_by(ValueError("a defect")), ["--report"])
