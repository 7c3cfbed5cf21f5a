"""MovieLens: titles that are the same movie, and ratings by user."""

import pytest

from conkd_jax.data.movielens import MovieLensError, read_movielens, title_key

TITLES = ["The Matrix (1999)", "Heat (1995)", "Heat (1986)", "Untitled"]


@pytest.fixture
def release(tmp_path):
    (tmp_path / "movies.csv").write_text(
        "movieId,title,genres\n"
        '1,"Matrix, The (1999)",Action\n'
        "2,Heat (1995),Crime\n"
        '5,"Matrix, The (a.k.a. Die Matrix) (1999)",Action\n'
        "9,Nobody Knows (2004),Drama\n"
    )
    (tmp_path / "ratings.csv").write_text(
        "userId,movieId,rating,timestamp\n"
        "7,2,4.0,11\n3,1,5.0,12\n7,1,0.5,13\n4,9,3.0,14\n3,5,2.0,15\n"
    )
    return tmp_path


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Matrix, The (1999)", "The Matrix  (1999)"),
        ("Amélie (Fabuleux destin d'Amélie, Le) (2001)", "amélie (2001)"),
        ("Spider-Man: Far from Home (2019)", "Spider Man Far From Home (2019)"),
        ("American in Paris, An (1951)", "An American in Paris (1951) "),
    ],
)
def test_titles_of_one_movie_agree(one, other):
    assert title_key(one) == title_key(other) is not None


def test_other_years_and_no_years_do_not():
    assert title_key("Heat (1995)") != title_key("Heat (1986)")
    assert title_key("Heat") is None and title_key("2012") is None


def test_ratings_are_grouped_by_user_and_scaled(release):
    """The second Matrix is the first, of which a user's first rating counts."""
    found = read_movielens(release, TITLES)
    assert [items.tolist() for items in found.items] == [[0], [0, 1]]
    assert [ratings.tolist() for ratings in found.ratings] == [
        [1.0],
        pytest.approx([0.1, 0.8]),
    ]
    assert (found.num_matched, found.num_movies) == (2, 4)


def test_what_is_no_release_is_refused(release):
    with pytest.raises(MovieLensError, match="no title and year matches"):
        read_movielens(release, ["Other (2000)"])
    (release / "ratings.csv").write_text("userId,movieId,rating\n1,2,good\n")
    with pytest.raises(MovieLensError, match="expected the columns userId, movieId, rating"):
        read_movielens(release, TITLES)
    (release / "movies.csv").write_text("movieId,title\nx,Heat (1995)\n")
    with pytest.raises(MovieLensError, match="expected the columns movieId, title"):
        read_movielens(release, TITLES)
    (release / "movies.csv").unlink()
    with pytest.raises(MovieLensError, match=r"found no movies\.csv"):
        read_movielens(release, TITLES)
