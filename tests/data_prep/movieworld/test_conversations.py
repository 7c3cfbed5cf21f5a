"""Conversations differ from seed to seed."""

from data_prep.movieworld.conversations import make_dialogues
from data_prep.movieworld.world import make_world


def test_another_seed_gives_other_dialogues():
    world = make_world(0, 40)
    first, again, other = (make_dialogues(world, seed, 5) for seed in (0, 0, 1))
    assert [d.messages for d in first] == [d.messages for d in again]
    assert [d.messages for d in first] != [d.messages for d in other]
