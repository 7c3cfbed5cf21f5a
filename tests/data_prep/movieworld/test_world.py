"""Worlds differ from seed to seed, and their movies from each other."""

import pytest

from data_prep.movieworld.world import make_world


def test_another_seed_gives_another_world():
    assert make_world(0, 40) == make_world(0, 40) != make_world(1, 40)


@pytest.mark.parametrize("num_movies", [20, 120, 1000])
def test_titles_are_unique(num_movies):
    titles = [movie.title for movie in make_world(3, num_movies).movies]
    assert len(set(titles)) == num_movies
    assert all(title[-6:-5] == "(" and title[-5:-1].isdigit() for title in titles)
