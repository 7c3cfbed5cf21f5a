"""Runs are found by folder or file; their titles lie beside them or are given."""

import pytest

from conkd_jax.eval.predictions import PredictionError
from conkd_jax.eval.system_files import (
    TitleError,
    predictions_file,
    read_titles,
    system_name,
)
from tests.eval.exported import write_items, write_run


def test_a_run_is_a_folder_or_a_file(tmp_path):
    run = write_run(tmp_path / "a")
    file = run / "predictions.jsonl"
    assert str(predictions_file(run)) == str(predictions_file(file)) == str(file)
    for missing in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(PredictionError, match="expected a predictions.jsonl, or a folder"):
            predictions_file(missing)


def test_a_system_is_called_by_its_file_or_folder(tmp_path):
    assert system_name(tmp_path / "unicrs" / "predictions.jsonl") == "unicrs"
    assert system_name("a b/KBRD v2.jsonl") == "KBRD_v2"


def test_titles_are_those_of_a_corpus(tmp_path):
    assert read_titles(write_items(tmp_path / "corpus")) == {7: "Gladiator (2000)"}


def test_titles_are_read_from_a_csv_file(tmp_path):
    path = tmp_path / "movies.csv"
    path.write_text('\ufeffmovieId,movieName\n\n7,"Alien, again"\n  8 , Brazil ,\n')
    assert read_titles(path) == {7: "Alien, again", 8: "Brazil"}
    path.write_text("movieId,movieName\n7,Alien\nseven,Alien\n")
    with pytest.raises(TitleError, match=r"movies.csv, line 3: expected item id and title, got"):
        read_titles(path)
    path.write_text('7,Alien\n8,"' + "x" * 200_000)
    with pytest.raises(
        TitleError, match="movies.csv, line 2: .*movies_with_mentions.csv is such a file"
    ):
        read_titles(path)
    with pytest.raises(TitleError, match="expected a CSV file of item ids"):
        read_titles(tmp_path / "nowhere")
