"""A figure becomes a file as a whole, or not at all."""

import matplotlib
import pytest

from conkd_jax.eval.figures.drawing import figure_file


def test_a_figure_that_fails_leaves_the_older_file(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(b"the last run's")
    with pytest.raises(ZeroDivisionError), figure_file(path, (3.0, 3.0)):
        raise ZeroDivisionError
    assert path.read_bytes() == b"the last run's"
    assert list(tmp_path.iterdir()) == [path]


def test_settings_hold_inside_the_block_alone(tmp_path):
    before = matplotlib.rcParams["axes.grid.axis"]
    for style, grid in (({"axes.grid.axis": "x"}, "x"), (None, "y")):
        with figure_file(tmp_path / "a.png", (3.0, 3.0), title="$ 映", style=style) as figure:
            assert matplotlib.rcParams["axes.grid.axis"] == grid
            figure.subplots()
        assert matplotlib.rcParams["axes.grid.axis"] == before
        assert figure.get_suptitle() == "$ □"
