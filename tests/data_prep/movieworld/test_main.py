"""The program that generates MovieWorld."""

import json

from data_prep.movieworld.__main__ import main


def test_the_report_is_printed_and_the_corpus_written(tmp_path, capsys):
    argv = [f"--out_dir={tmp_path / 'c'}", "--num_dialogues=20", "--num_movies=20", "--report"]
    assert main(argv) == 0
    assert json.loads(capsys.readouterr().out)["world"]["num_movies"] == 20
    assert (tmp_path / "c" / "corpus.json").exists()


def test_a_size_out_of_range_is_one_error_line(capsys):
    assert main(["--report", "--num_dialogues=1"]) == 2
    assert capsys.readouterr().err == "error: expected num_dialogues ≥ 20, got 1\n"
