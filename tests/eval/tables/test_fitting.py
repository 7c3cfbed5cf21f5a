"""Tables on narrow terminals: every number is there, and no line is too long."""

import io

import pytest
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table

from conkd_jax.eval.tables.build import build_table
from conkd_jax.eval.tables.fitting import in_blocks, needed_width
from conkd_jax.eval.tables.formats import table_for_terminal
from conkd_jax.eval.tables.layouts import LAYOUTS
from tests.eval.scored import document

LONG = "ablations/vanilla_special_tokens-dialogpt+gamma=0.25+student.epochs=16+tokenizer=my_words"


def printed(table, width, *, terminal=True):
    console = Console(file=io.StringIO(), width=width, force_terminal=terminal, color_system=None)
    for part in in_blocks(table, console):
        console.print(part)
    return console.file.getvalue()


def wide(name="gate", config="dialogpt_hard"):
    metrics = {column.metric: 0.1 + i for i, column in enumerate(LAYOUTS[name].columns)}
    return table_for_terminal(build_table(name, [document(config, metrics=metrics)]))


@pytest.mark.parametrize("name", [n for n in LAYOUTS if n != "1"])
@pytest.mark.parametrize("config", ["dialogpt_hard", LONG])
def test_every_table_fits_80_columns_and_is_whole(name, config):
    table = wide(name, config)
    text = printed(table, 80)
    assert max(cell_len(line.rstrip()) for line in text.splitlines()) <= 80
    words = text.split()
    for column in table.columns[1:]:
        for cell in column.cells:
            assert str(cell).split()[0] in words
    assert text.count(str(table.title).split()[0]) >= 1


def test_a_table_that_fits_is_left_alone():
    table = wide()
    console = Console(file=io.StringIO(), width=needed_width(table, Console()))
    assert in_blocks(table, console) == [table]


def test_columns_that_may_wrap_are_wrapped():
    table = Table("stage", "why")
    table.add_row("student", "word " * 100)
    assert in_blocks(table, Console(width=80)) == [table]
