"""What two runs must have in common to talk about the same items."""

import numpy as np

from conkd_jax.chat.session import same_items
from conkd_jax.data.corpus import ItemTable


def items(numbers, keys=None):
    count = len(numbers)
    nodes, linked = np.arange(count, dtype=np.int32), np.ones(count, bool)
    return ItemTable(np.array(numbers), ["x"] * count, nodes, linked, keys)


def test_items_are_the_same_by_number_and_by_text_id():
    assert same_items(items([4, 7]), items([7, 4]))
    assert not same_items(items([4, 7]), items([4, 7, 9]))
    games, books = items([1, 2], ["catan", "azul"]), items([1, 2], ["emma", "ulysses"])
    assert same_items(games, items([2, 1], ["azul", "catan"]))
    assert not same_items(games, books) and not same_items(games, items([1, 2]))
