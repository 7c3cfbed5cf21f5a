"""Fixtures of several test modules of the evaluation."""

import sys

import pytest
from matplotlib.figure import Figure


@pytest.fixture
def drawn(monkeypatch):
    """Figures as they were saved, so that their contents can be looked at."""
    saved = []
    save = Figure.savefig

    def keep(figure, *args, **kwargs):
        saved.append(figure)
        return save(figure, *args, **kwargs)

    monkeypatch.setattr(Figure, "savefig", keep)
    return saved


@pytest.fixture
def evaluated(monkeypatch, capsys):
    """conkd_jax.evaluate with the options given; returns what it prints, raises what it raises."""
    from conkd_jax import evaluate  # not earlier: jaxtyping has to hook imports
    from conkd_jax.cli import command_line  # not earlier: jaxtyping has to hook imports
    from tests.fixtures.programs import forget_options

    def program(*switches, **options) -> str:
        argv = ["evaluate", *switches, *(f"--{name}={value}" for name, value in options.items())]
        monkeypatch.setenv("COLUMNS", "200")
        monkeypatch.setattr(sys, "argv", argv)
        forget_options(evaluate.OPTIONS)
        evaluate.main(command_line.parse(argv, evaluate.OPTIONS))
        return capsys.readouterr().out

    yield program
    forget_options(evaluate.OPTIONS)
